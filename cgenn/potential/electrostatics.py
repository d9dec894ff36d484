"""Electrostatics of a potential: which charges there are, what they add up to, and how their energy is summed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat
from torch import Tensor

from cgenn.config import Config
from cgenn.electrostatics.pairs import coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.graph import CoulombGraph
from cgenn.neighbors import in_copies
from cgenn.topology import BeadTopology

CHARGE_UNIT = 0.1
"""What an output of one adds to a charge [e]."""

DIPOLE_UNIT = 0.01
"""What an output of one stands for in a dipole [e nm], half a debye."""


class ElectrostaticsConfig(Config):
    """Charges of the beads and the Coulomb energy between them.

    Attributes:
        charges: "types" gives every bead the constant charge of its type; "predicted" lets the network read a charge
            from the surroundings of each bead.
        dipoles: let the network read a dipole of each bead, too; its energy is summed up with that of the charges.
        groups: whose charges always add up to the same: those of each molecule, of each residue, or of the whole
            system. What they add up to are the charges of the topology. Groups of one's own are residues, which the
            mapping or `BeadTopology.build(residue_index=...)` declares; see `cgenn.electrostatics.charge_groups`.
        excluded_bonds: beads so many bonds apart or fewer do not interact by their charges.
        smearing: charges are Gaussians of this standard deviation [nm]; 0 for points.
        accuracy: of the forces, root mean square, relative.
        cutoff: of the sum in real space [nm]; by default the one that is likely to be the fastest.
        slab: the system is periodic along x and y only (Yeh and Berkowitz 1999).
        self_energy: count what it costs to charge a bead, chi q + J q^2 / 2 with numbers for each type, fitted so that
            the reference charges are where the energy is least (Rappe and Goddard 1991). Small errors of predicted
            charges then hardly change the energy. For reference charges from charge equilibration or the like.
    """

    charges: Literal["types", "predicted"] = "predicted"
    dipoles: bool = False
    groups: Literal["molecule", "residue", "system"] = "molecule"
    excluded_bonds: int = Field(default=3, ge=0, le=3)
    smearing: float = Field(default=0.0, ge=0)
    accuracy: float = Field(default=1e-4, ge=1e-12, lt=0.1)
    cutoff: PositiveFloat | None = None
    slab: bool = False
    self_energy: bool = False


def group_index(topology: BeadTopology, groups: Literal["molecule", "residue", "system"]) -> Int[np.ndarray, " beads"]:
    """Number of the group of each bead, from 0.

    Raises:
        ValueError: if residues are asked for, but the topology has only one for several molecules.
    """
    if groups == "system":
        return np.zeros(len(topology), dtype=np.int64)
    index = topology.molecules if groups == "molecule" else topology.residue_index
    if groups == "residue" and len(set(index.tolist())) == 1 and topology.molecules.max() > 0:
        raise ValueError(
            f'groups = "residue", but all {len(topology)} beads of {topology.molecules.max() + 1} molecules are in one '
            'residue: give each bead its `residue_index`, or choose "molecule" or "system"'
        )
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def group_totals(
    charges: Float[np.ndarray, "*frames beads"], index: Int[np.ndarray, " beads"]
) -> Float[np.ndarray, "*frames groups"]:
    """Sum of the charges of each group [e]."""
    totals = np.zeros((*charges.shape[:-1], int(index.max()) + 1))
    np.add.at(totals.T, index, charges.T)
    return totals


def coulomb_settings(
    config: ElectrostaticsConfig, beads: int, cell: Float[Tensor, "systems 3 3"] | None
) -> CoulombSettings:
    """How the energy of systems of so many beads is summed up, tuned so that it is right in every one of the cells.

    Raises:
        ValueError: if the box does not allow what is asked for.
    """
    return tune(
        None if cell is None else torch.unique(cell.detach(), dim=0),
        beads,
        accuracy=config.accuracy,
        cutoff=config.cutoff,
        smearing=config.smearing,
        slab=config.slab,
        dipoles=config.dipoles,
    )


def coulomb_graph(
    config: ElectrostaticsConfig,
    topology: BeadTopology,
    positions: Float[Tensor, "beads 3"],
    cell: Float[Tensor, "systems 3 3"] | None,
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> CoulombGraph:
    """What the electrostatics of `n_systems` conformations of a topology needs; see `coulomb_settings` for errors."""
    beads, device = len(topology), positions.device
    systems = torch.arange(n_systems, device=device)
    index = torch.from_numpy(group_index(topology, config.groups)).to(device)
    totals = torch.from_numpy(group_totals(topology.charges, index.cpu().numpy())).to(positions)
    excluded = torch.from_numpy(topology.bonded_pairs(config.excluded_bonds).T.copy()).to(device)
    settings = coulomb_settings(config, beads, cell)
    pairs = coulomb_pairs(
        positions,
        settings,
        cell=cell,
        batch=batch,
        n_systems=n_systems,
        excluded=in_copies(excluded, beads, n_systems),
    )
    return CoulombGraph(
        groups=(index[None] + len(totals) * systems[:, None]).flatten(),
        totals=totals.repeat(n_systems),
        pairs=pairs,
        settings=settings,
    )
