"""The bead graph: what an energy is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.pairs import CoulombPairs
from cgenn.electrostatics.settings import CoulombSettings
from cgenn.neighbors import edge_vectors, neighbors, without


@dataclass(frozen=True, eq=False)
class CoulombGraph:
    """What the electrostatics of a graph needs besides positions and charges.

    Attributes:
        groups: index of the group of beads whose charges have a fixed sum, shape (beads,).
        totals: charge of each group, shape (groups,) [e].
        pairs: pairs that interact in real space, and those that do not interact at all.
        settings: how the energy is summed up.
    """

    groups: Int[Tensor, " beads"]
    totals: Float[Tensor, " groups"]
    pairs: CoulombPairs
    settings: CoulombSettings


@dataclass(frozen=True, eq=False)
class BeadGraph:
    """Beads of one or many systems and the directed edges between neighbours; every pair appears in both directions.

    Attributes:
        positions: bead positions, shape (beads, 3) [nm].
        types: index of each bead's type in the potential's list of types, shape (beads,).
        receivers: bead that an edge points to, shape (edges,).
        senders: bead that an edge comes from, shape (edges,).
        shifts: cell vectors to add to the sender, as whole numbers, shape (edges, 3).
        batch: index of the system that each bead belongs to, shape (beads,).
        n_systems: number of systems.
        cell: cell vectors as rows, shape (systems, 3, 3) [nm]; None where no system is periodic.
        features: further scalar inputs of each bead, shape (beads, features); None where there are none.
        coulomb: what electrostatics needs; None where there is none.
        orientations: axes of the frame of each bead as columns, those of beads without an orientation along x, y and
            z, shape (beads, 3, 3); None where no bead has one.
    """

    positions: Float[Tensor, "beads 3"]
    types: Int[Tensor, " beads"]
    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    shifts: Float[Tensor, "edges 3"]
    batch: Int[Tensor, " beads"]
    n_systems: int
    cell: Float[Tensor, "systems 3 3"] | None = None
    features: Float[Tensor, "beads features"] | None = None
    coulomb: CoulombGraph | None = None
    orientations: Float[Tensor, "beads 3 3"] | None = None

    def edge_vectors(self) -> Float[Tensor, "edges 3"]:
        """Vector from the receiver to (the image of) the sender [nm]."""
        cell = None if self.cell is None else self.cell[self.batch[self.receivers]]
        return edge_vectors(self.positions, self.receivers, self.senders, self.shifts, cell)

    def per_system(self, values: Float[Tensor, " beads"]) -> Float[Tensor, " systems"]:
        """Sum of `values` over the beads of each system."""
        return values.new_zeros(self.n_systems).index_add(0, self.batch, values)

    def with_positions(self, positions: Float[Tensor, "beads 3"]) -> BeadGraph:
        """The same edges at other positions."""
        return replace(self, positions=positions)

    def within(self, cutoff: float) -> BeadGraph:
        """Without the edges of `cutoff` [nm] or longer, such as those in the skin of a neighbour list."""
        near = (self.edge_vectors().square().sum(1) < cutoff**2).nonzero().squeeze(1)
        receivers, senders, shifts = (
            part.index_select(0, near) for part in (self.receivers, self.senders, self.shifts)
        )
        return replace(self, receivers=receivers, senders=senders, shifts=shifts)

    def with_frames(
        self, positions: Float[Tensor, "beads 3"], orientations: Float[Tensor, "beads 3 3"] | None
    ) -> BeadGraph:
        """The same edges at other positions and orientations."""
        return replace(self, positions=positions, orientations=orientations)

    def strained(self, strain: Float[Tensor, "systems 3 3"]) -> BeadGraph:
        """Positions and cell multiplied by (1 + strain) of their system, from the right; orientations stay."""
        deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        positions = torch.einsum("bi,bij->bj", self.positions, deformation[self.batch])
        cell = None if self.cell is None else self.cell @ deformation
        return replace(self, positions=positions, cell=cell)


def build_graph(
    positions: Float[Tensor, "beads 3"],
    types: Int[Tensor, " beads"],
    cutoff: float,
    *,
    cell: Float[Tensor, "systems 3 3"] | None = None,
    batch: Int[Tensor, " beads"] | None = None,
    n_systems: int = 1,
    features: Float[Tensor, "beads features"] | None = None,
    orientations: Float[Tensor, "beads 3 3"] | None = None,
    excluded: Int[Tensor, "2 pairs"] | None = None,
) -> BeadGraph:
    """The bead graph of all pairs within `cutoff` [nm] but the excluded ones; see `BeadGraph` for the arguments."""
    found = neighbors(positions, cutoff, cell=cell, batch=batch, n_systems=n_systems)
    if excluded is not None:
        found = without(found, excluded, len(positions))
    if batch is None:
        batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    return BeadGraph(
        positions=positions,
        types=types,
        receivers=found.receivers,
        senders=found.senders,
        shifts=found.shifts,
        batch=batch,
        n_systems=n_systems,
        cell=cell,
        features=features,
        orientations=orientations,
    )
