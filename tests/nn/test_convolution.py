"""The convolution and its derivatives of first and second order, against e3nn's coefficients and autograd."""

import pytest
import torch
from e3nn import o3

from cgenn.nn import convolution
from cgenn.nn.tensor_product import EdgeProduct
from tests.nn.plain import plain_convolution

BEADS, EDGES, HIDDEN, CHANNELS = 5, 23, 3, 2


def product(lmax: int, parity: int = 1, *, scalars_in: bool = False) -> EdgeProduct:
    irreps = o3.Irreps.spherical_harmonics(lmax, p=parity)
    return EdgeProduct(o3.Irreps("0e") if scalars_in else irreps, irreps, irreps)


def given(of: EdgeProduct) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What is differentiated by, the harmonic of degree zero being constant, and the ends of the edges."""
    torch.manual_seed(0)
    harmonics, paths = of.coupling().shape[0], len(of.paths)
    shapes = (BEADS, of.features.dim, CHANNELS), (EDGES, harmonics - 1), (EDGES, HIDDEN), (HIDDEN, paths * CHANNELS)
    return [torch.randn(shape, requires_grad=True) for shape in shapes], list(torch.randint(0, BEADS, (2, EDGES)))


def derivatives(call, of: EdgeProduct) -> list[torch.Tensor]:
    """The value, its derivatives along random directions, and theirs by everything."""
    (x, y, h, w), ends = given(of)
    inputs = [part for part in (x, y, h, w) if part.numel()]
    value = call(x, torch.cat([torch.ones(EDGES, 1), y], dim=1), h, w, *ends)
    along = torch.randn(value.shape, requires_grad=True)
    first = torch.autograd.grad(value, inputs, along, create_graph=True)
    change = [torch.randn(part.shape) for part in first]
    second = torch.autograd.grad(first, [along, *inputs], change, materialize_grads=True)
    return [value, *first, *second]


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("lmax", [0, 1, 2, 3])
@pytest.mark.parametrize("scalars_in", [True, False])
def test_derivatives(lmax: int, parity: int, scalars_in: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_AT_ONCE", 10 * CHANNELS)  # so that there are several parts, and a rest
    of = product(lmax, parity, scalars_in=scalars_in)
    expected = derivatives(lambda *inputs: plain_convolution(of, *inputs), of)
    for found, part in zip(derivatives(of, of), expected, strict=True):
        torch.testing.assert_close(found, part)


@pytest.mark.parametrize("asked", [[0], [1], [2], [3], [1, 2], [0, 1, 2]], ids=str)
def test_derivatives_by_some(asked: list[int]) -> None:
    """Training takes the derivatives of those by geometry alone; any others may be asked for."""
    of, along = product(2), torch.randn(BEADS, 9, CHANNELS)
    results = []
    for call in (of, lambda *inputs: plain_convolution(of, *inputs)):
        (x, y, h, w), ends = given(of)
        inputs = (x, y, h, w)
        value = call(x, torch.cat([torch.ones(EDGES, 1), y], dim=1), h, w, *ends)
        slopes = torch.autograd.grad(value, [inputs[number] for number in asked], along, create_graph=True)
        total = torch.stack([part.square().sum() for part in slopes]).sum()
        results.append([*slopes, *torch.autograd.grad(total, inputs, materialize_grads=True)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_no_third_derivatives() -> None:
    of = product(1)
    (x, y, h, w), ends = given(of)
    value = of(x, torch.cat([torch.ones(EDGES, 1), y], dim=1), h, w, *ends).square().sum()
    (slope,) = torch.autograd.grad(value, y, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


def test_no_edges() -> None:
    of, none = product(1), torch.zeros(0, dtype=torch.int64)
    x = torch.randn(BEADS, 4, CHANNELS, requires_grad=True)
    w = torch.randn(HIDDEN, len(of.paths) * CHANNELS)
    value = of(x, torch.zeros(0, 4), torch.zeros(0, HIDDEN), w, none, none)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.shape == (BEADS, 4, CHANNELS)
    assert not value.any()
    assert not slope.any()
