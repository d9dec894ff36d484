"""Force matching: what is left to explain of forces and torques, and the numbers that say what their errors mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.data.dataset import BeadDataset
from cgenn.graph import BeadGraph
from cgenn.h5md import Frames
from cgenn.potential.derivatives import energy_and_forces, energy_forces_torques, virial
from cgenn.potential.potential import Moments, Potential
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors
from cgenn.symmetry import point_group
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.loss import Targets, torque_lengths, trained_terms
from cgenn.training.noise_floor import noise_floor
from cgenn.training.oriented_floor import oriented_floors

FLOOR_BEADS = 50_000
"""Beads that the noise floor is estimated from, at most."""


PART_BEADS = 2_000
"""Beads evaluated at a time: the edges of a liquid take much memory."""


class Residual(nn.Module):
    """What training has to explain: the data less the priors and, if they are constant, the charges."""

    def __init__(self, potential: Potential, priors: Priors, topologies: Sequence[BeadTopology]) -> None:
        super().__init__()
        types = list(potential.config.types)
        self.potential = [potential]  # in a list, so that its weights are not those of this module as well
        self.topologies = list(topologies)
        beads = [topology.with_bodies(potential.config.bodies) for topology in topologies]
        self.energies = nn.ModuleList(PriorEnergy(priors, topology, types) for topology in beads)

    def fixed_energy(self, dataset: int, graph: BeadGraph) -> Float[Tensor, " systems"]:
        """Energy that no trained parameter changes [kJ/mol]."""
        terms = list(self.energies[dataset](graph).values())
        potential = self.potential[0]
        if potential.config.electrostatics is not None and not potential.config.predicts_charges:
            terms.append(potential.electrostatic_energy(graph))
        return torch.stack(terms).sum(0)

    def forward(self, group: FrameGroup, graph: BeadGraph) -> Targets:
        """What is left of forces and, where there are any, of energies, virials and torques."""

        def fixed(graph: BeadGraph) -> Float[Tensor, " systems"]:
            return self.fixed_energy(group.dataset, graph)

        energies, forces, turning = energy_forces_torques(fixed, graph)
        virials = None if group.virials is None else group.virials - virial(fixed, graph)
        left = None if group.energies is None else group.energies - energies
        torques = None
        if group.torques is not None and graph.orientations is not None:
            torques = group.torques.flatten(0, 1) - turning
        return Targets(group.forces.flatten(0, 1) - forces, left, virials, torques)


@dataclass(frozen=True)
class TorqueErrors:
    """Mean squares of a torque component over the beads with an orientation, in the same frames [(kJ/mol)^2].

    Attributes:
        null: of the torques themselves: what a model that knows no orientations gets.
        floor: estimate of what no potential of the beads can explain; NaN if there are too few frames to tell.
        model: of the torques less those of the potential; None before it is trained.
        priors: of the torques less those of the priors; None where these exert none.
    """

    null: float
    floor: float
    model: float | None = None
    priors: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers, for JSON; None for a floor that too few frames leave open."""
        known = {name: value for name, value in asdict(self).items() if name != "priors" or value is not None}
        return {name: _finite(value) for name, value in known.items()}

    def sentence(self) -> str:
        """The numbers as a person reads them, as roots [kJ/mol]."""
        named = {
            "no torques": self.null,
            "priors alone": self.priors,
            "this model": self.model,
            "noise floor": self.floor,
        }
        return "torque error, root mean square [kJ/mol]: " + _roots(named)


