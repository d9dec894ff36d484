"""A potential that is its priors."""

import torch

from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors


def silent(priors: Priors, types: tuple[str, ...], cutoff: float) -> Potential:
    """With a network that says nothing."""
    config = PotentialConfig(
        types=types, cutoff=cutoff, channels=2, layers=1, lmax=0, radial_width=4, radial_basis=4,
        average_neighbors=3.0, energy_scale=1.0, temperature=300.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Potential(config, priors).double().requires_grad_(False).eval()
    for weights in model.network.parameters():
        weights.zero_()
    return model
