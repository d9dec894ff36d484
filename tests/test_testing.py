"""Every check passes on a sound model, and each finds the one thing that it is there for."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cgenn import testing
from cgenn.cli import app
from cgenn.graph import BeadGraph
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Moments, Potential
from cgenn.potential.priors import PairPrior, Priors
from cgenn.topology import BeadTopology

PRIORS = Priors(bonds={"A|B": {"length": 0.35, "k": 5000.0}}, repulsion={"A|A": {"sigma": 0.4, "epsilon": 1.0}})
TOPOLOGY = BeadTopology.build(["A", "B", "A", "B", "A", "A"], np.arange(6) + 10.0, bonds=[(0, 1), (1, 2), (2, 3)])
POSITIONS = np.array([[0.0, 0, 0], [0.3, 0.1, 0], [0.6, 0, 0.2], [0.9, 0.2, 0.1], [0.5, 0.6, 0.3], [0.1, 0.5, 0.4]])
BOX = np.array([[1.3, 0.0, 0.0], [0.3, 1.4, 0.0], [-0.3, 0.5, 1.5]])
CONFIG = PotentialConfig(
    types=("A", "B"), average_neighbors=4.0, energy_scale=50.0, temperature=300.0, channels=4, cutoff=0.8
)
CHARGED = BeadTopology.build(
    TOPOLOGY.types, TOPOLOGY.masses, bonds=TOPOLOGY.bonds, charges=[0.5, -0.3, 0.2, -0.1, 0.7, -0.6],
    residue_index=[0, 0, 1, 1, 2, 3],
)  # fmt: skip
SLAB = np.diag([1.3, 1.4, 3.0])
Flaw = Callable[[BeadGraph], Tensor]


class Flawed(Potential):
    """A potential with something added that does not belong there."""

    def __init__(self, flaw: Flaw | None = None, **options) -> None:
        torch.manual_seed(0)
        super().__init__(CONFIG.model_copy(update=options), PRIORS)
        self.flaw = flaw

    def network_energy(self, graph: BeadGraph) -> Tensor:
        energy = super().network_energy(graph)
        return energy if self.flaw is None else energy + self.flaw(graph)


class WrongCurvature(torch.autograd.Function):
    """A square whose slope is right, and whose curvature is taken to be zero."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * 2 * x.detach()


def over_edges(graph: BeadGraph, values: Tensor) -> Tensor:
    return values.new_zeros(graph.n_systems).index_add(0, graph.batch[graph.receivers], values)


def smooth(graph: BeadGraph) -> Tensor:
    return (1 - graph.edge_vectors().square().sum(1) / 0.64).clamp(min=0).pow(4)


def shared(graph: BeadGraph) -> Tensor:
    return over_edges(graph, smooth(graph)).mean().expand(graph.n_systems)


def without_shifts(graph: BeadGraph) -> Tensor:
    apart = graph.positions[graph.senders] - graph.positions[graph.receivers]
    return over_edges(graph, torch.exp(-apart.square().sum(1)))


def fixed_cell(graph: BeadGraph) -> Tensor:
    apart = graph.positions[graph.senders] - graph.positions[graph.receivers]
    apart = apart + torch.einsum("ei,eij->ej", graph.shifts, graph.cell[graph.batch[graph.receivers]].detach())
    return over_edges(graph, (1 - apart.square().sum(1) / 0.64).clamp(min=0).pow(4))


FLAWS: dict[str, tuple[Callable, Flaw, dict]] = {
    "a direction": (
        testing.check_rotation,
        lambda graph: over_edges(graph, smooth(graph) * graph.edge_vectors()[:, 0].square()),
        {},
    ),
    "a place": (testing.check_translation, lambda graph: graph.per_system(graph.positions.square().sum(1)), {}),
    "an order": (
        testing.check_permutation,
        lambda graph: over_edges(graph, smooth(graph) * (graph.receivers % len(TOPOLOGY))),
        {},
    ),
    "a gradient that is cut": (
        testing.check_forces,
        lambda graph: over_edges(graph, smooth(graph) * smooth(graph).detach()),
        {},
    ),
    "a curvature": (
        testing.check_hessian,
        lambda graph: over_edges(graph, WrongCurvature.apply(smooth(graph))),
        {},
    ),
    "a square of the whole": (
        testing.check_extensivity,
        lambda graph: over_edges(graph, smooth(graph)).square(),
        {},
    ),
    "the other systems": (testing.check_batch, shared, {}),
    "a jump at the cutoff": (
        testing.check_cutoff,
        lambda graph: over_edges(graph, (graph.edge_vectors().norm(dim=1) < 0.8).double()),
        {},
    ),
    "a kink at the cutoff": (
        testing.check_cutoff,
        lambda graph: over_edges(graph, (0.8 - graph.edge_vectors().norm(dim=1)).clamp(min=0)),
        {},
    ),
    "images in the wrong place": (testing.check_images, without_shifts, {}),
    "a term that OpenMM does not get": (testing.check_backends, lambda graph: over_edges(graph, smooth(graph)), {}),
    "a cell that is not strained": (testing.check_virial, fixed_cell, {"box": BOX}),
}


