"""Beads by SMARTS, and everything that can be wrong with them."""

from collections import Counter

import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import Element

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping

chem = pytest.importorskip("rdkit.Chem")


def molecule(*smiles):
    """Atoms of some molecules, each in a residue of its own."""
    topology, bonds = mdtraj.Topology(), []
    for one in smiles:
        found = chem.AddHs(chem.MolFromSmiles(one))
        residue, first = topology.add_residue("MOL", topology.add_chain()), topology.n_atoms
        for atom in found.GetAtoms():
            topology.add_atom(f"{atom.GetSymbol()}{atom.GetIdx()}", Element.getBySymbol(atom.GetSymbol()), residue)
        bonds += [(first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()) for bond in found.GetBonds()]
    return AtomTopology.from_mdtraj(topology, bonds=bonds)


def build(atoms, *beads, **entries):
    beads = [{"name": f"B{number}", **bead} for number, bead in enumerate(beads)]
    return Mapping.build(MappingDefinition.parse({"beads": beads, **entries}, "test"), atoms)


def test_hydrogens_go_with_their_heavy_atoms():
    atoms = molecule("CCO", "CCO")
    mapping = build(atoms, {"smarts": "[CH3][CH2]"}, {"smarts": "[OH]", "type": "O"})
    assert mapping.topology.types == ("MOL-B0", "O", "MOL-B0", "O")
    assert mapping.topology.bonds.tolist() == [[0, 1], [2, 3]]
    assert [atoms.formula(mapping.owners[[bead]].indices) for bead in (0, 1)] == ["C2H5", "HO"]
    assert mapping.topology.masses.sum() == pytest.approx(atoms.masses.sum())


def test_map_numbers_say_what_belongs_to_the_bead():
    atoms = molecule("CCCO")
    mapping = build(atoms, {"smarts": "[CH3:1][CH2]"}, {"smarts": "[CH2:1][CH2:2][OH:2]", "weights": {"1": 3, "2": 1}})
    np.testing.assert_allclose(mapping.matrix.toarray()[1, :4], [0, 0.6, 0.2, 0.2])
    assert mapping.owners[[1]].sum() == 8
    with pytest.raises(ValueError, match="bead 'B0' of MOL0: `weights` has no entry for atom '2'"):
        build(atoms, {"smarts": "[CH2:1][CH2:2]", "weights": {"1": 1}}, unmapped="all")


def test_positions_on_one_atom():
    atoms = molecule("CC")
    mapping = build(atoms, {"smarts": "[CH3]", "weights": "single"})
    assert mapping.matrix.nnz == 2
    assert mapping.owners.nnz == 8


