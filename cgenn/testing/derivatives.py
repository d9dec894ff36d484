"""Checks of derivatives: forces, virial and Hessian against finite differences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cgenn.potential.derivatives import hessian_vector_product, virial
from cgenn.potential.potential import Potential
from cgenn.testing.case import Case, CheckResult, judged, slope_error
from cgenn.topology import BeadTopology


def check_forces(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """F = -dE/dR along random directions; the change of charges and dipoles is part of it."""
    case = Case(potential, topology, positions, box, orientations)
    _, forces, _ = case.evaluate(case.positions)
    largest = 0.0
    for _ in range(8):
        along = case.normal(len(topology), 3)
        along /= along.norm()

        def energy(steps: Tensor, along: Tensor = along) -> Tensor:
            return case.energies(case.positions + steps[:, None, None] * along)

        expected = -(forces * along).sum((1, 2, 3))
        largest = max(largest, slope_error(energy, expected, forces, case.length))
    return judged("F = -dE/dR", largest, tolerance, "differences along 8 random directions")


def check_torques(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-8,
) -> CheckResult:
    """The torques are minus the derivative of the energy by finite rotations of the beads."""
    case = Case(potential, topology, positions, box, orientations)
    if case.orientations is None:
        return CheckResult("torques", 0.0, None, True, "no bead has an orientation")
    _, _, torques = case.evaluate(case.positions)
    largest = 0.0
    for _ in range(8):
        about = case.normal(len(topology), 3)
        about /= about.norm()

        def energy(angles: Tensor, about: Tensor = about) -> Tensor:
            turns = torch.linalg.matrix_exp(_cross_matrices(angles[:, None, None] * about))
            at = case.positions.expand(len(angles), -1, -1)
            return case.energies(at, orientations=turns @ case.orientations)

        expected = -(torques * about).sum((1, 2, 3))
        largest = max(largest, slope_error(energy, expected, torques, 1.0))
    return judged("torques", largest, tolerance, "finite rotations about 8 random sets of axes")


def _cross_matrices(vectors: Tensor) -> Tensor:
    """Matrices that multiply by a vector as in v x r."""
    axes = torch.eye(3).to(vectors).expand(*vectors.shape[:-1], 3, 3)
    return torch.linalg.cross(vectors.unsqueeze(-2).expand_as(axes), axes, dim=-1).transpose(-1, -2)


def check_virial(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """The virial is the derivative of the energy by strain; a slab is strained in its plane and along z."""
    case = Case(potential, topology, positions, box, orientations)
    expected = torch.stack([virial(part, case.graph(case.positions)) for part in case.parts().values()])
    one = torch.eye(3).to(expected)
    largest = 0.0
    for _ in range(4):
        strain = case.normal(3, 3)
        strain = (strain + strain.T) / strain.norm()
        if case.slab:
            strain[2, :2] = strain[:2, 2] = 0.0

        def energy(steps: Tensor, strain: Tensor = strain) -> Tensor:
            change = one + steps[:, None, None] * strain
            return case.energies(case.positions @ change, case.turned_box(change))

        slope = (expected * strain).sum((1, 2, 3))
        largest = max(largest, slope_error(energy, slope, expected, 1.0))
    return judged("virial", largest, tolerance, "differences along 4 random strains")


def check_hessian(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """The Hessian-vector product is the derivative of the forces along the vector."""
    case = Case(potential, topology, positions, box, orientations)
    along = case.normal(len(topology), 3)
    along /= along.norm()
    graph = case.graph(case.positions)
    product = torch.stack([hessian_vector_product(part, graph, along) for part in case.parts().values()])

    def gradient(steps: Tensor) -> Tensor:
        return -case.evaluate(case.positions + steps[:, None, None] * along)[1]

    return judged(
        "Hessian",
        slope_error(gradient, product, product, case.length),
        tolerance,
        "times a random vector, differences of the forces",
    )
