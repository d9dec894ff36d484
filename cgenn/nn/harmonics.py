"""Spherical harmonics of directions, in the order, sign and normalisation of e3nn."""

from __future__ import annotations

import math

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.nn.constant import Constant


class SphericalHarmonics(nn.Module):
    """Y_0 to Y_lmax one after the other, each with |Y_l|^2 = 2 l + 1 ("component").

    Y_1 = sqrt(3) (x, y, z), Y_2 is written out, and beyond it, with C the Wigner 3j symbol of (l, 1, l + 1),
    Y_(l+1),k = c_l sum_ij C_ijk Y_l,i Y_1,j. Plain tensor operations: unlike e3nn's own, the module can be copied,
    pickled and compiled.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.steps = nn.ModuleList(Constant(_step(degree)) for degree in range(2, lmax))

    def forward(
        self, vectors: Float[Tensor, "edges 3"], distance: Float[Tensor, " edges"]
    ) -> Float[Tensor, "edges harmonics"]:
        degrees = [torch.ones_like(distance).unsqueeze(1)]
        first = math.sqrt(3) * vectors / distance.unsqueeze(1)
        if self.lmax > 0:
            degrees.append(first)
        if self.lmax > 1:
            degrees.append(_second(first))
        for step in self.steps:
            pairs = degrees[-1].unsqueeze(2) * first.unsqueeze(1)
            degrees.append(pairs.flatten(1) @ step())
        return torch.cat(degrees, dim=1)


def _second(first: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges 5"]:
    x, y, z = first.unbind(1)
    x2, z2 = x.square(), z.square()
    columns = [x * z, x * y, (y.square() - 0.5 * (x2 + z2)) / math.sqrt(3), y * z, 0.5 * (z2 - x2)]
    return math.sqrt(5 / 3) * torch.stack(columns, dim=1)


def _step(degree: int) -> Float[Tensor, "pairs components"]:
    """From (Y_l, Y_1) to Y_(l+1); at the pole, y, only the middle component of each is not zero, which gives c_l."""
    coupling = o3.wigner_3j(degree, 1, degree + 1, dtype=torch.float64)
    pole = coupling[degree, 1, degree + 1] * math.sqrt(3 * (2 * degree + 1))
    return (coupling * math.sqrt(2 * degree + 3) / pole).flatten(0, 1)
