"""Force matching: the loss on a batch, and the numbers that say what a value of it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.data.dataset import BeadDataset
from cgenn.graph import BeadGraph
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.noise_floor import noise_floor

FLOOR_BEADS = 50_000
"""Beads that the noise floor is estimated from, at most."""


PART_BEADS = 2_000
"""Beads evaluated at a time: the edges of a liquid take much memory."""


class ResidualForces(nn.Module):
    """What the network has to explain: the forces less those of the priors, on the topologies of the datasets."""

    def __init__(self, potential: Potential, priors: Priors, topologies: Sequence[BeadTopology]) -> None:
        super().__init__()
        types = list(potential.config.types)
        self.topologies = list(topologies)
        self.energies = nn.ModuleList(PriorEnergy(priors, topology, types) for topology in topologies)

    def forward(self, group: FrameGroup, graph: BeadGraph) -> Float[Tensor, "beads 3"]:
        """Forces of the group less those of the priors [kJ/mol/nm]."""
        prior = self.energies[group.dataset]
        _, forces = energy_and_forces(lambda graph: torch.stack(list(prior(graph).values())).sum(0), graph)
        return group.forces.flatten(0, 1) - forces


def squared_errors(
    potential: Potential, residual: ResidualForces, group: FrameGroup, *, create_graph: bool
) -> tuple[Float[Tensor, ""], int]:
    """Sum of the squared errors of the force components of a group [(kJ/mol/nm)^2], and their number."""
    graph = potential.graph(residual.topologies[group.dataset], group.positions, group.box)
    target = residual(group, graph)
    _, forces = energy_and_forces(potential.network_energy, graph, create_graph=create_graph)
    return (forces - target).square().sum(), target.numel()


@dataclass(frozen=True)
class ForceErrors:
    """Mean squares of a force component over the same frames [(kJ/mol/nm)^2].

    Attributes:
        null: of the forces themselves: what a model without any interaction gets.
        priors: of the forces less those of the priors.
        floor: estimate of what no potential of the beads can explain (training/noise_floor.py); NaN if there are too
            few frames to tell.
        model: of the forces less those of the potential; None before it is trained.
    """

    null: float
    priors: float
    floor: float
    model: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers, for JSON; None for a floor that too few frames leave open."""
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
        residual = ResidualForces(potential, potential.priors, [dataset.topology])
        beads = len(dataset.topology)
        held, left = [], FLOOR_BEADS // len(datasets)
        for part in np.array_split(chosen, max(1, len(chosen) * beads // PART_BEADS)):
            group = _group(dataset, part, potential.dtype)
            graph = potential.graph(dataset.topology, group.positions, group.box)
            target = residual(group, graph)
            error = target
            if with_model:
                error = target - energy_and_forces(potential.network_energy, graph)[1]
            sums += [float(values.square().sum()) for values in (group.forces, target, error)]
            count += target.numel()
            if left > 0:
                held.append((group.positions.numpy(), target.view_as(group.forces).numpy()))
                left -= target.shape[0]
        positions, targets = (np.concatenate(parts) for parts in zip(*held, strict=True))
        floors.append((noise_floor(dataset.topology, positions, targets), targets.size))
    floor = sum(value * size for value, size in floors) / sum(size for _, size in floors)
    null, priors, model = (sums / count).tolist()
    return ForceErrors(null, priors, floor, model if with_model else None)


def _group(dataset: BeadDataset, frames: np.ndarray, dtype: torch.dtype) -> FrameGroup:
    read = dataset.read(frames)
    positions, forces = (torch.from_numpy(values).to(dtype) for values in (read.positions, read.forces))
    return FrameGroup(0, positions, forces, None if read.box is None else torch.from_numpy(read.box).to(dtype))
