"""Checks that anybody can run on any model: symmetries, derivatives, size, cutoff, periodic images, backends.

Every check takes `(potential, topology, positions, box=None)`, positions in nm with shape (beads, 3), box vectors as
rows in nm, and gives a `CheckResult`. All are made in float64, whatever the precision of the model, and on the network
and the priors each by itself, so that stiff bonds hide nothing. Errors are relative to the largest energy or force, or
to 1 kJ/mol and 1 kJ/mol/nm where those are smaller.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgenn.graph import BeadGraph
from cgenn.potential.conformation import random_conformation
from cgenn.potential.derivatives import energy_and_forces, hessian_vector_product, virial
from cgenn.potential.potential import Potential
from cgenn.topology import BeadTopology

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


def _result(name: str, value: float, tolerance: float, detail: str) -> CheckResult:
    return CheckResult(name, value, tolerance, value <= tolerance, detail)


class _Case:
    """A potential in float64 on one conformation, and what its two parts, network and priors, give anywhere else."""

    def __init__(self, potential: Potential, topology: BeadTopology, positions: Any, box: Any) -> None:
        self.potential = copy.deepcopy(potential).double().requires_grad_(False)
        self.topology = topology
        device = next(self.potential.parameters()).device
        self.positions = torch.as_tensor(positions, dtype=torch.float64, device=device)
        if self.positions.shape != (len(topology), 3):
            raise ValueError(f"`positions` must have the shape ({len(topology)}, 3), got {tuple(self.positions.shape)}")
        self.box = None if box is None else torch.as_tensor(box, dtype=torch.float64, device=device)
        self.length = self.potential.config.cutoff
        self.random = np.random.default_rng(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.random.normal(size=shape)).to(self.positions)

    def graph(self, positions: Tensor, box: Tensor | None = None, topology: BeadTopology | None = None) -> BeadGraph:
        """Of positions (systems, beads, 3) or (beads, 3); the box defaults to that of the case for every system."""
        positions = positions.reshape(-1, *positions.shape[-2:])
        box = self.box if box is None else box
        cell = None if box is None else box.expand(len(positions), 3, 3)
        return self.potential.graph(topology or self.topology, positions, cell)

    def parts(self, topology: BeadTopology | None = None) -> list[Callable[[BeadGraph], Tensor]]:
        priors = self.potential.prior_energy(topology or self.topology)
        return [self.potential.network_energy, lambda graph: torch.stack(list(priors(graph).values())).sum(0)]

    def evaluate(
        self, positions: Tensor, box: Tensor | None = None, topology: BeadTopology | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies (parts, systems) and forces (parts, systems, beads, 3)."""
        graph = self.graph(positions, box, topology)
        values = [energy_and_forces(part, graph) for part in self.parts(topology)]
        energies, forces = (torch.stack(entries) for entries in zip(*values, strict=True))
        return energies, forces.view(*energies.shape, -1, 3)

    @torch.no_grad()
    def energies(self, positions: Tensor, box: Tensor | None = None, topology: BeadTopology | None = None) -> Tensor:
        """Energies alone (parts, systems)."""
        graph = self.graph(positions, box, topology)
        return torch.stack([part(graph) for part in self.parts(topology)])

    def network(self, positions: Tensor, box: Tensor | None = None, topology: BeadTopology | None = None) -> Tensor:
        """Energies of the network (1, systems)."""
        return self.energies(positions, box, topology)[:1]


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest difference in any part, relative to the largest expected value of that part or to one."""
    scale = expected.flatten(1).abs().amax(1).clamp(min=1.0)
    return float(((found - expected).flatten(1).abs().amax(1) / scale).max())


def _worst(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    return max(_error(a, b) for a, b in zip(found, expected, strict=True))


def _slope_error(function: Callable[[Tensor], Tensor], expected: Tensor, scale: Tensor, unit: float) -> float:
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


def check_rotation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """A rotated system has the same energy and rotated forces."""
    case = _Case(potential, topology, positions, box)
    turn, _ = torch.linalg.qr(case.normal(3, 3))
    turn = turn * torch.linalg.det(turn)
    energy, forces = case.evaluate(case.positions)
    found = case.evaluate(case.positions @ turn, None if case.box is None else case.box @ turn)
    return _result(
        "rotation", _worst(found, (energy, forces @ turn)), tolerance, "energy, and forces turned with the system"
    )


def check_translation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """A system moved as a whole has the same energy and forces."""
    case = _Case(potential, topology, positions, box)
    found = case.evaluate(case.positions + 3 * case.length * case.normal(3))
    return _result(
        "translation",
        _worst(found, case.evaluate(case.positions)),
        tolerance,
        "energy and forces of the system moved as a whole",
    )


def check_permutation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """The order of the beads does not matter."""
    case = _Case(potential, topology, positions, box)
    order = case.random.permutation(len(topology))
    mixed = BeadTopology.build(
        [topology.types[bead] for bead in order],
        topology.masses[order],
        bonds=np.argsort(order)[topology.bonds],
        charges=topology.charges[order],
    )
    energy, forces = case.evaluate(case.positions)
    found = case.evaluate(case.positions[order], topology=mixed)
    return _result(
        "permutation",
        _worst(found, (energy, forces[:, :, order])),
        tolerance,
        "energy and forces with the beads in another order",
    )


def check_reflection(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """Mirror images have the same network energy where the configuration says so; otherwise tells how they differ.

    Torsion priors have a handedness of their own and are left out.
    """
    case = _Case(potential, topology, positions, box)
    mirror = torch.diag(case.positions.new_tensor([-1.0, 1.0, 1.0]))
    energy = case.network(case.positions)
    image = case.network(case.positions @ mirror, None if case.box is None else case.box @ mirror)
    difference = float((image - energy).abs())
    if potential.config.reflection_invariant:
        return _result("reflection", _error(image, energy), tolerance, "declared: the same energy")
    seen = difference > tolerance * max(1.0, float(energy.abs()))
    detail = f"differ by {difference:.3g} kJ/mol" if seen else "have the same energy"
    return CheckResult("reflection", difference, None, True, f"declared: free; mirror images {detail}")


def check_forces(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-6
) -> CheckResult:
    """F = -dE/dR along random directions."""
    case = _Case(potential, topology, positions, box)
    _, forces = case.evaluate(case.positions)
    worst = 0.0
    for _ in range(8):
        along = case.normal(len(topology), 3)
        along /= along.norm()

        def energy(steps: Tensor, along: Tensor = along) -> Tensor:
            return case.energies(case.positions + steps[:, None, None] * along)

        worst = max(worst, _slope_error(energy, -(forces * along).sum((1, 2, 3)), forces, case.length))
    return _result("F = -dE/dR", worst, tolerance, "differences along 8 random directions")


def check_virial(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-6
) -> CheckResult:
    """The virial is the derivative of the energy by strain."""
    case = _Case(potential, topology, positions, box)
    expected = torch.stack([virial(part, case.graph(case.positions)) for part in case.parts()])
    one = torch.eye(3).to(expected)
    worst = 0.0
    for _ in range(4):
        strain = case.normal(3, 3)
        strain = (strain + strain.T) / strain.norm()

        def energy(steps: Tensor, strain: Tensor = strain) -> Tensor:
            change = one + steps[:, None, None] * strain
            return case.energies(case.positions @ change, None if case.box is None else case.box @ change)

        worst = max(worst, _slope_error(energy, (expected * strain).sum((1, 2, 3)), expected, 1.0))
    return _result("virial", worst, tolerance, "differences along 4 random strains")


def check_hessian(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-6
) -> CheckResult:
    """The Hessian-vector product is the derivative of the forces along the vector."""
    case = _Case(potential, topology, positions, box)
    along = case.normal(len(topology), 3)
    along /= along.norm()
    graph = case.graph(case.positions)
    product = torch.stack([hessian_vector_product(part, graph, along) for part in case.parts()])

    def gradient(steps: Tensor) -> Tensor:
        return -case.evaluate(case.positions + steps[:, None, None] * along)[1]

    return _result(
        "Hessian",
        _slope_error(gradient, product, product, case.length),
        tolerance,
        "times a random vector, differences of the forces",
    )


def check_extensivity(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """Two copies far apart have twice the energy and the same forces; any box is left out."""
    case = _Case(potential, topology, positions, None)
    extent = (case.positions.max(0).values - case.positions.min(0).values).max()
    away = (2 * extent + 2 * case.potential.reach) * case.positions.new_tensor([1.0, 0.0, 0.0])
    energy, forces = case.evaluate(case.positions)
    found = case.evaluate(torch.cat([case.positions, case.positions + away]), topology=topology.repeat(2))
    return _result(
        "extensivity",
        _worst(found, (2 * energy, torch.cat([forces, forces], dim=2))),
        tolerance,
        "two copies far apart",
    )


def check_batch(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """A system in a batch, each with its own box, has the energy and forces that it has alone."""
    case = _Case(potential, topology, positions, box)
    many = case.positions + 0.02 * case.length * case.normal(4, len(topology), 3)
    boxes = None if case.box is None else case.box * torch.linspace(1.0, 1.1, 4).to(case.box)[:, None, None]
    alone = [case.evaluate(many[i], None if boxes is None else boxes[i]) for i in range(4)]
    energies, forces = (torch.cat(parts, dim=1) for parts in zip(*alone, strict=True))
    return _result(
        "batch independence",
        _worst(case.evaluate(many, boxes), (energies, forces)),
        tolerance,
        "4 systems together and alone",
    )


def check_cutoff(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-6
) -> CheckResult:
    """Network energy and forces do not jump where the first bead of a second copy comes within the cutoff."""
    case = _Case(potential, topology, positions, None)
    twice = topology.repeat(2)
    along = case.normal(3)
    along /= along.norm()
    apart = (case.positions[None] - case.positions[:, None]).reshape(-1, 3)
    forward = apart @ along
    room = case.length**2 - (apart - forward[:, None] * along).square().sum(1)
    touching = (torch.sqrt(room[room > 0]) - forward[room > 0]).max()

    def at(shift: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([case.positions, case.positions + shift * along])
        energy, forces = energy_and_forces(case.potential.network_energy, case.graph(both, topology=twice))
        return energy[None], forces[None]

    inside, outside = at(touching - 1e-5 * case.length), at(touching + 1e-5 * case.length)
    return _result("smooth at the cutoff", _worst(inside, outside), tolerance, "a copy just outside and just inside")


def check_images(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """Doubling a periodic box along each of its vectors doubles the network energy.

    Without a box it is made just a little larger than the system, tilted, so that images are seen.
    """
    case = _Case(potential, topology, positions, box)
    if case.box is None:
        edges = case.positions.max(0).values - case.positions.min(0).values + 0.35 * case.length
        case.box = torch.diag(edges)
        case.box[1, 0], case.box[2, 0], case.box[2, 1] = 0.3 * edges[0], -0.2 * edges[0], 0.25 * edges[1]
    expected = 2 * case.network(case.positions)
    worst = 0.0
    for axis in range(3):
        wide = case.box.clone()
        wide[axis] *= 2
        both = torch.cat([case.positions, case.positions + case.box[axis]])
        worst = max(worst, _error(case.network(both, wide, topology.repeat(2)), expected))
    return _result("periodic images", worst, tolerance, "the box doubled along each vector")


def check_backends(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-6
) -> CheckResult:
    """Every backend that works here gives OpenMM the energies and forces of torch; so do the native priors."""
    import openmm

    from cgenn.simulation.backends import NETWORK_GROUP, openmm_torch_problem
    from cgenn.simulation.bonded import PRIOR_GROUP
    from cgenn.simulation.system import create_system

    case = _Case(potential, topology, positions, box)
    expected = case.evaluate(case.positions)
    device = expected[0].device
    problem = openmm_torch_problem()
    backends: list[Any] = ["python"] if problem else ["python", "openmm-torch"]
    worst = 0.0
    for backend in backends:
        system, _ = create_system(
            case.potential, topology, box=box, backend=backend, precision="double", device="cpu", removeCMMotion=False
        )
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions(case.positions.cpu().numpy())
        groups = (NETWORK_GROUP, PRIOR_GROUP)
        try:
            states = [context.getState(energy=True, forces=True, groups={group}) for group in groups]
        except openmm.OpenMMException as error:
            return CheckResult("backends agree", float("inf"), tolerance, False, f"{backend}: {error}")
        energies = np.array([[state.getPotentialEnergy()._value] for state in states])
        forces = np.array([[state.getForces(asNumpy=True)._value] for state in states])
        worst = max(
            worst, _worst((torch.from_numpy(energies).to(device), torch.from_numpy(forces).to(device)), expected)
        )
    return _result(
        "backends agree", worst, tolerance, ", ".join(backends) + (f"; openmm-torch: {problem}" if problem else "")
    )


CHECKS = (
    check_rotation,
    check_translation,
    check_permutation,
    check_reflection,
    check_forces,
    check_virial,
    check_hessian,
    check_extensivity,
    check_batch,
    check_cutoff,
    check_images,
    check_backends,
)


def check_model(
    model: str | Path | Potential,
    topology: BeadTopology | None = None,
    positions: Any = None,
    box: Any = None,
) -> list[CheckResult]:
    """Every check on a potential or model file, on the conformation given or on one made up for its bead types.

    Args:
        model: a potential or the path of its file.
        topology: the beads of the conformation.
        positions: shape (beads, 3) [nm]; molecules whole.
        box: box vectors as rows, shape (3, 3) [nm].

    Raises:
        ValueError: if the file is not a model, or a topology came without positions or positions without a topology.
    """
    potential = model if isinstance(model, Potential) else Potential.load(model)
    if (topology is None) != (positions is None):
        raise ValueError("`topology` and `positions` must be given together")
    if topology is None:
        topology, positions = random_conformation(potential)
    return [check(potential, topology, positions, box) for check in CHECKS]
