"""Sums over the beads of each system, and its volume."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def per_system(
    values: Float[Tensor, " items"], system: Int[Tensor, " items"], n_systems: int
) -> Float[Tensor, " systems"]:
    """Sum of the values of each system, in double precision: large parts of a Coulomb energy cancel."""
    return values.new_zeros(n_systems, dtype=torch.float64).index_add(0, system, values.to(torch.float64))


def volumes(cell: Float[Tensor, "systems 3 3"]) -> Float[Tensor, " systems"]:
    """Volume of each cell [nm^3]."""
    return (cell[:, 0] * torch.linalg.cross(cell[:, 1], cell[:, 2])).sum(1).abs()
