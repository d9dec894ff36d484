"""B-splines of charges and dipoles on a mesh, in plain torch: differentiable as often as the spline is smooth."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def spread_moments(
    fractional: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    batch: Int[Tensor, " beads"],
    shape: tuple[int, int, int, int],
    order: int,
) -> Float[Tensor, "systems nx ny nz"]:
    """sum (q + mu . grad) W(r), with W the product of a spline along each cell vector.

    Args:
        fractional: positions as multiples of the cell vectors.
        charges: [e].
        dipoles: [e], as multiples of the cell vectors.
        batch: system of each bead.
        shape: systems, and points along the cell vectors.
        order: of the splines.
    """
    points = torch.tensor(shape[1:], device=fractional.device)
    scaled = fractional * points
    below = scaled.detach().floor()
    values, slopes = splines(scaled - below, order)
    x, y, z = values.unbind(1)
    plane, along = y[:, :, None] * z[:, None], charges[:, None] * x
    if dipoles is None:
        weights = along[:, :, None, None] * plane[:, None]
    else:
        (dx, dy, dz), moments = slopes.unbind(1), (dipoles * points)[:, None]
        along = along + moments[..., 0] * dx
        across = moments[..., 1:2] * dy[:, :, None] * z[:, None] + moments[..., 2:] * y[:, :, None] * dz[:, None]
        weights = along[:, :, None, None] * plane[:, None] + x[:, :, None, None] * across[:, None]

    places = (below[:, :, None].to(torch.int64) - torch.arange(order, device=points.device)) % points[:, None]
    rows = (batch[:, None] * shape[1] + places[:, 0])[:, :, None] * shape[2] + places[:, None, 1]
    index = rows[..., None] * shape[3] + places[:, None, None, 2]
    mesh = weights.new_zeros(shape[0] * shape[1] * shape[2] * shape[3])
    return mesh.index_add(0, index.flatten(), weights.flatten()).reshape(shape)


def splines(
    offset: Float[Tensor, "beads 3"], order: int
) -> tuple[Float[Tensor, "beads 3 order"], Float[Tensor, "beads 3 order"]]:
    """Cardinal B-splines M(offset + j), j = 0 ... order - 1, and their slopes, for offsets between 0 and 1.

    M_p(u) = (u M_(p-1)(u) + (p - u) M_(p-1)(u - 1)) / (p - 1) and M'_p(u) = M_(p-1)(u) - M_(p-1)(u - 1) (Essmann et
    al., J. Chem. Phys. 103, 8577, 1995, eq. 4.1).
    """
    values = torch.stack([offset, 1 - offset], dim=2)
    slopes = torch.zeros_like(values)
    for p in range(3, order + 1):
        slopes = _pad(values, 0) - _pad(values, 1)
        u = offset[:, :, None] + torch.arange(p, device=offset.device)
        values = (u * _pad(values, 0) + (p - u) * _pad(values, 1)) / (p - 1)
    return values, slopes


def _pad(values: Tensor, before: int) -> Tensor:
    """One more zero at the end, or `before`."""
    return torch.nn.functional.pad(values, (before, 1 - before))
