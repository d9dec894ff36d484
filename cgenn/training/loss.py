"""The parts of the loss: how far a potential is from forces, torques, charges and so on of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.graph import BeadGraph
from cgenn.mapping.whole import Tree
from cgenn.potential.derivatives import torques_from_slopes
from cgenn.potential.electrostatics import CHARGE_UNIT, DIPOLE_UNIT, ElectrostaticsConfig, group_index
from cgenn.potential.potential import Moments, Potential
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.config import LossWeights


@dataclass(frozen=True)
class Targets:
    """What the trained part of a potential has to explain of a group of frames: the data less all that is fixed.

    Attributes:
        forces: shape (beads of all frames, 3) [kJ/mol/nm].
        energies: shape (frames,) [kJ/mol]; None where the data has none.
        virials: shape (frames, 3, 3) [kJ/mol]; None where the data has none.
        torques: shape (beads of all frames, 3) [kJ/mol]; None where the data has none, or no bead an orientation.
    """

    forces: Float[Tensor, "beads 3"]
    energies: Float[Tensor, " frames"] | None
    virials: Float[Tensor, "frames 3 3"] | None
    torques: Float[Tensor, "beads 3"] | None = None


@dataclass(frozen=True)
class Units:
    """What errors are measured in: forces [kJ/mol/nm], energies and virials of a bead [kJ/mol].

    Those of torques come divided by a length and count as forces.
    """

    force: float
    energy: float

    def of(self, part: str) -> float:
        """The unit of a part of the loss."""
        known = {"forces": self.force, "torques": self.force, "energies": self.energy, "virials": self.energy}
        known |= {"charges": CHARGE_UNIT}
        return known.get(part, DIPOLE_UNIT)


def trained_terms(potential: Potential, graph: BeadGraph) -> tuple[Float[Tensor, " systems"], Moments | None]:
    """Energy [kJ/mol] that depends on trainable parameters, and the charges and dipoles in it.

    That of constant charges does not: it is part of what is subtracted from the data.
    """
    outputs = potential.outputs(graph)
    energy = graph.per_system(potential.config.energy_scale * outputs.energies)
    if not potential.config.predicts_charges:
        return energy, None
    moments = potential.moments(graph, outputs)
    return energy + potential.electrostatic_energy(graph, moments), moments


def torque_lengths(potential: Potential, topology: BeadTopology) -> Float[np.ndarray, " beads"]:
    """Radius of gyration sqrt(tr I / 2 M) of the body of each bead [nm]; 0 for those without an orientation.

    A torque divided by it is about the force that each part of the body feels, and comparable to that on the whole.
    """
    bodies = potential.config.bodies
    traces = np.array([sum(bodies[name].inertia) if name in bodies else 0.0 for name in topology.types])
    return np.sqrt(traces / (2 * topology.masses))


def square_errors(
    potential: Potential,
    graph: BeadGraph,
    group: FrameGroup,
    targets: Targets,
    topology: BeadTopology,
    weights: LossWeights,
    *,
    create_graph: bool,
    tree: Tree | None = None,
    mean_virial: bool = False,
) -> dict[str, tuple[Float[Tensor, ""], int]]:
    """For each part of the loss the sum of the squared errors, in `Units`, and how many numbers are in it.

    In a box, errors of the dipoles of molecules and of the system need the `tree` along which the former are whole.
    With `mean_virial` the error of virials is that of their mean over the frames.
    """
    wanted = {name for name in ("torques", "virials") if getattr(targets, name) is not None and getattr(weights, name)}
    energy, moments, found = _evaluate(potential, graph, wanted, create_graph=create_graph)
    errors = {"forces": found["forces"] - targets.forces}
    if targets.torques is not None and "torques" in found:
        lengths = torch.from_numpy(torque_lengths(potential, topology)).to(energy).repeat(graph.n_systems)
        turned = lengths > 0
        errors["torques"] = (found["torques"] - targets.torques)[turned] / lengths[turned, None]
    if targets.energies is not None and len(energy) > 1:
        away = (energy - targets.energies) / len(topology)
        errors["energies"] = away - away.mean()
    if targets.virials is not None and "virials" in found:
        errors["virials"] = found["virials"] - targets.virials + _within_molecules(graph, errors["forces"], topology)
        errors["virials"] = errors["virials"] / len(topology)
        if mean_virial:
            errors["virials"] = errors["virials"].mean(0, keepdim=True)
    if moments is not None:
        errors |= _moment_errors(moments, graph, group, topology, tree)
    return {name: (error.square().sum(), error.numel()) for name, error in errors.items() if getattr(weights, name) > 0}


def _within_molecules(
    graph: BeadGraph, forces: Float[Tensor, "beads 3"], topology: BeadTopology
) -> Float[Tensor, "systems 3 3"]:
    """sum_I F_I (r_I - X), symmetric, X the centre of the molecule of bead I, which is whole [kJ/mol].

    With the errors of the forces, what these add to the error of a virial. Taken out, the strain of the centres of
    molecules is left, all that is not in the forces, with less than half the noise.
    """
    molecules = torch.from_numpy(np.array(topology.molecules)).to(graph.positions.device)
    positions = graph.positions.detach().view(graph.n_systems, len(topology), 3)
    sums = positions.new_zeros(graph.n_systems, int(molecules.max()) + 1, 3).index_add_(1, molecules, positions)
    arms = positions - (sums / torch.bincount(molecules)[:, None])[:, molecules]
    within = forces.view_as(positions).transpose(1, 2) @ arms
    return 0.5 * (within + within.transpose(1, 2))


def equilibrium_virials(
    graph: BeadGraph, forces: Float[Tensor, "beads 3"], topology: BeadTopology, kt: float
) -> Float[Tensor, "systems 3 3"]:
    """n kT 1 - sum_I F_I (r_I - X), symmetric [kJ/mol]: of n molecules whose centres have the virial of equilibrium.

    Inside of the molecules it is that of the forces [kJ/mol/nm], and says no more than these. Without a box n is one
    less, for the centre of all is free.
    """
    free = len(np.unique(topology.molecules)) - (1 if graph.cell is None else 0)
    return free * kt * torch.eye(3).to(forces) - _within_molecules(graph, forces, topology)


def _evaluate(
    potential: Potential, graph: BeadGraph, wanted: set[str], *, create_graph: bool
) -> tuple[Float[Tensor, " systems"], Moments | None, dict[str, Tensor]]:
    """Energy and moments of the trained terms; their forces and what is wanted of torques and virials."""
    with torch.inference_mode(False), torch.enable_grad():
        at = graph.with_positions(graph.positions.detach().clone().requires_grad_(True))
        inputs = {"forces": at.positions}
        if "torques" in wanted and graph.orientations is not None:
            inputs["torques"] = graph.orientations.detach().clone().requires_grad_(True)
            at = at.with_frames(at.positions, inputs["torques"])
        if "virials" in wanted:
            inputs["virials"] = at.positions.new_zeros(graph.n_systems, 3, 3).requires_grad_(True)
            at = at.strained(inputs["virials"])
        energy, moments = trained_terms(potential, at)
        slopes = torch.autograd.grad(
            energy.sum(), list(inputs.values()), create_graph=create_graph, materialize_grads=True
        )
        found = dict(zip(inputs, slopes, strict=True))
        found["forces"] = -found["forces"]
        if "torques" in found:
            found["torques"] = torques_from_slopes(inputs["torques"], found["torques"])
        if "virials" in found:
            found["virials"] = 0.5 * (found["virials"] + found["virials"].transpose(1, 2))
    return energy, moments, found


def group_tree(topology: BeadTopology, config: ElectrostaticsConfig) -> Tree:
    """How the beads of each group hang together: by bonds, and where there are none from the group's first bead."""
    index = group_index(topology, config.groups)
    first = np.unique(index, return_index=True)[1][index]
    links = np.stack([first, np.arange(len(index))], axis=1)[first != np.arange(len(index))]
    bonds = topology.bonds[index[topology.bonds[:, 0]] == index[topology.bonds[:, 1]]]
    return Tree.build(len(index), bonds, links)


