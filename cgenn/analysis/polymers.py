"""Shapes of chains: radius of gyration, end-to-end distance, persistence length, bond correlations, form factor.

Chains are arrays of the positions of their beads in order, molecules whole.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_BINS = 4000
"""Of the distances within chains, from which form factors are made."""
_DISTANCES = 2_000_000
"""Distances within chains in memory at a time."""


def radius_of_gyration(
    positions: Float[np.ndarray, "*chains beads 3"], masses: Float[np.ndarray, " beads"] | None = None
) -> Float[np.ndarray, "*chains"]:
    """Rg [nm]: Rg^2 = sum_i m_i |r_i - R|^2 / sum_i m_i about the centre of mass R.

    Args:
        positions: [nm].
        masses: of the beads of a chain; equal if None.

    Raises:
        ValueError: if there is not one mass for each bead.
    """
    _check(positions, 1)
    weights = np.ones(positions.shape[-2]) if masses is None else np.asarray(masses, dtype=float)
    if weights.shape != positions.shape[-2:-1]:
        raise ValueError(f"`masses` must have one entry per bead ({positions.shape[-2]}), got {weights.shape}")
    weights = weights / weights.sum()
    centred = positions - np.einsum("b,...bx->...x", weights, positions)[..., None, :]
    return np.sqrt(np.einsum("b,...bx,...bx->...", weights, centred, centred))


def end_to_end_distance(positions: Float[np.ndarray, "*chains beads 3"]) -> Float[np.ndarray, "*chains"]:
    """Distance between the first and the last bead [nm]."""
    _check(positions, 2)
    return np.linalg.norm(positions[..., -1, :] - positions[..., 0, :], axis=-1)


def persistence_length(positions: Float[np.ndarray, "*chains beads 3"]) -> Float[np.ndarray, "*chains"]:
    """Projection of the end-to-end vector on the first bond, and on the last, their mean; average it over chains [nm].

    <R . b_1> / b is the persistence length of an infinite chain (Flory, Statistical Mechanics of Chain Molecules, 1969,
    ch. IV); it needs neither a fit nor exponential correlations, which chains in a melt do not have (Hsu, Paul and
    Binder, Macromolecules 43, 3094, 2010). Of a finite chain it is smaller: of a freely rotating one of n bonds
    b (1 - c^n) / (1 - c), c the mean cosine of two bonds in a row; of a worm-like one l_p (1 - exp(-L / l_p)).
    """
    _check(positions, 2)
    bonds = _directions(positions)
    span = positions[..., -1, :] - positions[..., 0, :]
    return 0.5 * np.einsum("...x,...x->...", span, bonds[..., 0, :] + bonds[..., -1, :])


def bond_correlations(
    positions: Float[np.ndarray, "*chains beads 3"], separations: int | None = None
) -> tuple[Float[np.ndarray, "*chains separations"], Float[np.ndarray, "*chains separations"]]:
    """Mean cosine and P2 = (3 cos^2 - 1) / 2 of two bonds of a chain that are s = 0, 1, 2, ... bonds apart.

    Args:
        positions: [nm].
        separations: how many; as many as there are bonds if None.

    Raises:
        ValueError: if there are fewer than two beads, or fewer bonds than separations.
    """
    _check(positions, 2)
    bonds = _directions(positions)
    n = bonds.shape[-2]
    count = n if separations is None else separations
    if not 1 <= count <= n:
        raise ValueError(f"`separations` must lie between 1 and the {n} bonds of a chain, got {separations}")
    cosine, second = (np.empty((*positions.shape[:-2], count)) for _ in range(2))
    for s in range(count):
        products = np.einsum("...bx,...bx->...b", bonds[..., : n - s, :], bonds[..., s:, :])
        cosine[..., s] = products.mean(axis=-1)
        second[..., s] = 1.5 * np.square(products).mean(axis=-1) - 0.5
    return cosine, second


def form_factor(positions: Float[np.ndarray, "*chains beads 3"], k: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """P(k) of single chains, averaged over chains and directions: 1 at small k, 1/N at large.

    P(k) = sum_ij sin(k r_ij) / (k r_ij) / N^2 (Debye, Ann. Phys. 351, 809, 1915), from a histogram of 4 000 distances.

    Args:
        positions: [nm].
        k: [1/nm].
    """
    _check(positions, 1)
    chains = positions.reshape(-1, *positions.shape[-2:])
    n = chains.shape[1]
    first, second = np.triu_indices(n, 1)
    if not len(first):
        return np.ones(len(k))
    longest = np.linalg.norm(np.ptp(chains, axis=1), axis=-1).max() + 1e-9
    counts, step = np.zeros(_BINS), max(1, _DISTANCES // len(first))
    for start in range(0, len(chains), step):
        part = chains[start : start + step]
        distances = np.linalg.norm(part[:, first] - part[:, second], axis=-1)
        counts += np.histogram(distances, _BINS, (0.0, longest))[0]
    centres = (np.arange(_BINS) + 0.5) * longest / _BINS
    pairs = np.sinc(np.outer(k, centres) / np.pi) @ counts / len(chains)
    return (n + 2.0 * pairs) / n**2


def _directions(positions: np.ndarray) -> np.ndarray:
    bonds = np.diff(np.asarray(positions, dtype=float), axis=-2)
    lengths = np.linalg.norm(bonds, axis=-1, keepdims=True)
    if not np.all(lengths > 0):
        raise ValueError("two beads of a chain that follow one another are in the same place: a bond has no direction")
    return bonds / lengths


def _check(positions: np.ndarray, fewest: int) -> None:
    shape = np.shape(positions)
    if len(shape) < 2 or shape[-1] != 3 or shape[-2] < fewest:
        raise ValueError(f"chains of {fewest} or more beads are needed, shape (..., beads, 3), got the shape {shape}")
