import json

import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import Element

from cgenn import shipped
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping


def build(atoms, beads, **entries):
    return Mapping.build(MappingDefinition.parse({"beads": beads, **entries}, "test"), atoms)


@pytest.mark.parametrize("name", shipped.names("mappings"))
def test_shipped_definitions_are_valid(name):
    assert load_mapping(name).description


def test_residue_com_equals_mdtraj(ala2):
    positions = np.random.default_rng(0).normal(size=(5, 22, 3))
    mapping = Mapping.build(load_mapping("residue-com"), ala2)
    trajectory = mdtraj.Trajectory(positions, ala2.topology)
    for bead, residue in enumerate(ala2.topology.residues):
        group = trajectory.atom_slice([atom.index for atom in residue.atoms])
        np.testing.assert_allclose(
            mapping.map_positions(positions)[:, bead], mdtraj.compute_center_of_mass(group), atol=1e-6
        )
    assert mapping.topology.types == ("ACE-COM", "ALA-COM", "NME-COM")
    assert mapping.topology.bonds.tolist() == [[0, 1], [1, 2]]


def test_backbone_of_alanine_dipeptide_is_five_beads(ala2):
    mapping = Mapping.build(load_mapping("backbone"), ala2)
    assert mapping.topology.types == ("ACE-C", "ALA-N", "ALA-CA", "ALA-C", "NME-N")
    assert mapping.topology.bonds.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    positions = np.random.default_rng(0).normal(size=(2, 22, 3))
    np.testing.assert_array_equal(mapping.map_positions(positions), positions[:, [4, 6, 8, 14, 16]])
    assert mapping.topology.masses.sum() == pytest.approx(ala2.masses.sum())


def test_ca_and_side_chain_share_out_the_residue(ala2):
    both = Mapping.build(load_mapping("ca-sidechain"), ala2)
    assert both.topology.types == ("ALA-CA", "ALA-SC")
    assert both.topology.bonds.tolist() == [[0, 1]]
    assert len(both.unmapped) == 12
    ca = Mapping.build(load_mapping("ca"), ala2)
    assert ca.topology.masses[0] == pytest.approx(both.topology.masses.sum()) == pytest.approx(71.079, abs=0.01)


def test_several_kinds_of_molecules(mixture):
    """Molecules are in the order of their residues; masses and charges are conserved."""
    mapping = Mapping.build(load_mapping("molecule-com"), mixture)
    assert mapping.topology.types == ("ACE-COM", "HOH-COM", "HOH-COM", "HOH-COM", "NA-COM")
    assert mapping.topology.masses.sum() == pytest.approx(mixture.masses.sum())
    assert mapping.topology.charges.tolist() == pytest.approx([0, 0, 0, 0, 1], abs=1e-12)
    assert len(mapping.topology.bonds) == 0
    dry = Mapping.build(load_mapping("residue-com"), mixture)
    assert dry.topology.types == ("ACE-COM", "ALA-COM", "NME-COM", "NA-COM")
    assert dry.report["outside_selection"] == 9
    water = build(
        mixture,
        [{"name": "W", "select": "water", "type": "W"}, {"name": "BB", "select": "name CA", "owns": "all"}],
        unmapped="not water",
    )
    assert water.topology.types == ("ALA-BB", "W", "W", "W")
    json.dumps(water.report)


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_beads_of_molecules_cut_by_a_triclinic_box(mixture, tilt):
    """Beads of broken molecules are those of whole ones, up to one lattice vector per molecule."""
    rng = np.random.default_rng(3)
    box = np.array([[2.0, 0, 0], [tilt, 2.0, 0], [-tilt, tilt, 2.0]])[None].repeat(6, 0)
    whole = np.zeros((6, 32, 3))
    for i, j in mixture.bonds:
        step = rng.normal(size=(6, 3))
        whole[:, j] = whole[:, i] + 0.15 * step / np.linalg.norm(step, axis=1, keepdims=True)
    broken = whole + rng.integers(-1, 2, whole.shape) @ box
    mapping = Mapping.build(load_mapping("molecule-com"), mixture)
    shift = (mapping.map_positions(broken, box) - mapping.map_positions(whole)) @ np.linalg.inv(box)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-10)
    parts = Mapping.build(load_mapping("residue-com"), mixture)
    found, expected = parts.map_positions(broken, box), parts.map_positions(whole)
    np.testing.assert_allclose(found[:, 1:3] - found[:, :1], expected[:, 1:3] - expected[:, :1], atol=1e-10)


