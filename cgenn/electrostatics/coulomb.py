"""The Coulomb energy of charges and dipoles, whatever the method."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.ewald import ewald_energy
from cgenn.electrostatics.pairs import CoulombPairs
from cgenn.electrostatics.pme import pme_energy
from cgenn.electrostatics.real_space import real_space_energy
from cgenn.electrostatics.settings import CoulombSettings
from cgenn.electrostatics.slab import slab_energy


def coulomb_energy(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    pairs: CoulombPairs,
    settings: CoulombSettings,
    *,
    cell: Float[Tensor, "systems 3 3"] | None = None,
    batch: Int[Tensor, " beads"] | None = None,
    n_systems: int = 1,
) -> Float[Tensor, " systems"]:
    """Energy of each system [kJ/mol], differentiable in positions, charges, dipoles and cell as often as needed.

    Sums are in double precision, whatever the precision of their parts.

    Args:
        positions: [nm].
        charges: [e]. A net charge of a periodic system is neutralised by a uniform background.
        dipoles: [e nm].
        pairs: found with the same settings by `coulomb_pairs`, here or nearby.
        settings: the method and its parameters.
        cell: cell vectors as rows [nm]; None for method "open".
        batch: system of each bead, in order; None for one system.
        n_systems: number of systems.

    Raises:
        ValueError: if shapes do not fit, or the cell does not fit the method.
    """
    if (cell is None) != (settings.method == "open"):
        raise ValueError(f"method {settings.method!r} {'needs a cell' if cell is None else 'is without a cell'}")
    if charges.shape != positions.shape[:1]:
        raise ValueError(f"expected one charge for each of {len(positions)} beads, got shape {tuple(charges.shape)}")
    if dipoles is not None and dipoles.shape != positions.shape:
        raise ValueError(f"expected dipoles of shape {tuple(positions.shape)}, got {tuple(dipoles.shape)}")
    if charges.dtype != positions.dtype:
        raise ValueError(f"expected charges in the precision of the positions, {positions.dtype}, got {charges.dtype}")
    if batch is None:
        batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    energy = real_space_energy(
        positions, charges, dipoles, pairs, settings, cell=cell, batch=batch, n_systems=n_systems
    )
    if cell is None:
        return energy
    if settings.slab:
        energy = energy + slab_energy(
            positions, charges, dipoles, settings.smearing, cell=cell, batch=batch, n_systems=n_systems
        )
    far = pme_energy if settings.method == "pme" else ewald_energy
    return energy + far(positions, charges, dipoles, settings, cell=cell, batch=batch, n_systems=n_systems)
