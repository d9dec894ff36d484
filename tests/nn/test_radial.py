import math

import pytest
import torch

from cgenn.nn.radial import BesselBasis, RadialNetwork, smooth_cutoff


def derivatives(function, at: float, order: int) -> list[float]:
    x = torch.tensor([at], requires_grad=True)
    values = [function(x)]
    for _ in range(order):
        (gradient,) = torch.autograd.grad(values[-1].sum(), x, create_graph=True, materialize_grads=True)
        values.append(gradient)
    return [value.item() for value in values]


@pytest.mark.parametrize(
    ("x", "value", "slope"),
    [(0.0, 1.0, 0.0), (0.5, 0.85546875, -1.3125), (1.0, 0.0, 0.0), (1.2, 0.0, 0.0)],
)
def test_smooth_cutoff(x: float, value: float, slope: float) -> None:
    """1 - 28 x^6 + 48 x^7 - 21 x^8 and its derivative -168 x^5 (1 - x)^2."""
    found = derivatives(lambda r: smooth_cutoff(r, 2.0), 2.0 * x, 1)
    assert found == pytest.approx([value, slope / 2.0], abs=1e-12)


def test_two_derivatives_vanish_at_the_cutoff() -> None:
    inside = derivatives(lambda r: smooth_cutoff(r, 0.9), 0.9 * (1 - 1e-6), 2)
    assert inside == pytest.approx([0.0, 0.0, 0.0], abs=1e-3)
    assert derivatives(lambda r: smooth_cutoff(r, 0.9), 0.95, 2) == [0.0, 0.0, 0.0]


def test_bessel_basis_is_orthonormal() -> None:
    """Over the sphere: integral of B_n B_m x^2 from 0 to 1 = delta_nm."""
    x = (torch.arange(4000) + 0.5) / 4000
    basis = BesselBasis(6, 0.7)(0.7 * x)
    overlap = torch.einsum("en,em,e->nm", basis, basis, x.square()) / 4000
    torch.testing.assert_close(overlap, torch.eye(6), atol=1e-9, rtol=0)
    assert BesselBasis(3, 0.7)(torch.tensor([0.2]))[0, 1].item() == pytest.approx(
        math.sqrt(2) * math.sin(2 * math.pi * 0.2 / 0.7) / (0.2 / 0.7)
    )


def test_radial_network_ends_smoothly() -> None:
    torch.manual_seed(0)
    network = RadialNetwork(8, 16, 5, 0.9)
    assert network(torch.tensor([0.9, 1.0, 5.0])).abs().max() == 0
    assert network(torch.tensor([0.3])).abs().min() > 0
    value, slope = derivatives(lambda r: network(r)[:, 0], 0.9 - 1e-5, 1)
    assert abs(value) < 1e-12
    assert abs(slope) < 1e-7
