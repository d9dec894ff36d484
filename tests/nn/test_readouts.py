"""Charges, their weights and dipoles: what turns, what does not, and what training starts from."""

import math

import pytest
import torch
from e3nn import o3

from cgenn.neighbors import neighbors
from cgenn.nn.network import BeadOutputs, EquivariantNetwork
from cgenn.nn.readouts import ChargeReadout, DipoleReadout

BEADS = 8


def network(**options) -> EquivariantNetwork:
    torch.manual_seed(0)
    chosen = dict(
        n_types=2, cutoff=1.0, lmax=1, channels=4, layers=2, reflection_invariant=False, radial_basis=4,
        radial_width=8, average_neighbors=5.0, charges=True, dipoles=True,
    )  # fmt: skip
    return EquivariantNetwork(**{**chosen, **options})


def outputs(model: EquivariantNetwork, turn: torch.Tensor | None = None) -> BeadOutputs:
    torch.manual_seed(1)
    positions = torch.rand(BEADS, 3) if turn is None else torch.rand(BEADS, 3) @ turn.T
    found = neighbors(positions, 1.0)
    vectors = positions[found.senders] - positions[found.receivers]
    return model(vectors, torch.arange(BEADS) % 2, found.receivers, found.senders)


@pytest.mark.parametrize("reflection_invariant", [False, True])
@pytest.mark.parametrize("options", [{"lmax": 1}, {"lmax": 2, "layers": 1}, {"lmax": 3, "layers": 3}], ids=str)
def test_charges_stay_and_dipoles_turn(options: dict, reflection_invariant: bool) -> None:
    model = network(reflection_invariant=reflection_invariant, **options)
    turn = o3.rand_matrix() * (-1 if reflection_invariant else 1)
    before, after = outputs(model), outputs(model, turn)
    torch.testing.assert_close(after.charges, before.charges, atol=1e-10, rtol=0)
    torch.testing.assert_close(after.weights, before.weights, atol=1e-10, rtol=0)
    torch.testing.assert_close(after.dipoles, before.dipoles @ turn.T, atol=1e-10, rtol=1e-10)
    assert before.charges.std() > 0.01
    assert before.dipoles.norm(dim=1).mean() > 0.01


def test_only_what_is_asked_for() -> None:
    plain = outputs(network(charges=False, dipoles=False))
    assert plain.charges is plain.weights is plain.dipoles is None
    charged = outputs(network(dipoles=False))
    assert charged.dipoles is None
    assert charged.charges is not None


def test_no_bead_takes_all() -> None:
    """Weights stay between 1/e and e, however far the scalars are out."""
    readout = ChargeReadout(4)
    _, weights = readout(1e6 * torch.randn(100, 4))
    assert weights.min() >= math.exp(-1)
    assert weights.max() <= math.e
    assert weights.std() > 0.1


def test_starting_from_zero() -> None:
    """All moments vanish; the last layer still gets a gradient, and the weights are not touched."""
    model = network()
    before = outputs(model).weights
    for readout in (model.charge_readout, model.dipole_readout):
        readout.start_from_zero()
    found = outputs(model)
    assert not found.charges.any()
    assert not found.dipoles.any()
    assert torch.equal(found.weights, before)
    (found.charges.sum() + found.dipoles.sum()).backward()
    assert model.charge_readout.charge[-1].weight.grad.any()
    assert model.dipole_readout.gates[-1].weight.grad.any()


def test_every_parameter_gets_a_gradient() -> None:
    model = network(lmax=2)
    found = outputs(model)
    (found.energies + found.charges * found.weights + found.dipoles.square().sum(1)).sum().backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert missing == []


def test_the_size_of_dipoles_does_not_depend_on_the_channels() -> None:
    torch.manual_seed(0)
    sizes = [DipoleReadout(n)(torch.randn(500, n), torch.randn(500, 3, n)).square().mean() for n in (4, 16, 64)]
    assert all(0.2 < size < 5.0 for size in sizes)


def test_dipoles_need_vectors() -> None:
    with pytest.raises(ValueError, match="`lmax` must be at least 1, got 0"):
        network(lmax=0)
