"""A molecule and its mirror image: what a potential that is blind to reflection can never learn."""

import math

import pytest
import torch

from cgenn.potential.config import PotentialConfig
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

CHAIN = BeadTopology.build(["C"] * 4, [12.0] * 4, bonds=[(0, 1), (1, 2), (2, 3)])


TORSIONS = math.pi * torch.linspace(-1.0, 1.0, 49, dtype=torch.float64)[1:]


def potential(**options) -> Potential:
    torch.manual_seed(0)
    config = PotentialConfig(
        types=("C",),
        average_neighbors=3.0,
        energy_scale=1.0,
        temperature=300.0,
        channels=8,
        radial_basis=4,
        **options,
    )
    return Potential(config, Priors())


def chains(torsions: torch.Tensor) -> torch.Tensor:
    """Four equal beads with bonds of 0.38 nm, angles of 1.9 rad and the given torsions; shape (systems, 4, 3)."""
    bond, angle = 0.38, 1.9
    side, rise = bond * math.sin(angle), bond * math.cos(angle)
    zero = torch.zeros_like(torsions)
    first = torch.stack([zero + side, zero, zero + rise], 1)
    second, third = torch.zeros_like(first), torch.stack([zero, zero, zero + bond], 1)
    last = torch.stack([side * torch.cos(torsions), side * torch.sin(torsions), zero + bond - rise], 1)
    return torch.stack([first, second, third, last], 1)


def train(model: Potential, torsions: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    graph = model.graph(CHAIN, chains(torsions))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        optimizer.zero_grad()
        (model.network_energy(graph) - labels).square().mean().backward()
        optimizer.step()


def errors(model: Potential, torsions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (model.network_energy(model.graph(CHAIN, chains(torsions))) - labels).abs().detach()


@pytest.mark.parametrize("options", [{}, {"lmax": 2}], ids=str)
def test_the_default_tells_mirror_images_apart(options: dict) -> None:
    """E = 4 sin(phi) [kJ/mol], which changes sign with the handedness, learnt on every second torsion."""
    model = potential(**options)
    train(model, TORSIONS[::2], 4 * torch.sin(TORSIONS[::2]), steps=150)
    assert errors(model, TORSIONS, 4 * torch.sin(TORSIONS)).max() < 0.25


@pytest.mark.parametrize("options", [{}, {"lmax": 2}], ids=str)
def test_a_reflection_invariant_potential_does_not(options: dict) -> None:
    """The best that it can do is the mean over both hands: zero everywhere."""
    model = potential(reflection_invariant=True, **options)
    train(model, TORSIONS, 4 * torch.sin(TORSIONS), steps=60)
    assert errors(model, TORSIONS, 4 * torch.sin(TORSIONS)).square().mean() > 7.5
    left, right = (model.network_energy(model.graph(CHAIN, chains(sign * TORSIONS))) for sign in (-1, 1))
    torch.testing.assert_close(left, right, atol=1e-10, rtol=0)


def test_a_reflection_invariant_potential_learns_what_mirror_images_share() -> None:
    model = potential(reflection_invariant=True)
    train(model, TORSIONS[::2], 4 * torch.cos(TORSIONS[::2]), steps=150)
    assert errors(model, TORSIONS, 4 * torch.cos(TORSIONS)).max() < 0.25


def test_forces_of_a_mirror_image() -> None:
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0]))
    here = chains(torch.tensor([0.8]))
    for reflection_invariant in (True, False):
        model = potential(reflection_invariant=reflection_invariant)
        _, forces = energy_and_forces(model.network_energy, model.graph(CHAIN, here))
        _, image = energy_and_forces(model.network_energy, model.graph(CHAIN, here @ mirror))
        assert torch.allclose(image, forces @ mirror, atol=1e-10) == reflection_invariant
