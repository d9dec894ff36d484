"""Derivatives of derivatives for functions that find their first derivatives by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiate_again(
    energy: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """First derivatives of an energy, times `gradient`, with a graph for the next ones; None where none is needed.

    They are taken with respect to views of the inputs: with respect to the inputs themselves, those of charges that
    depend on the positions would be counted here and again by whoever asks.
    """
    views = [value.view_as(value) for value in inputs]
    wanted = [value for value in views if value.requires_grad]
    found = iter(torch.autograd.grad(energy(*views), wanted, gradient, create_graph=True))
    return tuple(next(found) if value.requires_grad else None for value in views)
