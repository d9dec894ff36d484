"""What a learned force remembers from call to call: its network on a device, and which beads are neighbours."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.config import Config
from cgenn.electrostatics.pairs import CoulombPairs, coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings
from cgenn.graph import BeadGraph, CoulombGraph
from cgenn.neighbors import VerletList, in_copies
from cgenn.potential.compiled import CompiledPotential
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.electrostatics import (
    ElectrostaticsConfig,
    coulomb_settings,
    group_index,
    group_totals,
)
from cgenn.potential.potential import Potential
from cgenn.simulation.rigid import RigidBeads
from cgenn.topology import BeadTopology

SKIN = 0.1
"""Of the list of pairs of the Coulomb sum in real space [nm]."""

GROWTH = 1.1
"""The mesh is chosen anew when an edge of the box has changed by this factor."""


LOOSE = 0.1
"""The sites of a bead that are farther than this from their places, by the size of the bead, are not held together."""

PATIENCE = 20
"""So many calls in a row they may be: a minimiser tries steps that stretch constraints, some six in a row at most."""


class ChargedBeads(Config):
    """The charges of one copy of a system.

    Attributes:
        groups: index of the group of each bead whose charges have a fixed sum.
        totals: that sum of each group [e].
        excluded: pairs of beads that do not interact by their charges.
    """

    groups: tuple[int, ...]
    totals: tuple[float, ...]
    excluded: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, topology: BeadTopology, config: ElectrostaticsConfig) -> ChargedBeads:
        """Of the beads of a topology."""
        index = group_index(topology, config.groups)
        totals = group_totals(topology.charges, index)
        excluded = [(first, second) for first, second in topology.bonded_pairs(config.excluded_bonds).tolist()]
        return cls(groups=tuple(index.tolist()), totals=tuple(totals.tolist()), excluded=tuple(excluded))


class Memory:
    """A network on its device, the constant parts of its graph, and the neighbour lists."""

    def __init__(
        self,
        potential: Potential,
        types: tuple[int, ...],
        features: tuple[tuple[float, ...], ...],
        charged: ChargedBeads | None,
        replicas: int,
        rigid: RigidBeads | None = None,
        excluded: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.potential = potential
        device, beads = potential.network.embedding.weight.device, len(types)
        self.replicas = replicas
        self.types = torch.tensor(types, device=device).repeat(replicas)
        self.batch = torch.arange(replicas, device=device).repeat_interleave(beads)
        self.features = None
        if features:
            self.features = torch.tensor(features, device=device, dtype=potential.dtype).repeat(replicas, 1)
        self.verlet = VerletList(potential.config.cutoff, excluded=_pairs(excluded, beads, replicas, device))
        self.coulomb = None if charged is None else _CoulombMemory(potential, charged, self.batch, replicas)
        self.cells = torch.zeros(beads * replicas, 3, device=device)
        """Whole cells that each bead is moved by."""
        self.sites = None if rigid is None else rigid.map_on(device)
        self.loose = 0
        """Calls in a row in which sites were not in their places."""

    def frames(
        self, particles: Float[Tensor, "particles 3"], cell: Float[Tensor, "3 3"] | None = None
    ) -> tuple[Float[Tensor, "beads 3"], Float[Tensor, "beads 3 3"]]:
        """Positions and orientations of the beads, from all particles.

        Raises:
            ValueError: if the sites of a bead are not held together, or some of them are in another image of the box.
        """
        sites, copies = self.sites, particles.unflatten(0, (self.replicas, -1))
        assert sites is not None
        positions, frames = sites.to_beads(copies)
        strain = sites.strain(copies, positions, frames).amax(0)
        self.loose = self.loose + 1 if bool(strain.max() > LOOSE) else 0
        if self.loose and cell is not None:
            whole = sites.unwrapped(copies, cell.to(copies.device))
            split = (strain > LOOSE) & (sites.strain(whole, *sites.to_beads(whole)).amax(0) < LOOSE)
            if bool(split.any()):
                bead = int(sites.oriented[split][0])
                raise ValueError(
                    f"the sites of the oriented bead {bead} are in different images of the box: put beads into the box "
                    "with their sites as a whole, as OpenMM does with enforcePeriodicBox"
                )
        if self.loose > PATIENCE:
            bead = int(sites.oriented[int(strain.argmax())])
            raise ValueError(
                f"the sites of the oriented bead {bead} have drifted apart: their constraints are missing in the "
                "System. Do not remove them (openmmml's createMixedSystem needs removeConstraints=False)"
            )
        return positions.flatten(0, 1), frames.flatten(0, 1)

    def on_sites(
        self,
        graph: BeadGraph,
        energy: Float[Tensor, ""],
        forces: Float[Tensor, "beads 3"],
        torques: Float[Tensor, "beads 3"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "particles 3"]]:
        """The energy, and forces and torques of the beads as forces on all particles."""
        assert self.sites is not None
        assert graph.orientations is not None
        copies = [part.double().unflatten(0, (self.replicas, -1)) for part in (forces, torques, graph.orientations)]
        return energy, self.sites.site_forces(*copies).flatten(0, 1)

    def graph(self, positions: Tensor, cell: Tensor | None, orientations: Tensor | None = None) -> BeadGraph:
        """The graph of neighbours; the skin of their list would cost a network more than they do and add nothing."""
        cells = None if cell is None else cell.unsqueeze(0)
        if orientations is None and self.potential.config.bodies:  # none of these beads has one
            orientations = torch.eye(3).to(positions).repeat(len(positions), 1, 1)
        rebuilds = self.verlet.rebuilds
        found = self.verlet.find(positions, cell=cells, batch=self.batch, n_systems=self.replicas)
        coulomb = None if self.coulomb is None else self.coulomb.graph(positions, cells)
        if cell is not None and self.verlet.rebuilds > rebuilds:
            strayed = torch.floor(positions @ torch.linalg.inv(cell))
            if self.coulomb is not None and self.coulomb.config.slab:
                strayed[:, 2] = 0.0  # a slab is not periodic along z, and may lie on both sides of z = 0
            if strayed.abs().max() > 2:  # from the next call on; until then positions and list belong together
                self.cells += strayed
        listed = BeadGraph(
            positions=positions,
            types=self.types,
            receivers=found.receivers,
            senders=found.senders,
            shifts=found.shifts,
            batch=self.batch,
            n_systems=self.replicas,
            cell=cells,
            features=self.features,
            coulomb=coulomb,
            orientations=orientations,
        )
        return listed if isinstance(self.potential, CompiledPotential) else listed.within(self.verlet.cutoff)

    def energy_forces_torques(
        self, graph: BeadGraph, scale: float
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "beads 3"], Float[Tensor, "beads 3"]]:
        """Energy of all copies together, forces and torques; see `potential_energy`."""
        if isinstance(self.potential, CompiledPotential) and self.coulomb is None:
            energies, forces, torques = self.potential.network_energy_forces_torques(graph)
            return energies.double().sum(), forces, torques
        energy, forces, torques = energy_forces_torques(lambda graph: self.potential_energy(graph, scale), graph)
        return energy.squeeze(0), forces, torques

    def potential_energy(self, graph: BeadGraph, scale: float) -> Float[Tensor, " 1"]:
        """Energy of all copies together; summed in double precision, since a barostat compares large sums."""
        outputs = self.potential.outputs(graph)
        energy = self.potential.config.energy_scale * outputs.energies.double().sum()
        if self.coulomb is not None:
            moments = self.potential.moments(graph, outputs)
            energy = energy + scale**2 * self.potential.electrostatic_energy(graph, moments).double().sum()
        return energy.unsqueeze(0)


def _pairs(
    of_one: tuple[tuple[int, int], ...], beads: int, replicas: int, device: torch.device
) -> Int[Tensor, "2 pairs"]:
    """Pairs of beads of one copy in all copies."""
    return in_copies(torch.tensor(of_one, device=device, dtype=torch.int64).reshape(-1, 2).T, beads, replicas)


class _CoulombMemory:
    """The pairs of the Coulomb sum, found anew when a bead has moved more than half their skin, or the box changed."""

    def __init__(self, potential: Potential, charged: ChargedBeads, batch: Tensor, replicas: int) -> None:
        assert potential.config.electrostatics is not None
        self.config, self.batch, self.replicas = potential.config.electrostatics, batch, replicas
        self.beads, device = len(charged.groups), batch.device
        copies = torch.arange(replicas, device=device)
        groups = torch.tensor(charged.groups, device=device)
        self.groups = (groups[None] + len(charged.totals) * copies[:, None]).flatten()
        self.totals = torch.tensor(charged.totals, device=device, dtype=potential.dtype).repeat(replicas)
        self.excluded = _pairs(charged.excluded, self.beads, replicas, device)
        self.settings: CoulombSettings | None = None
        self.tuned: Tensor | None = None
        self.listed: tuple[Tensor, Tensor | None, CoulombPairs] | None = None

    def graph(self, positions: Tensor, cell: Tensor | None) -> CoulombGraph:
        """For a graph at these positions; the same whatever was remembered."""
        if self.settings is None or self._resized(cell):
            self.settings = coulomb_settings(self.config, self.beads, cell)
            self.tuned, self.listed = cell, None
        pairs = self._pairs(positions, cell, self.settings)
        return CoulombGraph(self.groups, self.totals, pairs, self.settings)

    def _resized(self, cell: Tensor | None) -> bool:
        if cell is None or self.tuned is None:
            return cell is not self.tuned
        ratio = torch.linalg.vector_norm(cell, dim=-1) / torch.linalg.vector_norm(self.tuned, dim=-1)
        return bool((ratio > GROWTH).any() or (ratio < 1 / GROWTH).any())

    def _pairs(self, positions: Tensor, cell: Tensor | None, settings: CoulombSettings) -> CoulombPairs:
        if self.listed is None or self._outdated(positions, cell):
            found = coulomb_pairs(
                positions, settings, cell=cell, batch=self.batch, n_systems=self.replicas, excluded=self.excluded,
                skin=SKIN,
            )  # fmt: skip
            self.listed = positions.clone(), None if cell is None else cell.clone(), found
        return self.listed[2]

    def _outdated(self, positions: Tensor, cell: Tensor | None) -> bool:
        assert self.listed is not None
        before, box, _ = self.listed
        if cell is None or box is None:
            return False  # in open space all pairs are listed
        return not torch.equal(cell, box) or bool((positions - before).square().sum(1).max() > (0.5 * SKIN) ** 2)
