"""Forces on beads as a linear map of the forces on atoms.

Many maps are right on average: those whose weights W fulfil W M^T = 1, with M the map of positions, and in which
atoms joined by a constraint have the same weight, so that the unknown constraint forces cancel (Ciccotti et al. 2005,
Kraemer et al. 2023, doi 10.1021/acs.jpclett.3c00444). They differ in noise: the best one is a small quadratic program.
The force on a bead with an orientation is always the plain sum over its atoms, and no other bead uses these: only so a
force does not turn the bead, and the torque does not move it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array, eye_array, lil_array
from scipy.sparse.csgraph import connected_components

from cgenn.mapping.linear import LinearMap
from cgenn.mapping.mapping import Mapping

_REACH = 5
"""Bonds from a bead to the farthest atoms whose forces are of use to it."""
_RIDGE = 1e-6
_SAMPLES_PER_WEIGHT = 5
_RIGID = 5e-4
"""Largest standard deviation of a constrained distance [nm]; the stiffest bond without one varies by 2e-3 nm."""
_FRAMES_TO_FIND = 10


@dataclass(frozen=True, eq=False)
class ForceMap(LinearMap):
    """F = W f for each frame; `matrix` is W, shape (beads, atoms).

    Attributes:
        kind: how the weights were chosen.
    """

    kind: Literal["sum", "optimal"] = "sum"


def mean_square(forces: Float[np.ndarray, "frames beads 3"]) -> float:
    """Mean over frames, beads and x, y, z of the squared force [(kJ/mol/nm)^2]."""
    return float(np.mean(np.square(forces, dtype=float)))


def rigid_groups(n_atoms: int, constraints: Int[np.ndarray, "constraints 2"]) -> Int[np.ndarray, " atoms"]:
    """Index of the group of atoms joined by constraints that each atom is in."""
    i, j = np.asarray(constraints, dtype=np.int64).reshape(-1, 2).T
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms)), directed=False)[1]


def find_constraints(
    mapping: Mapping, positions: Float[np.ndarray, "frames atoms 3"]
) -> Int[np.ndarray, "constraints 2"]:
    """Constraints as seen in frames with whole molecules [nm]: atoms one or two bonds apart at a fixed distance.

    Raises:
        ValueError: if there are too few frames to tell.
    """
    if len(positions) < _FRAMES_TO_FIND:
        raise ValueError(
            f"which atoms are constrained cannot be seen in {len(positions)} frames, at least {_FRAMES_TO_FIND} are "
            "needed: pass `constraints`, pairs of atom indices; an empty list if there are none"
        )
    near = mapping.atoms.adjacency @ (mapping.atoms.adjacency + eye_array(len(mapping.atoms), format="csr"))
    pairs = np.stack(near.tocoo().coords, axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    lengths = np.linalg.norm(positions[:, pairs[:, 0]].astype(float) - positions[:, pairs[:, 1]], axis=-1)
    return np.unique(pairs[lengths.std(axis=0) < _RIGID], axis=0)


def check_oriented(mapping: Mapping, constraints: Int[np.ndarray, "constraints 2"]) -> None:
    """Complain about constraints that tie an atom of a bead with an orientation to an atom outside.

    Raises:
        ValueError: naming the bead and the two atoms.
    """
    groups = rigid_groups(len(mapping.atoms), constraints)
    touched = csr_array(mapping.matrix != 0, dtype=float)
    for bead in np.flatnonzero(mapping.oriented):
        members = touched[[bead]].indices
        tied = np.flatnonzero(np.isin(groups, groups[members]) & (mapping.atoms.masses > 0))
        if len(outside := np.setdiff1d(tied, members)):
            inside = members[groups[members] == groups[outside[0]]][0]
            first, second = mapping.atoms.describe(inside), mapping.atoms.describe(outside[0])
            raise ValueError(
                f"bead {bead} ({mapping.topology.types[bead]}) has an orientation and must contain whole groups of "
                f"constrained atoms: {first} is tied to {second}, which is not in it"
            )


def is_summable(mapping: Mapping, constraints: Int[np.ndarray, "constraints 2"]) -> bool:
    """Whether the sum over a bead's atoms is a valid force map."""
    return bool(_sum_weights(mapping, constraints).sum(axis=0).max() <= 1)


def sum_force_map(mapping: Mapping, constraints: Int[np.ndarray, "constraints 2"]) -> ForceMap:
    """The sum of the forces on a bead's atoms, and on those that constraints tie to them.

    Raises:
        ValueError: if beads share atoms, a constraint joins two beads, or one ties a bead with an orientation to an
            atom that is not in it.
    """
    check_oriented(mapping, constraints)
    weights = _sum_weights(mapping, constraints)
    if len(crowded := np.flatnonzero(weights.sum(axis=0) > 1)):
        atom = mapping.atoms.describe(crowded[0])
        raise ValueError(f"{atom} is in two beads, or constrained to an atom of another one: use the optimal force map")
    return ForceMap(weights, kind="sum")


def _sum_weights(mapping: Mapping, constraints: Int[np.ndarray, "constraints 2"]) -> csr_array:
    groups = _membership(rigid_groups(len(mapping.atoms), constraints))
    touched = csr_array(((mapping.matrix != 0).astype(float) @ groups) > 0, dtype=float)
    return csr_array(touched @ groups.T)


