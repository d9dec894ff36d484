"""Interactions of listed pairs of charges and dipoles."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.derivatives import differentiate_again
from cgenn.electrostatics.kernels import Kernel
from cgenn.electrostatics.pairs import CoulombPairs, pair_vectors
from cgenn.electrostatics.settings import CoulombSettings
from cgenn.electrostatics.sums import per_system
from cgenn.units import COULOMB


def real_space_energy(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    pairs: CoulombPairs,
    settings: CoulombSettings,
    *,
    cell: Float[Tensor, "systems 3 3"] | None,
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """Sum over the listed pairs of erfc(alpha r)/r (of 1/r in open space), smeared if so set [kJ/mol].

    Excluded pairs are given -erf(alpha r)/r, which takes back what the sum in reciprocal space holds of them.
    """
    fixed = cell is not None and not cell.requires_grad
    if settings.method == "pme" and fixed and dipoles is None and not settings.smearing:
        energy = _PointCharges.apply(positions, charges, pairs, settings, cell, batch, n_systems)
    else:
        energy = _listed_energy(positions, charges, dipoles, pairs, settings, cell, batch, n_systems)
    if cell is not None and pairs.excluded.shape[1]:
        first, second = pairs.excluded
        system = batch.index_select(0, first)
        vectors = pair_vectors(positions, first, second, pairs.excluded_shifts, cell, system)
        energies = pair_energy(vectors, charges, dipoles, first, second, Kernel(settings.alpha, 0.0))
        energy = energy + per_system(energies, system, n_systems)
    return COULOMB * energy


class _PointCharges(torch.autograd.Function):
    """As `_listed_energy` for point charges, with the first derivatives found in the same pass over the pairs."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        charges: Tensor,
        pairs: CoulombPairs,
        settings: CoulombSettings,
        cell: Tensor,
        batch: Tensor,
        n_systems: int,
    ) -> Tensor:
        from cgenn.electrostatics.pair_kernel import pair_sums

        listed = (pairs.receivers, pairs.senders, pairs.shifts)
        energy, *slopes = pair_sums(positions, charges, *listed, cell, batch, settings.alpha, settings.cutoff)
        ctx.save_for_backward(positions, charges, batch, *slopes)
        ctx.rest = (pairs, settings, cell, batch, n_systems)
        return per_system(energy, batch, n_systems)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        positions, charges, batch, slope, potential = ctx.saved_tensors
        if torch.is_grad_enabled():

            def energy(positions: Tensor, charges: Tensor) -> Tensor:
                return _listed_energy(positions, charges, None, *ctx.rest)

            return *differentiate_again(energy, (positions, charges), gradient), None, None, None, None, None
        each = gradient.to(positions.dtype).index_select(0, batch)
        return each[:, None] * slope, each * potential, None, None, None, None, None


def _listed_energy(
    positions: Tensor,
    charges: Tensor,
    dipoles: Tensor | None,
    pairs: CoulombPairs,
    settings: CoulombSettings,
    cell: Tensor | None,
    batch: Tensor,
    n_systems: int,
) -> Tensor:
    beta = 1 / (2 * settings.smearing) if settings.smearing > 0 else math.inf
    system = batch.index_select(0, pairs.receivers)
    vectors = pair_vectors(positions, pairs.receivers, pairs.senders, pairs.shifts, cell, system)
    near = (vectors.detach().square().sum(1) < settings.cutoff**2).nonzero().squeeze(1)
    vectors, system = vectors.index_select(0, near), system.index_select(0, near)
    ends = (pairs.receivers.index_select(0, near), pairs.senders.index_select(0, near))
    return per_system(pair_energy(vectors, charges, dipoles, *ends, Kernel(settings.alpha, beta)), system, n_systems)


def pair_energy(
    vectors: Float[Tensor, "pairs 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    receivers: Int[Tensor, " pairs"],
    senders: Int[Tensor, " pairs"],
    kernel: Kernel,
) -> Float[Tensor, " pairs"]:
    """(q_i + mu_i . grad_i) (q_j + mu_j . grad_j) f(r), without the Coulomb constant [e^2/nm].

    With r from i to j, grad f = -f_1 r and grad grad f = f_2 r r - f_1 (Smith, CCP5 Newsletter 46, 18, 1998).
    """
    r2 = vectors.square().sum(1)
    first, second = charges.index_select(0, receivers), charges.index_select(0, senders)
    energy = first * second * kernel(r2)
    if dipoles is None:
        return energy
    mu, nu = dipoles.index_select(0, receivers), dipoles.index_select(0, senders)
    along_mu, along_nu = (mu * vectors).sum(1), (nu * vectors).sum(1)
    energy = energy + kernel(r2, 1) * (second * along_mu - first * along_nu + (mu * nu).sum(1))
    return energy - kernel(r2, 2) * along_mu * along_nu
