"""Radial functions as splines of degree four with equally spaced knots: smooth, and short tables of them.

A spline is W(i + t) = sum_k B_k(t) c_(i + k), B_k the five pieces of the cardinal B-spline (de Boor, A Practical Guide
to Splines, 1978). Where the slope is needed too, both come from the differences d_k = c_(i + k) - c_(i + k - 1):

    W = c_i + sum_k A_k(t) d_k, A_k = B_k + B_(k + 1) + ... for k from 1 to 4.

One number per knot does where a polynomial for each interval has five: more of the table stays in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial.polynomial import polyder, polyval
from scipy.linalg import solve_banded
from torch import Tensor

from cgenn.compiled.ladder import Coupling, weights_of_paths
from cgenn.nn.radial import RadialNetwork

TOLERANCE = 1e-6
"""Largest error of a slope dW/ds, s the place among the knots, by the largest slope; that of W is far less."""
NEAR = 0.4
"""Knots are at equal distances of s = x (1 + a) / (x + a), x the distance by the cutoff and a this number: denser where
the radial functions of a network change fast, which is where beads are close."""
DEGREE = 4
_SCALE = 24
_PIECES = np.array([[1, -4, 6, -4, 1], [11, -12, -6, 12, -4], [11, 12, -6, -12, 6], [1, 4, 6, 4, -4], [0, 0, 0, 0, 1]])
PIECES = _PIECES / _SCALE
"""B_0 to B_4: rows of coefficients of t^0, t^1, ... in [0, 1]."""
STEPS = np.cumsum(_PIECES[:0:-1], axis=0)[::-1] / _SCALE
"""A_1 to A_4, in the same way."""
RISES = polyder(STEPS, axis=1)
"""Their derivatives."""
_FEWEST, _MOST, _FAR = 64, 2048, 16
"""Intervals, and how many times the error may be the bound before they are not worth doubling: its order is four."""
_SMALL = 1e-7
"""Stands for zero, as the basis divides by the distance; the slope there is zero, as that of an even function is."""


def radial_table(
    radial: RadialNetwork, terms: Sequence[Coupling], channels: int
) -> Float[Tensor, "rows functions channels"]:
    """Coefficients of the splines of all W_n(r) = sum_p c_np R_p(r).

    Float64; there are as many intervals as `TOLERANCE` asks for between zero and the cutoff, see `intervals_of`: twice
    as many at each try, near the end a fifth more.
    """
    paths = radial.outputs // channels
    weights = weights_of_paths(terms, paths)

    def functions(place: Tensor) -> list[Tensor]:
        """Values and derivatives by the place among the knots."""

        def call(place: Tensor) -> Tensor:
            x = place * NEAR / (1 + NEAR - place)
            return radial(x.clamp(min=_SMALL) * radial.cutoff)

        found = torch.autograd.functional.jvp(call, place, torch.ones_like(place))
        return [torch.einsum("np,kpc->knc", weights, part.unflatten(1, (paths, channels))) for part in found]

    intervals = _FEWEST
    while True:
        places = torch.arange(4 * intervals + 1, dtype=torch.float64) / (4 * intervals)
        values, slopes = functions(places)
        table = spline_coefficients(values[2::4], values[[0, -1]], slopes[[0, -1]] / intervals)
        found = torch.stack([_slopes(table, quarter / 4) for quarter in range(4)], dim=1).flatten(0, 1)
        error = (found * intervals - slopes[:-1]).abs().max()
        bound = TOLERANCE * slopes.abs().max()
        if error <= bound or intervals >= _MOST:
            return table
        intervals = min(_MOST, round((2.0 if error > _FAR * bound else 1.2) * intervals))


def intervals_of(table: Float[Tensor, "rows ..."]) -> int:
    """Between how many knots a table of splines is."""
    return len(table) - DEGREE


def spline_coefficients(
    middles: Float[Tensor, "intervals functions channels"],
    values: Float[Tensor, "ends functions channels"],
    slopes: Float[Tensor, "ends functions channels"],
) -> Float[Tensor, "coefficients functions channels"]:
    """Those of the splines with these values in the middle of each interval, and values and slopes at both ends."""
    start, middle, end = (polyval(t, _PIECES.T) / _SCALE for t in (0.0, 0.5, 1.0))
    rise, fall = (polyval(t, polyder(_PIECES, axis=1).T) / _SCALE for t in (0.0, 1.0))
    last, size, wide = len(middles) - 1, len(middles) + DEGREE, DEGREE - 1
    bands = np.zeros((2 * wide + 1, size))
    for k, number in enumerate(middle):
        bands[wide + 2 - k, k : k + len(middles)] = number
    for row, first, numbers in [(0, 0, start), (1, 0, rise), (size - 2, last, end), (size - 1, last, fall)]:
        for column in np.flatnonzero(numbers) + first:
            bands[wide + row - column, column] = numbers[column - first]
    right = torch.cat([values[:1], slopes[:1], middles, values[1:], slopes[1:]])
    found = solve_banded((wide, wide), bands, right.flatten(1).numpy())
    return torch.as_tensor(found).view_as(right)


def _slopes(table: Float[Tensor, "rows functions channels"], t: float) -> Tensor:
    """The slope at a place in every interval, for a distance of one between knots."""
    intervals, differences = intervals_of(table), table.diff(dim=0)
    parts = [float(polyval(t, rise)) * differences[k : k + intervals] for k, rise in enumerate(RISES)]
    return torch.stack(parts).sum(0)