@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
def test_a_sound_model_passes(box: np.ndarray | None) -> None:
    results = testing.check_model(Flawed(), TOPOLOGY, POSITIONS, box)
    assert all(result.passed for result in results), [result for result in results if not result.passed]
    assert len({result.name for result in results}) == len(results)
    assert all(result.tolerance is None or 0 <= result.value <= result.tolerance for result in results)


@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
def test_a_model_that_looks_past_bonded_neighbours_passes(box: np.ndarray | None) -> None:
    """With splines between the others."""
    model = Flawed(excluded_bonds=3)
    pairs = {"range": 0.6, "coefficients": {"A|A": (3.0, -1.0, 2.0), "A|B": (0.5, 1.0, -0.5)}}
    model = Potential(model.config, PRIORS.model_copy(update={"pairs": PairPrior(**pairs)}))
    results = testing.check_model(model, TOPOLOGY, POSITIONS, box)
    assert all(result.passed for result in results), [result for result in results if not result.passed]


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_found(name: str) -> None:
    check, flaw, arguments = FLAWS[name]
    assert check(Flawed(), TOPOLOGY, POSITIONS, **arguments).passed
    result = check(Flawed(flaw), TOPOLOGY, POSITIONS, **arguments)
    assert not result.passed, result
    assert result.value > result.tolerance


@pytest.mark.parametrize("check", [testing.check_forces, testing.check_virial, testing.check_hessian])
def test_finite_differences_are_sharp(check: Callable) -> None:
    """Far below the tolerance on a sound model, and not for a derivative that is wrong in the sixth digit."""
    assert check(Flawed(), TOPOLOGY, POSITIONS, BOX).value < 1e-9

    def slightly(graph: BeadGraph) -> Tensor:
        bump = over_edges(graph, smooth(graph))
        if check is testing.check_hessian:
            return 1e-4 * over_edges(graph, WrongCurvature.apply(smooth(graph)))
        return 3e-5 * (bump - bump.detach()) if bump.requires_grad else 0 * bump

    assert 1e-7 < check(Flawed(slightly), TOPOLOGY, POSITIONS, BOX).value < 1e-3


def test_reflection_is_held_to_what_is_declared() -> None:
    free = testing.check_reflection(Flawed(), TOPOLOGY, POSITIONS)
    assert free.passed
    assert "mirror images differ by" in free.detail
    flat = testing.check_reflection(Flawed(), TOPOLOGY, POSITIONS * [1, 1, 0])
    assert "mirror images have the same energy" in flat.detail
    assert testing.check_reflection(Flawed(reflection_invariant=True), TOPOLOGY, POSITIONS).passed
    liar = Flawed()
    liar.config = CONFIG.model_copy(update={"reflection_invariant": True})
    assert not testing.check_reflection(liar, TOPOLOGY, POSITIONS).passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_is_enough(tmp_path: Path, dtype: torch.dtype) -> None:
    """Types and priors of the model make the conformation; float32 weights are checked in float64."""
    Flawed(lmax=2).to(dtype).save(tmp_path / "model.safetensors")
    torch.set_default_dtype(torch.float32)
    results = testing.check_model(tmp_path / "model.safetensors")
    assert all(result.passed for result in results), [result for result in results if not result.passed]


def test_the_model_itself_is_left_as_it_was() -> None:
    model = Flawed().float()
    testing.check_forces(model, TOPOLOGY, POSITIONS)
    assert model.dtype == torch.float32
    assert all(value.requires_grad for value in model.parameters())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`positions` must have the shape \(6, 3\), got \(5, 3\)"):
        testing.check_rotation(Flawed(), TOPOLOGY, POSITIONS[:5])
    with pytest.raises(ValueError, match="must be given together"):
        testing.check_model(Flawed(), TOPOLOGY)
    with pytest.raises(ValueError, match="no model file"):
        testing.check_model("nothing.safetensors")


def charged(**options) -> dict:
    """Options of a potential with charges."""
    return {"electrostatics": ElectrostaticsConfig(**options), "type_charges": (0.3, -0.2)}


class FlawedCharges(Flawed):
    """A potential whose charges and dipoles are changed by what does not belong there."""

    def __init__(self, change: Callable[[BeadGraph, Moments], Moments] | None, **options) -> None:
        super().__init__(**charged(**{"dipoles": True, **options}))
        self.change = change

    def moments(self, graph: BeadGraph, outputs=None) -> Moments:
        moments = super().moments(graph, outputs)
        return moments if self.change is None else self.change(graph, moments)


