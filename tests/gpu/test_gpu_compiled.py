"""The compiled network on a CUDA device: `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from cgenn.compiled.network import CompiledNetwork
from cgenn.neighbors import _works_on, neighbors
from cgenn.nn.network import BeadOutputs, EquivariantNetwork
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    """Skip where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")


def evaluate(
    network: EquivariantNetwork | CompiledNetwork, positions: torch.Tensor, types: torch.Tensor
) -> tuple[BeadOutputs, torch.Tensor]:
    """What is said of the beads, and the forces."""
    found = neighbors(positions, 0.8)
    at = positions.clone().requires_grad_(True)
    vectors = at.index_select(0, found.senders) - at.index_select(0, found.receivers)
    outputs = network(vectors, types, found.receivers, found.senders)
    (slope,) = torch.autograd.grad(outputs.energies.sum(), at)
    return outputs, -slope


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-5)], ids=str)
@pytest.mark.parametrize("options", [{"lmax": 1, "channels": 40}, {"lmax": 2, "channels": 32}], ids=str)
def test_agrees_with_the_network(options, dtype, tolerance):
    torch.manual_seed(0)
    network = EquivariantNetwork(
        n_types=3, cutoff=0.8, layers=2, reflection_invariant=False, radial_basis=8, radial_width=8,
        average_neighbors=20.0, charges=True, dipoles=True, **options,
    ).to(dtype).requires_grad_(False)  # fmt: skip
    positions = 0.45 * torch.cartesian_prod(*[torch.arange(7.0)] * 3) + 0.04 * torch.randn(343, 3)
    start = positions.to(dtype), torch.arange(343) % 3
    expected = evaluate(network.double(), start[0].double(), start[1])
    found = evaluate(CompiledNetwork(network.to("cuda", dtype)), *(part.to("cuda") for part in start))
    for right, part in zip((*expected[0], expected[1]), (*found[0], found[1]), strict=True):
        assert part.device.type == "cuda"
        torch.testing.assert_close(part.cpu().double(), right, rtol=0, atol=tolerance * right.abs().max().item())


def test_neighbours_are_searched_on_the_gpu():
    torch.manual_seed(1)
    positions, cell = 2.0 * torch.rand(500, 3), torch.tensor([[[2.0, 0, 0], [0.4, 1.9, 0], [-0.3, 0.5, 1.8]]])
    assert _works_on(torch.device("cuda", 0))
    found, right = neighbors(positions.cuda(), 0.5, cell=cell.cuda()), neighbors(positions, 0.5, cell=cell)
    rows = [
        torch.cat([each.receivers[:, None], each.senders[:, None], each.shifts.long()], dim=1).tolist()
        for each in (found, right)
    ]
    assert found.receivers.is_cuda
    assert sorted(rows[0]) == sorted(rows[1])


def test_simulations_use_the_kernels():
    config = PotentialConfig(types=("A", "B"), average_neighbors=20.0, energy_scale=1.0, temperature=300.0)
    potential = Potential(config, Priors()).float().cuda().requires_grad_(False).eval()
    assert isinstance(compiled(potential), CompiledPotential)
