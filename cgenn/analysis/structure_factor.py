"""Structure factors of number and charge on the wave vectors that a periodic box allows, and their limit at small k."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from cgenn.analysis.ensemble import Ensemble, some_frames
from cgenn.units import COULOMB, thermal_energy

_PRODUCTS = 3e9
"""Wave vectors times beads times frames looked at in all."""


@dataclass(frozen=True, eq=False)
class StructureFactors:
    """S(k) and S_zz(k), averaged over directions in bins of k; bins without a wave vector are left out.

    Attributes:
        k: mean length of the wave vectors of each bin, shape (bins,) [1/nm].
        n_vectors: wave vectors of each bin, k and -k counted once, on average over the frames, shape (bins,).
        number: S(k) = <|sum_i exp(i k.r_i)|^2> / N, shape (bins,).
        number_error: its standard error from the blocks, shape (bins,), or None with fewer than two.
        charge: S_zz(k) = <|sum_i (q_i + i k.mu_i) exp(i k.r_i)|^2> / <sum_i q_i^2>, shape (bins,), or None without
            charges.
        charge_error: its standard error.
    """

    k: Float[np.ndarray, " bins"]
    n_vectors: Float[np.ndarray, " bins"]
    number: Float[np.ndarray, " bins"]
    number_error: Float[np.ndarray, " bins"] | None
    charge: Float[np.ndarray, " bins"] | None
    charge_error: Float[np.ndarray, " bins"] | None


def debye_wavenumber(charges: Float[np.ndarray, "*frames beads"], number_density: float, temperature: float) -> float:
    """k_D [1/nm], the inverse of the Debye length: k_D^2 = n <q^2> / (eps_0 kT).

    Args:
        charges: of the beads [e]; only their mean square counts.
        number_density: n, of all beads [1/nm^3].
        temperature: [K].

    Raises:
        ValueError: if the density or the temperature is not positive.
    """
    if not number_density > 0:
        raise ValueError(f"`number_density` must be positive, got {number_density} /nm^3")
    square = float(np.mean(np.square(charges, dtype=float)))
    return float(np.sqrt(4.0 * np.pi * COULOMB * number_density * square / thermal_energy(temperature)))


def screening_limit(
    k: Float[np.ndarray, " bins"],
    charges: Float[np.ndarray, "*frames beads"],
    number_density: float,
    temperature: float,
) -> Float[np.ndarray, " bins"]:
    """What S_zz(k) of any conducting fluid tends to at small k: k^2 / k_D^2 (Stillinger and Lovett 1968).

    A weak external charge density rho exp(i k.r) makes the potential phi = rho / (eps_0 k^2), to which the charges
    respond with -<|rho_k|^2> phi / (V kT). An ideal conductor cancels rho at small k, so that <|rho_k|^2> must tend to
    eps_0 kT V k^2, which over sum_i q_i^2 = N <q^2> is k^2 / k_D^2, with no parameter left. Without Coulomb forces
    nothing makes S_zz vanish.

    Args:
        k: [1/nm].
        charges: of the beads [e]; only their mean square counts.
        number_density: of all beads [1/nm^3].
        temperature: [K].
    """
    return (np.asarray(k, dtype=float) / debye_wavenumber(charges, number_density, temperature)) ** 2


def structure_factors(
    ensemble: Ensemble,
    k_max: float,
    *,
    charges: Float[np.ndarray, "*frames beads"] | None = None,
    dipoles: Float[np.ndarray, "frames beads 3"] | None = None,
    bins: int | None = None,
) -> StructureFactors:
    """S(k) and S_zz(k) for all wave vectors of the box with 0 < |k| <= k_max.

    Args:
        ensemble: with a box, which may change; of many frames of many beads, a random choice is looked at.
        k_max: [1/nm].
        charges: of the beads, of all or of each of the frames [e]; None for S(k) alone.
        dipoles: of the beads in each frame [e nm]; none if None.
        bins: between 0 and k_max; if None as many as are 2/5 as wide as the shortest wave vector, which is then
            alone in its bin in a cubic box.

    Raises:
        ValueError: if there is no box, shapes do not fit, or the box has no wave vector up to `k_max`.
    """
    if ensemble.box is None:
        raise ValueError(f"{ensemble.label}: a structure factor needs a box in every frame, got none")
    boxes = np.asarray(ensemble.box, dtype=float)
    reciprocal = 2.0 * np.pi * np.linalg.inv(boxes)
    waves = _waves(boxes, reciprocal, k_max)
    charge = _per_frame(ensemble, charges, dipoles)
    shortest = float(np.linalg.norm(waves @ reciprocal[0].T, axis=1).min())
    bins = max(1, round(2.5 * k_max / shortest)) if bins is None else bins
    sums = np.zeros((4, ensemble.n_blocks, bins))  # vectors, their lengths, and the two structure factors
    mask = some_frames(ensemble, _PRODUCTS / (len(waves) * ensemble.n_beads))
    chosen = np.arange(ensemble.n_frames) if mask is None else np.flatnonzero(mask)
    numbers = iter(chosen.tolist())
    for chunk in ensemble.chunks(frames=mask):
        for positions, block, frame in zip(chunk.positions, chunk.blocks, numbers, strict=False):
            lengths = np.linalg.norm(waves @ reciprocal[frame].T, axis=1)
            there = lengths <= k_max
            column = np.minimum((lengths[there] * bins / k_max).astype(np.int64), bins - 1)
            moments = None if dipoles is None else np.asarray(dipoles[frame], dtype=float)
            squares = _squares(positions, np.linalg.inv(boxes[frame]), waves, charge[frame % len(charge)], moments)
            values = [np.ones(len(column)), lengths[there], *squares[:, there]]
            sums[:, block] += [np.bincount(column, value, bins) for value in values]
    return _averages(
        sums, len(chosen), ensemble.n_beads, float(np.mean(np.square(charge[chosen % len(charge)]).sum(axis=1)))
    )


def _per_frame(
    ensemble: Ensemble, charges: np.ndarray | None, dipoles: np.ndarray | None
) -> Float[np.ndarray, "frames beads"]:
    """Charges of each frame; one row if they are the same in all, zeros if there are none."""
    shape = (ensemble.n_frames, ensemble.n_beads)
    if charges is None:
        if dipoles is not None:
            raise ValueError("S_zz is given over the sum of the squared charges: `dipoles` need `charges`")
        return np.zeros((1, shape[1]))
    if np.shape(charges) not in {shape, shape[1:]}:
        raise ValueError(f"`charges` must have the shape ({shape[1]},) or {shape}, got {np.shape(charges)}")
    if dipoles is not None and np.shape(dipoles) != (*shape, 3):
        raise ValueError(f"`dipoles` must have the shape {(*shape, 3)}, got {np.shape(dipoles)}")
    result = np.atleast_2d(np.asarray(charges, dtype=float))
    if not np.any(result):
        raise ValueError("`charges` are all zero: there is no S_zz")
    return result


def _waves(
    boxes: Float[np.ndarray, "frames 3 3"], reciprocal: Float[np.ndarray, "frames 3 3"], k_max: float
) -> Int[np.ndarray, "waves 3"]:
    """Whole numbers n with |n @ b| <= k_max in some frame, b the reciprocal vectors; one of n and -n.

    As k . a = 2 pi n_a, none of them is larger than k_max |a| / 2 pi; and k of the first frame is at most by the norm
    of the matrix between the two longer than that of another frame.
    """
    if not k_max > 0:
        raise ValueError(f"`k_max` must be positive, got {k_max} /nm")
    most = np.floor(k_max * np.linalg.norm(boxes, axis=-1).max(axis=0) / (2.0 * np.pi)).astype(np.int64)
    axes = [np.arange(-size, size + 1) for size in most]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[len(grid) // 2 + 1 :]  # the other half, in reverse order, is its negative
    change = float(np.linalg.norm(reciprocal[0] @ boxes / (2.0 * np.pi), ord=2, axis=(1, 2)).max())
    near = np.linalg.norm(grid @ reciprocal[0].T, axis=1) <= k_max * change * (1 + 1e-9)
    if not near.any():
        raise ValueError(f"`k_max` = {k_max:g} /nm is below all wave vectors of the box: increase it")
    return grid[near]


def _squares(
    positions: Float[np.ndarray, "beads 3"],
    inverse: Float[np.ndarray, "3 3"],
    waves: Int[np.ndarray, "waves 3"],
    charges: Float[np.ndarray, " beads"],
    dipoles: Float[np.ndarray, "beads 3"] | None,
) -> Float[np.ndarray, "2 waves"]:
    """|rho_k|^2 of number and charge for each wave vector.

    exp(i k.r) is a product of powers of exp(2 pi i s_a) for each fractional coordinate; the sum over beads for all
    n_b and n_c at a given n_a is a product of two matrices.
    """
    powers = [_powers(column, int(np.abs(waves[:, axis]).max())) for axis, column in enumerate((positions @ inverse).T)]
    weights = [np.ones(len(positions)), charges]
    if dipoles is not None:
        weights += list(2.0 * np.pi * (dipoles @ inverse).T)
    second, third = ((len(power) - 1) // 2 for power in powers[1:])
    sums = np.empty((len(weights), len(waves)), dtype=complex)
    right = np.stack([(weight * powers[2]).T for weight in weights])
    for n in np.unique(waves[:, 0]):
        chosen = np.flatnonzero(waves[:, 0] == n)
        left = powers[1] * powers[0][n + (len(powers[0]) - 1) // 2]
        sums[:, chosen] = (left @ right)[:, waves[chosen, 1] + second, waves[chosen, 2] + third]
    charge = sums[1]
    for axis in range(len(weights) - 2):
        charge = charge + 1j * waves[:, axis] * sums[2 + axis]
    return np.abs(np.stack([sums[0], charge])) ** 2


def _powers(fractions: Float[np.ndarray, " beads"], most: int) -> Complex[np.ndarray, "powers beads"]:
    """exp(2 pi i n s) for n = -most ... most."""
    return np.exp(2j * np.pi * np.arange(-most, most + 1)[:, None] * fractions)


def _averages(sums: Float[np.ndarray, "4 blocks bins"], n_frames: int, n_beads: int, charge: float) -> StructureFactors:
    vectors = sums[0].sum(axis=0)
    there = vectors > 0
    total = sums[:, :, there].sum(axis=1) / vectors[there]
    full = (sums[0][:, there] > 0).all(axis=1)
    errors = None
    if full.sum() > 1:
        blocks = sums[2:, full][:, :, there] / sums[0, full][:, there]
        errors = blocks.std(axis=1, ddof=1) / np.sqrt(full.sum())
    return StructureFactors(
        k=total[1],
        n_vectors=vectors[there] / n_frames,
        number=total[2] / n_beads,
        number_error=None if errors is None else errors[0] / n_beads,
        charge=total[3] / charge if charge else None,
        charge_error=errors[1] / charge if charge and errors is not None else None,
    )
