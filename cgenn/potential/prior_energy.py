"""The prior terms of a set of systems, evaluated in torch: what training subtracts, what OpenMM has to agree with."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.graph import BeadGraph
from cgenn.potential.bonded import (
    angle_energy,
    angle_well_energy,
    bond_energy,
    bond_well_energy,
    dihedral_energy,
)
from cgenn.potential.linkage import Linkage, joined_points
from cgenn.potential.priors import Priors
from cgenn.potential.repulsion import ramp_energy, repulsion_energy, spline_energy
from cgenn.topology import BeadTopology


class PriorEnergy(nn.Module):
    """All priors on one topology, on as many copies of it as the graph holds systems."""

    sigma: Tensor
    epsilon: Tensor
    splines: Tensor
    excluded: Tensor
    anchor_beads: Tensor
    anchors: Tensor

    def __init__(self, priors: Priors, topology: BeadTopology, types: list[str]) -> None:
        """`types` is the potential's list of bead types, which the graph's type indices refer to."""
        super().__init__()
        self.beads = len(topology)
        linkage = Linkage.of(topology)
        self.register_buffer("anchor_beads", torch.from_numpy(linkage.beads), persistent=False)
        self.register_buffer("anchors", torch.from_numpy(linkage.coordinates), persistent=False)
        self._add("bond", priors.bond_terms(topology))
        self._add("angle", priors.angle_terms(topology))
        self._add("bond_well", priors.bond_well_terms(topology))
        self._add("angle_well", priors.angle_well_terms(topology))
        self._add("dihedral", priors.dihedral_terms(topology))
        sigma, epsilon = priors.repulsion_table(types)
        self.repels = bool(np.any(sigma > 0))
        self.register_buffer("sigma", torch.from_numpy(sigma))
        self.register_buffer("epsilon", torch.from_numpy(epsilon))
        self.pairs, self.ramp = priors.pairs, priors.ramp
        if priors.pairs:
            self.register_buffer("splines", torch.from_numpy(priors.pair_table(types)))
        excluded = topology.excluded_pairs
        self.register_buffer("excluded", torch.from_numpy(excluded[:, 0] * self.beads + excluded[:, 1]))

    def _add(self, name: str, terms) -> None:
        self.register_buffer(f"{name}_index", torch.from_numpy(terms.index.copy()))
        self.register_buffer(f"{name}_parameters", torch.from_numpy(terms.parameters.copy()))

    def forward(self, graph: BeadGraph) -> dict[str, Tensor]:
        """Energy of each term and system, each of shape (systems,) [kJ/mol]; the graph's edges must reach far enough
        for the terms of pairs (`Priors.pair_cutoff`)."""
        points = self._points(graph)
        energies = {
            "bonds": self._bonded("bond", bond_energy, graph, points)
            + self._bonded("bond_well", bond_well_energy, graph, points),
            "angles": self._bonded("angle", angle_energy, graph, points)
            + self._bonded("angle_well", angle_well_energy, graph, points),
            "dihedrals": self._bonded("dihedral", dihedral_energy, graph, points),
        }
        if self.repels or self.pairs or self.ramp:
            energies |= self._pairs(graph)
        return energies

    def _points(self, graph: BeadGraph) -> Float[Tensor, "points 3"]:
        """What bonded terms act on, in each system: the beads, then the atoms of oriented ones."""
        if not len(self.anchors):
            return graph.positions
        frames = None if graph.orientations is None else graph.orientations.unflatten(0, (graph.n_systems, self.beads))
        places = graph.positions.unflatten(0, (graph.n_systems, self.beads))
        return joined_points(places, frames, self.anchor_beads, self.anchors).flatten(0, 1)

    def _bonded(self, name: str, energy, graph: BeadGraph, points: Float[Tensor, "points 3"]) -> Tensor:
        index, parameters = getattr(self, f"{name}_index"), getattr(self, f"{name}_parameters")
        offsets = (self.beads + len(self.anchors)) * torch.arange(graph.n_systems, device=index.device)
        everywhere = (index[None] + offsets[:, None, None]).flatten(0, 1)
        values = energy(points, everywhere, parameters.to(points.dtype).repeat(graph.n_systems, 1))
        return values.view(graph.n_systems, -1).sum(1)

    def _pairs(self, graph: BeadGraph) -> dict[str, Tensor]:
        """Repulsion, splines and ramp, as far as there are any; every pair is in the graph in both directions."""
        first, second = graph.receivers % self.beads, graph.senders % self.beads
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        kept = ~torch.isin(low * self.beads + high, self.excluded)
        distance = torch.linalg.vector_norm(graph.edge_vectors()[kept], dim=1)
        ends = graph.types[graph.receivers[kept]], graph.types[graph.senders[kept]]
        energies = {}
        if self.repels:
            sigma, epsilon = self.sigma[ends].to(distance.dtype), self.epsilon[ends].to(distance.dtype)
            energies["repulsion"] = repulsion_energy(distance, sigma, epsilon)
        if self.pairs:
            kinds = ends[0] * len(self.splines) + ends[1]
            energies["pairs"] = spline_energy(distance, kinds, self.splines.flatten(0, 1), self.pairs.range)
        if self.ramp:
            energies["ramp"] = ramp_energy(distance, self.ramp.height, self.ramp.range)
        systems, nothing = graph.batch[graph.receivers[kept]], distance.new_zeros(graph.n_systems)
        return {name: nothing.index_add(0, systems, 0.5 * values) for name, values in energies.items()}
