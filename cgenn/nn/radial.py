"""Functions of the distance between two beads."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.nn.constant import Constant
from cgenn.nn.dense import Dense, perceptron


def smooth_cutoff(distance: Float[Tensor, " edges"], cutoff: float) -> Float[Tensor, " edges"]:
    """A polynomial that falls from 1 to 0 at the cutoff with two continuous derivatives, and is 0 beyond.

    u(x) = 1 - 28 x^6 + 48 x^7 - 21 x^8, x = r / cutoff (Gasteiger, Gross and Guennemann 2020, eq. 8, with p = 6).
    """
    x = distance / cutoff
    x6 = x.square() * x.square() * x.square()
    envelope = 1 + x6 * (-28 + x * (48 - 21 * x))
    return torch.where(x < 1, envelope, torch.zeros_like(envelope))


class BesselBasis(nn.Module):
    """sqrt(2 / cutoff) sin(n pi r / cutoff) / r, n = 1 .. size (Gasteiger, Gross and Guennemann 2020, eq. 7).

    Scaled by the cutoff, so that the functions have no unit.
    """

    def __init__(self, size: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.roots = Constant(math.pi * torch.arange(1, size + 1, dtype=torch.float64))

    def forward(self, distance: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        x = (distance / self.cutoff).unsqueeze(1)
        return math.sqrt(2.0) * torch.sin(self.roots() * x) / x


BASIS_SCALE = 0.4
"""Brings the basis to about unit size where most neighbours are."""


class RadialNetwork(nn.Module):
    """Weights that depend on the distance: a perceptron on the Bessel basis, taken smoothly to zero at the cutoff.

    They may depend on further `invariants` of an edge, of about unit size.
    """

    def __init__(self, basis: int, width: int, outputs: int, cutoff: float, invariants: int = 0) -> None:
        super().__init__()
        self.cutoff, self.outputs = cutoff, outputs
        self.basis = BesselBasis(basis, cutoff)
        self.perceptron = perceptron(basis + invariants, width, outputs, hidden=2)

    def hidden(
        self, distance: Float[Tensor, " edges"], invariants: Float[Tensor, "edges invariants"] | None = None
    ) -> Float[Tensor, "edges hidden"]:
        """What the last matrix is multiplied by, zero at the cutoff and beyond."""
        values = BASIS_SCALE * self.basis(distance)
        if invariants is not None:
            values = torch.cat([values, invariants], dim=1)
        for layer in list(self.perceptron)[:-1]:
            values = layer(values)
        return values * smooth_cutoff(distance, self.cutoff).unsqueeze(1)

    @property
    def last(self) -> Dense:
        """The last layer of the perceptron, a matrix."""
        layer = self.perceptron[-1]
        assert isinstance(layer, Dense)
        return layer

    def forward(
        self, distance: Float[Tensor, " edges"], invariants: Float[Tensor, "edges invariants"] | None = None
    ) -> Float[Tensor, "edges outputs"]:
        return self.last(self.hidden(distance, invariants))
