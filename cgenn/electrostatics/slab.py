"""Slabs: periodic along x and y, with vacuum along z that the three-dimensional sum takes for periodic."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.sums import per_system, volumes
from cgenn.units import COULOMB

VACUUM = 1 / 3
"""So much of the cell without a bead is taken for vacuum."""


def slab_energy(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    smearing: float = 0.0,
    *,
    cell: Float[Tensor, "systems 3 3"],
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """What takes the interaction with the images along z out of a sum that is periodic in three directions [kJ/mol].

    (2 pi / V) (M^2 - Q sum q z^2 - Q^2 L^2 / 12) with the dipole M along z (Yeh and Berkowitz, J. Chem. Phys. 111,
    3155, 1999), the net charge Q and the height L of the cell (Ballenegger, Arnold and Cerda, J. Chem. Phys. 131,
    094107, 2009, eq. 15). What is left falls as exp(-2 pi h / a), vacuum h, longest edge a in the plane. A charged
    slab has the potential -2 pi |z| / A of its charged sheets. Smeared charges have the mean z^2 + sigma^2 for z^2.
    """
    height = positions[:, 2]
    moment = dipole_along_z(positions, charges, dipoles, batch=batch, n_systems=n_systems)
    second = charges * (height.square() + smearing**2)
    if dipoles is not None:
        second = second + 2 * dipoles[:, 2] * height
    total, second = per_system(charges, batch, n_systems), per_system(second, batch, n_systems)
    volume = volumes(cell)
    bracket = moment.square() - total * second - total.square() * cell[:, 2, 2].square() / 12
    return 2 * math.pi * COULOMB / volume * bracket


def dipole_along_z(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None = None,
    *,
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """The dipole of each system along z [e nm]: with one, a slab is wrong without the correction (`slab=True`)."""
    moments = charges * positions[:, 2]
    if dipoles is not None:
        moments = moments + dipoles[:, 2]
    return per_system(moments, batch, n_systems)


def check_vacuum(
    positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "systems 3 3"], batch: Int[Tensor, " beads"]
) -> None:
    """Raise a ValueError where there is less vacuum along z than the cell is wide."""
    for number, vectors in enumerate(cell.detach().cpu()):
        heights = positions.detach()[batch == number, 2].cpu()
        if not len(heights):
            continue
        height, width = float(vectors[2, 2].abs()), float(vectors[:2].norm(dim=1).max())
        extent = float(heights.max() - heights.min())
        if height - extent < width:
            raise ValueError(
                f"a slab needs at least {width:.3f} nm of vacuum along z, as much as the cell is wide; the beads of "
                f"system {number} extend over {extent:.3f} of {height:.3f} nm (are they wrapped into the cell?)"
            )


def joined_slab(positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"]) -> Float[Tensor, "beads 3"]:
    """The beads moved by whole cells along z, so that the widest gap between them there is outside.

    A program that wraps beads into the cell takes a slab on both sides of z = 0 apart.
    """
    heights = positions[:, 2] / cell[2, 2]
    ordered = (heights - heights.floor()).nan_to_num(0.0).sort().values  # a lost bead does not take the others along
    gaps = torch.diff(ordered, append=ordered[:1] + 1)
    widest = gaps.argmax().reshape(1)
    vacuum = ordered.index_select(0, widest) + 0.5 * gaps.index_select(0, widest)
    return positions - (heights - vacuum).floor()[:, None] * cell[2]


def uncorrected_slab(
    positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"]
) -> Float[Tensor, "beads 3"] | None:
    """The beads, in whatever cell they are, put together as the slab that they make; None if they make none.

    A slab has vacuum along z, wider than any gap in its plane; a sum without the correction fills it with the field of
    the images.
    """
    fractional = positions @ torch.linalg.inv(cell)
    ordered = (fractional - fractional.floor()).sort(0).values
    widest = torch.diff(ordered, dim=0, append=ordered[:1] + 1).amax(0)
    if widest[2] < max(VACUUM, 1.5 * float(widest[:2].max())):
        return None
    return joined_slab(positions, cell)
