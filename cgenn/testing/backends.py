"""The check that OpenMM gets what torch computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cgenn.potential.potential import Potential
from cgenn.testing.case import Case, CheckResult, error, judged
from cgenn.topology import BeadTopology

_NATIVE_ACCURACY, _NATIVE_TOLERANCE = 1e-6, 1e-4
"""Asked of OpenMM's own mesh for constant charges in a box, and granted to it."""


def check_backends(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """Every backend that works here gives OpenMM the energies and forces of torch; so do the native forces.

    Constant charges in a box are summed up by OpenMM's own PME: a difference of 1e-4 is granted to them.
    """
    import openmm

    from cgenn.simulation.backends import openmm_torch_problem
    from cgenn.simulation.rigid import RigidBeads, with_bodies
    from cgenn.simulation.system import create_system

    case = Case(potential, topology, positions, box, orientations)
    groups, expected = _groups(case)
    if "electrostatics" in groups:
        case.choose(accuracy=_NATIVE_ACCURACY)
    problem = openmm_torch_problem()
    rigid = RigidBeads.of(with_bodies(topology, case.potential.config.bodies))
    particles = case.positions.cpu()
    if rigid is not None and case.orientations is not None:
        particles = rigid.map.to_sites(particles, case.orientations.cpu())
    backends: list[Any] = ["python"] if problem else ["python", "openmm-torch"]
    granted = {"electrostatics": tolerance / _NATIVE_TOLERANCE} if box is not None else {}
    largest = 0.0
    for backend in backends:
        system, _ = create_system(
            case.potential, topology, box=box, backend=backend, precision="double", device="cpu", removeCMMotion=False
        )
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions(particles.numpy())
        for name, group in groups.items():
            try:
                state = context.getState(energy=True, forces=True, groups={group})
            except openmm.OpenMMException as problem_there:
                return CheckResult("backends agree", float("inf"), tolerance, False, f"{backend}: {problem_there}")
            forces = torch.from_numpy(state.getForces(asNumpy=True)._value)
            on_beads = (forces, torch.zeros_like(forces)) if rigid is None else rigid.map.resultants(particles, forces)
            found = (torch.tensor([state.getPotentialEnergy()._value], dtype=torch.float64), *on_beads)
            off = max(error(a.to(b)[None], b[None]) for a, b in zip(found, expected[name], strict=True))
            largest = max(largest, off * granted.get(name, 1.0))
    detail = ", ".join(backends) + (f"; openmm-torch: {problem}" if problem else "")
    return judged("backends agree", largest, tolerance, detail)


def _groups(case: Case) -> tuple[dict[str, int], dict[str, tuple[Tensor, ...]]]:
    """Force group of each part, and its energy, forces and torques; predicted charges are in the network's force."""
    from cgenn.simulation.backends import NETWORK_GROUP
    from cgenn.simulation.bonded import PRIOR_GROUP
    from cgenn.simulation.electrostatics import ELECTROSTATICS_GROUP

    energies, forces, torques = case.evaluate(case.positions)
    names = list(case.parts())
    expected: dict[str, tuple[Tensor, ...]] = {
        name: (energies[i], forces[i, 0], torques[i, 0]) for i, name in enumerate(names)
    }
    groups = {"network": NETWORK_GROUP, "electrostatics": ELECTROSTATICS_GROUP, "priors": PRIOR_GROUP}
    if case.electrostatics is not None and (case.potential.config.predicts_charges or case.slab):
        charges = expected.pop("electrostatics")
        expected["network"] = tuple(a + b for a, b in zip(expected["network"], charges, strict=True))
    return {name: groups[name] for name in expected}, expected
