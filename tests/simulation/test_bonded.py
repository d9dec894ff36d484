"""The native forces against the same terms in torch."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
import torch

from cgenn.potential.derivatives import energy_and_forces, virial
from cgenn.potential.potential import Potential
from cgenn.potential.priors import (
    REPULSION_RANGE,
    AnglePrior,
    BondPrior,
    PairPrior,
    Priors,
    RampPrior,
    RepulsionPrior,
    type_key,
)
from cgenn.simulation import bonded
from cgenn.simulation.placement import Placement
from cgenn.topology import BeadTopology

BOX = np.array([[1.3, 0, 0], [0.3, 1.2, 0], [0.1, -0.4, 1.2]])


def native(priors: Priors, topology: BeadTopology, positions: np.ndarray, *, box=None, replicas: int = 1) -> dict:
    """Energy and forces of every native term on the Reference platform."""
    system = openmm.System()
    for _ in range(len(positions)):
        system.addParticle(1.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box.tolist())
    placement = Placement.replicas(len(topology), replicas, periodic=box is not None)
    forces = bonded.prior_forces(priors, topology, placement)
    assert {force.getForceGroup() for force in forces} <= {bonded.PRIOR_GROUP}
    for group, force in enumerate(forces):
        force.setForceGroup(group)
        system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    result = {}
    for group, force in enumerate(forces):
        state = context.getState(energy=True, forces=True, groups={group})
        energy, before = result.get(force.getName(), (0.0, 0.0))
        found = state.getForces(asNumpy=True)._value
        result[force.getName()] = energy + state.getPotentialEnergy()._value, before + found
    return result


def in_torch(potential: Potential, topology: BeadTopology, positions: np.ndarray, *, box=None) -> dict:
    """The same in torch, for one system or the sum of several (frames, beads, 3)."""
    cell = None if box is None else torch.from_numpy(box)[None]
    graph = potential.graph(topology, torch.from_numpy(positions).view(-1, len(topology), 3), cell)
    priors = potential.prior_energy(topology)
    result = {}
    for term in priors(graph):
        energies, forces = energy_and_forces(lambda g, term=term: priors(g)[term], graph)
        result[term] = energies.sum().item(), forces.numpy()
    return result


def assert_same(found: dict, expected: dict) -> None:
    assert set(found) == {term for term, (energy, _) in expected.items() if energy != 0}
    for term, (energy, forces) in found.items():
        assert energy == pytest.approx(expected[term][0], rel=1e-6)
        scale = np.abs(expected[term][1]).max()
        np.testing.assert_allclose(forces, expected[term][1], rtol=1e-6, atol=1e-6 * scale)
        assert scale > 0


@pytest.fixture
def disturbed(positions: np.ndarray) -> np.ndarray:
    """Conformations in which all terms, the repulsion too, do something."""
    frames = positions + np.random.default_rng(3).normal(scale=0.01, size=(20, 5, 3))
    frames[:, 4] = frames[:, 0] + [0.2, 0.15, 0.1] + np.random.default_rng(4).normal(scale=0.03, size=(20, 3))
    return frames


def with_ramp(potential: Potential, height: float = -0.8, reach: float = 0.7) -> Potential:
    priors = potential.priors.model_copy(update={"ramp": RampPrior(height=height, range=reach)})
    return Potential(potential.config, priors)


def test_every_term_on_a_molecule(potential, topology, disturbed):
    given = with_ramp(potential)
    ends = type_key((topology.types[0], topology.types[4]))
    pairs = PairPrior(range=0.6, coefficients={ends: (1.0, -2.0, 3.0, 0.5)})
    given = Potential(given.config, given.priors.model_copy(update={"pairs": pairs}))
    for frame in disturbed:
        found, expected = native(given.priors, topology, frame), in_torch(given, topology, frame)
        assert_same(found, expected)
        assert found["ramp"][0] == pytest.approx(-0.8 * (1 - np.linalg.norm(frame[4] - frame[0]) / 0.7), rel=1e-6)


def test_terms_of_several_wells(potential, topology, disturbed):
    """Beside some of one well, with two and three wells, in and out of them and for a chain that is nearly straight."""
    bonds, angles = dict(potential.priors.bonds), dict(potential.priors.angles)
    for number, key in enumerate(sorted(bonds)[:-1]):
        well = {"length": bonds[key].length + 0.02, "k": 2e4, "energy": 1.0}
        bonds[key] = BondPrior(length=bonds[key].length, k=3e4, kt=2.5, others=[well, well][: 1 + number % 2])
    for number, key in enumerate(sorted(angles)[:-1]):
        wells = [{"angle": 2.9, "k": 90.0, "energy": 1.0}, {"angle": 1.2, "k": 30.0, "energy": 3.0}]
        angles[key] = AnglePrior(angle=angles[key].angle, k=300.0, kt=2.5, others=wells[: 1 + number % 2])
    several = Potential(potential.config, potential.priors.model_copy(update={"bonds": bonds, "angles": angles}))
    names = [force.getName() for force in bonded.prior_forces(several.priors, topology, Placement.replicas(5))]
    assert (names.count("bonds"), names.count("angles")) == (2, 2)
    straight = np.outer(np.arange(5), [0.3, 0.2, 0.1]) + np.random.default_rng(0).normal(scale=1e-3, size=(5, 3))
    for frame in [*disturbed, straight]:
        found, expected = native(several.priors, topology, frame), in_torch(several, topology, frame)
        assert_same(*({term: terms[term] for term in ("bonds", "angles")} for terms in (found, expected)))


def test_replicas_add_up_and_do_not_feel_each_other(potential, topology, disturbed):
    together = disturbed.reshape(-1, 3)  # all of them in the same place
    found = native(potential.priors, topology, together, replicas=len(disturbed))
    assert_same(found, in_torch(potential, topology, disturbed))


@pytest.fixture
def liquid(potential) -> tuple[Potential, BeadTopology, np.ndarray]:
    """Dimers that repel, more beads than are listed pair by pair."""
    priors = Priors(
        repulsion={
            "A|A": RepulsionPrior(sigma=0.3, epsilon=1.0),
            "A|B": RepulsionPrior(sigma=0.25, epsilon=2.0),
        }
    )
    config = potential.config.model_copy(update={"types": ("A", "B", "C")})
    topology = BeadTopology.build(("A", "B", "C"), [40.0, 50.0, 60.0], bonds=[(0, 1), (1, 2)]).repeat(30)
    places = np.stack(np.meshgrid(*[np.arange(5) * 0.24] * 3), axis=-1).reshape(-1, 3)[:90]
    positions = places + np.random.default_rng(5).normal(scale=0.02, size=places.shape)
    return Potential(config, priors), topology, positions


@pytest.mark.parametrize("box", [None, np.diag([1.2, 1.2, 1.2]), BOX])
def test_repulsion_by_neighbour_search(liquid, box):
    potential, topology, positions = liquid
    assert len(topology) > bonded.EXPLICIT_PAIRS
    assert_same(
        native(potential.priors, topology, positions, box=box), in_torch(potential, topology, positions, box=box)
    )


@pytest.mark.parametrize("reach", [0.2, 0.55])
@pytest.mark.parametrize("box", [None, BOX])
def test_ramp_by_neighbour_search(liquid, box, reach):
    """Shorter and longer than the repulsion; both forces have one cutoff, as a GPU wants it."""
    potential, topology, positions = liquid
    given = with_ramp(potential, 1.3, reach)
    assert_same(native(given.priors, topology, positions, box=box), in_torch(given, topology, positions, box=box))
    forces = bonded.prior_forces(given.priors, topology, Placement.replicas(len(topology), periodic=box is not None))
    assert {force.getCutoffDistance()._value for force in forces} == {max(0.3 * REPULSION_RANGE, reach)}


@pytest.mark.parametrize("keys", [("A|A", "A|B", "C|C"), ("B|C",)])
@pytest.mark.parametrize("box", [None, BOX])
def test_pair_splines_by_neighbour_search(liquid, box, keys):
    """Beside the repulsion, some pairs of types without any."""
    potential, topology, positions = liquid
    random = np.random.default_rng(7)
    pairs = PairPrior(range=0.55, coefficients={key: random.normal(size=8).tolist() for key in keys})
    given = Potential(potential.config, potential.priors.model_copy(update={"pairs": pairs}))
    found = native(given.priors, topology, positions, box=box)
    assert_same(found, in_torch(given, topology, positions, box=box))
    assert abs(found["pairs"][0]) > 1.0
    forces = bonded.prior_forces(given.priors, topology, Placement.replicas(len(topology), periodic=box is not None))
    assert {force.getCutoffDistance()._value for force in forces} == {0.55}


def test_virial_of_the_ramp_is_the_strain_of_its_energy_in_openmm(liquid):
    """Box and positions are strained together, sheared too; no pair is so near the end of the ramp that it jumps."""
    potential, topology, positions = liquid
    priors = Priors(ramp=RampPrior(height=-0.9, range=0.5))
    graph = Potential(potential.config, priors).graph(
        topology, torch.from_numpy(positions)[None], torch.from_numpy(BOX)[None]
    )
    terms = Potential(potential.config, priors).prior_energy(topology)
    found = virial(lambda graph: terms(graph)["ramp"], graph)[0].numpy()
    step, strained = 1e-6, []
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 0)):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[row, column] += sign * step
            ends.append(native(priors, topology, positions @ strain, box=BOX @ strain)["ramp"][0])
        strained.append((ends[0] - ends[1]) / (2 * step))
    assert np.abs(found).min() > 0.01
    np.testing.assert_allclose(strained, [found[0, 0], found[1, 1], found[2, 2], found[1, 0]], rtol=1e-5)


def test_repulsion_between_replicas_of_a_large_system(liquid):
    potential, topology, positions = liquid
    potential = with_ramp(potential, 0.4, 0.5)
    pairs = PairPrior(range=0.45, coefficients={"A|A": (3.0, 1.0, -1.0), "A|C": (0.0, 2.0, 0.5)})
    potential = Potential(potential.config, potential.priors.model_copy(update={"pairs": pairs}))
    frames = np.stack([positions, positions + 0.01])
    found = native(potential.priors, topology, frames.reshape(-1, 3), replicas=2)
    assert_same(found, in_torch(potential, topology, frames))


def test_terms_without_parameters_are_left_out(topology):
    assert bonded.prior_forces(Priors(), topology, Placement.replicas(5)) == []
    assert bonded.prior_forces(Priors(), topology.repeat(20), Placement.replicas(100, periodic=True)) == []
