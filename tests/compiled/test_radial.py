"""Tables of radial functions: exact at the knots, close in between, nothing at the cutoff."""

import pytest
import torch

from cgenn.compiled.ladder import Coupling
from cgenn.compiled.radial import NEAR, POWERS, TOLERANCE, radial_table
from cgenn.nn.radial import RadialNetwork

CUTOFF, CHANNELS = 0.9, 4
MIXED = [Coupling(0, 0, 0, False, ((1, 1.0),)), Coupling(1, 1, 0, False, ((0, 0.5), (2, -2.0)))]
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
    """The same from the table."""
    intervals = len(table)
    knot = (place * intervals).long().clamp(max=intervals - 1)
    t = (place * intervals - knot)[:, None, None]
    powers = table.unflatten(1, (-1, POWERS))[knot].unbind(2)
    value = sum(power * t**n for n, power in enumerate(powers))
    return value, intervals * sum(n * power * t ** (n - 1) for n, power in enumerate(powers) if n)


def test_exact_at_the_knots() -> None:
    """From both sides: what is between them is continuous, and so is its slope."""
    table = radial_table(radial(), MIXED, CHANNELS)
    assert table.dtype == torch.float64
    assert table.shape[1:] == (2 * POWERS, CHANNELS)
    intervals = len(table)
    values, slopes = exact(radial(), torch.arange(1, intervals + 1) / intervals)
    for shift, at in ((-1e-9, slice(None)), (1e-9, slice(-1))):
        found = interpolated(table, torch.arange(1, intervals + 1)[at] / intervals + shift / intervals)
        torch.testing.assert_close(found[0], values[at], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found[1], slopes[at], rtol=1e-7, atol=1e-6)
    torch.testing.assert_close(table[0, 0::POWERS], exact(radial(), torch.tensor([1e-9]))[0][0], rtol=0, atol=1e-6)


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
    counts = [len(radial_table(radial(roughness), MIXED, CHANNELS)) for roughness in (1.0, 5.0, 20.0)]
    assert counts[0] < counts[1] < counts[2]
    assert all(count & (count - 1) == 0 for count in counts)


def test_ends_at_the_cutoff_with_value_and_slope_zero() -> None:
    table = radial_table(radial(), MIXED, CHANNELS)
    value, slope = interpolated(table, torch.tensor([1.0]))
    assert value.abs().max() < 1e-13
    assert slope.abs().max() < 1e-10
    assert table[-1].abs().max() > 1e-12


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_mode_of_the_caller_does_not_matter(mode) -> None:
    expected = radial_table(radial(), MIXED, CHANNELS)
    with mode():
        found = radial_table(radial().requires_grad_(True), MIXED, CHANNELS)
    assert torch.equal(found, expected)
    assert not found.requires_grad
