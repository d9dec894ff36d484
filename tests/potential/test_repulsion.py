import pytest
import torch

from cgenn.potential.priors import REPULSION_RANGE
from cgenn.potential.repulsion import ramp_energy, repulsion_energy

SIGMA, EPSILON = 0.4, 1.5
END = REPULSION_RANGE * SIGMA


def energy(distance: torch.Tensor) -> torch.Tensor:
    return repulsion_energy(distance, torch.full_like(distance, SIGMA), torch.full_like(distance, EPSILON))


def test_values() -> None:
    """epsilon at sigma; zero where it ends and beyond."""
    found = energy(torch.tensor([SIGMA, END, END + 0.1, 10.0]))
    torch.testing.assert_close(found, torch.tensor([EPSILON, 0.0, 0.0, 0.0]), atol=1e-12, rtol=0)
    x6 = (SIGMA / 0.3) ** 6
    assert energy(torch.tensor([0.3])).item() == pytest.approx(4 * EPSILON * (x6**2 - x6) + EPSILON)


def test_energy_and_force_are_continuous() -> None:
    distance = torch.tensor([END - 1e-7, END + 1e-7], requires_grad=True)
    values = energy(distance)
    (slope,) = torch.autograd.grad(values.sum(), distance)
    torch.testing.assert_close(values[0], values[1], atol=1e-10, rtol=0)
    torch.testing.assert_close(slope[0], slope[1], atol=1e-4, rtol=0)
    assert slope[1] == 0


def test_gradients() -> None:
    distance = torch.tensor([0.35, 0.4, 0.44, 0.6], requires_grad=True)
    assert torch.autograd.gradcheck(energy, distance)
    assert torch.autograd.gradgradcheck(energy, distance)


def test_a_pair_without_size_does_not_interact() -> None:
    distance = torch.tensor([0.1, 1.0], requires_grad=True)
    values = repulsion_energy(distance, torch.zeros(2), torch.zeros(2))
    (slope,) = torch.autograd.grad(values.sum(), distance)
    assert values.tolist() == slope.tolist() == [0.0, 0.0]


def test_ramp() -> None:
    """Its height where beads meet, half of it half way, nothing at its end; the force is the same everywhere."""
    distance = torch.tensor([0.0, 0.4, 0.79999, 0.8, 1.5], requires_grad=True)
    values = ramp_energy(distance, -0.6, 0.8)
    (slope,) = torch.autograd.grad(values.sum(), distance)
    torch.testing.assert_close(values, torch.tensor([-0.6, -0.3, 0.0, 0.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(slope[:3], torch.full((3,), 0.75))
    assert slope[4] == 0
