"""Dense layers and activations that keep the variance of what passes through them.

Weights are drawn with unit variance and scaled when they are used, so that one learning rate suits layers of any width
(Jacot, Gabriel and Hongler 2018).
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

SILU_GAIN = 1.6765
"""1 / sqrt(E[silu(z)^2]) for a standard normal z."""

SIGMOID_GAIN = 1.8462
"""1 / sqrt(E[sigmoid(z)^2]) for a standard normal z."""


class Dense(nn.Module):
    """x W / sqrt(inputs) + b."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = inputs**-0.5

    @property
    def matrix(self) -> Float[Tensor, "inputs outputs"]:
        """W / sqrt(inputs)."""
        return self.scale * self.weight

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        product = x @ self.matrix
        return product if self.bias is None else product + self.bias


class ScaledSiLU(nn.Module):
    """silu, scaled to unit variance."""

    def forward(self, x: Tensor) -> Tensor:
        return SILU_GAIN * nn.functional.silu(x)


def perceptron(inputs: int, width: int, outputs: int, hidden: int) -> nn.Sequential:
    """`hidden` layers of `width` with activations, and a last one without activation or bias."""
    sizes = [inputs] + [width] * hidden
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [Dense(before, after), ScaledSiLU()]
    return nn.Sequential(*layers, Dense(sizes[-1], outputs, bias=False))
