"""The sum over wave vectors on a mesh: smooth particle-mesh Ewald, N log N, for charges and dipoles."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.derivatives import differentiate_again
from cgenn.electrostatics.ewald import background_energy, self_energy
from cgenn.electrostatics.settings import CoulombSettings
from cgenn.electrostatics.splines import spread_moments
from cgenn.electrostatics.sums import per_system, volumes
from cgenn.units import COULOMB

Shape = tuple[int, int, int, int]
"""Systems, and points along the three cell vectors."""


def pme_energy(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    settings: CoulombSettings,
    *,
    cell: Float[Tensor, "systems 3 3"],
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """As `ewald_energy`, with charges and dipoles spread on a mesh by B-splines [kJ/mol].

    S(k) is the Fourier transform of the mesh over that of the spline (Essmann et al., J. Chem. Phys. 103, 8577, 1995);
    forces are the derivatives of this energy, so that it is conserved.
    """
    assert settings.mesh is not None
    inverse, shape = torch.linalg.inv(cell), (n_systems, *settings.mesh)
    fractional = _times(positions, inverse, batch)
    weight = influence(cell, settings)
    if dipoles is None:
        energy = _MeshEnergy.apply(fractional, charges, weight, batch, shape, settings.order)
    else:
        moments = _times(dipoles, inverse, batch)
        energy = _mesh_energy(fractional, charges, moments, weight, batch, shape, settings.order)
    own = self_energy(charges, dipoles, settings.alpha, batch, n_systems)
    return COULOMB * energy - own + background_energy(charges, settings, cell, batch, n_systems)


def _times(vectors: Tensor, matrices: Tensor, batch: Tensor) -> Tensor:
    """Each vector times the matrix of its system."""
    return vectors @ matrices[0] if len(matrices) == 1 else torch.einsum("bi,bij->bj", vectors, matrices[batch])


def influence(cell: Float[Tensor, "systems 3 3"], settings: CoulombSettings) -> Float[Tensor, "systems nx ny half_nz"]:
    """(4 pi / V) exp(-k^2 / 4 alpha^2) / k^2 over the squared transform of the spline; 0 at k = 0.

    Of the last direction the half that a real transform has.
    """
    if cell.requires_grad:
        return _influence(cell, settings)
    return _known_influence(tuple(cell.detach().flatten().tolist()), cell.dtype, cell.device, settings)


@lru_cache(maxsize=2)
def _known_influence(
    cell: tuple[float, ...], dtype: torch.dtype, device: torch.device, settings: CoulombSettings
) -> Float[Tensor, "systems nx ny half_nz"]:
    """The same again and again for a cell that does not change; two, for a barostat tries others."""
    with torch.inference_mode(False), torch.no_grad():  # whoever asks next may want derivatives
        return _influence(torch.tensor(cell, dtype=dtype, device=device).view(-1, 3, 3), settings)


def _influence(cell: Tensor, settings: CoulombSettings) -> Float[Tensor, "systems nx ny half_nz"]:
    assert settings.mesh is not None
    inverse = torch.linalg.inv(cell)
    metric = (2 * math.pi) ** 2 * inverse.transpose(1, 2) @ inverse  # k^2 = n metric n
    x, y, z = (_frequencies(points, axis == 2, cell) for axis, points in enumerate(settings.mesh))
    xx, yy, zz, xy, yz, xz = (
        metric[:, a, b][:, None, None, None] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2))
    )
    x, y = x[:, None, None], y[:, None]
    k2 = (2 * (xz * x + yz * y) + zz * z) * z + (xx * x * x + yy * y * y + 2 * xy * x * y)
    k2[:, 0, 0, 0] = 1.0
    volume = volumes(cell)[:, None, None, None]
    a, b, c = (
        torch.sinc(axis / points) ** (-2 * settings.order)
        for axis, points in zip((x, y, z), settings.mesh, strict=True)
    )
    green = torch.exp(k2 * (-0.25 / settings.alpha**2)) / k2 * (4 * math.pi / volume * a * b) * c
    green[:, 0, 0, 0] = 0.0
    return green


def _frequencies(points: int, half: bool, like: Tensor) -> Tensor:
    whole = torch.fft.rfftfreq if half else torch.fft.fftfreq
    return whole(points, 1 / points, dtype=like.dtype, device=like.device)


def _mesh_energy(
    fractional: Tensor,
    charges: Tensor,
    dipoles: Tensor | None,
    influence: Tensor,
    batch: Tensor,
    shape: Shape,
    order: int,
) -> Tensor:
    """Half the sum over wave vectors of influence times |S|^2."""
    mesh = spread_moments(fractional, charges, dipoles, batch, shape, order)
    transform = torch.fft.rfftn(mesh, dim=(1, 2, 3))
    return 0.5 * (influence * _power(transform, shape[3])).sum((1, 2, 3), dtype=torch.float64)


class _MeshEnergy(torch.autograd.Function):
    """As `_mesh_energy` for charges, with the first derivatives found on the way."""

    @staticmethod
    def forward(
        ctx: Any, fractional: Tensor, charges: Tensor, influence: Tensor, batch: Tensor, shape: Shape, order: int
    ) -> Tensor:
        slope, potential, power = _mesh_slopes(fractional, charges, influence, batch, shape, order)
        ctx.save_for_backward(fractional, charges, influence, batch, slope, potential, power)
        ctx.rest = (batch, shape, order)
        return 0.5 * per_system(charges * potential, batch, shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        fractional, charges, influence, batch, slope, potential, power = ctx.saved_tensors
        if torch.is_grad_enabled():

            def energy(fractional: Tensor, charges: Tensor, influence: Tensor) -> Tensor:
                return _mesh_energy(fractional, charges, None, influence, *ctx.rest)

            return *differentiate_again(energy, (fractional, charges, influence), gradient), None, None, None
        each = gradient.to(charges.dtype).index_select(0, batch)
        whole = gradient.to(charges.dtype)[:, None, None, None]
        return each[:, None] * slope, each * potential, None if power is None else whole * power, None, None, None


def _mesh_slopes(
    fractional: Tensor, charges: Tensor, influence: Tensor, batch: Tensor, shape: Shape, order: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Derivatives of the energy with respect to fractional positions, charges and, where needed, influence."""
    from cgenn.electrostatics.mesh_kernel import gather, spread

    transform = torch.fft.rfftn(spread(fractional, charges, batch, shape, order), dim=(1, 2, 3))
    power = 0.5 * _power(transform, shape[3]) if influence.requires_grad else None
    field = torch.fft.irfftn(influence * transform, s=shape[1:], dim=(1, 2, 3), norm="forward")
    potential, slope = gather(fractional, charges, batch, field, order)
    return slope, potential, power


def _power(transform: Tensor, points: int) -> Tensor:
    """|transform|^2, twice where -k is not among the wave vectors."""
    twice = torch.full((transform.shape[3],), 2.0, dtype=transform.real.dtype, device=transform.device)
    twice[0] = 1.0
    if points % 2 == 0:
        twice[-1] = 1.0
    return (transform.real.square() + transform.imag.square()) * twice
