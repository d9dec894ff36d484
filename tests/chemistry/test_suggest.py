import gc
import tomllib

import numpy as np
import pytest

from cgenn.chemistry.polymer import build_polymer
from cgenn.chemistry.suggest import suggest_mapping
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.mapping import Mapping

pytest.importorskip("rdkit")


def suggested(source):
    return MappingDefinition.parse(tomllib.loads(suggest_mapping(source)), "suggestion")


@pytest.mark.parametrize(
    ("unit", "beads"),
    [
        ("[*]CCO[*]", 1), ("[*]CC[*]", 0.5), ("[*]CC(c1ccccc1)[*]", 2), ("[*]CC(C)[*]", 1), ("[*]CC(Cl)[*]", 1),
        ("[*]OC(C)C(=O)[*]", 1), ("[*]NCCCCCC(=O)[*]", 2), ("[*]OCCOC(=O)c1ccc(cc1)C(=O)[*]", 3),
    ],
)  # fmt: skip
def test_a_suggestion_for_a_polymer_fits_another_length(unit, beads):
    """Whole coverage, on a chain that was not seen, and about so many beads per unit."""
    definition = suggested(unit)
    chain = build_polymer(unit, 6)
    mapping = Mapping.build(definition, chain.atoms)
    assert len(mapping.unmapped) == len(mapping.shared) == 0
    assert len(mapping.topology) == pytest.approx(6 * beads, abs=1.5)


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "c1ccc2ccccc2c1", "O", "CCCCCCCCCC"]
)
def test_rings_are_whole_and_pieces_of_a_size(smiles):
    chem = pytest.importorskip("rdkit.Chem")
    definition = suggested(smiles)
    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    from cgenn.chemistry.suggest import _read

    atoms, _ = _read(smiles)
    mapping = Mapping.build(definition, atoms)
    members = [set(mapping.owners[[bead]].indices.tolist()) for bead in range(len(mapping.topology))]
    for ring in molecule.GetRingInfo().AtomRings():
        assert any(set(ring) <= bead for bead in members)
    heavy = mapping.owners @ (atoms.elements != "H").astype(float)
    assert np.all((heavy >= 2) | (len(heavy) == 1))
    assert heavy.max() <= 10


def test_mixed_stereocentres_are_declared():
    assert "mixed_stereo = true # or {tacticity}" in suggest_mapping("[*]CC(c1ccccc1)[*]")
    assert "mixed_stereo" not in suggest_mapping("[*]CCO[*]")


def test_what_is_neither_file_nor_smiles():
    with pytest.raises(ValueError, match="'no molecule' is neither a topology file nor a SMILES"):
        suggest_mapping("no molecule")
    with pytest.raises(ValueError, match=r"no topology file 'missing.pdb'"):
        suggest_mapping("missing.pdb")
    with pytest.raises(ValueError, match=r"or of a repeat unit with two \[\*\], got '\[\*\]CC'"):
        suggest_mapping("[*]CC")


def test_bonds_are_needed(tmp_path):
    path = tmp_path / "chain.pdb"
    build_polymer("[*]CCO[*]", 3).save(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("CONECT")))
    with pytest.raises(ValueError, match=r"UNT1-H1A .* is bonded to no heavy atom: are bonds missing"):
        suggest_mapping(str(path))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # MDTraj does not close the file
def test_a_file_that_is_cut_off(tmp_path):
    path = tmp_path / "chain.pdb"
    path.write_text("HETATM    1  C1  UNT A   1       0.000   0.000   0.000  1.00  0.00           C\nHETATM    2")
    with pytest.raises(ValueError, match=r"chain.pdb: cannot read a structure from it: it is cut off"):
        suggest_mapping(str(path))
    gc.collect()
