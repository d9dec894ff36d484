"""Dipoles of molecules and of the whole system, and the static dielectric constant that their fluctuations give."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from cgenn.analysis.ensemble import independent_blocks
from cgenn.analysis.statistics import jackknife
from cgenn.analysis.structure import heights
from cgenn.mapping.linear import LinearMap
from cgenn.mapping.whole import Tree
from cgenn.units import COULOMB, thermal_energy

_NEUTRAL = 1e-4
"""Charges up to this are taken as rounding [e]."""


def molecular_dipoles(
    positions: Float[np.ndarray, "frames beads 3"],
    charges: Float[np.ndarray, "*frames beads"],
    dipoles: Float[np.ndarray, "frames beads 3"] | None = None,
    *,
    molecules: Int[np.ndarray, " beads"],
    bonds: Int[np.ndarray, "bonds 2"] | None = None,
    box: Float[np.ndarray, "frames 3 3"] | None = None,
    masses: Float[np.ndarray, " beads"] | None = None,
) -> Float[np.ndarray, "frames molecules 3"]:
    """Dipole of each molecule [e nm]: sum_i q_i (r_i - R) + mu_i, where R matters only if the molecule has a charge.

    Args:
        positions: of the beads [nm].
        charges: of the beads, of all or of each of the frames [e].
        dipoles: of the beads, each about its own position [e nm].
        molecules: which molecule each bead belongs to.
        bonds: along which molecules are made whole; without them, nearest images of a molecule's first bead are taken.
        box: box vectors as rows [nm]; None if molecules are whole.
        masses: R is the centre of mass; None for the mean position.

    Raises:
        ValueError: if shapes do not fit.
    """
    charge = _charges(positions, charges, dipoles)
    whole, sums = _whole(positions, molecules, bonds, box), _membership(molecules)
    weights = np.ones(positions.shape[1]) if masses is None else np.asarray(masses, dtype=float)
    centres = sums(weights[:, None] * whole) / (sums.matrix @ weights)[:, None]
    return sums(_moments(whole, charge, dipoles)) - (sums.matrix @ charge.T).T[..., None] * centres


def total_dipole(
    positions: Float[np.ndarray, "frames beads 3"],
    charges: Float[np.ndarray, "*frames beads"],
    dipoles: Float[np.ndarray, "frames beads 3"] | None = None,
    *,
    molecules: Int[np.ndarray, " beads"] | None = None,
    bonds: Int[np.ndarray, "bonds 2"] | None = None,
    box: Float[np.ndarray, "frames 3 3"] | None = None,
    unwrapped: bool = False,
) -> Float[np.ndarray, "frames 3"]:
    """Dipole of the whole system [e nm]: sum_i q_i r_i + mu_i, molecules whole.

    That of neutral molecules is the sum of theirs. Ions, and molecules with a charge, add an itinerant dipole, which
    changes by their charge times a box vector where they are put back into the box: their positions must be followed
    across its boundary, as in the trajectories that `cgenn simulate` writes, with frames close in time. This is
    checked: none may move farther than half the shortest height of the box from one frame to the next.

    Args:
        positions: of the beads [nm], in the order of time.
        charges: of the beads, of all or of each of the frames [e].
        dipoles: of the beads, each about its own position [e nm].
        molecules: which molecule each bead belongs to; None if each is on its own.
        bonds: along which molecules are made whole; without them, nearest images of a molecule's first bead are taken.
        box: box vectors as rows [nm]; None if nothing is periodic.
        unwrapped: whether positions are known to be followed across the boundary: then they are not checked.

    Raises:
        ValueError: if shapes do not fit, the system has a net charge, or a charged molecule jumps.
    """
    charge = _charges(positions, charges, dipoles)
    if (net := float(np.abs(charge.sum(axis=1)).max())) > _NEUTRAL:
        raise ValueError(f"the dipole of a system with a net charge depends on the origin: the charge is {net:.4g} e")
    index = np.arange(positions.shape[1]) if molecules is None else molecules
    whole = _whole(positions, index, bonds, box)
    if box is not None and not unwrapped:
        _check_unwrapped(whole, charge, _membership(index), np.asarray(box, dtype=float))
    return _moments(whole, charge, dipoles).sum(axis=1)


def dielectric_constant(
    total: Float[np.ndarray, "frames 3"],
    volume: float | Float[np.ndarray, " frames"],
    temperature: float,
    *,
    blocks: Int[np.ndarray, " frames"] | None = None,
    high_frequency: float = 1.0,
) -> tuple[float, float | None]:
    """Static dielectric constant and its standard error: eps = eps_inf + (<M^2> - <M>^2) / (3 eps_0 <V> kT).

    Neumann, Mol. Phys. 50, 841 (1983), for conducting boundary conditions, which are those of Ewald sums and PME
    without a surface term. It is that of molecules; with ions, whose dipole grows without bound, only the part of
    their own dipoles (`molecular_dipoles`, summed) has such a limit.

    Args:
        total: dipole of the system [e nm].
        volume: of the system [nm^3]; its mean is taken.
        temperature: [K].
        blocks: which independent piece (replica, trajectory) each frame belongs to; the error is a jackknife over them.
        high_frequency: eps_inf, 1 unless electrons respond that `total` does not have.

    Raises:
        ValueError: if the temperature or the volume is not positive, or there is no frame.
    """
    factor = _factor(total, volume, temperature)
    pieces = independent_blocks(np.zeros(len(total), dtype=np.int64) if blocks is None else blocks)
    columns = np.column_stack([np.ones(len(total)), total, np.square(total).sum(axis=1)])
    sums = np.stack([np.bincount(pieces, column) for column in columns.T], axis=1)

    def constant(row: np.ndarray) -> float:
        mean = row[1:] / row[0]
        return high_frequency + factor * float(mean[3] - mean[:3] @ mean[:3])

    return jackknife(sums, constant)  # 1 + x + y + z + x^2 + y^2 + z^2 > 0: no block is taken for an empty one


def running_dielectric_constant(
    total: Float[np.ndarray, "frames 3"],
    volume: float | Float[np.ndarray, " frames"],
    temperature: float,
    *,
    high_frequency: float = 1.0,
) -> Float[np.ndarray, " frames"]:
    """The same from the first frame up to each of them, to see whether it has converged."""
    counts = np.arange(1, len(total) + 1)[:, None]
    mean, square = np.cumsum(total, axis=0) / counts, np.cumsum(np.square(total), axis=0) / counts
    return high_frequency + _factor(total, volume, temperature) * (square - mean**2).sum(axis=1)


def _factor(total: np.ndarray, volume: float | np.ndarray, temperature: float) -> float:
    """1 / (3 eps_0 V kT) [1/(e nm)^2]."""
    if total.ndim != 2 or total.shape[1] != 3 or len(total) == 0:
        raise ValueError(f"total dipoles must have the shape (frames, 3) with at least one frame, got {total.shape}")
    if not np.min(volume) > 0:
        raise ValueError(f"`volume` must be positive, got {np.min(volume)} nm^3")
    return 4.0 * np.pi * COULOMB / (3.0 * float(np.mean(volume)) * thermal_energy(temperature))


def _charges(positions: np.ndarray, charges: np.ndarray, dipoles: np.ndarray | None) -> np.ndarray:
    """Charges of each frame, without copies of those that do not change."""
    frames, beads = positions.shape[:2]
    if np.shape(charges) not in {(beads,), (frames, beads)}:
        raise ValueError(f"`charges` must have the shape ({beads},) or ({frames}, {beads}), got {np.shape(charges)}")
    if dipoles is not None and dipoles.shape != positions.shape:
        raise ValueError(f"`dipoles` must have the shape of the positions, {positions.shape}, got {dipoles.shape}")
    return np.atleast_2d(np.asarray(charges, dtype=float))


def _moments(whole: np.ndarray, charges: np.ndarray, dipoles: np.ndarray | None) -> np.ndarray:
    moments = charges[..., None] * whole
    return moments if dipoles is None else moments + dipoles


def _membership(molecules: Int[np.ndarray, " beads"]) -> LinearMap:
    """Sums over the beads of each molecule."""
    index = np.unique(molecules, return_inverse=True)[1]
    return LinearMap(csr_array((np.ones(len(index)), (index, np.arange(len(index))))))


def _whole(
    positions: np.ndarray, molecules: np.ndarray, bonds: np.ndarray | None, box: np.ndarray | None
) -> np.ndarray:
    if np.shape(molecules) != positions.shape[1:2]:
        raise ValueError(f"`molecules` must have the shape ({positions.shape[1]},), got {np.shape(molecules)}")
    values = np.asarray(positions, dtype=float)
    if box is None:
        return values
    if np.shape(box) != (len(positions), 3, 3):
        raise ValueError(f"`box` must have the shape ({len(positions)}, 3, 3), got {np.shape(box)}")
    _, first, index = np.unique(molecules, return_index=True, return_inverse=True)
    links = np.stack([first[index], np.arange(len(index))], axis=1)
    given = np.empty((0, 2), dtype=np.int64) if bonds is None else np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    tree = Tree.build(len(index), given, links[links[:, 0] != links[:, 1]])
    return tree.make_whole(values, box)


def _check_unwrapped(whole: np.ndarray, charges: np.ndarray, sums: LinearMap, box: np.ndarray) -> None:
    charged = np.flatnonzero(np.abs(sums.matrix @ charges.T).max(axis=1) > _NEUTRAL)
    if not len(charged) or len(whole) < 2:
        return
    chosen = sums.matrix[charged]
    centres = LinearMap(csr_array(chosen.multiply(1.0 / chosen.sum(axis=1)[:, None])))(whole)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=-1)
    limit = 0.5 * heights(box).min()
    if steps.max() > limit:
        frame, molecule = np.unravel_index(int(steps.argmax()), steps.shape)
        raise ValueError(
            f"charged molecule {charged[molecule]} moves by {steps.max():.3g} nm from frame {frame} to the next, more "
            f"than half of the box ({limit:.3g} nm): its positions must be followed across the boundary, in frames "
            "close in time; pass `unwrapped=True` if they are"
        )
