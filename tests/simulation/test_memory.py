"""The learned force with predicted charges: replicas, lists that are kept, boxes that change, precision."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.memory import GROWTH, SKIN, ChargedBeads, Memory
from cgenn.topology import BeadTopology

from .conftest import TYPE_CHARGES, with_charges

ACCURACY = 1e-8
Molecules = tuple[BeadTopology, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def charged(potential) -> Potential:
    return with_charges(potential, dipoles=True, excluded_bonds=2, accuracy=ACCURACY)


@pytest.fixture
def one(topology) -> BeadTopology:
    """A single molecule with a net charge."""
    return replace(topology, charges=np.array(TYPE_CHARGES) + 0.1)


def build(potential: Potential, topology: BeadTopology, **options) -> LearnedForce:
    return LearnedForce.build(potential, topology, **{"precision": "double", "device": "cpu", **options})


def graph_of(potential: Potential, topology: BeadTopology, positions, box=None):
    cell = None if box is None else torch.as_tensor(box)[None]
    return potential.graph(topology, torch.as_tensor(positions).view(-1, len(topology), 3), cell)


def expected(potential: Potential, topology: BeadTopology, positions, box=None):
    energies, forces = energy_and_forces(potential.learned_energy, graph_of(potential, topology, positions, box))
    return energies.sum(), forces


def close(found, right, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found[0], right[0], rtol=0, atol=tolerance * float(right[1].abs().max()))
    torch.testing.assert_close(found[1], right[1], rtol=0, atol=tolerance * float(right[1].abs().max()))


def test_is_the_potential_in_a_box(charged, molecules: Molecules):
    topology, positions, box = molecules
    force = build(charged, topology, periodic=True)
    close(force.evaluate(torch.as_tensor(positions), torch.as_tensor(box)), expected(charged, *molecules), 1e-10)
    charges, dipoles = force.moments(torch.as_tensor(positions), torch.as_tensor(box))
    graph = graph_of(charged, *molecules)
    right = charged.moments(graph)
    np.testing.assert_allclose(charges, right.charges, atol=1e-12)
    np.testing.assert_allclose(dipoles, right.dipoles, atol=1e-12)
    energy = force.electrostatic_energy(torch.as_tensor(positions), torch.as_tensor(box))
    assert energy == pytest.approx(charged.electrostatic_energy(graph).item(), rel=1e-10)


def test_replicas_do_not_feel_each_other(charged, one, positions):
    """In one place: each has its own charges, total and energy, in spite of a Coulomb energy without a cutoff."""
    frames = positions + np.random.default_rng(0).normal(scale=0.01, size=(4, 5, 3))
    force = build(charged, one, replicas=4)
    found = force.evaluate(torch.as_tensor(frames).view(-1, 3))
    alone = build(charged, one)
    singles = [alone.evaluate(torch.as_tensor(frame)) for frame in frames]
    torch.testing.assert_close(found[0], torch.stack([energy for energy, _ in singles]).sum())
    torch.testing.assert_close(found[1], torch.cat([forces for _, forces in singles]))
    charges, dipoles = force.moments(torch.as_tensor(frames).view(-1, 3))
    np.testing.assert_allclose(charges.reshape(4, 5).sum(axis=1), one.charges.sum(), atol=1e-13)
    np.testing.assert_allclose(charges[5:10], alone.moments(torch.as_tensor(frames[1]))[0], atol=1e-12)
    np.testing.assert_allclose(dipoles[15:], alone.moments(torch.as_tensor(frames[3]))[1], atol=1e-12)


def test_constant_charges_are_not_in_it(potential, molecules: Molecules):
    topology, positions, box = molecules
    force = build(with_charges(potential, charges="types"), topology, periodic=True)
    assert force.charged is None
    assert force.electrostatic_energy(torch.as_tensor(positions), torch.as_tensor(box)) == 0.0
    with pytest.raises(ValueError, match="has no electrostatics: its charges are constant, or there are none"):
        force.moments(torch.as_tensor(positions), torch.as_tensor(box))


def test_charges_scaled(charged, molecules: Molecules):
    """The energy of the charges goes with the square of the scale; that of the network stays."""
    topology, positions, box = (torch.as_tensor(part) if index else part for index, part in enumerate(molecules))
    force = build(charged, topology, periodic=True)
    off, half, full = (force.evaluate(positions, box, scale) for scale in (0.0, 0.5, 1.0))
    network = energy_and_forces(charged.network_energy, graph_of(charged, topology, positions, box))
    close(off, (network[0][0], network[1]), 1e-12)
    close(half, tuple(0.75 * a + 0.25 * b for a, b in zip(off, full, strict=True)), 1e-10)


def test_lists_that_are_kept_give_the_same(charged, molecules: Molecules):
    """Along a trajectory, against a force that finds its pairs anew each time; those are the same to the last bit."""
    topology, positions, box = molecules
    kept, fresh = build(charged, topology, periodic=True), build(charged, topology, periodic=True, replicas=1)
    random, cell = np.random.default_rng(4), torch.as_tensor(box)
    for _ in range(8):
        positions = positions + random.normal(scale=0.1 * SKIN, size=positions.shape)
        found = kept.evaluate(torch.as_tensor(positions), cell)
        fresh.forget()
        close(found, fresh.evaluate(torch.as_tensor(positions), cell), 1e-11)
    kept.forget()
    again, other = kept.evaluate(torch.as_tensor(positions), cell), expected(charged, topology, positions, box)
    kept.forget()
    assert all(torch.equal(a, b) for a, b in zip(again, kept.evaluate(torch.as_tensor(positions), cell), strict=True))
    close(again, other, 1e-10)


def remembered(charged: Potential, topology: BeadTopology) -> Memory:
    assert isinstance(charged.config.electrostatics, ElectrostaticsConfig)
    beads = ChargedBeads.of(topology, charged.config.electrostatics)
    return Memory(charged, tuple(charged.type_indices(topology).tolist()), (), beads, 1)


def test_pairs_are_found_anew_only_where_needed(charged, molecules: Molecules):
    topology, positions, box = molecules
    memory, at, cell = remembered(charged, topology), torch.as_tensor(positions), torch.as_tensor(box)
    first = memory.graph(at, cell).coulomb
    near, far = at.clone(), at.clone()
    near[3, 0] += 0.49 * SKIN
    far[3, 0] += 0.51 * SKIN
    assert memory.graph(near, cell).coulomb.pairs is first.pairs
    moved = memory.graph(far, cell).coulomb
    assert moved.pairs is not first.pairs
    assert moved.settings is first.settings
    squeezed = memory.graph(far, 1.001 * cell).coulomb
    assert squeezed.pairs is not moved.pairs
    assert squeezed.settings is first.settings
    assert memory.graph(far, 0.99 / GROWTH * cell).coulomb.settings != first.settings
    assert memory.graph(far, cell).coulomb.settings == first.settings


def test_pairs_in_open_space_are_all_pairs_for_ever(charged, one, positions):
    memory = remembered(charged, one)
    first = memory.graph(torch.as_tensor(positions), None).coulomb
    assert memory.graph(torch.as_tensor(5 * positions), None).coulomb.pairs is first.pairs
    assert len(first.pairs.receivers) == 10 - first.pairs.excluded.shape[1]


def test_a_box_that_changes_as_under_a_barostat(charged, molecules: Molecules):
    """Up and down, by little and by more than what changes the parameters of the sum; whatever came before."""
    topology, positions, box = molecules
    force = build(charged, topology, periodic=True)
    stretch = np.array([1.0, 1.02, 0.99, 1.15, 1.0, 0.9, 1.0])
    for factor, lengths in zip(stretch, np.diag([1.0, 1.0, 1.03]) ** np.arange(7)[:, None, None], strict=True):
        change = factor * np.diag(np.diag(lengths))
        moved, cell = positions @ change, box @ change
        found = force.evaluate(torch.as_tensor(moved), torch.as_tensor(cell))
        close(found, expected(charged, topology, moved, cell), 10 * ACCURACY)


@pytest.mark.parametrize("charges", ["types", "predicted"])
def test_a_slab_about_zero_that_wanders_in_its_plane(potential, molecules: Molecules, charges):
    """Along z, where it is not periodic, beads may be moved by a cell only together, if not OpenMM took them apart."""
    charged = with_charges(potential, charges=charges, slab=True, accuracy=ACCURACY)
    topology, positions, _ = molecules
    box = np.diag([2.2, 2.4, 4.0])
    force = build(charged, topology, periodic=True)
    positions = positions - [0, 0, positions[:, 2].mean()]
    assert positions[:, 2].min() < 0 < positions[:, 2].max()
    right = expected(charged, topology, positions, box)
    for cells in (0, 5, -3, 7, 7):
        moved = positions + np.array([cells, -cells, 0])[None] @ box
        for places in (moved, moved - np.floor(moved @ np.linalg.inv(box)) @ box):  # as they are on a GPU
            close(force.evaluate(torch.as_tensor(places), torch.as_tensor(box)), right, 1e-9)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_beads_that_left_the_box(charged, molecules: Molecules, precision):
    topology, positions, box = molecules
    force = build(charged, topology, periodic=True, precision=precision)
    right = expected(charged, topology, positions, box)
    whole = np.random.default_rng(2).integers(-30, 30, size=(6, 1, 3)).repeat(5, axis=1).reshape(-1, 3)
    for _ in range(3):  # the second call brings the beads back
        found = force.evaluate(torch.as_tensor(positions + whole @ box), torch.as_tensor(box))
        close(found, right, 1e-9 if precision == "double" else 1e-4)


@pytest.mark.parametrize("periodic", [True, False])
def test_single_precision(potential, molecules: Molecules, periodic):
    charged = with_charges(potential, dipoles=True, accuracy=1e-6)
    topology, positions, box = molecules
    at, cell = torch.as_tensor(positions), torch.as_tensor(box) if periodic else None
    force, exact = (build(charged, topology, periodic=periodic, precision=kind) for kind in ("single", "double"))
    close(force.evaluate(at, cell), exact.evaluate(at, cell), 1e-4)
    for found, right in zip(force.moments(at, cell), exact.moments(at, cell), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6)
    totals = force.moments(at, cell)[0].reshape(6, 5).sum(axis=1)
    np.testing.assert_allclose(totals, np.sum(TYPE_CHARGES), atol=1e-6)


def test_content_is_enough(charged, molecules: Molecules, monkeypatch):
    """Groups, totals and exclusions are written with the weights."""
    topology, positions, box = molecules
    force = build(charged, topology, periodic=True)
    force.forget()
    before = force.evaluate(torch.as_tensor(positions), torch.as_tensor(box))
    text = pickle.dumps(force)
    monkeypatch.setattr("cgenn.simulation.force._LIVE", OrderedDict())
    again = pickle.loads(text)  # as in another process
    assert again is not force
    assert again.charged == force.charged
    found = again.evaluate(torch.as_tensor(positions), torch.as_tensor(box))
    assert all(torch.equal(a, b) for a, b in zip(found, before, strict=True))


def test_a_bead_on_another(charged, molecules: Molecules):
    """What is wrong is where the beads are, and not the charges, which come out as NaN."""
    topology, positions, box = molecules
    together = positions.copy()
    together[12] = together[3]
    with pytest.raises(FloatingPointError, match="beads 3 and 12 are in the same place"):
        build(charged, topology, periodic=True).evaluate(torch.as_tensor(together), torch.as_tensor(box))
