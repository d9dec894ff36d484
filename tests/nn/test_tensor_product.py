"""Every product against e3nn's, path by path."""

import pytest
import torch
from e3nn import o3

from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN
from cgenn.nn.layers import Gate, IrrepsLinear
from cgenn.nn.tensor_product import EdgeProduct, NodeProduct, coupling_paths

CHANNELS = 3
IRREPS = [o3.Irreps.spherical_harmonics(lmax, p=p) for lmax in (1, 2, 3) for p in (1, -1)]


def flat(features: torch.Tensor, irreps: o3.Irreps) -> torch.Tensor:
    """From (nodes, components, channels) to e3nn's layout, in which the components of each channel are together."""
    return torch.cat([features[:, part].transpose(1, 2).flatten(1) for part in irreps.slices()], dim=1)


def messages(product: EdgeProduct, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of each edge, from a bead of its own to itself."""
    each = torch.arange(len(x))
    return product(x, y, weights.flatten(1), torch.eye(weights[0].numel()), each, each)


def many(irreps: o3.Irreps) -> o3.Irreps:
    return o3.Irreps([(CHANNELS, ir) for _, ir in irreps])


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
@pytest.mark.parametrize("scalars_in", [True, False])
def test_edge_product(irreps: o3.Irreps, scalars_in: bool) -> None:
    first = o3.Irreps("0e") if scalars_in else irreps
    product = EdgeProduct(first, irreps, irreps)
    instructions = [(i, j, k, "uvu", True) for i, j, k in coupling_paths(first, irreps, irreps)]
    reference = o3.TensorProduct(
        many(first), irreps, many(irreps), instructions, internal_weights=False, shared_weights=False
    )
    x, y = torch.randn(10, first.dim, CHANNELS), torch.randn(10, irreps.dim)
    weights = torch.randn(10, len(instructions), CHANNELS)
    expected = reference(flat(x, first), y, weights.flatten(1))
    torch.testing.assert_close(flat(messages(product, x, y, weights), irreps), expected)


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
@pytest.mark.parametrize("scalars_out", [True, False])
def test_node_product(irreps: o3.Irreps, scalars_out: bool) -> None:
    out = o3.Irreps("0e") if scalars_out else irreps
    product = NodeProduct(irreps, irreps, out, CHANNELS)
    instructions = [(i, j, k, "uuu", True) for i, j, k in coupling_paths(irreps, irreps, out)]
    reference = o3.TensorProduct(many(irreps), many(irreps), many(out), instructions, internal_weights=False)
    x, y = torch.randn(2, 10, irreps.dim, CHANNELS)
    expected = reference(flat(x, irreps), flat(y, irreps), product.weight.flatten())
    torch.testing.assert_close(flat(product(x, y), out), expected)


def test_parity_forbids_the_cross_product() -> None:
    vectors = [o3.Irreps("1e"), o3.Irreps("1o")]
    assert coupling_paths(vectors[0], vectors[0], vectors[0]) == [(0, 0, 0)]
    assert coupling_paths(vectors[1], vectors[1], vectors[1]) == []


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_linear(irreps: o3.Irreps) -> None:
    linear = IrrepsLinear(irreps, CHANNELS, 5)
    reference = o3.Linear(many(irreps), o3.Irreps([(5, ir) for _, ir in irreps]), internal_weights=False)
    x = torch.randn(10, irreps.dim, CHANNELS)
    torch.testing.assert_close(flat(linear(x), irreps), reference(flat(x, irreps), linear.weight.flatten()))


@pytest.mark.parametrize("irreps", [o3.Irreps("0e"), *IRREPS], ids=str)
def test_gate(irreps: o3.Irreps) -> None:
    """A turned input gives a turned output, and gates are bounded."""
    gate = Gate(irreps, CHANNELS)
    x = torch.randn(10, irreps.dim, CHANNELS)
    turn = irreps.D_from_matrix(o3.rand_matrix())
    found = gate(torch.einsum("ij,njc->nic", turn, x))
    torch.testing.assert_close(found, torch.einsum("ij,njc->nic", turn, gate(x)))
    torch.testing.assert_close(gate(x)[:, 0], SILU_GAIN * torch.nn.functional.silu(x[:, 0]))
    assert (gate(x)[:, 1:].abs() <= SIGMOID_GAIN * x[:, 1:].abs()).all()


def test_unit_variance() -> None:
    torch.manual_seed(0)
    irreps = o3.Irreps.spherical_harmonics(2, p=1)
    x, y = torch.randn(2, 400, irreps.dim, 40)
    product = NodeProduct(irreps, irreps, irreps, 40)(x, y)
    edge = EdgeProduct(irreps, irreps, irreps)
    message = messages(edge, x, torch.randn(400, irreps.dim), torch.randn(400, len(edge.paths), 40))
    for out in (product, message, IrrepsLinear(irreps, 40, 40)(x)):
        for part in irreps.slices():
            assert out[:, part].square().mean().item() == pytest.approx(1.0, rel=0.25)
