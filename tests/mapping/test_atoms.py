import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.mapping.atoms import AtomTopology


@pytest.fixture(scope="module")
def four_site_water() -> tuple[openmm.app.Topology, openmm.System]:
    topology = openmm.app.Topology()
    chain = topology.addChain()
    for _ in range(2):
        residue = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", openmm.app.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.addBond(oxygen, topology.addAtom(name, openmm.app.element.hydrogen, residue))
        topology.addAtom("M", None, residue)
    system = openmm.app.ForceField("tip4pew.xml").createSystem(topology, constraints=openmm.app.HBonds)
    return topology, system


def test_openmm_names_masses_charges_and_constraints(four_site_water):
    atoms = AtomTopology.from_openmm(*four_site_water)
    assert atoms.masses[:4].tolist() == pytest.approx([15.99943, 1.007947, 1.007947, 0.0])
    assert atoms.charges[:4].tolist() == pytest.approx([0.0, 0.52422, 0.52422, -1.04844])
    assert atoms.constraints[:3].tolist() == [[0, 1], [0, 2], [1, 2]]
    assert AtomTopology.from_openmm(four_site_water[0]).constraints is None


def test_virtual_sites_belong_to_the_molecule(four_site_water):
    atoms = AtomTopology.from_openmm(*four_site_water)
    assert atoms.molecules.tolist() == [0] * 4 + [1] * 4
    assert atoms.links.tolist()[-2:] == [[0, 3], [4, 7]]


def test_standard_bonds_are_made_where_there_are_none(mixture):
    assert len(mixture.bonds) == 21 + 6
    assert np.bincount(mixture.molecules).tolist() == [22, 3, 3, 3, 1]


def test_mistakes_are_named(ala2, four_site_water):
    with pytest.raises(ValueError, match=r"`masses` must have one entry per atom \(22\), got 2"):
        AtomTopology.from_mdtraj(ala2.topology, masses=[1.0, 2.0])
    with pytest.raises(ValueError, match="`constraints` names atom 22, but there are 22 atoms"):
        AtomTopology.from_mdtraj(ala2.topology, constraints=[(0, 22)])
    for label in ("bonds", "constraints"):
        with pytest.raises(
            ValueError, match=rf"`{label}` must be pairs of atoms, counted from 0, got \[\[0.5, 1.0\]\]"
        ):
            AtomTopology.from_mdtraj(ala2.topology, **{label: [(0.5, 1)]})
    with pytest.raises(ValueError, match="the system has 8 particles, the topology 22 atoms"):
        AtomTopology.from_openmm(ala2.topology.to_openmm(), four_site_water[1])
    with pytest.raises(ValueError, match=r"`shared`: cannot understand the selection 'nmae CA'"):
        ala2.select("nmae CA", "`shared`")
