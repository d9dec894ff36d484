"""Molecules of a single bead are turned as Boltzmann's weights have it."""

from dataclasses import replace

import numpy as np
import openmm
import openmm.app
import pytest
from scipy.spatial.transform import Rotation

from cgenn.backmapping.fragments import Library
from cgenn.backmapping.turning import Turning
from cgenn.backmapping.units import find_homes
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import load_mapping
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping
from cgenn.reference.system import load_system


def dipole(fraction: float) -> tuple[openmm.System, np.ndarray]:
    """Two charges 0.5 nm apart that weigh the same, and 0.7 nm from their middle an ion of some charge."""
    system, force = openmm.System(), openmm.NonbondedForce()
    for charge in (0.3, -0.3, fraction):
        system.addParticle(10.0)
        force.addParticle(charge, 0.1, 1e-6)
    system.addForce(force)
    return system, np.array([[0.25, 0.0, 0.0], [-0.25, 0.0, 0.0], [0.0, 0.0, 0.7]])


def test_a_dipole_is_turned_to_an_ion_as_boltzmann_has_it():
    """The mean cosine is that of quadrature over all directions, with Coulomb in a conducting reaction field."""
    system, start = dipole(0.1)
    homes, beads = np.array([0, 0, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.7]])
    parameters = [system.getForce(0).getParticleParameters(atom) for atom in range(3)]
    charges, sigmas, epsilons = (np.array([entry[k]._value for entry in parameters]) for k in range(3))
    turning = Turning([np.array([0, 1])], charges, sigmas, np.sqrt(epsilons), homes, 300.0)
    rng = np.random.default_rng(0)
    cosines = []
    for _ in range(600):
        atoms = turning(start, beads, None, rng)
        assert np.linalg.norm(atoms[0] - atoms[1]) == pytest.approx(0.5)
        np.testing.assert_allclose(atoms[:2].mean(axis=0), 0.0, atol=1e-12)
        cosines.append((atoms[0] - atoms[1])[2] / 0.5)
    c = np.linspace(-1, 1, 2001)
    r = np.sqrt(0.25**2 + 0.7**2 - 2 * 0.25 * 0.7 * np.stack([c, -c]))  # of the positive and of the negative charge
    field = np.where(r < 1.0, 1 / r + r**2 / 2 - 1.5, 0.0)
    weights = np.exp(-138.935456 * 0.3 * 0.1 * (field[0] - field[1]) / (0.00831446 * 300.0))
    expected = np.sum(c * weights) / np.sum(weights)
    assert expected < -0.25
    assert np.mean(cosines) == pytest.approx(expected, abs=4 * np.std(cosines) / 600**0.5)


@pytest.fixture(scope="module")
def liquid():
    """The ionic liquid, its mapping, and what turns its cations."""
    topology, system, positions = load_system("bmim-pf6").build()
    mapping = Mapping.build(load_mapping("bmim-pf6"), AtomTopology.from_openmm(topology, system))
    box = np.array([list(row._value) for row in system.getDefaultPeriodicBoxVectors()])
    whole = mapping.tree.make_whole(positions[None], box[None])
    library = Library.build(FrameMap.build(mapping, whole), whole)
    return system, mapping, library, whole[0], box


def energy(system, atoms):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU"))
    context.setPositions(atoms)
    return context.getState(energy=True).getPotentialEnergy()._value


def test_cations_that_dynamics_cannot_turn_find_their_places(liquid):
    """From random turns, in OpenMM's energy of all interactions, to within 15 kJ/mol of ion pairs of the liquid."""
    system, mapping, library, atoms, box = liquid
    turning = Turning.build(system, library, find_homes(mapping), 350.0)
    assert len(turning.molecules) == 128
    beads, rng = mapping.linear(atoms[None])[0], np.random.default_rng(0)
    start = atoms.copy()
    for molecule in turning.molecules:
        bead = beads[turning.homes[molecule[0]]]
        start[molecule] = bead + Rotation.random(rng=rng).apply(atoms[molecule] - bead)
    found = turning(start, beads, box, rng)
    np.testing.assert_allclose(mapping.linear(found[None])[0], beads, atol=1e-9)
    expected = energy(system, atoms)
    assert energy(system, start) > expected + 1e5
    assert energy(system, found) < expected + 15 * 128


def test_what_is_told_or_small_or_without_lennard_jones_is_left(liquid, peptide, water, make_map):
    system, mapping, library, atoms, _ = liquid
    homes = find_homes(mapping)
    told = replace(library, oriented=np.ones(256, dtype=bool))
    assert not Turning.build(system, told, homes, 350.0).molecules
    bare = openmm.System()
    for _ in range(len(atoms)):
        bare.addParticle(1.0)
    assert not Turning.build(bare, library, homes, 350.0).molecules
    for reference, name in ((peptide, "backbone"), (water, "water")):
        frames, whole = make_map(reference, name)
        found = Turning.build(reference.system, Library.build(frames, whole), find_homes(frames.mapping), 300.0)
        assert not found.molecules
