import numpy as np
import pytest

from cgenn.reference.system import load_system


def test_build(vacuum):
    topology, system, positions = vacuum.build()
    assert topology.getNumAtoms() == system.getNumParticles() == len(positions) == 22
    assert topology.getPeriodicBoxVectors() is None
    assert not system.usesPeriodicBoundaryConditions()
    assert system.getNumConstraints() == 12
    assert np.ptp(positions) < 1.0  # nm
    groups = [force.getForceGroup() for force in system.getForces()]
    assert groups == list(range(len(groups)))


def test_solvent_is_added_the_same_way_each_time():
    definition = load_system("alanine-dipeptide-explicit")
    topology, system, positions = definition.build()
    again = definition.build()[2]
    np.testing.assert_array_equal(positions, again)
    assert system.usesPeriodicBoundaryConditions()
    assert positions.shape[0] == topology.getNumAtoms() > 1000
    edges = topology.getUnitCellDimensions()._value
    assert min(edges) > 2 * definition.definition.cutoff


def test_hydrogen_mass_is_taken_from_the_neighbours():
    system = load_system("alanine-dipeptide-implicit").build()[1]
    masses = [system.getParticleMass(i)._value for i in range(22)]
    assert masses.count(3.0) == 12
    assert sum(masses) == pytest.approx(144.1, abs=0.1)  # amu, C6H12N2O2


def test_unknown_name():
    with pytest.raises(ValueError, match=r"no system 'alanin': expected a path or one of alanine-dipeptide-explicit, "):
        load_system("alanin")


def test_name_is_found_beside_a_folder_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "villin").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_system("villin").definition.description.startswith("villin")


def test_folder_without_system(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*system\.toml"):
        load_system(tmp_path)


def test_unknown_key(own_system):
    with pytest.raises(ValueError, match=r"system\.toml: unknown key `cut_off`"):
        load_system(own_system(cut_off=1.0))


def test_missing_force_field(own_system):
    with pytest.raises(ValueError, match=r"system 'own': cannot load the force field amber15\.xml: expected files"):
        load_system(own_system(force_field=("amber15.xml",))).build()


def test_force_field_without_parameters(own_system):
    with pytest.raises(ValueError, match=r"system 'own': No template found for residue 0 \(ACE\)"):
        load_system(own_system(force_field=("amber14/spce.xml",))).build()


def test_missing_structure(own_system):
    with pytest.raises(ValueError, match=r"system 'own': no structure .*other\.pdb"):
        load_system(own_system(structure="other.pdb")).build()


def test_structure_of_openmm_s_data_unless_there_is_one_beside(own_system):
    """512 rigid waters of OpenMM's tip3p.pdb, and one of the same name put beside `system.toml`."""
    folder = own_system(structure="tip3p.pdb", force_field=("amber14/tip3p.xml",), nonbonded="pme", cutoff=0.9)
    theirs = load_system(folder)
    topology, _, positions = theirs.build()
    assert {residue.name for residue in topology.residues()} == {"HOH"}
    assert len(positions) == 3 * topology.getNumResidues() > 1000
    assert theirs.inputs.keys() == {"system.toml", "tip3p.pdb"}
    (folder / "tip3p.pdb").write_text((folder / "structure.pdb").read_text())
    assert load_system(folder).structure == folder / "tip3p.pdb"
    assert load_system(folder).inputs["tip3p.pdb"] != theirs.inputs["tip3p.pdb"]


def test_missing_box(own_system):
    with pytest.raises(ValueError, match=r"`nonbonded` needs a box, but structure\.pdb has no CRYST1"):
        load_system(own_system(nonbonded="pme", cutoff=0.9)).build()


def test_box_smaller_than_the_cutoff(own_system):
    folder = own_system(nonbonded="pme", cutoff=0.9)
    structure = folder / "structure.pdb"
    box = "CRYST1   15.000   15.000   15.000  90.00  90.00  90.00 P 1           1\n"
    structure.write_text(box + structure.read_text())
    with pytest.raises(
        ValueError, match=r"`cutoff` must be at most half the width of the box \(1\.500 nm\), got 0\.9 nm"
    ):
        load_system(folder).build()


def test_inputs_are_identified_by_content(own_system):
    first = load_system(own_system("a")).inputs
    assert first.keys() == {"system.toml", "structure.pdb"}
    assert load_system(own_system("b")).inputs == first
    assert load_system(own_system("c", friction=2.0)).inputs["system.toml"] != first["system.toml"]
