"""Functions of the distance that stand for 1/r, and all their derivatives.

A kernel f(r) comes as the family f_0 = f, f_(n+1) = -(1/r) d f_n / dr. Charges need f_0, dipoles f_1 and f_2 too. The
derivative of f_n with respect to r^2 is -f_(n+1) / 2: a family is closed under differentiation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_SERIES_BELOW, _SERIES_TERMS = 1.0, 20


@dataclass(frozen=True)
class Kernel:
    """1/r without the long-range part erf(alpha r)/r; or, `smeared`, erf(beta r)/r without it.

    alpha = 0 takes nothing away, beta = 1/(2 sigma) belongs to charges of width sigma, beta = 0 leaves only
    -erf(alpha r)/r: what an excluded pair is given back.
    """

    alpha: float
    beta: float = math.inf

    def __call__(self, r2: Float[Tensor, " pairs"], order: int = 0) -> Float[Tensor, " pairs"]:
        """f_order at squared distances `r2` [nm^2], differentiable as often as needed [nm^-(1 + 2 order)]."""
        return _Family.apply(r2, self, order)

    def value(self, r2: Float[Tensor, " pairs"], order: int) -> Float[Tensor, " pairs"]:
        """The same, without derivatives."""
        if math.isinf(self.beta):
            return _complement(r2, self.alpha, order)
        smeared = _interior(r2, self.beta, order) if self.beta > 0 else 0.0
        return smeared - _interior(r2, self.alpha, order) if self.alpha > 0 else smeared + torch.zeros_like(r2)


class _Family(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, r2: Tensor, kernel: Kernel, order: int) -> Tensor:
        ctx.save_for_backward(r2)
        ctx.kernel, ctx.order = kernel, order
        return kernel.value(r2, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (r2,) = ctx.saved_tensors
        return -0.5 * gradient * ctx.kernel(r2, ctx.order + 1), None, None


def _complement(r2: Tensor, alpha: float, order: int) -> Tensor:
    """The family of erfc(alpha r)/r: f_(n+1) r^2 = (2n + 1) f_n + 2 alpha/sqrt(pi) (2 alpha^2)^n exp(-(alpha r)^2)."""
    inverse = 1.0 / r2
    if alpha == 0:
        return math.prod(range(1, 2 * order, 2)) * inverse**order * inverse.sqrt()
    distance = r2.sqrt()
    value = torch.erfc(alpha * distance) / distance
    if order == 0:
        return value
    gaussian = torch.exp(-(alpha**2) * r2)
    for n in range(order):
        value = ((2 * n + 1) * value + 2 * alpha / math.sqrt(math.pi) * (2 * alpha**2) ** n * gaussian) * inverse
    return value


def _interior(r2: Tensor, alpha: float, order: int) -> Tensor:
    """The family of erf(alpha r)/r: 2 alpha/sqrt(pi) (2 alpha^2)^n F_n((alpha r)^2) with Boys' function F_n."""
    scaled = alpha**2 * r2
    small = scaled < _SERIES_BELOW
    near = torch.where(small, scaled, torch.zeros_like(scaled))
    far = torch.where(small, torch.ones_like(scaled), scaled)
    gaussian = torch.exp(-near)
    term = gaussian / (2 * order + 1)
    series = term
    for i in range(1, _SERIES_TERMS):
        term = term * (2 * near / (2 * order + 2 * i + 1))
        series = series + term
    root = far.sqrt()
    upward = 0.5 * math.sqrt(math.pi) * torch.erf(root) / root
    gaussian = torch.exp(-far)
    for n in range(order):
        upward = ((2 * n + 1) * upward - gaussian) / (2 * far)
    return 2 * alpha / math.sqrt(math.pi) * (2 * alpha**2) ** order * torch.where(small, series, upward)