@dataclass(frozen=True)
class ForceErrors:
    """Mean squares of a force component over the same frames [(kJ/mol/nm)^2].

    Attributes:
        null: of the forces themselves: what a model without any interaction gets.
        priors: of the forces less those of the priors and, if there are any, of the charges of the types.
        floor: estimate of what no potential of the beads can explain (training/noise_floor.py); NaN if there are too
            few frames to tell, or no two surroundings are alike, as in a liquid.
        model: of the forces less those of the potential; None before it is trained.
        torques: those of torques; None where the frames have none, or the potential knows no orientations.
    """

    null: float
    priors: float
    floor: float
    model: float | None = None
    torques: TorqueErrors | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers of the forces, for JSON; None for a floor that cannot be told."""
        return {name: _finite(getattr(self, name)) for name in ("null", "priors", "floor", "model")}

    def sentence(self) -> str:
        """The numbers as a person reads them, as roots [kJ/mol/nm]; then those of the torques."""
        named = {
            "no interaction": self.null,
            "priors alone": self.priors,
            "this model": self.model,
            "noise floor": self.floor,
        }
        verdict = "; no better than the priors" if self.model is not None and self.model >= self.priors else ""
        torques = "" if self.torques is None else "; " + self.torques.sentence()
        return "force error, root mean square [kJ/mol/nm]: " + _roots(named) + verdict + torques


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _roots(named: dict[str, float | None]) -> str:
    known = {name: _finite(value) for name, value in named.items()}
    return ", ".join(f"{name} {value**0.5:.1f}" for name, value in known.items() if value is not None)


def force_errors(
    potential: Potential, datasets: Sequence[BeadDataset], frames: Sequence[np.ndarray], *, with_model: bool = True
) -> ForceErrors:
    """Compare forces and torques of the given frames of each dataset with nothing, the priors and the potential."""
    squares: dict[str, tuple[float, int]] = {}
    floors: list[tuple[float, float, int]] = []
    for dataset, chosen in zip(datasets, frames, strict=True):
        here = potential.at_data_temperature(dataset.temperature)
        residual = Residual(here, potential.priors, [dataset.topology])
        beads = len(dataset.topology)
        held: list[FrameGroup] = []
        left = FLOOR_BEADS // len(datasets)
        for part in np.array_split(chosen, max(1, len(chosen) * beads // PART_BEADS)):
            group = FrameGroup.of(0, forces_only(dataset.read(part)), potential.dtype)
            found = _deviations(residual, group, with_model=with_model)
            for name, values in found.items():
                total, count = squares.get(name, (0.0, 0))
                squares[name] = total + float(values.square().sum()), count + values.numel()
            if left > 0:
                turning = group.torques
                if turning is not None and "turning" in found:
                    turning = found["turning"].view_as(turning)
                held.append(group._replace(forces=found["priors"].view_as(group.forces), torques=turning))
                left -= len(part) * beads
        floors.append((*_floors(potential, dataset.topology, held), sum(part.forces.numel() for part in held)))
    weights = [size for *_, size in floors]
    forces, torques = (float(np.average(values, weights=weights)) for values in list(zip(*floors, strict=True))[:2])
    means = {name: total / count for name, (total, count) in squares.items()}
    return ForceErrors(means["null"], means["priors"], forces, means.get("model"), _torque_errors(means, torques))


def _torque_errors(means: dict[str, float], floor: float) -> TorqueErrors | None:
    if "no torques" not in means:
        return None
    null, priors = means["no torques"], means["priors on torques"]
    return TorqueErrors(null, floor, means.get("torques"), None if priors == null else priors)


def _floors(potential: Potential, topology: BeadTopology, held: list[FrameGroup]) -> tuple[float, float]:
    """Noise floors of forces and torques; where beads have orientations, of those beads."""
    positions, forces = (np.concatenate([getattr(part, name) for part in held]) for name in ("positions", "forces"))
    bodies = {name: body for name, body in potential.config.bodies.items() if name in topology.types}
    if not bodies:
        return noise_floor(topology, positions, forces), float("nan")
    groups = {name: point_group(body.symmetry).elements for name, body in bodies.items()}
    lengths, vectors = torque_lengths(potential, topology), [forces]
    if held[0].torques is not None:
        vectors.append(np.concatenate([part.torques for part in held if part.torques is not None]))
    orientations = np.concatenate([part.orientations for part in held if part.orientations is not None])
    found = oriented_floors(topology, groups, lengths, positions, orientations, vectors)
    return found[0], found[1] if len(found) > 1 else float("nan")


def _deviations(residual: Residual, group: FrameGroup, *, with_model: bool) -> dict[str, Tensor]:
    """What is left of the forces by nothing, the priors and the potential; of torques likewise."""
    potential, topology = residual.potential[0], residual.topologies[group.dataset]
    graph = group.graph(potential, topology)
    targets = residual(group, graph)
    found = {"null": group.forces.flatten(0, 1), "priors": targets.forces}
    if potential.config.predicts_charges:
        found["priors"] = targets.forces - energy_and_forces(_type_charges(potential), graph)[1]
    oriented = torch.from_numpy(torque_lengths(potential, topology) > 0).repeat(graph.n_systems)
    if group.torques is not None and targets.torques is not None:
        found["no torques"] = group.torques.flatten(0, 1)[oriented]
        found["turning"], found["priors on torques"] = targets.torques, targets.torques[oriented]
    if with_model:
        _, forces, torques = energy_forces_torques(lambda graph: trained_terms(potential, graph)[0], graph)
        found["model"] = targets.forces - forces
        if targets.torques is not None:
            found["torques"] = (targets.torques - torques)[oriented]
    return found


def forces_only(frames: Frames) -> Frames:
    """The frames without energies and so on, with torques if there are any."""
    return Frames(frames.positions, frames.forces, frames.box, orientations=frames.orientations, torques=frames.torques)


def _type_charges(potential: Potential) -> Callable[[BeadGraph], Float[Tensor, " systems"]]:
    """The Coulomb energy of the charges that a predicting potential starts from."""

    def energy(graph: BeadGraph) -> Float[Tensor, " systems"]:
        charges = graph.positions.new_tensor(potential.config.type_charges)[graph.types]
        return potential.electrostatic_energy(graph, Moments(charges, None))

    return energy
