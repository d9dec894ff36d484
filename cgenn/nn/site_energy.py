"""The sum of splines of all distances between the sites of two bodies."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_NEVER_ZERO = 1e-8
"""Added to squares of distances so that derivatives exist, in the unit of the cutoff [nm^2]."""
_AT_ONCE = 1024
"""Pairs of bodies, so that what belongs to them stays in the cache of a processor."""


def site_energy(
    here: Float[Tensor, "pairs here 3"],
    there: Float[Tensor, "pairs there 3"],
    table: Float[Tensor, "4 intervals"],
    first: Int[Tensor, "#pairs here there"],
    last: int,
    spacing: float,
) -> Float[Tensor, " pairs"]:
    """sum_ab phi_ab(|x_a - x_b|) of each pair of bodies, differentiable any number of times.

    Args:
        here, there: the sites of either body.
        table: phi in each interval, as the coefficients of powers of the position in it, from 0 to 1.
        first: the first interval of phi_ab.
        last: the last interval, counted from the first; phi has to be zero in it.
        spacing: length of an interval.
    """
    if torch.is_grad_enabled() and table.requires_grad:
        return _plain(here, there, table, first, last, spacing)
    return _Fixed.apply(here, there, table, first, last, spacing)


def _plain(here: Tensor, there: Tensor, table: Tensor, first: Tensor, last: int, spacing: float) -> Tensor:
    difference = here.unsqueeze(2) - there.unsqueeze(1)
    at = (difference.square().sum(3) + _NEVER_ZERO).sqrt() / spacing
    interval = at.detach().clamp(max=last).to(torch.int32)
    x = at - interval
    c = table.index_select(1, (first + interval).flatten()).unflatten(1, at.shape)
    return (c[0] + x * (c[1] + x * (c[2] + x * c[3]))).sum((1, 2))


class _Fixed(torch.autograd.Function):
    """The same for fixed splines, with the derivatives by the sites at once: less memory, and twice as fast."""

    @staticmethod
    def forward(ctx, here: Tensor, there: Tensor, table: Tensor, first: Tensor, last: int, spacing: float) -> Tensor:
        energy, by_here, by_there = here.new_empty(len(here)), torch.empty_like(here), torch.empty_like(there)
        for start in range(0, len(here), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = first if len(first) == 1 else first[part]
            energy[part] = _with_slopes(
                here[part], there[part], table, rows, last, spacing, by_here[part], by_there[part]
            )
        ctx.save_for_backward(here, there, table, first, by_here, by_there)
        ctx.rest = (last, spacing)
        return energy

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, ...]:
        here, there, table, first, by_here, by_there = ctx.saved_tensors
        if torch.is_grad_enabled():  # derivatives of these derivatives are wanted
            energy, needed = _plain(here, there, table, first, *ctx.rest), ctx.needs_input_grad[:2]
            inputs = [part for part, asked in zip((here, there), needed, strict=True) if asked]
            slopes = iter(torch.autograd.grad(energy, inputs, slope, create_graph=True))
            return *(next(slopes) if asked else None for asked in needed), None, None, None, None
        return by_here * slope[:, None, None], by_there * slope[:, None, None], None, None, None, None


def _with_slopes(
    here: Tensor,
    there: Tensor,
    table: Tensor,
    first: Tensor,
    last: int,
    spacing: float,
    by_here: Tensor,
    by_there: Tensor,
) -> Tensor:
    """The energies; their derivatives are written into `by_here` and `by_there`."""
    difference = [here[:, :, None, k] - there[:, None, :, k] for k in range(3)]
    distance = difference[0].square().add_(_NEVER_ZERO)
    for component in difference[1:]:
        distance.addcmul_(component, component)
    distance.sqrt_()
    x = distance / spacing
    interval = x.clamp(max=last).to(torch.int32)
    x -= interval
    interval += first
    c = [row.index_select(0, interval.flatten()).view_as(x) for row in table]
    energy = torch.addcmul(c[0], x, torch.addcmul(c[1], x, torch.addcmul(c[2], x, c[3])))
    slope = torch.addcmul(c[1], x, torch.addcmul(2 * c[2], x, c[3], value=3)).div_(distance.mul_(spacing))
    for k, component in enumerate(difference):
        component *= slope
        by_here[:, :, k] = component.sum(2)
        by_there[:, :, k] = -component.sum(1)
    return energy.sum((1, 2))
