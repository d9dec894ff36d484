"""Force matching: what is left to explain of the forces, and the numbers that say what an error of them means."""

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
from cgenn.potential.derivatives import energy_and_forces, virial
from cgenn.potential.potential import Moments, Potential
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.loss import Targets, trained_terms
from cgenn.training.noise_floor import noise_floor

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
        self.energies = nn.ModuleList(PriorEnergy(priors, topology, types) for topology in topologies)

    def fixed_energy(self, dataset: int, graph: BeadGraph) -> Float[Tensor, " systems"]:
        """Energy that no trained parameter changes [kJ/mol]."""
        terms = list(self.energies[dataset](graph).values())
        potential = self.potential[0]
        if potential.config.electrostatics is not None and not potential.config.predicts_charges:
            terms.append(potential.electrostatic_energy(graph))
        return torch.stack(terms).sum(0)

    def forward(self, group: FrameGroup, graph: BeadGraph) -> Targets:
        """What is left of forces and, where there are any, of energies and virials."""

        def fixed(graph: BeadGraph) -> Float[Tensor, " systems"]:
            return self.fixed_energy(group.dataset, graph)

        energies, forces = energy_and_forces(fixed, graph)
        virials = None if group.virials is None else group.virials - virial(fixed, graph)
        left = None if group.energies is None else group.energies - energies
        return Targets(group.forces.flatten(0, 1) - forces, left, virials)


@dataclass(frozen=True)
class ForceErrors:
    """Mean squares of a force component over the same frames [(kJ/mol/nm)^2].

    Attributes:
        null: of the forces themselves: what a model without any interaction gets.
        priors: of the forces less those of the priors and, if there are any, of the charges of the types.
        floor: estimate of what no potential of the beads can explain (training/noise_floor.py); NaN if there are too
            few frames to tell, or no two surroundings are alike, as in a liquid.
        model: of the forces less those of the potential; None before it is trained.
    """

    null: float
    priors: float
    floor: float
    model: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers, for JSON; None for a floor that cannot be told."""
        return {
            name: value if value is not None and np.isfinite(value) else None for name, value in asdict(self).items()
        }

    def sentence(self) -> str:
        """The numbers as a person reads them, as roots [kJ/mol/nm]."""
        named = {
            "no interaction": self.null,
            "priors alone": self.priors,
            "this model": self.model,
            "noise floor": self.floor,
        }
        parts = [
            f"{name} {value**0.5:.1f}" for name, value in named.items() if value is not None and np.isfinite(value)
        ]
        verdict = "; no better than the priors" if self.model is not None and self.model >= self.priors else ""
        return "force error, root mean square [kJ/mol/nm]: " + ", ".join(parts) + verdict


def force_errors(
    potential: Potential, datasets: Sequence[BeadDataset], frames: Sequence[np.ndarray], *, with_model: bool = True
) -> ForceErrors:
    """Compare the forces of the given frames of each dataset with nothing, the priors and the potential."""
    sums, count = np.zeros(3), 0
    floors: list[tuple[float, int]] = []
    for dataset, chosen in zip(datasets, frames, strict=True):
        residual = Residual(potential, potential.priors, [dataset.topology])
        beads = len(dataset.topology)
        held, left = [], FLOOR_BEADS // len(datasets)
        for part in np.array_split(chosen, max(1, len(chosen) * beads // PART_BEADS)):
            group = FrameGroup.of(0, forces_only(dataset.read(part)), potential.dtype)
            graph = potential.graph(dataset.topology, group.positions, group.box)
            target = residual(group, graph).forces
            error = target
            if with_model:
                error = target - energy_and_forces(lambda graph: trained_terms(potential, graph)[0], graph)[1]
            left_by_priors = target
            if potential.config.predicts_charges:
                left_by_priors = target - energy_and_forces(_type_charges(potential), graph)[1]
            sums += [float(values.square().sum()) for values in (group.forces, left_by_priors, error)]
            count += target.numel()
            if left > 0:
                held.append((group.positions.numpy(), left_by_priors.view_as(group.forces).numpy()))
                left -= target.shape[0]
        positions, targets = (np.concatenate(parts) for parts in zip(*held, strict=True))
        floors.append((noise_floor(dataset.topology, positions, targets), targets.size))
    floor = sum(value * size for value, size in floors) / sum(size for _, size in floors)
    null, priors, model = (sums / count).tolist()
    return ForceErrors(null, priors, floor, model if with_model else None)


def forces_only(frames: Frames) -> Frames:
    """The frames without energies and so on."""
    return Frames(frames.positions, frames.forces, frames.box)


def _type_charges(potential: Potential) -> Callable[[BeadGraph], Float[Tensor, " systems"]]:
    """The Coulomb energy of the charges that a predicting potential starts from."""

    def energy(graph: BeadGraph) -> Float[Tensor, " systems"]:
        charges = graph.positions.new_tensor(potential.config.type_charges)[graph.types]
        return potential.electrostatic_energy(graph, Moments(charges, None))

    return energy
