import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.reference.implicit import use_native_gbsa
from cgenn.reference.system import load_system

from .conftest import forces_and_energy


@pytest.fixture(scope="module")
def dipeptide():
    topology, system, positions = load_system("alanine-dipeptide-implicit").build()
    return topology, system, positions + np.random.default_rng(0).normal(0, 0.005, positions.shape)


def test_same_as_the_custom_force(dipeptide):
    topology, native, positions = dipeptide
    field = openmm.app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
    custom = field.createSystem(topology, constraints=openmm.app.HBonds, hydrogenMass=3.0)
    assert any(isinstance(force, openmm.CustomGBForce) for force in custom.getForces())
    assert not any(isinstance(force, openmm.CustomGBForce) for force in native.getForces())
    expected, energy = forces_and_energy(custom, positions)
    forces, native_energy = forces_and_energy(native, positions)
    assert native_energy == pytest.approx(energy, abs=1e-4)  # kJ/mol; their Coulomb constants differ by 2e-7
    np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())


def test_other_models_are_left_as_they_are(dipeptide):
    topology = dipeptide[0]
    field = openmm.app.ForceField("amber14/protein.ff14SB.xml", "implicit/gbn2.xml")
    system = field.createSystem(topology)
    before = openmm.XmlSerializer.serialize(system)
    use_native_gbsa(system)
    assert openmm.XmlSerializer.serialize(system) == before


def test_other_dielectric_constants_are_left_as_they_are(dipeptide):
    topology = dipeptide[0]
    field = openmm.app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
    system = field.createSystem(topology, solventDielectric=4.0)
    use_native_gbsa(system)
    assert any(isinstance(force, openmm.CustomGBForce) for force in system.getForces())
