"""Lennard-Jones with geometric means: the native terms against the table that they stand for."""

import numpy as np
import openmm
import openmm.app
import pytest

from cgenn import shipped
from cgenn.reference.geometric import use_native_lennard_jones
from cgenn.reference.system import load_system

from .conftest import forces_and_energy

FIELD = shipped.folder("systems") / "benzene" / "benzene.xml"


@pytest.fixture(scope="module")
def few():
    """27 molecules of benzene, as they stand in the liquid, but on a lattice."""
    topology, _, positions = load_system("benzene").build()
    modeller = openmm.app.Modeller(topology, positions)
    modeller.delete([residue for residue in topology.residues() if residue.index >= 27])
    modeller.topology.setUnitCellDimensions(openmm.Vec3(1.95, 1.95, 1.95))
    molecules = positions.reshape(-1, 12, 3)[:27]
    lattice = 0.65 * np.array(list(np.ndindex(3, 3, 3)))
    return modeller.topology, (molecules - molecules.mean(axis=1, keepdims=True) + lattice[:, None]).reshape(-1, 3)


def made(topology, field, **settings):
    return field.createSystem(topology, nonbondedMethod=openmm.app.PME, nonbondedCutoff=0.9, **settings)


@pytest.mark.parametrize("settings", [{}, {"switchDistance": 0.7}, {"useDispersionCorrection": False}])
def test_same_as_the_table(few, settings):
    topology, positions = few
    field = openmm.app.ForceField(str(FIELD))
    expected, energy = forces_and_energy(made(topology, field, **settings), positions)
    system = made(topology, field, **settings)
    use_native_lennard_jones(system)
    assert not any(isinstance(force, openmm.CustomNonbondedForce) for force in system.getForces())
    forces, native = forces_and_energy(system, positions)
    assert native == pytest.approx(energy, abs=1e-3)  # kJ/mol
    np.testing.assert_allclose(forces, expected, atol=1e-7 * np.abs(expected).max())


def test_arithmetic_means_are_left_as_they_are(few, tmp_path):
    text = FIELD.read_text(encoding="utf-8")
    start = text.index("    <NBFixPair")
    (tmp_path / "arithmetic.xml").write_text(text[:start] + text[text.index("\n", start) + 1 :], encoding="utf-8")
    system = made(few[0], openmm.app.ForceField(str(tmp_path / "arithmetic.xml")))
    before = openmm.XmlSerializer.serialize(system)
    use_native_lennard_jones(system)
    assert openmm.XmlSerializer.serialize(system) == before
