"""The learned force as a function of positions and box, and its content."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.force import LearnedForce
from cgenn.topology import BeadTopology


@pytest.fixture
def force(potential, topology) -> LearnedForce:
    return LearnedForce.build(potential, topology, precision="double", device="cpu")


@pytest.fixture(scope="session")
def liquid(potential) -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """Single beads in a triclinic box [nm]."""
    places = np.stack(np.meshgrid(*[np.arange(4) * 0.4] * 3), axis=-1).reshape(-1, 3)
    positions = places + np.random.default_rng(1).normal(scale=0.03, size=places.shape)
    types = [potential.config.types[i % 5] for i in range(len(places))]
    return BeadTopology.build(types, [30.0] * 64), positions, np.array([[1.6, 0, 0], [0.4, 1.6, 0], [-0.2, 0.3, 1.6]])


def expected(potential: Potential, topology: BeadTopology, positions, box=None):
    graph = potential.graph(
        topology,
        torch.as_tensor(positions).view(-1, len(topology), 3),
        None if box is None else torch.as_tensor(box)[None],
    )
    energies, forces = energy_and_forces(potential.network_energy, graph)
    return energies.sum(), forces


def test_is_the_network(force, potential, topology, positions):
    energy, forces = force.evaluate(torch.as_tensor(positions))
    torch.testing.assert_close((energy, forces), expected(potential, topology, positions))
    assert forces.abs().max() > 1


def test_replicas_in_one_place_add_up(potential, topology, positions):
    frames = positions + np.random.default_rng(0).normal(scale=0.01, size=(7, 5, 3))
    force = LearnedForce.build(potential, topology, replicas=7, precision="double", device="cpu")
    found = force.evaluate(torch.as_tensor(frames).view(-1, 3))
    torch.testing.assert_close(found, expected(potential, topology, frames))


def test_single_precision_far_from_the_origin(potential, topology, positions):
    force = LearnedForce.build(potential, topology, device="cpu")
    energy, forces = force.evaluate(torch.as_tensor(positions + np.array([1e5, -2e5, 5e4])))
    assert forces.dtype == torch.float64
    right_energy, right_forces = expected(potential, topology, positions)
    torch.testing.assert_close(energy, right_energy, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(forces, right_forces, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_beads_that_left_the_box(potential, liquid, precision):
    topology, positions, box = liquid
    force = LearnedForce.build(potential, topology, periodic=True, precision=precision, device="cpu")
    right = expected(potential, topology, positions, box)
    away = np.random.default_rng(2).integers(-50, 50, size=positions.shape)
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if precision == "single" else {"rtol": 1e-9, "atol": 1e-9}
    for _ in range(3):  # the second call brings the beads back
        found = force.evaluate(torch.as_tensor(positions + away @ box), torch.as_tensor(box))
    torch.testing.assert_close(found, right, **tolerance)


def test_follows_a_trajectory_and_a_changing_box(potential, liquid):
    topology, positions, box = liquid
    force = LearnedForce.build(potential, topology, periodic=True, precision="double", device="cpu")
    rng = np.random.default_rng(6)
    for step in range(12):
        positions = positions + rng.normal(scale=0.03, size=positions.shape)
        scale = 1 + 0.02 * (step % 3)
        found = force.evaluate(torch.as_tensor(positions * scale), torch.as_tensor(box * scale))
        torch.testing.assert_close(found, expected(potential, topology, positions * scale, box * scale))


def test_bead_features_enter(potential, topology, positions):
    config = potential.config.model_copy(update={"bead_features": ("charge", "mass")})
    charged = replace(topology, charges=np.linspace(-1, 1, 5))
    other = Potential(config, Priors()).requires_grad_(False)
    force = LearnedForce.build(other, charged, replicas=2, precision="double", device="cpu")
    frames = np.stack([positions, positions[::-1]])
    found = force.evaluate(torch.as_tensor(frames).view(-1, 3))
    torch.testing.assert_close(found, expected(other, charged, frames))


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("bonds", [1, 2, 3])
def test_bonded_neighbours_do_not_see_each_other(potential, topology, positions, bonds, precision):
    """In several copies of a chain, as in the graphs that the potential makes; and they would have done something."""
    config = potential.config.model_copy(update={"excluded_bonds": bonds, "layers": 1, "lmax": 0})
    torch.manual_seed(1)
    shy = Potential(config, Priors()).double().requires_grad_(False)
    frames = positions + np.random.default_rng(0).normal(scale=0.01, size=(3, 5, 3))
    graph = shy.graph(topology, torch.as_tensor(frames))
    seen = {(int(i) % 5, int(j) % 5) for i, j in zip(graph.receivers, graph.senders, strict=True)}
    barred = set(map(tuple, topology.bonded_pairs(bonds).tolist()))
    assert seen
    assert not seen & (barred | {pair[::-1] for pair in barred})
    force = LearnedForce.build(shy, topology, replicas=3, precision=precision, device="cpu")
    found = force.evaluate(torch.as_tensor(frames).view(-1, 3))
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if precision == "single" else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(found, expected(shy, topology, frames), **tolerance)
    assert json.loads(force.state.partition(b"\n")[0])["excluded"] == topology.bonded_pairs(bonds).tolist()
    everyone = Potential(config.model_copy(update={"excluded_bonds": 0}), Priors()).double()
    everyone.network.load_state_dict(shy.network.state_dict())
    assert not torch.allclose(expected(everyone, topology, frames)[1], found[1].double())


def test_pickle_holds_content_and_gives_back_the_same_object(force, positions, monkeypatch):
    before = force.evaluate(torch.as_tensor(positions))
    text = pickle.dumps(force)
    assert pickle.loads(text) is force
    assert copy.deepcopy(force) is force
    monkeypatch.setattr("cgenn.simulation.force._LIVE", OrderedDict())
    again = pickle.loads(text)  # as in another process
    assert again is not force
    assert again.key == force.key
    torch.testing.assert_close(again.evaluate(torch.as_tensor(positions)), before, rtol=0, atol=0)


def test_content_of_another_version(force):
    with pytest.raises(ValueError, match="another version"):
        LearnedForce.restore(force.state.replace(b'"format": 2', b'"format": 9', 1))


def test_building_leaves_the_seed_alone(potential, topology, positions):
    torch.manual_seed(1)
    first = torch.rand(3)
    torch.manual_seed(1)
    LearnedForce.build(potential, topology, replicas=3, device="cpu").evaluate(
        torch.as_tensor(np.tile(positions, (3, 1)))
    )
    torch.testing.assert_close(torch.rand(3), first)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_mode_does_not_matter(force, positions, mode):
    right = force.evaluate(torch.as_tensor(positions))
    with mode():
        found = force.evaluate(torch.as_tensor(positions))
    torch.testing.assert_close(found[1].clone(), right[1])
    torch.testing.assert_close(force.evaluate(torch.as_tensor(positions)), right)


def test_threads_do_not_share_neighbours(potential, liquid):
    topology, positions, box = liquid
    force = LearnedForce.build(potential, topology, periodic=True, precision="double", device="cpu")
    frames = [positions + 0.1 * np.random.default_rng(i).normal(size=positions.shape) for i in range(2)]
    failures = []

    def work(frame: np.ndarray) -> None:
        right = expected(potential, topology, frame, box)
        for _ in range(5):
            found = force.evaluate(torch.as_tensor(frame), torch.as_tensor(box))
            if not torch.allclose(found[1], right[1], atol=1e-8):
                failures.append(frame)

    threads = [threading.Thread(target=work, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_bad_input_names_the_bead(force, positions):
    with pytest.raises(ValueError, match="for 5 beads"):
        force.evaluate(torch.zeros(4, 3))
    broken = positions.copy()
    broken[3, 1] = math.nan
    with pytest.raises(ValueError, match=r"bead 3 has gone to .*nan"):
        force.evaluate(torch.as_tensor(broken))
    together = positions.copy()
    together[2] = together[1]
    with pytest.raises(FloatingPointError, match="beads 1 and 2 are in the same place"):
        force.evaluate(torch.as_tensor(together))


def test_guarded_keeps_the_exception(force):
    with pytest.raises(RuntimeError, match=r"ValueError in the learned force: .*for 5 beads"):
        force.guarded(torch.zeros(4, 3))
    assert isinstance(force.error, ValueError)
    assert force.error.__traceback__ is not None


def test_unknown_bead_type(potential):
    with pytest.raises(ValueError, match="type 'XYZ', which this model does not know"):
        LearnedForce.build(potential, BeadTopology.build(["XYZ"], [1.0]))
