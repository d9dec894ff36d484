"""Checks of symmetry: a system turned, moved, mirrored, or with its beads in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgenn.potential.electrostatics import DIPOLE_UNIT, group_index, group_totals
from cgenn.potential.potential import Moments, Potential
from cgenn.testing.case import Case, CheckResult, error, judged, worst
from cgenn.topology import BeadTopology


def check_rotation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """A rotated system has the same energy and rotated forces."""
    case = Case(potential, topology, positions, box)
    turn = case.turn()
    energy, forces = case.evaluate(case.positions)
    found = case.evaluate(case.positions @ turn, case.turned_box(turn))
    return judged(
        "rotation",
        worst(found, (energy, forces @ turn)),
        tolerance,
        "energy, and forces turned with the system" + ("; about z: a slab" if case.slab else ""),
    )


def check_translation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """A system moved as a whole has the same energy and forces."""
    case = Case(potential, topology, positions, box)
    found = case.evaluate(case.positions + 3 * case.length * case.normal(3))
    return judged(
        "translation",
        worst(found, case.evaluate(case.positions)),
        tolerance,
        "energy and forces of the system moved as a whole",
    )


def check_permutation(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """The order of the beads does not matter."""
    case = Case(potential, topology, positions, box)
    order = case.random.permutation(len(topology))
    mixed = BeadTopology.build(
        [topology.types[bead] for bead in order],
        topology.masses[order],
        bonds=np.argsort(order)[topology.bonds],
        charges=topology.charges[order],
        residue_index=topology.residue_index[order],
    )
    energy, forces = case.evaluate(case.positions)
    found = case.evaluate(case.positions[order], topology=mixed)
    return judged(
        "permutation",
        worst(found, (energy, forces[:, :, order])),
        tolerance,
        "energy and forces with the beads in another order",
    )


def check_reflection(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """Mirror images have the same learned energy where the configuration says so; otherwise tells how they differ.

    Torsion priors have a handedness of their own and are left out.
    """
    case = Case(potential, topology, positions, box)
    mirror = _mirror(case)
    energy = case.learned(case.positions)
    image = case.learned(case.positions @ mirror, case.turned_box(mirror))
    difference = float((image - energy).abs().max())
    if potential.config.reflection_invariant:
        return judged("reflection", error(image, energy), tolerance, "declared: the same energy")
    seen = difference > tolerance * max(1.0, float(energy.abs().max()))
    detail = f"differ by {difference:.3g} kJ/mol" if seen else "have the same energy"
    return CheckResult("reflection", difference, None, True, f"declared: free; mirror images {detail}")


def check_moments(
    potential: Potential, topology: BeadTopology, positions: Any, box: Any = None, *, tolerance: float = 1e-10
) -> CheckResult:
    """Charges stay and dipoles turn with the system, neither is changed by translation; groups have their totals.

    Mirror images have mirrored dipoles where the configuration says so. In e and in units of 0.01 e nm.
    """
    case = Case(potential, topology, positions, box)
    if case.electrostatics is None:
        return CheckResult("charges and dipoles", 0.0, None, True, "there are none")
    expected = case.moments(case.positions)
    turn = case.turn()
    maps = [turn, turn @ _mirror(case)] if potential.config.reflection_invariant else [turn]
    errors = [_off(case.moments(case.positions @ each, case.turned_box(each)), expected, each) for each in maps]
    moved = case.moments(case.positions + 3 * case.length * case.normal(3))
    errors.append(_off(moved, expected, torch.eye(3).to(turn)))
    detail = "turned, mirrored and moved" if len(maps) == 2 else "turned and moved"
    if case.electrostatics.charges == "predicted":
        index = group_index(topology, case.electrostatics.groups)
        charges = expected.charges.cpu().numpy()
        errors.append(float(np.abs(group_totals(charges - topology.charges, index)).max()))
        detail += f"; total charge of each {case.electrostatics.groups}"
    return judged("charges and dipoles", max(errors), tolerance, detail)


def _off(found: Moments, expected: Moments, turn: Tensor) -> float:
    charges = float((found.charges - expected.charges).abs().max())
    if found.dipoles is None or expected.dipoles is None:
        return charges
    scale = max(DIPOLE_UNIT, float(expected.dipoles.abs().max()))
    return max(charges, float((found.dipoles - expected.dipoles @ turn).abs().max()) / scale)


def _mirror(case: Case) -> Tensor:
    return torch.diag(case.positions.new_tensor([-1.0, 1.0, 1.0]))