def _moment_errors(
    found: Moments, graph: BeadGraph, group: FrameGroup, topology: BeadTopology, tree: Tree | None
) -> dict[str, Tensor]:
    """Errors of charges and dipoles of beads, groups of beads and systems [e], [e nm]."""
    assert graph.coulomb is not None
    reference = group.charges
    if reference is None:
        reference = torch.from_numpy(topology.charges.copy()).to(found.charges).expand(len(group.positions), -1)
    charge = found.charges - reference.reshape(-1)
    errors = {"charges": charge}
    dipole = charge.new_zeros(len(charge), 3)
    if group.dipoles is not None:
        dipole = (0 if found.dipoles is None else found.dipoles) - group.dipoles.flatten(0, 1)
        if found.dipoles is not None:
            errors["dipoles"] = dipole
    elif found.dipoles is not None:
        return errors  # the dipoles of molecules are unknown, too
    if group.box is not None and tree is None:
        return errors
    moment = charge.unsqueeze(1) * _from_first(graph, group, tree) + dipole
    groups, systems = len(graph.coulomb.totals), graph.n_systems
    by_group = moment.new_zeros(groups, 3).index_add(0, graph.coulomb.groups, moment)
    by_system = moment.new_zeros(systems, 3).index_add(0, graph.batch, moment)
    errors["molecular_dipoles"] = by_group
    errors["total_dipole"] = by_system / len(topology) ** 0.5
    return errors


def _from_first(graph: BeadGraph, group: FrameGroup, tree: Tree | None) -> Float[Tensor, "beads 3"]:
    """Vector from the first bead of its group to each bead [nm], whatever the images they are stored at.

    From where does not matter, for the errors of the charges of a group add up to zero.
    """
    assert graph.coulomb is not None
    positions = group.positions
    if group.box is not None and tree is not None:
        whole = tree.make_whole(positions.detach().cpu().numpy(), group.box.cpu().numpy())
        positions = torch.from_numpy(whole).to(positions)
    flat, owner = positions.flatten(0, 1), graph.coulomb.groups
    first = torch.full_like(graph.coulomb.totals, len(flat), dtype=torch.int64)
    first = first.scatter_reduce(0, owner, torch.arange(len(flat), device=flat.device), "amin")
    return flat - flat[first[owner]]


class Balance(nn.Module):
    """Adds the parts of the loss up: sum_p w_p L_p, or with learnt factors sum_p w_p (exp(-s_p) L_p + s_p)."""

    def __init__(self, weights: LossWeights, *, learnt: bool) -> None:
        super().__init__()
        self.weights = weights.model_dump()
        self.names = [name for name, weight in self.weights.items() if weight > 0]
        self.log_variance = nn.Parameter(torch.zeros(len(self.names))) if learnt else None

    def forward(self, parts: dict[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        total: Tensor = torch.zeros((), device=next(iter(parts.values())).device)
        for name, part in parts.items():
            if self.log_variance is None:
                total = total + self.weights[name] * part
            else:
                s = self.log_variance[self.names.index(name)]
                total = total + self.weights[name] * (torch.exp(-s) * part + s)
        return total
