"""Energies of bonds, angles and dihedrals; the same terms as native OpenMM forces are in simulation/bonded.py.

Positions are those of whole molecules: no periodic image is looked for.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def distances(positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 2"]) -> Float[Tensor, " terms"]:
    """Distance between two beads [nm]."""
    return torch.linalg.vector_norm(positions[index[:, 1]] - positions[index[:, 0]], dim=1)


def angles(positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 3"]) -> Float[Tensor, " terms"]:
    """Angle at the middle bead, 0 to pi [rad]; atan2 keeps the gradient finite for a straight chain."""
    first = positions[index[:, 0]] - positions[index[:, 1]]
    second = positions[index[:, 2]] - positions[index[:, 1]]
    cross = torch.linalg.cross(first, second)
    sine = torch.sqrt(cross.square().sum(1) + torch.finfo(cross.dtype).tiny)
    return torch.atan2(sine, (first * second).sum(1))


def dihedrals(positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 4"]) -> Float[Tensor, " terms"]:
    """Torsion about the middle bond, -pi to pi with the IUPAC sign (trans is pi) [rad].

    Three beads on a line have no torsion: it is then 0, with a finite gradient.
    """
    a, b, c, d = (positions[index[:, column]] for column in range(4))
    first, middle, last = b - a, c - b, d - c
    left, right = torch.linalg.cross(first, middle), torch.linalg.cross(middle, last)
    sine = torch.linalg.vector_norm(middle, dim=1) * (first * right).sum(1)
    cosine = (left * right).sum(1)
    return torch.atan2(sine, torch.where((sine == 0) & (cosine == 0), torch.ones_like(cosine), cosine))


def bond_energy(
    positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 2"], parameters: Float[Tensor, "terms 2"]
) -> Float[Tensor, " terms"]:
    """k / 2 (r - length)^2 of each bond [kJ/mol]; parameters are (length [nm], k [kJ/mol/nm^2])."""
    length, k = parameters.unbind(1)
    return 0.5 * k * (distances(positions, index) - length).square()


def angle_energy(
    positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 3"], parameters: Float[Tensor, "terms 2"]
) -> Float[Tensor, " terms"]:
    """k / 2 (theta - angle)^2 of each angle [kJ/mol]; parameters are (angle [rad], k [kJ/mol/rad^2])."""
    angle, k = parameters.unbind(1)
    return 0.5 * k * (angles(positions, index) - angle).square()


def well_exponents(
    values: Float[Tensor, " terms"], parameters: Float[Tensor, "terms columns"]
) -> Float[Tensor, "terms wells"]:
    """-E_i / kt of each well, E_i = energy + k / 2 (x - x_i)^2; parameters are (kt, then x_i, k and energy of each)."""
    centres, k, energies = parameters[:, 1:].unflatten(1, (-1, 3)).unbind(2)
    return -(energies + 0.5 * k * (values[:, None] - centres).square()) / parameters[:, :1]


def bond_well_energy(
    positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 2"], parameters: Float[Tensor, "terms columns"]
) -> Float[Tensor, " terms"]:
    """-kt ln sum_i exp(-E_i / kt) of each bond [kJ/mol]; see `well_exponents`."""
    return -parameters[:, 0] * torch.logsumexp(well_exponents(distances(positions, index), parameters), 1)


def angle_well_energy(
    positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 3"], parameters: Float[Tensor, "terms columns"]
) -> Float[Tensor, " terms"]:
    """-kt ln sum_i exp(-E_i / kt) of each angle [kJ/mol]; see `well_exponents`."""
    return -parameters[:, 0] * torch.logsumexp(well_exponents(angles(positions, index), parameters), 1)


def dihedral_energy(
    positions: Float[Tensor, "beads 3"], index: Int[Tensor, "terms 4"], parameters: Float[Tensor, "terms 3"]
) -> Float[Tensor, " terms"]:
    """k (1 + cos(n phi - phase)) of each term [kJ/mol]; parameters are (n, phase [rad], k [kJ/mol])."""
    n, phase, k = parameters.unbind(1)
    return k * (1 + torch.cos(n * dihedrals(positions, index) - phase))
