"""Radial functions as tables: cubic Hermite splines between equidistant knots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.compiled.ladder import Coupling
from cgenn.nn.radial import RadialNetwork

TOLERANCE = 1e-5
"""Largest error of a slope dW/ds, s the place among the knots, by the largest slope; that of W is far less."""
NEAR = 0.4
"""Knots are at equal distances of s = x (1 + a) / (x + a), x the distance by the cutoff and a this number: denser where
the radial functions of a network change fast, which is where beads are close."""
_FEWEST, _MOST = 128, 4096
_SMALL = 1e-7
"""Where zero stands for: the basis divides by the distance."""


def radial_table(
    radial: RadialNetwork, terms: Sequence[Coupling], channels: int
) -> Float[Tensor, "knots functions_and_slopes channels"]:
    """Values and slopes, for a distance of one between knots, of W_n(r) = sum_p c_np R_p(r), one after the other.

    Float64; there are as many intervals, a power of two, as `TOLERANCE` asks for between zero and the cutoff.
    """
    paths = radial.outputs // channels
    mixing = torch.zeros(len(terms), paths, dtype=torch.float64)
    for number, term in enumerate(terms):
        for path, weight in term.weights:
            mixing[number, path] = weight

    def functions(place: Tensor) -> list[Tensor]:
        """Values and derivatives by the place among the knots."""

        def call(place: Tensor) -> Tensor:
            x = place * NEAR / (1 + NEAR - place)
            return radial(x.clamp(min=_SMALL) * radial.cutoff)

        found = torch.autograd.functional.jvp(call, place, torch.ones_like(place))
        return [torch.einsum("np,kpc->knc", mixing, part.unflatten(1, (paths, channels))) for part in found]

    intervals = _FEWEST
    while True:
        grid = torch.arange(intervals + 1, dtype=torch.float64) / intervals
        values, slopes = functions(grid)
        between = _slope(values, slopes / intervals, 0.25) * intervals
        error = (between - functions(grid[:-1] + 0.25 / intervals)[1]).abs().max()
        if error <= TOLERANCE * slopes.abs().max() or intervals >= _MOST:
            return torch.stack([values, slopes / intervals], dim=2).flatten(1, 2)
        intervals *= 2


def _slope(values: Tensor, slopes: Tensor, t: float) -> Tensor:
    """The slope of the splines at t in every interval."""
    change = values[1:] - values[:-1]
    return (6 * t - 6 * t**2) * change + (3 * t**2 - 4 * t + 1) * slopes[:-1] + (3 * t**2 - 2 * t) * slopes[1:]
