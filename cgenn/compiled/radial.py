"""Radial functions as tables: a polynomial of degree four between two knots, with a continuous slope."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.compiled.ladder import Coupling, weights_of_paths
from cgenn.nn.radial import RadialNetwork

TOLERANCE = 1e-6
"""Largest error of a slope dW/ds, s the place among the knots, by the largest slope; that of W is far less."""
NEAR = 0.4
"""Knots are at equal distances of s = x (1 + a) / (x + a), x the distance by the cutoff and a this number: denser where
the radial functions of a network change fast, which is where beads are close."""
POWERS = 5
_FEWEST, _MOST = 64, 2048
_SMALL = 1e-7
"""Where zero stands for: the basis divides by the distance."""


def radial_table(
    radial: RadialNetwork, terms: Sequence[Coupling], channels: int
) -> Float[Tensor, "intervals functions_and_powers channels"]:
    """Coefficients of the powers, zero to four, of the place in each interval: W_n(r) = sum_p c_np R_p(r), n by n.

    Float64; there are as many intervals, a power of two, as `TOLERANCE` asks for between zero and the cutoff.
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
        grid = torch.arange(2 * intervals + 1, dtype=torch.float64) / (2 * intervals)
        values, slopes = functions(grid)
        powers = _powers(values, slopes[::2] / intervals)
        error = (_slope(powers, 0.5) * intervals - slopes[1::2]).abs().max()  # it is largest in the middle
        if error <= TOLERANCE * slopes.abs().max() or intervals >= _MOST:
            return powers.flatten(1, 2)
        intervals *= 2


def _powers(
    values: Float[Tensor, "knots_and_middles functions channels"], slopes: Float[Tensor, "knots functions channels"]
) -> Float[Tensor, "intervals functions powers channels"]:
    """The coefficients that give values and slopes at both ends of an interval and the value in its middle.

    Found in double precision, where differences lose no digits.
    """
    start, rise, end = values[:-1:2], slopes[:-1], slopes[1:]
    change, bend = values[2::2] - start - rise, end - rise
    fourth = 16 * (values[1::2] - start - 0.5 * rise) - 8 * change + 2 * bend
    third = bend - 2 * change - 2 * fourth
    return torch.stack([start, rise, change - third - fourth, third, fourth], dim=2)


def _slope(powers: Tensor, t: float) -> Tensor:
    """The slope at a place in every interval, for a distance of one between knots."""
    _, *rest = powers.unbind(2)
    return sum((n * t ** (n - 1) * power for n, power in enumerate(rest, start=1)), torch.zeros_like(rest[0]))
