"""Wells of a distribution: a sum of Gaussians, by expectation maximisation (Dempster, Laird and Rubin 1977)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

MOST_WELLS = 4
GAIN = 0.003
"""Least gain in log-likelihood per value for which one well more is taken."""

BARRIER = 0.25
"""Least height of a barrier between two wells, from the higher one [kT]; what is lower counts as one well."""

_ITERATIONS = 1000
_GRID = 2001


def fit_wells(
    counts: Float[np.ndarray, " bins"],
    edges: Float[np.ndarray, " edges"],
    measure: Callable,
    kt: float,
    *,
    mirror: bool,
) -> Float[np.ndarray, "wells 3"] | None:
    """Wells whose Boltzmann factors add up to p / volume element, as few as do; None if there is no barrier.

    Args:
        counts: histogram of the values.
        edges: of its bins.
        measure: volume element of the coordinate.
        kt: [kJ/mol].
        mirror: whether what is beyond pi is what is before it, as for an angle.

    Returns:
        Centre, k and energy [kJ/mol] of each, the deepest first, with energy 0.
    """
    centres = 0.5 * (edges[1:] + edges[:-1])
    weights = counts / measure(centres)
    values = np.concatenate([centres, 2 * np.pi - centres[::-1]]) if mirror else centres
    weights = np.concatenate([weights, weights[::-1]]) if mirror else weights
    total, chosen, reached = counts.sum(), None, -np.inf
    least = max(GAIN, 1.5 * np.log(total) / total)  # three parameters more (Schwarz 1978)
    for number in range(1, MOST_WELLS + 1):
        wells = _gaussians(values, weights / weights.sum(), (1 + mirror) * number)
        density = measure(centres) * np.exp(-_energy(wells, centres))
        likelihood = counts @ np.log(density / density.sum() + 1e-12) / total
        if likelihood < reached + least:
            break
        chosen, reached = wells, likelihood
    if chosen is None or not _parted(_energy(chosen, np.linspace(edges[0], edges[-1], _GRID))):
        return None
    kept = chosen[: len(chosen) // 2] if mirror else chosen
    kept = kept[np.argsort(kept[:, 2])] * [1.0, kt, kt]
    return kept - [0.0, 0.0, kept[0, 2]]


def _gaussians(values: np.ndarray, weights: np.ndarray, number: int) -> np.ndarray:
    """Centre, 1 / variance and -ln height of Gaussians by the order of their centres, which start at quantiles."""
    centres = np.interp((np.arange(number) + 0.5) / number, np.cumsum(weights), values)
    variances = np.full(number, weights @ (values - weights @ values) ** 2 / number**2)
    shares = np.full(number, 1 / number)
    for _ in range(_ITERATIONS):
        exponents = np.log(shares / variances**0.5) - 0.5 * (values[:, None] - centres) ** 2 / variances
        members = np.exp(exponents - exponents.max(1, keepdims=True))
        members *= (weights / members.sum(1))[:, None]
        before, shares = centres, members.sum(0)
        centres = values @ members / shares
        away = (values[:, None] - centres) ** 2
        variances = np.maximum((members * away).sum(0) / shares, (values[1] - values[0]) ** 2)
        if np.allclose(before, centres, rtol=0, atol=1e-7):
            break
    order = np.argsort(centres)
    return np.stack([centres, 1 / variances, -np.log(shares / variances**0.5)], axis=1)[order]


def _energy(wells: np.ndarray, values: np.ndarray) -> np.ndarray:
    """-ln of the sum of the Gaussians [kT]."""
    exponents = wells[:, 2] + 0.5 * wells[:, 1] * (values[:, None] - wells[:, 0]) ** 2
    lowest = exponents.min(1, keepdims=True)
    return lowest[:, 0] - np.log(np.exp(lowest - exponents).sum(1))


def _parted(energy: np.ndarray) -> bool:
    """Whether somewhere the energy is a barrier above what is lowest on either side."""
    left, right = np.minimum.accumulate(energy), np.minimum.accumulate(energy[::-1])[::-1]
    return bool(np.any(energy - np.maximum(left, right) > BARRIER))
