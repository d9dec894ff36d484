"""Charges and dipoles of a potential, and their energy: symmetry, totals, derivatives, and what a file keeps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cgenn.electrostatics.charges import neutralise
from cgenn.electrostatics.pairs import coulomb_pairs
from cgenn.electrostatics.settings import tune
from cgenn.graph import BeadGraph
from cgenn.potential.config import NetworkConfig, PotentialConfig
from cgenn.potential.derivatives import energy_and_forces, virial
from cgenn.potential.electrostatics import (
    ElectrostaticsConfig,
    coulomb_settings,
    group_index,
    group_totals,
)
from cgenn.potential.potential import Moments, Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.units import COULOMB

TOPOLOGY = BeadTopology.build(
    ["A", "B", "A", "B", "A", "W", "W", "W"],
    np.arange(8) + 10.0,
    bonds=[(0, 1), (1, 2), (2, 3), (3, 4)],
    charges=[0.4, 0.1, 0.3, -0.2, 0.4, 0.5, -0.8, -0.7],
    residue_index=[0, 0, 1, 1, 1, 2, 3, 4],
)
PLACES = torch.tensor(
    [[0.0, 0, 0], [0.3, 0.1, 0], [0.6, 0, 0.2], [0.9, 0.2, 0.1], [0.5, 0.6, 0.3], [0.1, 0.5, 0.4], [0.2, 0.3, 0.8],
     [0.8, 0.7, 0.7]], dtype=torch.float64,
)  # fmt: skip
BOX = torch.tensor([[1.3, 0.0, 0.0], [0.3, 1.4, 0.0], [-0.3, 0.5, 1.5]], dtype=torch.float64)
TIGHT = 1e-11
METHODS = ["open", "ewald", "pme"]


def potential(seed: int = 0, **options) -> Potential:
    torch.manual_seed(seed)
    chosen = dict(
        types=("A", "B", "W"), average_neighbors=4.0, energy_scale=10.0, temperature=300.0, channels=4, cutoff=0.8,
        type_charges=(0.3, -0.1, -0.2),
    )  # fmt: skip
    charges = {"charges": "predicted", "dipoles": True, "accuracy": TIGHT, **options.pop("electrostatics", {})}
    config = PotentialConfig(electrostatics=ElectrostaticsConfig(**charges), **{**chosen, **options})
    model = Potential(config, Priors()).requires_grad_(False)
    if model.network.charge_readout is not None:
        model.network.charge_readout.charge[-1].weight *= 20.0  # as far from constant as those of a trained model
    if model.network.dipole_readout is not None:
        model.network.dipole_readout.gates[-1].weight *= 20.0
    return model


def box_of(method: str) -> Tensor | None:
    return None if method == "open" else BOX


def graph_of(model: Potential, positions: Tensor = PLACES, method: str = "open", **options) -> BeadGraph:
    """With the Coulomb sum done by `method`; PME to 1e-8, for its mesh is costly."""
    positions = positions.reshape(-1, 8, 3)
    box = options.get("box", box_of(method))
    cell = None if box is None else box.expand(len(positions), 3, 3)
    graph = model.graph(options.get("topology", TOPOLOGY), positions, cell)
    if method != "pme":
        return graph
    settings = tune(cell, 8, accuracy=1e-8, method="pme", dipoles=model.config.electrostatics.dipoles)
    common = {"cell": cell, "batch": graph.batch, "n_systems": graph.n_systems}
    pairs = coulomb_pairs(graph.positions, settings, excluded=graph.coulomb.pairs.excluded, **common)
    return replace(graph, coulomb=replace(graph.coulomb, settings=settings, pairs=pairs))


def slope(function: Callable[[float], Tensor], step: float = 2e-4) -> Tensor:
    """Central difference of fourth order at zero."""
    return (8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (12 * step)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def turned() -> Tensor:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))
    return turn * torch.linalg.det(turn)


@pytest.mark.parametrize("method", ["open", "ewald"])
@pytest.mark.parametrize("options", [{}, {"lmax": 2, "layers": 3}, {"layers": 1}], ids=str)
def test_charges_stay_and_dipoles_turn_with_the_system(options: dict, method: str) -> None:
    model, turn = potential(**options), turned()
    before = graph_of(model, method=method)
    box = box_of(method)
    after = graph_of(model, PLACES @ turn, method, box=None if box is None else box @ turn)
    (charges, dipoles), (same, along) = model.moments(before), model.moments(after)
    close(same, charges)
    close(along, dipoles @ turn)
    close(model.electrostatic_energy(after), model.electrostatic_energy(before), 1e-8)
    assert charges.std() > 0.05
    assert dipoles.norm(dim=1).mean() > 3e-4
    assert not torch.allclose(charges[0], charges[2], atol=1e-3)  # one type, two surroundings


@pytest.mark.parametrize("declared", [True, False])
def test_mirror_images(declared: bool) -> None:
    model = potential(reflection_invariant=declared)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    (charges, dipoles), (same, image) = (model.moments(graph_of(model, at)) for at in (PLACES, PLACES @ mirror))
    if declared:
        close(same, charges)
        close(image, dipoles @ mirror)
    else:
        assert (same - charges).abs().max() > 1e-6


def test_order_of_the_beads_does_not_matter() -> None:
    model, order = potential(), np.array([5, 0, 7, 1, 2, 6, 3, 4])
    mixed = BeadTopology.build(
        [TOPOLOGY.types[bead] for bead in order], TOPOLOGY.masses[order], bonds=np.argsort(order)[TOPOLOGY.bonds],
        charges=TOPOLOGY.charges[order],
    )  # fmt: skip
    for method in ("open", "ewald"):
        one, other = graph_of(model, method=method), graph_of(model, PLACES[order], method, topology=mixed)
        close(model.moments(other).charges, model.moments(one).charges[order])
        close(model.moments(other).dipoles, model.moments(one).dipoles[order])
        close(model.learned_energy(other), model.learned_energy(one), 1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_system_in_a_batch_is_as_alone(method: str) -> None:
    model = potential()
    many = PLACES + 0.02 * torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(1))
    boxes = None if method == "open" else BOX * torch.tensor([1.0, 1.02, 1.05])[:, None, None]
    together = graph_of(model, many, method, box=boxes)
    alone = [graph_of(model, many[i], method, box=None if boxes is None else boxes[i]) for i in range(3)]
    close(model.moments(together).charges, torch.cat([model.moments(graph).charges for graph in alone]))
    close(model.moments(together).dipoles, torch.cat([model.moments(graph).dipoles for graph in alone]))
    found, expected = model.learned_energy(together), torch.cat([model.learned_energy(graph) for graph in alone])
    close(found, expected, 1e-4 if method == "pme" else 1e-7)


def test_periodic_images_and_translation() -> None:
    """Beads moved by whole cells, and all moved together: the same charges, dipoles and energy."""
    model = potential()
    expected = graph_of(model, method="ewald")
    cells = torch.from_numpy(np.random.default_rng(0).integers(-2, 3, size=(8, 3)).astype(float))
    for moved in (PLACES + cells @ BOX, PLACES + torch.tensor([0.4, -3.3, 7.1])):
        found = graph_of(model, moved, "ewald")
        close(model.moments(found).charges, model.moments(expected).charges)
        close(model.moments(found).dipoles, model.moments(expected).dipoles)
        close(model.learned_energy(found), model.learned_energy(expected), 1e-8)


@pytest.mark.parametrize("groups", ["molecule", "residue", "system"])
@pytest.mark.parametrize("method", ["open", "ewald"])
def test_groups_have_their_totals(groups: str, method: str) -> None:
    model = potential(electrostatics={"groups": groups})
    wanted = {"molecule": [1.0, 0.5, -0.8, -0.7], "residue": [0.5, 0.5, 0.5, -0.8, -0.7], "system": [0.0]}[groups]
    index = group_index(TOPOLOGY, groups)
    np.testing.assert_allclose(group_totals(TOPOLOGY.charges, index), wanted, atol=1e-15)
    moved = torch.stack([PLACES, PLACES * 1.1])
    charges = model.moments(graph_of(model, moved, method)).charges.view(2, 8)
    np.testing.assert_allclose(group_totals(charges.numpy(), index), [wanted, wanted], atol=1e-14)
    assert (charges[0] - charges[1]).abs().max() > 1e-3


def test_a_net_charge_of_the_system() -> None:
    """As many electrons as are missing stay missing: 2 e over all beads, and the energy has its background."""
    model = potential(electrostatics={"groups": "system"})
    charged = replace(TOPOLOGY, charges=TOPOLOGY.charges + 0.25)
    graph = graph_of(model, method="ewald", topology=charged)
    assert model.moments(graph).charges.sum().item() == pytest.approx(2.0, abs=1e-13)
    narrow, wide = (coulomb_with(model, graph, tune(BOX, 8, accuracy=TIGHT, cutoff=cutoff)) for cutoff in (0.6, 1.2))
    close(narrow, wide, 1e-6)  # without the background it depends on where the sum is split


def coulomb_with(model: Potential, graph: BeadGraph, settings) -> Tensor:
    common = {"cell": graph.cell, "batch": graph.batch, "n_systems": graph.n_systems}
    pairs = coulomb_pairs(graph.positions, settings, excluded=graph.coulomb.pairs.excluded, **common)
    return model.electrostatic_energy(replace(graph, coulomb=replace(graph.coulomb, settings=settings, pairs=pairs)))


def test_groups_by_hand() -> None:
    np.testing.assert_array_equal(group_index(TOPOLOGY, "molecule"), [0, 0, 0, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(group_index(TOPOLOGY, "residue"), [0, 0, 1, 1, 1, 2, 3, 4])
    np.testing.assert_array_equal(group_totals(np.ones((3, 8)), group_index(TOPOLOGY, "molecule")), [[5, 1, 1, 1]] * 3)
    raw, weights = torch.tensor([0.5, 0.1, 0.0]), torch.tensor([1.0, 3.0, 2.0])
    found = neutralise(raw, weights, torch.tensor([0, 0, 1]), torch.tensor([1.0, -1.0]))
    close(found, torch.tensor([0.6, 0.4, -1.0]), 1e-15)


@pytest.mark.parametrize(("bonds", "pairs"), [(0, 0), (1, 4), (2, 7), (3, 9)])
def test_beads_close_by_bonds_do_not_interact(bonds: int, pairs: int) -> None:
    """In open space what is left is a sum over the other pairs, written out here."""
    barred = TOPOLOGY.bonded_pairs(bonds)
    assert len(barred) == pairs
    model = potential(electrostatics={"excluded_bonds": bonds, "dipoles": False})
    graph = graph_of(model)
    charges = model.moments(graph).charges
    away = torch.cdist(PLACES, PLACES) + torch.eye(8)
    energy = COULOMB * charges[:, None] * charges / away
    counted = torch.ones(8, 8).triu(1)
    counted[barred[:, 0], barred[:, 1]] = 0
    close(model.electrostatic_energy(graph), (energy * counted).sum()[None], 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_learned_energy_is_network_and_electrostatics(method: str) -> None:
    model = potential()
    graph = graph_of(model, method=method)
    terms = model.learned_terms(graph)
    assert list(terms) == ["network", "electrostatics"]
    close(terms["network"], model.network_energy(graph))
    close(terms["electrostatics"], model.electrostatic_energy(graph), 1e-8)
    close(model.learned_energy(graph), model.network_energy(graph) + model.electrostatic_energy(graph), 1e-8)
    assert list(model.terms(graph, TOPOLOGY))[:2] == ["network", "electrostatics"]
    assert terms["electrostatics"].abs() > 1


@pytest.mark.parametrize("dipoles", [False, True], ids=["charges", "dipoles"])
@pytest.mark.parametrize("method", METHODS)
def test_forces_and_virial_are_derivatives(method: str, dipoles: bool) -> None:
    """Neighbours are found anew at every step."""
    model = potential(electrostatics={"dipoles": dipoles})
    graph, box = graph_of(model, method=method), box_of(method)
    _, forces = energy_and_forces(model.learned_energy, graph)
    strain_slope = virial(model.learned_energy, graph)[0]
    random = torch.Generator().manual_seed(3)
    for _ in range(2):
        along = torch.randn(8, 3, generator=random)
        found = slope(lambda step, along=along: model.learned_energy(graph_of(model, PLACES + step * along, method)))
        assert found.item() == pytest.approx(-(forces * along).sum().item(), rel=1e-6)
        strain = torch.randn(3, 3, generator=random)
        strain = strain + strain.T

        def strained(step: float, strain: Tensor = strain) -> Tensor:
            change = torch.eye(3) + step * strain
            if method == "open":
                return model.learned_energy(graph_of(model, PLACES @ change))
            return model.learned_energy(graph.strained(step * strain[None]))  # the same mesh and cutoff

        assert slope(strained).item() == pytest.approx((strain_slope * strain).sum().item(), rel=1e-6)
    if box is not None:
        fresh = slope(
            lambda step: model.learned_energy(graph_of(model, PLACES * (1 + step), method, box=box + step * box))
        )
        assert fresh.item() == pytest.approx(strain_slope.trace().item(), rel=1e-4)


class Detached(Potential):
    """Its charges and dipoles are taken to be constant where they are differentiated."""

    def moments(self, graph: BeadGraph, outputs=None) -> Moments:
        return Moments(*(None if part is None else part.detach() for part in super().moments(graph, outputs)))


@pytest.mark.parametrize("method", METHODS)
def test_forces_hold_the_change_of_the_charges(method: str) -> None:
    """The same energy with dq/dR left out has other forces, and only the full ones are its gradient."""
    model = potential(electrostatics={"dipoles": False})
    cut = Detached(model.config, Priors()).requires_grad_(False)
    cut.load_state_dict(model.state_dict())
    graph = graph_of(model, method=method)
    energy, forces = energy_and_forces(model.learned_energy, graph)
    same, wrong = energy_and_forces(cut.learned_energy, graph)
    close(same, energy, 1e-9)
    difference = wrong - forces
    assert difference.norm() > 0.02 * forces.norm()
    along = difference / difference.norm()
    found = slope(lambda step: model.learned_energy(graph_of(model, PLACES + step * along, method))).item()
    assert found == pytest.approx(-(forces * along).sum().item(), rel=1e-6)
    assert abs(found + (wrong * along).sum().item()) == pytest.approx(difference.norm().item(), rel=1e-5)


@pytest.mark.parametrize("dipoles", [False, True], ids=["charges", "dipoles"])
def test_gradient_of_a_force_loss_through_the_mesh(dipoles: bool) -> None:
    """d(loss)/d(parameters) of force matching through q(R) and PME, against the plain Ewald sum."""
    model = potential(electrostatics={"dipoles": dipoles}).requires_grad_(True)
    many = PLACES + 0.02 * torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(1))
    found = {}
    for method in ("ewald", "pme"):
        graph = graph_of(model, many, method)
        _, forces = energy_and_forces(model.learned_energy, graph, create_graph=True)
        loss = (forces - 50.0).square().mean()
        gradients = torch.autograd.grad(loss, list(model.network.parameters()))
        found[method] = dict(zip([name for name, _ in model.network.named_parameters()], gradients, strict=True))
    size = max(value.norm().item() for value in found["ewald"].values())
    for name, expected in found["ewald"].items():
        assert (found["pme"][name] - expected).norm() < 1e-6 * max(expected.norm().item(), 1e-3 * size), name
    assert found["ewald"]["charge_readout.charge.0.weight"].abs().max() > 1e-4 * size
    assert found["ewald"]["charge_readout.weight.0.weight"].abs().max() > 1e-6 * size


def test_constant_charges() -> None:
    """Those of the types, whatever the positions; the network knows nothing of them."""
    model = potential(electrostatics={"charges": "types", "dipoles": False})
    assert not model.config.predicts_charges
    assert model.network.charge_readout is None
    graph = graph_of(model, torch.stack([PLACES, 1.2 * PLACES]))
    charges, dipoles = model.moments(graph)
    assert charges.tolist() == [model.config.type_charges["ABW".index(name)] for name in TOPOLOGY.types] * 2
    assert dipoles is None
    with_dipoles = potential(electrostatics={"charges": "types", "dipoles": True})
    found = with_dipoles.moments(graph_of(with_dipoles))
    assert with_dipoles.config.predicts_charges
    assert found.charges.tolist() == charges[:8].tolist()
    assert found.dipoles.any()


def test_smeared_charges_are_softer() -> None:
    sharp, soft = potential(electrostatics={"dipoles": False}), potential(
        electrostatics={"dipoles": False, "smearing": 0.05}
    )  # fmt: skip
    near = PLACES.clone()
    near[6] = near[5] + torch.tensor([1e-4, 0, 0])
    energies = [model.electrostatic_energy(graph_of(model, near)).abs().item() for model in (sharp, soft)]
    assert energies[0] > 100 * energies[1]
    far = [model.electrostatic_energy(graph_of(model, 3 * PLACES)).item() for model in (sharp, soft)]
    assert far[0] == pytest.approx(far[1], rel=1e-6)


@pytest.mark.parametrize("method", ["open", "ewald"])
def test_single_precision(method: str) -> None:
    model = potential(electrostatics={"accuracy": 1e-5})
    box = box_of(method)
    single = Potential(model.config, Priors()).float().requires_grad_(False)
    single.load_state_dict(model.state_dict())
    exact = graph_of(model, method=method)
    rough = single.graph(TOPOLOGY, PLACES[None].float(), None if box is None else box[None].float())
    for right, found in zip(model.moments(exact), single.moments(rough), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), right, atol=1e-6, rtol=1e-4)
    expected, found = (energy_and_forces(m.learned_energy, g) for m, g in ((model, exact), (single, rough)))
    torch.testing.assert_close(found[0].double(), expected[0], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(found[1].double(), expected[1], atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    model = potential(electrostatics={"accuracy": 1e-5}).to(dtype)
    model.save(tmp_path / "model.safetensors")
    again = Potential.load(tmp_path / "model.safetensors")
    assert again.config == model.config
    found, expected = (m.moments(m.graph(TOPOLOGY, PLACES[None].to(dtype))) for m in (again, model))
    assert torch.equal(found.charges, expected.charges)
    assert torch.equal(found.dipoles, expected.dipoles)


def test_a_file_from_before_there_were_charges(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    plain = Potential(
        PotentialConfig(types=("A",), average_neighbors=4.0, energy_scale=10.0, temperature=300.0, channels=4), Priors()
    )
    plain.save(path)
    config = plain.config.model_dump(exclude={"electrostatics", "type_charges"})
    header = {"format_version": 1, "config": config, "priors": Priors().model_dump(), "provenance": {}}
    save_file(load_file(path), path, metadata={"cgenn": json.dumps(header)})
    again = Potential.load(path)
    assert again.config.electrostatics is None
    beads = BeadTopology.build(["A", "A"], [1.0, 1.0])
    graph = again.graph(beads, torch.tensor([[[0.0, 0, 0], [0.3, 0, 0]]]))
    assert graph.coulomb is None
    assert list(again.learned_terms(graph)) == ["network"]
    with pytest.raises(
        ValueError, match=r"this potential has no electrostatics: train one with `network.electrostatics`"
    ):
        again.moments(graph)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"electrostatics": {"dipoles": True}, "lmax": 0}, "dipoles need `lmax` of at least 1, got 0"),
        (
            {"electrostatics": {"charges": "guessed"}},
            "`electrostatics.charges`: .*'types' or 'predicted', got 'guessed'",
        ),
        ({"electrostatics": {"accuracy": 0.5}}, "`electrostatics.accuracy`: .*less than 0.1"),
        ({"electrostatics": {"excluded_bonds": 4}}, "`electrostatics.excluded_bonds`: .*less than or equal to 3"),
        ({"electrostatics": {"polarizability": 1}}, "unknown key `electrostatics.polarizability`"),
    ],
)
def test_what_cannot_be_chosen(entries: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.parse(entries, "network.toml")


def test_every_type_needs_a_charge() -> None:
    with pytest.raises(ValueError, match="`type_charges` needs one charge for each of 3 types, got 2"):
        potential(type_charges=(0.1, -0.1))


def test_large_systems_are_summed_on_a_mesh() -> None:
    for dipoles in (False, True):
        config = ElectrostaticsConfig(dipoles=dipoles)
        assert coulomb_settings(config, 5000, 5.0 * torch.eye(3)[None]).method == "pme"
        assert coulomb_settings(config, 5000, None).method == "open"


def test_settings_are_right_in_every_box_of_a_batch() -> None:
    """The mesh of each direction is at least as fine as the one that each of the boxes gets alone."""
    cube, column = torch.diag(torch.tensor([4.0] * 3)), torch.diag(torch.tensor([2.5, 2.5, 10.0]))
    config = ElectrostaticsConfig(cutoff=1.0)
    both = coulomb_settings(config, 2000, torch.stack([column, cube, cube]))
    for cell in (cube, column):
        alone = coulomb_settings(config, 2000, cell[None])
        assert all(points >= wanted for points, wanted in zip(both.mesh, alone.mesh, strict=True))


def test_a_slab_needs_a_box() -> None:
    with pytest.raises(ValueError, match="a slab needs a cell that is periodic along x and y"):
        graph_of(potential(electrostatics={"slab": True}))
