"""What every check works on: a potential in float64 on one conformation, and how far two results are apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgenn.graph import BeadGraph
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Moments, Potential
from cgenn.topology import BeadTopology

ACCURACY = 1e-11
"""To which the Coulomb energy is summed up in the checks: the parameters of the sum are not what is checked."""

_STEPS = (1e-3, 1e-4, 1e-5)
"""Steps of the finite differences, in units of the cutoff: the best one counts."""


@dataclass(frozen=True)
class CheckResult:
    """One line of a table of checks: passed when the value is at most the tolerance, or there is none."""

    name: str
    value: float
    tolerance: float | None
    passed: bool
    detail: str


def judged(name: str, value: float, tolerance: float, detail: str) -> CheckResult:
    """The line of a check that has a tolerance."""
    return CheckResult(name, value, tolerance, value <= tolerance, detail)


class Case:
    """A potential in float64 on one conformation, and what its parts give anywhere else.

    The parts are network, electrostatics if there is any, and priors. Without `long_range` the electrostatics are left
    out. Those of a slab need the vectors of the box in the plane of x and y and along z.
    """

    def __init__(
        self,
        potential: Potential,
        topology: BeadTopology,
        positions: Any,
        box: Any,
        orientations: Any = None,
        *,
        long_range: bool = True,
    ) -> None:
        self.potential = copy.deepcopy(potential).double().requires_grad_(False)
        if not long_range:
            self.potential.config = potential.config.model_copy(update={"electrostatics": None})
        self.choose(accuracy=ACCURACY, cutoff=None)
        self.topology = topology
        device = next(self.potential.parameters()).device
        self.positions = torch.as_tensor(positions, dtype=torch.float64, device=device)
        if self.positions.shape != (len(topology), 3):
            raise ValueError(f"`positions` must have the shape ({len(topology)}, 3), got {tuple(self.positions.shape)}")
        self.box = None if box is None else torch.as_tensor(box, dtype=torch.float64, device=device)
        self.orientations = None
        if orientations is not None:
            self.orientations = torch.as_tensor(orientations, dtype=torch.float64, device=device)
            if self.orientations.shape != (len(topology), 3, 3):
                raise ValueError(
                    f"`orientations` must be matrices, shape ({len(topology)}, 3, 3), got "
                    f"{tuple(self.orientations.shape)}"
                )
        self.length = self.potential.config.cutoff
        self.random = np.random.default_rng(0)

    @property
    def electrostatics(self) -> ElectrostaticsConfig | None:
        """That of the potential."""
        return self.potential.config.electrostatics

    def choose(self, **settings: Any) -> None:
        """Change settings of the electrostatics, if there is any."""
        if self.electrostatics is not None:
            changed = self.electrostatics.model_copy(update=settings)
            self.potential.config = self.potential.config.model_copy(update={"electrostatics": changed})

    @property
    def slab(self) -> bool:
        """Whether z differs from the other directions."""
        return self.electrostatics is not None and self.electrostatics.slab

    def normal(self, *shape: int) -> Tensor:
        """Normal random numbers."""
        return torch.from_numpy(self.random.normal(size=shape)).to(self.positions)

    def turn(self) -> Tensor:
        """A random rotation, about z in a slab."""
        turn, _ = torch.linalg.qr(self.normal(3, 3))
        if self.slab:
            turn[2], turn[:, 2] = 0.0, 0.0
            turn[2, 2] = 1.0
            turn[:2, :2], _ = torch.linalg.qr(self.normal(2, 2))
            turn[:, 0] *= torch.linalg.det(turn)
        return turn * torch.linalg.det(turn)

    def turned_box(self, turn: Tensor) -> Tensor | None:
        """The box after a linear map of space."""
        return None if self.box is None else self.box @ turn

    def turned_frames(self, turn: Tensor) -> Tensor | None:
        """The orientations after a rotation of space."""
        return None if self.orientations is None else turn.T @ self.orientations

    def graph(
        self,
        positions: Tensor,
        box: Tensor | None = None,
        topology: BeadTopology | None = None,
        orientations: Tensor | None = None,
    ) -> BeadGraph:
        """Of positions (systems, beads, 3) or (beads, 3), and orientations (systems, beads, 3, 3) or (beads, 3, 3).

        Box and orientations default to those of the case, for every system and every copy of its beads.
        """
        positions = positions.reshape(-1, *positions.shape[-2:])
        systems, beads = positions.shape[:2]
        box = self.box if box is None else box
        cell = None if box is None else box.expand(systems, 3, 3)
        if orientations is None and self.orientations is not None:
            orientations = self.orientations.repeat(beads // len(self.orientations), 1, 1)
        frames = None if orientations is None else orientations.expand(systems, beads, 3, 3)
        return self.potential.graph(topology or self.topology, positions, cell, frames)

    def parts(self, topology: BeadTopology | None = None) -> dict[str, Callable[[BeadGraph], Tensor]]:
        """Energy of each part as a function of the graph."""
        priors = self.potential.prior_energy(topology or self.topology)
        parts: dict[str, Callable[[BeadGraph], Tensor]] = {"network": self.potential.network_energy}
        if self.electrostatics is not None:
            parts["electrostatics"] = self.potential.electrostatic_energy
        return parts | {"priors": lambda graph: torch.stack(list(priors(graph).values())).sum(0)}

    def evaluate(
        self,
        positions: Tensor,
        box: Tensor | None = None,
        topology: BeadTopology | None = None,
        orientations: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (parts, systems), forces and torques (parts, systems, beads, 3)."""
        graph = self.graph(positions, box, topology, orientations)
        values = [energy_forces_torques(part, graph) for part in self.parts(topology).values()]
        energies, forces, torques = (torch.stack(entries) for entries in zip(*values, strict=True))
        shape = (*energies.shape, -1, 3)
        return energies, forces.view(shape), torques.view(shape)

    @torch.no_grad()
    def energies(
        self,
        positions: Tensor,
        box: Tensor | None = None,
        topology: BeadTopology | None = None,
        orientations: Tensor | None = None,
    ) -> Tensor:
        """Energies alone (parts, systems)."""
        graph = self.graph(positions, box, topology, orientations)
        return torch.stack([part(graph) for part in self.parts(topology).values()])

    def learned(
        self,
        positions: Tensor,
        box: Tensor | None = None,
        topology: BeadTopology | None = None,
        orientations: Tensor | None = None,
    ) -> Tensor:
        """Energies of network and electrostatics, (1, systems) or (2, systems)."""
        return self.energies(positions, box, topology, orientations)[:-1]

    @torch.no_grad()
    def moments(self, positions: Tensor, box: Tensor | None = None, orientations: Tensor | None = None) -> Moments:
        """Charges and dipoles."""
        return self.potential.moments(self.graph(positions, box, orientations=orientations))


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference in any part, relative to the largest expected value of that part or to one."""
    scale = expected.flatten(1).abs().amax(1).clamp(min=1.0)
    return float(((found - expected).flatten(1).abs().amax(1) / scale).max())


def worst(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest error of energies, forces and torques."""
    return max(error(a, b) for a, b in zip(found, expected, strict=True))


def slope_error(function: Callable[[Tensor], Tensor], expected: Tensor, scale: Tensor, unit: float) -> float:
    """Error of `expected` (parts, ...) against central differences of fourth order of `function` at zero.

    The function takes many numbers at once and gives (parts, numbers, ...). Relative to the largest of `scale` in each
    part or to one; the best step counts.
    """
    steps = unit * torch.tensor(_STEPS, dtype=torch.float64).to(expected)
    points, weights = torch.tensor([[-2.0, -1.0, 1.0, 2.0], [1.0, -8.0, 8.0, -1.0]]).to(expected)
    values = function((steps[:, None] * points).flatten()).unflatten(1, (len(steps), 4))
    slopes = torch.einsum("psw...,w,s->ps...", values, weights / 12, 1 / steps)
    errors = (slopes - expected.unsqueeze(1)).abs().reshape(len(expected), len(steps), -1).amax(2).amin(1)
    return float((errors / scale.flatten(1).abs().amax(1).clamp(min=1.0)).max())
