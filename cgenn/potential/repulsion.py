"""Short-range repulsion, pair splines and the ramp between beads that are not bonded neighbours."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.potential.priors import REPULSION_RANGE


def repulsion_energy(
    distance: Float[Tensor, " pairs"], sigma: Float[Tensor, " pairs"], epsilon: Float[Tensor, " pairs"]
) -> Float[Tensor, " pairs"]:
    """4 epsilon ((sigma/r)^12 - (sigma/r)^6) + epsilon below 2^(1/6) sigma, 0 beyond [kJ/mol].

    Weeks, Chandler and Andersen 1971. A pair with sigma = 0 does not interact.
    """
    inside = distance < REPULSION_RANGE * sigma
    x6 = torch.where(inside, sigma / distance, torch.zeros_like(distance)).pow(6)
    return torch.where(inside, 4 * epsilon * (x6.square() - x6) + epsilon, torch.zeros_like(distance))


def ramp_energy(distance: Float[Tensor, " pairs"], height: float, reach: float) -> Float[Tensor, " pairs"]:
    """height (1 - r / reach) below the reach [nm], 0 beyond [kJ/mol].

    Reith, Puetz and Mueller-Plathe 2003, doi 10.1002/jcc.10307.
    """
    return height * (1.0 - distance / reach).clamp(min=0.0)


def spline_energy(
    distance: Float[Tensor, " pairs"], kinds: Int[Tensor, " pairs"], table: Float[Tensor, "kinds splines"], reach: float
) -> Float[Tensor, " pairs"]:
    """Cubic B-splines on equal intervals from 0 to the reach [nm], 0 beyond [kJ/mol].

    Args:
        kinds: row of each pair in the table.
        table: coefficients, see `Priors.pair_table`.
    """
    intervals = table.shape[1] - 3
    place = (distance * (intervals / reach)).clamp(max=float(intervals))
    first = place.detach().floor().clamp(max=intervals - 1)
    t = place - first
    weights = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=1)
    starts = kinds * table.shape[1] + first.long()
    four = table.to(distance.dtype).flatten()[starts[:, None] + torch.arange(4, device=distance.device)]
    return (weights * four).sum(1) / 6