@pytest.mark.parametrize("carbons", range(1, 27))
def test_a_chain_of_any_length_is_merged(carbons):
    atoms = molecule("C" * carbons)
    mapping = Mapping.build(load_mapping("polyethylene"), atoms)
    sizes = [int(name[1]) for name in mapping.topology.types]
    assert sum(sizes) == carbons
    assert len(sizes) == max(1, (2 * carbons + 4) // 8)
    assert all(size == 4 for size in sizes[1:-1])
    assert max(sizes) - min(sizes) <= 1
    assert len(mapping.topology.bonds) == len(sizes) - 1
    assert mapping.topology.masses.sum() == pytest.approx(atoms.masses.sum())
    ends = Counter(name.split("-")[1] for name in mapping.topology.types)
    assert ends["end"] == (2 if len(sizes) > 1 else 0)


def test_rings_are_merged_too():
    mapping = build(molecule("C1" + "C" * 14 + "C1"), {"smarts": "[CH2]", "merge": 4, "type": "{position}"})
    assert mapping.topology.types == ("middle",) * 4


def test_side_groups_have_the_position_of_the_chain():
    atoms = molecule("CC(O)CC(O)CC(O)")
    mapping = build(
        atoms,
        {"smarts": "[CX4]", "merge": 2, "type": "C-{position}"},
        {"smarts": "[OX2]", "side": True, "type": "O-{position}"},
    )
    assert Counter(mapping.topology.types) == {"C-end": 2, "C-middle": 1, "O-end": 2, "O-middle": 1}
    star = build(molecule("CC(CCO)(CCO)CCO"), {"smarts": "[CH3]C", "type": "{position}"}, {"smarts": "[CH2]CO"})
    assert star.topology.types[0] == "branch"


PROPANOL = [{"smarts": "[CH3][CH2]"}, {"smarts": "[CH2][OH]"}]


@pytest.mark.parametrize(
    ("beads", "entries", "message"),
    [
        (
            [{"smarts": "[CH3][CH2][CH2]"}, PROPANOL[1]], {},
            r"3 atoms belong to several beads: MOL0-C2 \(atom 2\), .*; the first one to 'B0' \(\[CH3\]\[CH2\]\[CH2\]\) "
            r"and 'B1' \(\[CH2\]\[OH\]\); if this is meant, declare them in `shared`",
        ),
        ([{"smarts": "[CH2]~*"}], {"unmapped": "all"}, r"atoms belong to several beads: .*'B0' .* and 'B0'"),
        (PROPANOL[:1], {}, r"5 atoms belong to no bead: MOL0-C2 \(atom 2\), MOL0-O3 \(atom 3\), .* in `unmapped`"),
        ([{"smarts": "[CH2"}], {}, r"bead 'B0': cannot understand the SMARTS '\[CH2'"),
        ([{"smarts": "N"}], {}, "bead 'B0': the SMARTS 'N' matches nothing"),
        (
            [{"smarts": "[CH3].[OH]"}], {"unmapped": "all"},
            r"bead 'B0': its atoms are in 2 pieces .*, MOL0-C0 \(atom 0\) is in one and MOL0-O3 .* `connected = false`",
        ),
        ([{"smarts": "[CH2,CH3]"}], {"unmapped": "all"}, "bead type 'MOL-B0' would stand for CH3, .*, and for CH2, at"),
        ([{"smarts": "*~*", "merge": 2}], {"unmapped": "all"}, "bead 'B0': matches that are merged must not overlap"),
        ([{"smarts": "C", "per": "molecule"}], {}, "`smarts` and `per` exclude each other"),
        ([{"smarts": "C", "atoms": {"MOL": "C0"}}], {}, "`smarts` and `atoms` exclude each other"),
        ([{"merge": 2}], {}, "`merge` joins matches of `smarts`, which is missing"),
        ([{"smarts": "C", "type": "{tacticity}"}], {"unmapped": "all"}, "bead 'B0': its type has {tacticity}, which"),
    ],
)  # fmt: skip
def test_mistakes_are_named(beads, entries, message):
    with pytest.raises(ValueError, match=message):
        build(molecule("CCCO"), *beads, **entries)


def test_what_is_declared_is_no_mistake():
    shared = build(molecule("CCCO"), {"smarts": "[CH3][CH2][CH2]"}, PROPANOL[1], shared="all")
    assert len(shared.shared) == 3
    pieces = build(molecule("CCCO"), {"smarts": "[CH3].[OH]", "connected": False}, unmapped="all")
    assert len(pieces.topology) == 1


def test_a_branch_cannot_be_merged():
    with pytest.raises(ValueError, match=r"bead 'B0': `merge` joins matches along a chain, and at MOL0-C1 .* branches"):
        build(molecule("CC(C)C"), {"smarts": "[CX4]", "merge": 2})


def test_planes_between_residues():
    """A rule for groups that span residues: the peptide planes of a chain."""
    peptide = molecule("NCC(=O)NCC(=O)NCC(=O)O")
    mapping = build(peptide, {"smarts": "[CX3:1](=[O:1])[NX3:1]", "frame": {"symmetry": "Cs"}}, unmapped="all")
    assert len(mapping.topology) == 2
    assert peptide.formula(mapping.owners[[0]].indices) == "CHNO"
