"""Splines of radial functions: smooth, as close as they are said to be, nothing at the cutoff."""

import numpy as np
import pytest
import torch

from cgenn.compiled.ladder import Coupling
from cgenn.compiled.radial import (
    DEGREE,
    NEAR,
    PIECES,
    RISES,
    STEPS,
    TOLERANCE,
    intervals_of,
    radial_table,
    spline_coefficients,
)
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
    intervals = intervals_of(table)
    knot = (place * intervals).long().clamp(max=intervals - 1)
    t = (place * intervals - knot).numpy()

    def counted(polynomials: np.ndarray, numbers: torch.Tensor) -> torch.Tensor:
        factors = torch.as_tensor(np.polynomial.polynomial.polyval(t, polynomials.T))
        return sum(factor[:, None, None] * numbers[knot + k] for k, factor in enumerate(factors))

    value, differences = counted(PIECES, table), table.diff(dim=0)
    torch.testing.assert_close(value, table[knot] + counted(STEPS, differences), rtol=1e-12, atol=1e-12)
    return value, intervals * counted(RISES, differences)


def test_smooth_at_the_knots() -> None:
    """Value and slope are the same from both sides, and at both ends those of the functions."""
    table = radial_table(radial(), MIXED, CHANNELS)
    assert table.dtype == torch.float64
    assert table.shape[1:] == (2, CHANNELS)
    intervals = intervals_of(table)
    knots = torch.arange(1, intervals) / intervals
    left, right = (interpolated(table, knots + shift / intervals) for shift in (-1e-9, 1e-9))
    torch.testing.assert_close(left[0], right[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(left[1], right[1], rtol=1e-7, atol=1e-6)
    ends = torch.tensor([1e-4, 1.0])
    for found, expected in zip(interpolated(table, ends), exact(radial(), ends), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_polynomials_are_themselves() -> None:
    """Splines of degree four hold those of degree four, and B-splines add up to one."""
    assert np.allclose(PIECES.sum(0), [1, 0, 0, 0, 0])
    ends = torch.tensor([0.0, 1.0])
    middles = (torch.arange(8) + 0.5) / 8
    power, slope = (lambda x: x**4 - 2 * x**3 + x), (lambda x: 4 * x**3 - 6 * x**2 + 1)
    shape = -1, 1, 1
    table = spline_coefficients(power(middles).view(shape), power(ends).view(shape), slope(ends).view(shape) / 8)
    place = torch.rand(100)
    value, rise = interpolated(table, place)
    torch.testing.assert_close(value.flatten(), power(place), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rise.flatten(), slope(place), rtol=1e-9, atol=1e-10)


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
    counts = [len(radial_table(radial(roughness), MIXED, CHANNELS)) for roughness in (0.5, 1.0, 2.0)]
    assert counts[0] < counts[1] < counts[2]


def test_ends_at_the_cutoff_with_value_and_slope_zero() -> None:
    table = radial_table(radial(), MIXED, CHANNELS)
    value, slope = interpolated(table, torch.tensor([1.0]))
    assert value.abs().max() < 1e-13
    assert slope.abs().max() < 1e-10
    assert table[-DEGREE].abs().max() > 1e-12


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_mode_of_the_caller_does_not_matter(mode) -> None:
    expected = radial_table(radial(), MIXED, CHANNELS)
    with mode():
        found = radial_table(radial().requires_grad_(True), MIXED, CHANNELS)
    assert torch.equal(found, expected)
    assert not found.requires_grad
