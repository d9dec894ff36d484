import numpy as np
import openmm.app
import pytest

from cgenn.chemistry.polymer import build_polymer
from cgenn.data.topology import read_topology

chem = pytest.importorskip("rdkit.Chem")


@pytest.mark.parametrize(
    ("unit", "length", "ends", "smiles"),
    [
        ("[*]CCO[*]", 3, {}, "CCOCCOCCO"),
        ("[*]CCO[*]", 2, {"head": "[*]O", "tail": "[*]C"}, "OCCOCCOC"),
        ("[*]CC(c1ccccc1)[*]", 2, {}, "CC(c1ccccc1)CCc1ccccc1"),
        ("[*]C[*]", 1, {}, "C"),
    ],
)
def test_the_chain_is_the_one_asked_for(unit, length, ends, smiles):
    found = chem.RemoveHs(build_polymer(unit, length, **ends).molecule)
    assert chem.MolToSmiles(found, isomericSmiles=False) == chem.MolToSmiles(chem.MolFromSmiles(smiles))


def test_units_are_residues_with_the_same_names():
    chain = build_polymer("[*]CC(c1ccccc1)[*]", 4, tail="[*]O", residue="STY")
    names = [[atom.name for atom in residue.atoms()] for residue in chain.topology.residues()]
    assert len(names) == 4
    assert names[1] == names[2]
    assert names[3][:8] == names[1][:8] == [f"C{number}" for number in range(1, 9)]
    assert set(names[0]) - set(names[1]) == {"H1C"}
    assert set(names[3]) - set(names[1]) == {"O1", "HO1A"}


def test_the_conformation_has_no_overlaps():
    chain = build_polymer("[*]CCO[*]", 10)
    distances = np.linalg.norm(chain.positions[:, None] - chain.positions[None], axis=2)
    assert distances[np.triu_indices(len(distances), 1)].min() > 0.085
    bonds = chain.atoms.bonds
    assert distances[bonds[:, 0], bonds[:, 1]].max() < 0.165


def test_files_keep_bonds_and_orders(tmp_path):
    chain = build_polymer("[*]OC(C)C(=O)[*]", 3, tacticity="isotactic")
    for name in ("chain.pdb", "chain.sdf"):
        chain.save(tmp_path / name)
    atoms = read_topology(tmp_path / "chain.pdb")
    assert atoms.bonds.tolist() == chain.atoms.bonds.tolist()
    assert len(list(openmm.app.PDBFile(str(tmp_path / "chain.pdb")).topology.bonds())) == len(atoms.bonds)
    (read,) = chem.SDMolSupplier(str(tmp_path / "chain.sdf"), removeHs=False)
    assert chem.MolToSmiles(read) == chem.MolToSmiles(chain.molecule)


def test_the_same_seed_gives_the_same_chain():
    first, second = (build_polymer("[*]CC(C)[*]", 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("CCO", 3), {}, r"the repeat unit: expected a SMILES with 2 \[\*\], each with one bond, got 'CCO'"),
        (("[*]CC(", 3), {}, r"the repeat unit: cannot understand the SMILES '\[\*\]CC\('"),
        (("[*]CC[*]", 0), {}, "`length` must be at least 1, got 0"),
        (("[*]CC[*]", 2), {"head": "O"}, r"`head`: expected a SMILES with 1 \[\*\]"),
        (("[*]CC[*]", 2), {"tacticity": "meso"}, "`tacticity` must be isotactic, syndiotactic or atactic, got 'meso'"),
        (("[*]C.C[*]", 3), {}, "expected the two .* of one molecule, got .*, where nothing joins them"),
        (("[*][*]", 3), {}, r"expected atoms between the two \[\*\], got '\[\*\]\[\*\]'"),
        (("[*]C=[*]", 2), {}, r"'\[\*\]C=\[\*\]' with these ends makes no molecule: Explicit valence"),
        (("[*]C[CH][*]", 2), {}, "leaves C with an unpaired electron: expected closed shells"),
        (("[*]CC[*]", 2), {"seed": -1}, "`seed` must be from 0 to 2147483647, got -1"),
        (("[*]CC[*]", 2), {"residue": "LONG"}, "`residue` must have one to three letters, got 'LONG'"),
    ],
)
def test_mistakes_are_named(words, options, message):
    with pytest.raises(ValueError, match=message):
        build_polymer(*words, **options)


def test_counterions_stay_with_their_unit():
    chain = build_polymer("[*]CC([O-])[*].[Na+]", 2)
    assert [sum(atom.element.symbol == "Na" for atom in unit.atoms()) for unit in chain.topology.residues()] == [1, 1]


def test_only_known_files_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"chain.xyz: a polymer is written as .pdb or .sdf, got '.xyz'"):
        build_polymer("[*]CC[*]", 1).save(tmp_path / "chain.xyz")