def test_atoms_that_no_bond_joins_are_held_together_within_a_bead():
    topology = mdtraj.Topology()
    residue = topology.add_residue("XXX", topology.add_chain())
    for name in ("A", "B"):
        topology.add_atom(name, Element.getBySymbol("C"), residue)
    atoms = AtomTopology.from_mdtraj(topology, bonds=[])
    positions = np.array([[[0.1, 0, 0], [1.9, 0, 0]]])
    mapped = build(atoms, [{"name": "P"}]).map_positions(positions, np.eye(3)[None] * 2.0)
    np.testing.assert_allclose(mapped, [[[0.0, 0, 0]]], atol=1e-12)


def test_weights(ala2):
    """Mass, uniform, explicit and single weights of the CA-C pair."""
    pair = {"name": "P", "select": "resname ALA and name CA C"}
    for weights, expected in [
        ("uniform", [0.5, 0.5]), ("mass", [0.5, 0.5]), ({"CA": 3.0, "C": 1.0}, [0.75, 0.25]),
    ]:  # fmt: skip
        mapping = build(ala2, [{**pair, "weights": weights}], unmapped="all")
        np.testing.assert_allclose(mapping.matrix.toarray()[0, [8, 14]], expected)
    with pytest.raises(ValueError, match=r'bead \'P\' of ALA2: `weights` "single" expects one atom, .* has 2: ALA2-CA'):
        build(ala2, [{**pair, "weights": "single"}], unmapped="all")
    with pytest.raises(ValueError, match="bead 'P' of ALA2: `weights` has no entry for atom 'C'"):
        build(ala2, [{**pair, "weights": {"CA": 1.0}}], unmapped="all")


def test_shared_atoms_split_their_mass_and_bond_the_beads(ala2):
    beads = [
        {"name": "L", "per": "selection", "select": "resname ACE or (resname ALA and name N CA)"},
        {"name": "R", "per": "selection", "select": "resname NME or (resname ALA and not name N)"},
    ]
    with pytest.raises(ValueError, match=r"1 atoms belong to several beads: ALA2-CA \(atom 8\); .* in `shared`"):
        build(ala2, beads)
    mapping = build(ala2, beads, shared="name CA")
    assert mapping.topology.masses.sum() == pytest.approx(ala2.masses.sum())
    assert mapping.topology.bonds.tolist() == [[0, 1]]
    assert mapping.report["shared"] == {"CA": 1}
    np.testing.assert_allclose(mapping.matrix.sum(axis=1), 1.0)


def test_bead_types_can_be_named(ala2):
    mapping = build(ala2, [{"name": "B", "type": "{name}_{residue}"}], types={"B_ALA": "X"})
    assert mapping.topology.types == ("B_ACE", "X", "B_NME")
    with pytest.raises(
        ValueError, match=r"`beads.0.type`: a bead type may contain \{residue\}, \{name\}, \{position\}"
    ):
        build(ala2, [{"name": "B", "type": "{resid}"}])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"beads": [{"name": "A", "select": "name XX"}]}, "bead 'A': the selection 'name XX' matches no atom"),
        ({"beads": [{"name": "A"}], "selection": "water"}, "`selection`: the selection 'water' matches no atom"),
        ({"beads": [{"name": "A", "select": "name XX", "optional": True}]}, "makes no bead of these atoms"),
        (
            {"beads": [{"name": "A", "select": "not name CB O"}]},
            r"3 atoms belong to no bead: ACE1-O \(atom 5\), ALA2-CB \(atom 10\), ALA2-O .* declare them in `unmapped`",
        ),
        ({"beads": [{"name": "A", "colour": 1}]}, "test: unknown key `beads.0.colour`"),
        ({"beads": [{"name": "A"}], "unmaped": "all"}, "test: unknown key `unmaped`"),
        ({"beads": []}, "`beads`"),
        ({"beads": [{"name": "A", "select": "name CA and"}], "unmapped": "all"}, "cannot understand the selection"),
    ],
)
def test_mistakes_are_named(ala2, entries, message):
    with pytest.raises(ValueError, match=message):
        build(ala2, **entries)


def test_a_bead_without_mass_is_named(ala2):
    atoms = AtomTopology.from_mdtraj(ala2.topology, masses=np.where(ala2.residue_index == 1, 0.0, 1.0))
    with pytest.raises(ValueError, match="bead 'A' of ALA2: its 10 atoms have no mass"):
        build(atoms, [{"name": "A"}])
    with pytest.raises(ValueError, match="bead 'A' of ALA2 has no mass"):
        build(atoms, [{"name": "A", "weights": dict.fromkeys(["N", "C", "O", "CA", "CB", "CH3", "H", "HA", "H1", "H2",
              "H3", "HB1", "HB2", "HB3"], 1.0)}])  # fmt: skip
