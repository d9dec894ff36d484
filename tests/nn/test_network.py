"""The network: what turns with the input, what does not, and its derivatives."""

import pytest
import torch
from e3nn import o3

from cgenn.neighbors import neighbors
from cgenn.nn.network import EquivariantNetwork


def network(**options) -> EquivariantNetwork:
    torch.manual_seed(0)
    chosen = dict(
        n_types=2,
        cutoff=1.0,
        lmax=1,
        channels=4,
        layers=2,
        reflection_invariant=False,
        radial_basis=4,
        radial_width=8,
        average_neighbors=5.0,
    )
    return EquivariantNetwork(**{**chosen, **options})


def cloud(beads: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    positions = torch.rand(beads, 3)
    found = neighbors(positions, 1.0)
    return positions, torch.arange(beads) % 2, found.receivers, found.senders


def vectors(positions: torch.Tensor, receivers: torch.Tensor, senders: torch.Tensor) -> torch.Tensor:
    return positions[senders] - positions[receivers]


def features(model: EquivariantNetwork, edges: torch.Tensor, types, receivers, senders) -> list[torch.Tensor]:
    """What comes out of every layer."""
    seen = []
    hooks = [layer.register_forward_hook(lambda _, __, out: seen.append(out)) for layer in model.layers]
    model(edges, types, receivers, senders)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("reflection_invariant", [False, True])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_features_turn_as_their_irreps(lmax: int, reflection_invariant: bool) -> None:
    model = network(lmax=lmax, layers=3, reflection_invariant=reflection_invariant)
    positions, types, receivers, senders = cloud()
    turn = o3.rand_matrix() * (-1 if reflection_invariant else 1)  # O(3) has reflections as well
    irreps = o3.Irreps.spherical_harmonics(lmax, p=-1 if reflection_invariant else 1)
    edges = vectors(positions, receivers, senders)
    before = features(model, edges, types, receivers, senders)
    after = features(model, edges @ turn.T, types, receivers, senders)
    for out, irreps_out, turned in zip(before, [irreps, irreps, o3.Irreps("0e")], after, strict=True):
        expected = torch.einsum("ij,njc->nic", irreps_out.D_from_matrix(turn), out)
        torch.testing.assert_close(turned, expected, atol=1e-10, rtol=0)
        assert out.shape[1] == irreps_out.dim


def test_every_component_is_used() -> None:
    model = network(lmax=2)
    positions, types, receivers, senders = cloud()
    out = features(model, vectors(positions, receivers, senders), types, receivers, senders)[0]
    assert (out.abs().amax(dim=(0, 2)) > 1e-4).all()


def test_every_parameter_gets_a_gradient() -> None:
    model = network(lmax=2, n_features=1)
    positions, types, receivers, senders = cloud()
    model(vectors(positions, receivers, senders), types, receivers, senders, torch.rand(8, 1)).energies.sum().backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert missing == []


def test_types_and_features_matter() -> None:
    model = network(n_features=2)
    positions, types, receivers, senders = cloud()
    edges = vectors(positions, receivers, senders)
    inputs = torch.rand(8, 2)
    energy = model(edges, types, receivers, senders, inputs).energies
    assert not torch.allclose(energy, model(edges, 1 - types, receivers, senders, inputs).energies)
    assert not torch.allclose(energy, model(edges, types, receivers, senders, 2 * inputs).energies)


@pytest.mark.parametrize("options", [{"lmax": 1}, {"lmax": 2, "layers": 1}, {"lmax": 0}], ids=str)
def test_second_derivatives(options: dict) -> None:
    model = network(channels=2, **options).requires_grad_(False)
    positions, types, receivers, senders = cloud(4)

    def energy(at: torch.Tensor) -> torch.Tensor:
        return model(vectors(at, receivers, senders), types, receivers, senders).energies

    positions.requires_grad_(True)
    assert torch.autograd.gradcheck(energy, positions)
    assert torch.autograd.gradgradcheck(energy, positions)


def test_beads_without_neighbours_have_an_energy() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    energy = network()(torch.zeros(0, 3), torch.tensor([0, 1, 0]), none, none).energies
    assert energy[0] == energy[2] != energy[1]


def test_doubling_a_float32_network_restores_equivariance() -> None:
    """The couplings are exact again; only the weights keep the digits that they had."""
    model = network(lmax=3).float().double()
    positions, types, receivers, senders = cloud()
    edges = vectors(positions, receivers, senders)
    turned = model(edges @ o3.rand_matrix().T, types, receivers, senders).energies
    torch.testing.assert_close(turned, model(edges, types, receivers, senders).energies, atol=1e-12, rtol=0)


def test_float32() -> None:
    model = network()
    positions, types, receivers, senders = cloud()
    edges = vectors(positions, receivers, senders)
    expected = model(edges, types, receivers, senders).energies
    found = model.float()(edges.float(), types, receivers, senders).energies
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4)
