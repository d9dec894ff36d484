"""Ewald's sum over wave vectors for charges and dipoles, written out: the reference, and quick for small systems."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.settings import CoulombSettings
from cgenn.electrostatics.sums import per_system, volumes
from cgenn.units import COULOMB


def ewald_energy(
    positions: Float[Tensor, "beads 3"],
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    settings: CoulombSettings,
    *,
    cell: Float[Tensor, "systems 3 3"],
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """The part of the energy that varies slowly in space, without self-interaction [kJ/mol].

    (2 pi / V) sum_(k != 0) exp(-k^2 / 4 alpha^2) / k^2 |S(k)|^2 - self - background, with
    S(k) = sum (q + i mu . k) exp(i k . r); see `self_energy` and `background_energy` (Frenkel and Smit, chapter 12;
    Toukmaji et al., J. Chem. Phys. 113, 10913, 2000). Surrounded by a conductor. Memory: beads times wave vectors.
    """
    inverse = torch.linalg.inv(cell)
    numbers = wave_numbers(cell, settings.k_cutoff).to(positions)
    waves = 2 * math.pi * torch.einsum("ka,sba->skb", numbers, inverse)
    k2 = waves.square().sum(2)
    inside = k2.detach() < settings.k_cutoff**2
    weight = torch.where(inside, torch.exp(-k2 / (4 * settings.alpha**2)) / k2, torch.zeros_like(k2))

    fractional = torch.einsum("bi,bij->bj", positions, inverse[batch])
    phase = 2 * math.pi * (fractional - fractional.detach().round()) @ numbers.T
    cosine, sine = phase.cos(), phase.sin()
    real, imaginary = charges[:, None] * cosine, charges[:, None] * sine
    if dipoles is not None:
        along = _along(dipoles, waves, batch, n_systems)
        real, imaginary = real - along * sine, imaginary + along * cosine
    real, imaginary = (_structure_factors(part, batch, n_systems) for part in (real, imaginary))
    volume = volumes(cell)
    sums = (weight * (real.square() + imaginary.square())).sum(1, dtype=torch.float64)  # over half of the wave vectors
    energy = 4 * math.pi / volume * sums * COULOMB
    return (
        energy
        - self_energy(charges, dipoles, settings.alpha, batch, n_systems)
        + background_energy(charges, settings, cell, batch, n_systems)
    )


def wave_numbers(cell: Float[Tensor, "systems 3 3"], k_cutoff: float) -> Int[Tensor, "waves 3"]:
    """Whole numbers n with |2 pi n cell^-1| < k_cutoff [1/nm] in any of the systems; of n and -n one."""
    return _wave_numbers(tuple(cell.detach().to(torch.float64).flatten().tolist()), k_cutoff, cell.device)


@lru_cache(maxsize=8)
def _wave_numbers(cell: tuple[float, ...], k_cutoff: float, device: torch.device) -> Int[Tensor, "waves 3"]:
    """The same again and again for a cell that does not change."""
    cells = torch.tensor(cell, dtype=torch.float64, device=device).view(-1, 3, 3)
    highest = torch.floor(k_cutoff * cells.norm(dim=2).amax(0) / (2 * math.pi)).to(torch.int64).tolist()
    axes = [torch.arange(-n if axis else 0, n + 1, device=device) for axis, n in enumerate(highest)]
    numbers = torch.cartesian_prod(*axes)
    x, y, z = numbers.T
    numbers = numbers[(x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))]
    waves = 2 * math.pi * torch.einsum("ka,sba->skb", numbers.to(torch.float64), torch.linalg.inv(cells))
    return numbers[(waves.square().sum(2) < k_cutoff**2).any(0)]


def self_energy(
    charges: Float[Tensor, " beads"],
    dipoles: Float[Tensor, "beads 3"] | None,
    alpha: float,
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """alpha/sqrt(pi) sum q^2 + 2 alpha^3 / (3 sqrt(pi)) sum mu^2 [kJ/mol]."""
    own = alpha / math.sqrt(math.pi) * charges.square()
    if dipoles is not None:
        own = own + 2 * alpha**3 / (3 * math.sqrt(math.pi)) * dipoles.square().sum(1)
    return COULOMB * per_system(own, batch, n_systems)


def background_energy(
    charges: Float[Tensor, " beads"],
    settings: CoulombSettings,
    cell: Float[Tensor, "systems 3 3"],
    batch: Int[Tensor, " beads"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """-(pi Q^2 / 2 V) (1/alpha^2 - 4 sigma^2): the uniform background that neutralises a net charge Q [kJ/mol].

    It takes away the mean of the kernel in real space, erfc(alpha r)/r or erf(r / 2 sigma)/r - erf(alpha r)/r.
    """
    total = per_system(charges, batch, n_systems)
    reach = 1 / settings.alpha**2 - 4 * settings.smearing**2
    return -COULOMB * math.pi / 2 * reach * total.square() / volumes(cell)


def _along(dipoles: Tensor, waves: Tensor, batch: Tensor, n_systems: int) -> Tensor:
    """k . mu of each bead and wave vector of its system."""
    if n_systems == 1:
        return dipoles @ waves[0].T
    counts = torch.bincount(batch, minlength=n_systems).tolist()
    parts = dipoles.split(counts)
    return torch.cat([part @ waves[system].T for system, part in enumerate(parts)])


def _structure_factors(values: Tensor, batch: Tensor, n_systems: int) -> Tensor:
    if n_systems == 1:
        return values.sum(0, keepdim=True)
    return values.new_zeros((n_systems, *values.shape[1:])).index_add(0, batch, values)
