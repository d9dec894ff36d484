"""Compiled networks whose energy depends on orientations: the same as the networks themselves, and their own slopes."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.compiled import perceptron
from cgenn.compiled.network import CompiledNetwork, refusal
from cgenn.graph import BeadGraph, build_graph
from cgenn.neighbors import neighbors
from cgenn.nn.network import EquivariantNetwork
from cgenn.nn.orientation import BodySymmetry
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.derivatives import energy_forces_torques, torques_from_slopes
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.symmetry import point_group

CORNERS = [[0.14, 0.0, 0.0], [0.0, 0.1, 0.05], [0.0, 0.0, 0.12]]
Given = dict[str, torch.Tensor]


def body(name: str, sites: bool = False) -> BodySymmetry:
    return BodySymmetry(*point_group(name), sites=CORNERS if sites else ())


BODIES = {
    "mixed": [body("C2v", sites=True), None],
    "spins": [body("Cinfh")],
    "many": [body("D6h"), body("C1", sites=True), None],
    "scalars": [body("C1"), None],
    "mirrored": [body("D2d"), body("Cinfv", sites=True)],
}
OPTIONS = {
    "spins": {"layers": 1},
    "many": {"lmax": 2},
    "scalars": {"lmax": 0},
    "mirrored": {"reflection_invariant": True, "channels": 12, "radial_width": 12, "charges": True, "dipoles": True},
}
SMALL = dict(
    cutoff=1.0, lmax=1, channels=8, layers=2, reflection_invariant=False, radial_basis=4, radial_width=8,
    average_neighbors=20.0,
)  # fmt: skip
FAST = ["mixed", "spins"]
ALL = FAST + [pytest.param(name, marks=pytest.mark.slow) for name in BODIES if name not in FAST]


@cache
def network(name: str) -> EquivariantNetwork:
    torch.manual_seed(0)
    bodies = BODIES[name]
    chosen = {**SMALL, **OPTIONS.get(name, {})}
    made = EquivariantNetwork(n_types=len(bodies), bodies=bodies, **chosen).requires_grad_(False)
    for key, value in made.named_parameters():
        if key.endswith("bias"):
            value.normal_(std=0.3)
        if key.endswith("steps"):
            value.mul_(1 + 0.3 * torch.randn_like(value))
    return made


@cache
def compiled_network(name: str, dtype: torch.dtype = torch.float64) -> CompiledNetwork:
    return CompiledNetwork(copy.deepcopy(network(name)).to(dtype))


def liquid(name: str, beads: int = 40, spacing: float = 0.55, cutoff: float = 1.0) -> Given:
    """Beads in a periodic box."""
    torch.manual_seed(1)
    edge = round(beads ** (1 / 3) + 0.49)
    grid = torch.cartesian_prod(*[torch.arange(float(edge))] * 3)[torch.randperm(edge**3)[:beads]]
    positions, cell = spacing * (grid + 0.25 * torch.rand(beads, 3)), spacing * edge * torch.eye(3)[None]
    found = neighbors(positions, cutoff, cell=cell)
    return dict(
        vectors=positions[found.senders] - positions[found.receivers] + found.shifts @ cell[0],
        types=torch.arange(beads) % len(BODIES[name]), receivers=found.receivers, senders=found.senders,
        orientations=torch.from_numpy(Rotation.random(beads, rng=2).as_matrix()),
    )  # fmt: skip


def cast(given: Given, dtype: torch.dtype) -> Given:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in given.items()}


def derivatives(model: torch.nn.Module, given: Given) -> list[torch.Tensor]:
    """Energies; forces, torques and virial of a weighted sum of them; charges and dipoles, as far as there are any."""
    vectors, orientations = (given[key].clone().requires_grad_() for key in ("vectors", "orientations"))
    outputs = model(**{**given, "vectors": vectors, "orientations": orientations})
    others = [part for part in (outputs.charges, outputs.dipoles) if part is not None]
    weights = torch.linspace(0.5, 1.5, len(outputs.energies)).to(vectors)
    total = (weights * outputs.energies).sum() + sum(part.square().sum() for part in others)
    slope, turn = torch.autograd.grad(total, [vectors, orientations])
    forces = slope.new_zeros(len(given["types"]), 3)
    forces = forces.index_add(0, given["receivers"], slope).index_add(0, given["senders"], -slope)
    torques = torques_from_slopes(given["orientations"], turn)
    virial = torch.einsum("ei,ej->ij", slope, given["vectors"])
    return [part.detach() for part in (outputs.energies, forces, torques, virial, *others)]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=tolerance * other.abs().max().item(), rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ALL)
def test_same_as_the_network(name: str, dtype: torch.dtype, tolerance: float) -> None:
    given = liquid(name)
    found = derivatives(compiled_network(name, dtype), cast(given, dtype))
    assert refusal(network(name)) is None
    assert_same(found, derivatives(network(name), given), tolerance)
    assert found[2].abs().max() > 0.1


@pytest.mark.parametrize("name", FAST)
def test_forces_and_torques_are_slopes_of_the_energy(name: str) -> None:
    model, given = compiled_network(name), liquid(name)

    def energy(moved: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
        vectors = given["vectors"] + moved[given["senders"]] - moved[given["receivers"]]
        return model(**{**given, "vectors": vectors, "orientations": turned @ given["orientations"]}).energies.sum()

    rest, no_turn = torch.zeros(40, 3), torch.eye(3).repeat(40, 1, 1)
    moved, turned = rest.clone().requires_grad_(), no_turn.clone().requires_grad_()
    by_moves, by_turns = torch.autograd.grad(energy(moved, turned), [moved, turned])
    torque = torques_from_slopes(no_turn, by_turns)
    step = 1e-4
    for axis in range(3):
        move = step * torch.eye(3)[axis]
        turn = torch.from_numpy(Rotation.from_rotvec(move.numpy()).as_matrix())
        shift = rest.clone()
        shift[4] = move
        slope = (energy(shift, no_turn) - energy(-shift, no_turn)) / (2 * step)
        assert slope.item() == pytest.approx(by_moves[4, axis].item(), rel=1e-5, abs=1e-5)
        forth, back = no_turn.clone(), no_turn.clone()
        forth[4], back[4] = turn, turn.T
        slope = (energy(rest, forth) - energy(rest, back)) / (2 * step)
        assert slope.item() == pytest.approx(-torque[4, axis].item(), rel=1e-5, abs=1e-5)


def test_energy_does_not_change_when_all_is_turned() -> None:
    model, given = compiled_network("mixed"), liquid("mixed")
    turn = torch.from_numpy(Rotation.random(rng=7).as_matrix())
    turned = dict(vectors=given["vectors"] @ turn.T, orientations=turn @ given["orientations"])
    torch.testing.assert_close(model(**{**given, **turned}).energies, model(**given).energies, atol=1e-10, rtol=1e-11)


def test_turning_all_spins_round_changes_nothing() -> None:
    model, given = compiled_network("spins"), liquid("spins")
    flipped = given["orientations"] @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    energy = model(**given).energies
    torch.testing.assert_close(model(**{**given, "orientations": flipped}).energies, energy, atol=1e-12, rtol=0)
    one = given["orientations"].clone()
    one[0] = flipped[0]
    assert not torch.allclose(model(**{**given, "orientations": one}).energies, energy, atol=1e-3)


def test_beads_without_an_orientation_feel_no_torque() -> None:
    given = liquid("mixed")
    torques = derivatives(compiled_network("mixed", torch.float32), cast(given, torch.float32))[2]
    assert not torques[given["types"] == 1].any()
    assert torques[given["types"] == 0].any(1).all()


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("alone", [[3], list(range(40))])
def test_beads_without_neighbours(name: str, alone: list[int]) -> None:
    given = liquid(name)
    far = torch.isin(given["receivers"], torch.tensor(alone)) | torch.isin(given["senders"], torch.tensor(alone))
    given |= {key: given[key][~far] for key in ("vectors", "receivers", "senders")}
    energies, forces, torques, virial = derivatives(compiled_network(name), given)
    expected = derivatives(network(name), given)
    assert_same([energies], expected[:1], 2e-6)
    for found, other in zip((forces, torques, virial), expected[1:], strict=True):
        torch.testing.assert_close(found, other, atol=2e-6 * max(1.0, other.abs().max().item()), rtol=0)
    assert not forces[alone].any()
    assert not torques[alone].any()


def test_a_bead_and_its_own_images() -> None:
    given = liquid("mixed", beads=1, spacing=0.7)
    assert len(given["receivers"]) == 18
    assert_same(derivatives(compiled_network("mixed"), given)[:1], derivatives(network("mixed"), given)[:1], 2e-6)
    found, expected = (derivatives(model, given)[2:4] for model in (compiled_network("mixed"), network("mixed")))
    assert_same(found, expected, 2e-6)


@pytest.mark.parametrize("name", FAST)
def test_edges_beyond_the_cutoff_add_nothing(name: str, monkeypatch) -> None:
    """Whatever the memory held before in which they are computed."""
    room = perceptron.EdgeRooms.room

    def spoilt(self: perceptron.EdgeRooms, key: str, *shape: int) -> torch.Tensor:
        return room(self, key, *shape).fill_(torch.nan)

    expected = derivatives(compiled_network(name), liquid(name))
    monkeypatch.setattr(perceptron.EdgeRooms, "room", spoilt)
    model = CompiledNetwork(copy.deepcopy(network(name)))
    assert_same(derivatives(model, liquid(name, cutoff=1.3)), expected, 1e-12)


@pytest.mark.parametrize("name", FAST)
def test_a_few_beads_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = liquid(name)
    whole = derivatives(compiled_network(name), given)
    monkeypatch.setattr(perceptron, "_AT_ONCE", 2**17)
    assert 1 < compiled_network(name).constants[0].perceptron.beads < 20
    assert_same(derivatives(compiled_network(name), given), whole, 1e-12)


@pytest.mark.parametrize("name", FAST)
def test_calls_do_not_disturb_each_other(name: str) -> None:
    model, given = compiled_network(name), liquid(name)
    expected = derivatives(model, given)
    orientations = given["orientations"].clone().requires_grad_()
    first = model(**{**given, "orientations": orientations}).energies
    model(**{**given, "orientations": given["orientations"].flip(0)})
    fewer = {**liquid(name, beads=27), "orientations": given["orientations"][:27]}
    derivatives(model, fewer)
    weights = torch.linspace(0.5, 1.5, 40)
    (turn,) = torch.autograd.grad((weights * first).sum(), orientations)
    torch.testing.assert_close(torques_from_slopes(given["orientations"], turn), expected[2])
    assert_same(derivatives(model, given), expected, 1e-13)


def test_orientations_are_asked_for() -> None:
    with pytest.raises(ValueError, match="needs `orientations`"):
        compiled_network("mixed")(**{**liquid("mixed"), "orientations": None})


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_potential_on_a_neighbour_list_with_a_skin(layers: int, threads: int, monkeypatch) -> None:
    """With autograd and without, where the last layer is gone over once, some beads at a time, in each thread."""
    monkeypatch.setattr("cgenn.compiled.launch._FEWEST", 10)
    monkeypatch.setattr("cgenn.compiled.network.CHUNK", 5)
    monkeypatch.setattr(perceptron, "_AT_ONCE", 2**18)
    bodies = {"water": Body(symmetry="C2v", inertia=(0.6, 0.9, 1.5))}
    config = PotentialConfig(
        types=("water", "ion"), cutoff=0.8, channels=8, layers=layers, average_neighbors=10.0, energy_scale=2.0,
        temperature=300.0, bodies=bodies,
    )  # fmt: skip
    torch.manual_seed(3)
    potential = Potential(config, Priors()).requires_grad_(False).eval()
    places = 0.5 * torch.cartesian_prod(*[torch.arange(4.0)] * 3) + 0.1 * torch.rand(64, 3)
    turns = torch.from_numpy(Rotation.random(64, rng=5).as_matrix())

    def graph(cutoff: float) -> BeadGraph:
        types, cell = torch.arange(64) % 2, 2.0 * torch.eye(3)[None]
        return build_graph(places, types, cutoff, cell=cell, orientations=turns)

    expected = list(energy_forces_torques(potential.network_energy, graph(0.8)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        fast = compiled(potential)
        assert isinstance(fast, CompiledPotential)
        assert fast.kernels.constants[0].perceptron.beads < 64
        assert_same(list(energy_forces_torques(fast.network_energy, graph(1.0))), expected, 2e-6)
        energies, forces, torques = fast.network_energy_forces_torques(graph(1.0))
    finally:
        torch.set_num_threads(before)
    assert_same([energies.sum()[None], forces, torques], expected, 2e-6)


@pytest.mark.parametrize(("lmax", "wide"), [(2, True), (2, False), (0, False)])
def test_on_processors_with_many_and_few_registers(lmax: int, wide: bool, monkeypatch) -> None:
    monkeypatch.setattr("cgenn.compiled.layer_constants.has_wide_registers", lambda device: wide)
    torch.manual_seed(0)
    options = {**SMALL, "lmax": lmax, "channels": 16}
    model = EquivariantNetwork(n_types=2, bodies=BODIES["mixed"], **options).requires_grad_(False)
    fast = CompiledNetwork(copy.deepcopy(model))
    assert all(each.inside != wide for each in fast.constants)
    assert_same(derivatives(fast, liquid("mixed")), derivatives(model, liquid("mixed")), 2e-6)
