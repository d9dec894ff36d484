import sys

import numpy as np
import pytest

from cgenn.mapping.bond_orders import assign_bond_orders

chem = pytest.importorskip("rdkit.Chem")


def bare(smiles):
    """Elements and bonds of a molecule, all else forgotten."""
    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    bonds = np.array([sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in molecule.GetBonds()], dtype=int)
    elements = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    return elements, bonds.reshape(-1, 2), [f"{name}{place}" for place, name in enumerate(elements)]


@pytest.mark.parametrize(
    "smiles",
    [
        "CCO", "C=C", "C#C", "CC#N", "O=C=O", "C=C=C", "C#CC#C", "c1ccccc1", "c1ccc2ccccc2c1", "c1ccncc1", "c1cc[nH]c1",
        "CC(=O)O", "CC(=O)[O-]", "CC(=O)NC", "CC(=O)OC", "[O-]c1ccccc1", "C[N+](C)(C)CCO", "CC[NH3+]",
        "NC(=[NH2+])N", "C[n+]1ccn(C)c1", "c1c[nH]c[nH+]1", "C[N+](=O)[O-]", "O=[N+]([O-])[O-]", "CS(=O)(=O)[O-]",
        "CS(C)=O",
        "CS(C)(=O)=O", "C[S+](C)C", "COP(=O)([O-])OC", "F[P-](F)(F)(F)(F)F", "F[B-](F)(F)F", "[O-]Cl(=O)(=O)=O", "CSSC",
        "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "[Na+]", "[Cl-]", "O", "[OH3+]", "C[P+](C)(C)C",
        "NC(Cc1c[nH]c2ccccc12)C(=O)NCC(=O)[O-]",
    ],
)  # fmt: skip
def test_bond_orders_come_back(smiles):
    found = chem.RemoveHs(assign_bond_orders(*bare(smiles)))
    wanted = chem.MolFromSmiles(smiles)
    assert chem.GetFormalCharge(found) == chem.GetFormalCharge(wanted)
    assert chem.MolToSmiles(found) == chem.MolToSmiles(wanted)


def test_missing_hydrogens_are_told():
    elements, bonds, names = bare("CCC")
    with pytest.raises(ValueError, match="C0: bond orders cannot be told without hydrogens"):
        assign_bond_orders(elements[:3], bonds[(bonds < 3).all(axis=1)], names[:3])
    lacking = bonds[(bonds != len(elements) - 1).all(axis=1)]
    with pytest.raises(ValueError, match=r"C2: C with 3 neighbours leaves 1 valences open: .* need all hydrogens"):
        assign_bond_orders(elements[:-1], lacking, names[:-1])
    with pytest.raises(ValueError, match="C0: C has 5 bonds, expected at most 4"):
        assign_bond_orders(["C", *"HHHHH"], np.array([(0, place) for place in range(1, 6)]), ["C0", *"HHHHH"])


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"telling bond orders needs RDKit: pip install 'cgenn\[chemistry\]'"):
        assign_bond_orders(["O"], np.empty((0, 2), dtype=int), ["O"])
