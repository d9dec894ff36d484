"""How much of the forces no potential of the beads can explain.

The same arrangement of beads comes with many forces, because the atoms inside and around them differ. The part of the
mean square force that is left around the mean force is the floor of every force-matching loss. It is estimated without
any model by comparing beads whose surroundings look alike (a gamma test; Evans and Jones 2002): half the mean square
difference of their forces, extrapolated to surroundings that are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from cgenn.topology import BeadTopology

NEIGHBORS = 8
"""Nearest beads that make up a bead's surroundings."""

ALIKE = 10
"""Most alike surroundings that a bead is compared with."""

ALIKE_ENOUGH = 0.05
"""Largest mean square distance of the most alike surroundings, as a part of that of any two: chains of few beads have
0.01, liquids 0.2, where nothing can be said."""


@dataclass
class Surroundings:
    """Beads of one kind: same type, same types around."""

    shapes: np.ndarray
    vectors: np.ndarray
    forces: np.ndarray


def noise_floor(topology: BeadTopology, positions: np.ndarray, forces: np.ndarray) -> float:
    """Mean square of the unexplainable part of a force component [(kJ/mol/nm)^2]; NaN where it cannot be told.

    Args:
        positions, forces: of molecules that are whole, shape (frames, beads, 3) [nm], [kJ/mol/nm]. Neighbours across a
            periodic boundary are not looked for, which only makes some surroundings smaller than they are.
    """
    total, weight = 0.0, 0
    for kind in _kinds(topology, positions, forces):
        if len(kind.shapes) <= 2 * ALIKE:
            continue
        found = _gamma_test(kind)
        if np.isfinite(found):
            total += found * len(kind.shapes)
            weight += len(kind.shapes)
    return total / weight if weight else float("nan")


def _kinds(topology: BeadTopology, positions: np.ndarray, forces: np.ndarray) -> list[Surroundings]:
    """Sort beads by their type and the types of the beads around them."""
    collected: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
    count = min(NEIGHBORS, len(topology) - 1)
    types = np.array(topology.types)
    for points, pushes in zip(positions, forces, strict=True):
        around = cKDTree(points).query(points, k=count + 1)[1][:, 1:].reshape(len(points), count)
        for bead, others in enumerate(around):
            order = others[np.lexsort((others, types[others]))] if count < len(topology) - 1 else np.sort(others)
            key = (topology.types[bead], bead if count == len(topology) - 1 else -1, *types[order].tolist())
            collected.setdefault(key, []).append((points[order] - points[bead], pushes[bead]))
    kinds = []
    for entries in collected.values():
        vectors = np.stack([vectors for vectors, _ in entries]).astype(np.float64)
        shapes = np.stack([pdist(np.concatenate([np.zeros((1, 3)), cloud])) for cloud in vectors])
        kinds.append(Surroundings(shapes, vectors, np.stack([force for _, force in entries]).astype(np.float64)))
    return kinds


def _gamma_test(kind: Surroundings) -> float:
    """Intercept of half the mean square force difference against the squared distance of the surroundings.

    NaN if no two surroundings are alike, as in a liquid, where a bead feels more neighbours than can be compared.
    """
    distance, index = cKDTree(kind.shapes).query(kind.shapes, k=ALIKE + 1)
    if np.mean(distance[:, 1] ** 2) > ALIKE_ENOUGH * 2 * kind.shapes.var(axis=0).sum():
        return float("nan")
    gammas, deltas = [], []
    for rank in range(1, ALIKE + 1):
        other = index[:, rank]
        rotations = _alignments(kind.vectors[other], kind.vectors)
        turned = np.einsum("nij,nj->ni", rotations, kind.forces[other])
        gammas.append(0.5 * np.mean((kind.forces - turned) ** 2))
        deltas.append(np.mean(distance[:, rank] ** 2))
    return intercept(deltas, gammas)


def intercept(deltas: Sequence[float] | np.ndarray, gammas: Sequence[float] | np.ndarray) -> float:
    """Half the mean square difference `gammas` of what is felt, where the squared distance `deltas` is zero."""
    slope, start = np.polyfit(deltas, gammas, 1)
    return float(np.clip(start, 0.0, np.min(gammas)) if slope > 0 else np.mean(gammas))


def _alignments(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Proper rotations that best lay each cloud of `moving` on its partner in `fixed` (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("nki,nkj->nij", fixed, moving))
    u[:, :, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return u @ vt