@pytest.mark.parametrize(
    "options",
    [
        {"dipoles": True, "groups": "residue"},
        {"groups": "system", "smearing": 0.05, "excluded_bonds": 1},
        {"charges": "types"},
        {"charges": "types", "dipoles": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
def test_a_sound_model_with_charges_passes(options: dict, box: np.ndarray | None) -> None:
    results = testing.check_model(Flawed(**charged(**options)), CHARGED, POSITIONS, box)
    assert all(result.passed for result in results), [result for result in results if not result.passed]
    assert sum("without charges, which reach far" in result.detail for result in results) == 2
    assert {result.name for result in results} >= {"charges and dipoles", "backends agree"}


@pytest.mark.parametrize("charges", ["types", "predicted"])
def test_slabs(charges: str) -> None:
    """Turned about z, doubled in the plane; without a conformation one is made up with enough vacuum."""
    model = Flawed(**charged(slab=True, charges=charges))
    for results in (testing.check_model(model, CHARGED, POSITIONS, SLAB), testing.check_model(model)):
        assert all(result.passed for result in results), [result for result in results if not result.passed]
        details = " ".join(result.detail for result in results)
        assert "about z: a slab" in details
        assert "in the plane of the slab" in details


CHARGE_FLAWS: dict[str, tuple[Callable, Callable[[BeadGraph, Moments], Moments]]] = {
    "a change of charges that forces do not know": (
        testing.check_forces,
        lambda graph, found: Moments(found.charges.detach(), found.dipoles),
    ),
    "a change of dipoles that forces do not know": (
        testing.check_forces,
        lambda graph, found: Moments(found.charges, found.dipoles.detach()),
    ),
    "charges that depend on the direction": (
        testing.check_moments,
        lambda graph, found: Moments(found.charges + over_beads(graph, graph.edge_vectors()[:, 0]), found.dipoles),
    ),
    "charges that depend on the place": (
        testing.check_moments,
        lambda graph, found: Moments(found.charges + 1e-8 * graph.positions[:, 0], found.dipoles),
    ),
    "dipoles that do not turn": (
        testing.check_moments,
        lambda graph, found: Moments(found.charges, found.dipoles + 1e-9 * torch.tensor([1.0, 0.0, 0.0])),
    ),
    "totals that are not met": (
        testing.check_moments,
        lambda graph, found: Moments(found.charges * (1 + 1e-8), found.dipoles),
    ),
    "charges that OpenMM does not get": (
        testing.check_backends,
        lambda graph, found: Moments(found.charges * 1.01, found.dipoles),
    ),
}


def over_beads(graph: BeadGraph, values: Tensor) -> Tensor:
    """Sum over the edges of each bead, zero for each molecule."""
    beads = torch.zeros(len(graph.types)).index_add(0, graph.receivers, 1e-6 * values)
    total = torch.zeros_like(graph.coulomb.totals).index_add(0, graph.coulomb.groups, beads)
    size = torch.bincount(graph.coulomb.groups)
    return beads - (total / size)[graph.coulomb.groups]


@pytest.mark.parametrize("name", CHARGE_FLAWS)
def test_a_flaw_of_the_charges_is_found(name: str) -> None:
    check, change = CHARGE_FLAWS[name]
    assert check(FlawedCharges(None), CHARGED, POSITIONS).passed
    result = check(FlawedCharges(change), CHARGED, POSITIONS)
    assert not result.passed, result


def test_mirrored_dipoles_are_held_to_what_is_declared() -> None:
    declared = testing.check_moments(Flawed(**charged(dipoles=True), reflection_invariant=True), CHARGED, POSITIONS)
    assert declared.passed
    assert "mirrored" in declared.detail
    liar = Flawed(**charged(dipoles=True))
    liar.config = liar.config.model_copy(update={"reflection_invariant": True})
    assert not testing.check_moments(liar, CHARGED, POSITIONS).passed


def test_the_accuracy_of_the_model_does_not_matter() -> None:
    rough = Flawed(**charged(accuracy=1e-2, cutoff=0.5))
    assert testing.check_images(rough, CHARGED, POSITIONS, BOX).value < 1e-10
    assert rough.config.electrostatics.accuracy == 1e-2


def test_the_command_checks_a_model_with_charges(tmp_path: Path) -> None:
    Flawed(**charged(dipoles=True)).save(tmp_path / "model.safetensors")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "model.safetensors"), "--json"])
    assert result.exit_code == 0, result.output
    assert {"name": "charges and dipoles", "passed": True}.items() <= json.loads(result.stdout)[4].items()