def optimal_force_map(
    mapping: Mapping,
    forces: Float[np.ndarray, "frames atoms 3"] | Iterable[Float[np.ndarray, "frames atoms 3"]],
    constraints: Int[np.ndarray, "constraints 2"],
) -> ForceMap:
    """The map of least mean square force on the frames given, by Kraemer et al. 2023.

    For bead I, minimise w^T G w over one weight per rigid group of atoms, G being the mean product of the forces on two
    groups, with A w = e_I, A being the weights of the groups in the positions of the beads. Only atoms within a few
    bonds of the bead take part. Molecules that are alike share their weights and are averaged over. Beads with an
    orientation have the plain sum, and their atoms take part in no other bead.

    Args:
        forces: on all atoms, at once or in chunks; the unit does not matter.

    Raises:
        ValueError: if there are too few frames for the number of weights, or constraints tie two beads together or a
            bead with an orientation to an atom that is not in it.
    """
    check_oriented(mapping, constraints)
    groups = _membership(rigid_groups(len(mapping.atoms), constraints))
    supports = _supports(mapping, groups)
    kinds = _alike(mapping, groups, supports, np.flatnonzero(~mapping.oriented))
    products = [np.zeros((supports[beads[0]].size,) * 2) for beads in kinds]
    frames = 0
    for chunk in () if not kinds else [forces] if isinstance(forces, np.ndarray) else forces:
        grouped = LinearMap(csr_array(groups.T))(np.asarray(chunk, dtype=float))
        frames += len(grouped)
        for product, beads in zip(products, kinds, strict=True):
            for bead in beads:
                columns = grouped[:, supports[bead]].transpose(0, 2, 1).reshape(-1, len(product))
                product += columns.T @ columns
    positions = csr_array(mapping.matrix @ groups)
    weights = lil_array((len(mapping.topology), groups.shape[1]))
    for bead in np.flatnonzero(mapping.oriented).tolist():
        weights[[bead], supports[bead]] = 1.0
    for product, beads in zip(products, kinds, strict=True):
        samples = 3 * frames * len(beads)
        if samples < _SAMPLES_PER_WEIGHT * len(product) and len(product) > 1:
            needed = -(-_SAMPLES_PER_WEIGHT * len(product) // (3 * len(beads)))
            raise ValueError(
                f"the optimal force map of bead {mapping.topology.types[beads[0]]} has {len(product)} weights and "
                f"needs at least {needed} frames, got {frames}: use the sum force map (force_map='sum', "
                "on the command line --force-map sum)"
            )
        solution = _solve(product / max(samples, 1), positions, supports[beads[0]], beads[0], mapping)
        for bead in beads:
            weights[[bead], supports[bead]] = solution
    return ForceMap(csr_array(weights.tocsr() @ groups.T), kind="optimal")


def _membership(groups: Int[np.ndarray, " atoms"]) -> csr_array:
    """Ones where an atom is in a group, shape (atoms, groups)."""
    return csr_array((np.ones(len(groups)), groups, np.arange(len(groups) + 1)))


def _supports(mapping: Mapping, groups: csr_array) -> list[np.ndarray]:
    """The rigid groups near each bead, sorted; virtual sites pass their forces on and do not count.

    Those of beads with an orientation are in the support of that bead only, which has no others.
    """
    step = mapping.atoms.adjacency + eye_array(len(mapping.atoms), format="csr")
    reached = csr_array(mapping.matrix != 0, dtype=float)
    for _ in range(_REACH):
        reached = csr_array((reached @ step) != 0, dtype=float)
    near = csr_array((reached * (mapping.atoms.masses > 0)) @ groups)
    own = csr_array(csr_array(mapping.matrix != 0, dtype=float) @ groups)
    free = np.ones(groups.shape[1])
    free[own[np.flatnonzero(mapping.oriented)].indices] = 0.0
    oriented = mapping.oriented[:, None].astype(float)
    near = csr_array(near * free * (1 - oriented) + own * oriented)
    near.eliminate_zeros()
    near.sort_indices()
    return np.split(near.indices, near.indptr[1:-1])


def _alike(
    mapping: Mapping, groups: csr_array, supports: list[np.ndarray], beads: Int[np.ndarray, " chosen"]
) -> list[list[int]]:
    """Those of the beads whose surroundings have the same atoms in the same order, grouped and weighted alike."""
    names = np.array([f"{atom.residue.name} {atom.name}" for atom in mapping.atoms.topology.atoms])
    by_group = csr_array(groups.T)
    positions = csr_array(mapping.matrix @ groups).tocsc()
    kinds: dict[tuple[object, ...], list[int]] = {}
    for bead in beads.tolist():
        support = supports[bead]
        members = by_group[support]
        weights = positions[:, support].tocoo()
        rows = weights.row - bead
        key = (
            tuple(names[members.indices]),
            members.indptr.tobytes(),
            (members.indices - members.indices[0]).tobytes(),
            tuple(sorted(zip(rows.tolist(), weights.col.tolist(), weights.data.round(9).tolist(), strict=True))),
        )
        kinds.setdefault(key, []).append(bead)
    return list(kinds.values())


def _solve(
    products: np.ndarray, positions: csr_array, support: np.ndarray, bead: int, mapping: Mapping
) -> Float[np.ndarray, " groups"]:
    """Weights of least mean square force by the conditions of stationarity and the constraints: one linear system."""
    nearby = positions[:, support]
    rows = np.unique(np.r_[bead, nearby.nonzero()[0]])
    constraints = nearby[rows].toarray()
    wanted = (rows == bead).astype(float)
    size = len(products)
    scale = np.trace(products) / size or 1.0
    system = np.zeros((size + len(rows),) * 2)
    system[:size, :size] = products / scale + _RIDGE * np.eye(size)
    system[size:, :size], system[:size, size:] = constraints, constraints.T
    weights = np.linalg.lstsq(system, np.r_[np.zeros(size), wanted], rcond=1e-12)[0][:size]
    if np.abs(constraints @ weights - wanted).max() > 1e-6:
        name = mapping.topology.types[bead]
        raise ValueError(f"no force map exists for bead {bead} ({name}): constraints tie it to another bead")
    return weights
