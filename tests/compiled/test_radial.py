"""Tables of radial functions: exact at the knots, close in between, nothing at the cutoff."""

import pytest
import torch

from cgenn.compiled.edge_frame import Coupling
from cgenn.compiled.radial import NEAR, TOLERANCE, radial_table
from cgenn.nn.radial import RadialNetwork

CUTOFF, CHANNELS = 0.9, 4
MIXED = [Coupling((), ((1, 1.0),)), Coupling((), ((0, 0.5), (2, -2.0)))]
"""W_0 = R_1 and W_1 = R_0 / 2 - 2 R_2."""


def radial(roughness: float = 1.0) -> RadialNetwork:
    torch.manual_seed(0)
    network = RadialNetwork(6, 16, 3 * CHANNELS, CUTOFF).requires_grad_(False)
    network.perceptron[0].weight *= roughness
    return network


def exact(network: RadialNetwork, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Functions of shape (places, 2, channels) and their derivatives by the place, 0 to 1, among the knots."""
    place = place.clone().requires_grad_(True)
    paths = network(CUTOFF * place * NEAR / (1 + NEAR - place)).unflatten(1, (3, CHANNELS))
    values = torch.stack([paths[:, 1], 0.5 * paths[:, 0] - 2 * paths[:, 2]], dim=1)
    columns = [torch.autograd.grad(column.sum(), place, retain_graph=True)[0] for column in values.flatten(1).T]
    return values.detach(), torch.stack(columns, dim=1).view_as(values)


def interpolated(table: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the table: cubic Hermite polynomials between two knots (Abramowitz and Stegun 25.2)."""
    intervals = len(table) - 1
    knot = (place * intervals).long().clamp(max=intervals - 1)
    t = (place * intervals - knot)[:, None, None]
    values, slopes = table[:, 0::2], table[:, 1::2]
    steps = values[knot], slopes[knot], values[knot + 1], slopes[knot + 1]
    shapes = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t**2 * (3 - 2 * t), t**2 * (t - 1)
    rises = 6 * t * (t - 1), (1 - t) * (1 - 3 * t), 6 * t * (1 - t), t * (3 * t - 2)
    value, slope = (sum(a * b for a, b in zip(steps, parts, strict=True)) for parts in (shapes, rises))
    return value, slope * intervals


def test_exact_at_the_knots() -> None:
    table = radial_table(radial(), MIXED, CHANNELS)
    assert table.dtype == torch.float64
    assert table.shape[1:] == (4, CHANNELS)
    intervals = len(table) - 1
    values, slopes = exact(radial(), torch.arange(1, intervals + 1) / intervals)
    torch.testing.assert_close(table[1:, 0::2], values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(table[1:, 1::2] * intervals, slopes, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(table[0, 0::2], exact(radial(), torch.tensor([1e-9]))[0][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("roughness", [1.0, 2.0])
def test_close_in_between(roughness: float) -> None:
    """As close as `TOLERANCE` says, where it asks for fewer knots than there may be at most."""
    network = radial(roughness)
    table = radial_table(network, MIXED, CHANNELS)
    place = torch.rand(5000) * 0.999 + 0.0005
    (value, slope), (right, right_slope) = interpolated(table, place), exact(network, place)
    steepest = right_slope.abs().max()
    assert 1e-8 < (slope - right_slope).abs().max() / steepest < 1.1 * TOLERANCE  # it is looked at in some places only
    assert (value - right).abs().max() < 0.01 * TOLERANCE * steepest


def test_a_rougher_network_gets_more_intervals() -> None:
    counts = [len(radial_table(radial(roughness), MIXED, CHANNELS)) - 1 for roughness in (0.01, 1.0, 5.0)]
    assert counts[0] < counts[1] < counts[2]
    assert all(count & (count - 1) == 0 for count in counts)


def test_ends_at_the_cutoff_with_value_and_slope_zero() -> None:
    table = radial_table(radial(), MIXED, CHANNELS)
    assert table[-1].abs().max() < 1e-14
    assert table[-2].abs().max() > 1e-12


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_mode_of_the_caller_does_not_matter(mode) -> None:
    expected = radial_table(radial(), MIXED, CHANNELS)
    with mode():
        found = radial_table(radial().requires_grad_(True), MIXED, CHANNELS)
    assert torch.equal(found, expected)
    assert not found.requires_grad
