import numpy as np
import pytest

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping

BOX = np.array([[2.0, 0, 0], [1.0, 2.0, 0], [-1.0, 1.0, 2.0]])


@pytest.fixture
def charged(mixture) -> AtomTopology:
    """Alanine dipeptide with charges that cancel, waters, and a sodium ion."""
    charges = np.random.default_rng(4).normal(size=32)
    charges[:22] -= charges[:22].mean()
    charges[22:31] = np.tile([-0.8, 0.4, 0.4], 3)
    charges[31] = 1.0
    return AtomTopology.from_mdtraj(mixture.topology, charges=charges, bonds=mixture.bonds)


@pytest.fixture
def whole(charged) -> np.ndarray:
    """Six frames of random walks along the bonds [nm]."""
    rng, positions = np.random.default_rng(3), np.zeros((6, 32, 3))
    for i, j in charged.bonds:
        step = rng.normal(size=(6, 3))
        positions[:, j] = positions[:, i] + 0.15 * step / np.linalg.norm(step, axis=1, keepdims=True)
    return positions + rng.random((6, 1, 3))


def overlapping() -> MappingDefinition:
    """Two beads that share an atom of the peptide, waters as beads that own their hydrogens, and the ion."""
    peptide = [
        {"name": "L", "per": "selection", "select": "resname ACE or (resname ALA and name N CA)"},
        {"name": "R", "per": "selection", "select": "resname NME or (resname ALA and not name N)"},
    ]
    water = {"name": "W", "select": "water and name O", "owns": "water", "weights": "single"}
    ion = {"name": "NA", "select": "resname NA"}
    return MappingDefinition.parse({"beads": [*peptide, water, ion], "shared": "name CA"}, "test")


def mappings(atoms: AtomTopology) -> list[Mapping]:
    return [Mapping.build(definition, atoms) for definition in (load_mapping("molecule-com"), overlapping())]


def test_the_total_dipole_is_that_of_the_atoms(charged, whole):
    """Also of molecules cut by a triclinic box; without the ion, whose image is a matter of choice."""
    rng, box = np.random.default_rng(5), BOX[None].repeat(6, 0)
    broken = whole + rng.integers(-1, 2, whole.shape) @ box
    for mapping in mappings(charged):
        beads = mapping.topology
        assert beads.charges.sum() == pytest.approx(charged.charges.sum(), abs=1e-12)
        dipoles = mapping.map_dipoles(broken, box)
        np.testing.assert_allclose(dipoles, mapping.map_dipoles(whole), atol=1e-10)
        expected = charged.charges @ whole
        total = beads.charges @ mapping.map_positions(whole) + dipoles.sum(axis=1)
        np.testing.assert_allclose(total, expected, atol=1e-10)
        mended = beads.charges @ mapping.map_positions(broken, box) + dipoles.sum(axis=1)
        image = (mended - expected) @ np.linalg.inv(BOX)  # of the ion
        np.testing.assert_allclose(image, np.rint(image), atol=1e-10)


def test_charges_and_dipoles_of_the_atoms_may_change(charged, whole):
    rng = np.random.default_rng(6)
    charges, dipoles = rng.normal(size=(6, 32)), rng.normal(size=(6, 32, 3))
    for mapping in mappings(charged):
        beads, found = mapping.map_charges(charges), mapping.map_dipoles(whole, charges=charges, dipoles=dipoles)
        np.testing.assert_allclose(beads.sum(axis=1), charges.sum(axis=1), atol=1e-12)
        total = np.einsum("fb,fbx->fx", beads, mapping.map_positions(whole)) + found.sum(axis=1)
        expected = np.einsum("fa,fax->fx", charges, whole) + dipoles.sum(axis=1)
        np.testing.assert_allclose(total, expected, atol=1e-10)
        constant = np.tile(charged.charges, (6, 1))
        np.testing.assert_allclose(mapping.map_charges(constant), np.tile(mapping.topology.charges, (6, 1)), atol=1e-12)
        np.testing.assert_allclose(mapping.map_dipoles(whole, charges=constant), mapping.map_dipoles(whole), atol=1e-12)


def test_a_water_has_the_dipole_of_its_geometry():
    """TIP3P: 2.347 D (Jorgensen et al. 1983) about the oxygen and, as it is neutral, about any point."""
    atoms = AtomTopology.from_openmm(*_water())
    angle, length = np.radians(104.52 / 2), 0.09572
    positions = length * np.array([[[0, 0, 0], [np.sin(angle), 0, np.cos(angle)], [-np.sin(angle), 0, np.cos(angle)]]])
    mapping = Mapping.build(load_mapping("molecule-com"), atoms)
    np.testing.assert_allclose(mapping.map_dipoles(positions) / 0.0208194, [[[0, 0, 2.347]]], atol=1e-3)
    with pytest.raises(ValueError, match="dipoles of beads need charges of the atoms"):
        Mapping.build(load_mapping("molecule-com"), AtomTopology.from_mdtraj(atoms.topology)).map_dipoles(positions)


def _water():
    import openmm
    import openmm.app

    topology = openmm.app.Topology()
    residue = topology.addResidue("HOH", topology.addChain())
    atoms = [topology.addAtom(name, openmm.app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")]
    topology.addBond(atoms[0], atoms[1])
    topology.addBond(atoms[0], atoms[2])
    system, force = openmm.System(), openmm.NonbondedForce()
    for mass, charge in ((16.0, -0.834), (1.0, 0.417), (1.0, 0.417)):
        system.addParticle(mass)
        force.addParticle(charge, 0.3, 0.0)
    system.addForce(force)
    return topology, system


def test_a_renaming_makes_a_bead_of_every_atom(charged):
    assert not any(mapping.is_renaming for mapping in mappings(charged))
    ion = charged.topology.subset([31])
    alone = AtomTopology.from_mdtraj(ion, charges=[1.0])
    assert Mapping.build(load_mapping("molecule-com"), alone).is_renaming
