"""The check that the compiled network says what the network says."""

from __future__ import annotations

from typing import Any

from cgenn.potential.compiled import compiled
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.potential import Potential
from cgenn.testing.case import Case, CheckResult, error, judged
from cgenn.topology import BeadTopology


def check_compiled(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-5,
) -> CheckResult:
    """Energies, forces and torques of the compiled network, which simulations run in single precision.

    Its radial functions are tables: also in float64 it agrees with the network no better than they do.
    """
    case = Case(potential, topology, positions, box, orientations)
    fast = compiled(case.potential)
    if fast is case.potential:
        return CheckResult("compiled network", 0.0, None, True, "not compiled: simulations run the network itself")
    graph = case.graph(case.positions)
    expected = energy_forces_torques(case.potential.network_energy, graph)
    found = energy_forces_torques(fast.network_energy, graph)
    largest = max(error(a[None], b[None]) for a, b in zip(found, expected, strict=True))
    return judged("compiled network", largest, tolerance, "energies, forces and torques by the network's own")
