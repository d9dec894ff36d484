"""Every shipped definition on a real molecule: all atoms covered, masses conserved, so many beads per monomer."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import mdtraj
import numpy as np
import openmm.app
import pytest
from mdtraj.core.element import Element

from cgenn import shipped
from cgenn.chemistry.polymer import build_polymer
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import load_mapping
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping

pytest.importorskip("rdkit")
DATA = Path(openmm.app.__file__).parent / "data"
AMINO = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER",
    "THR", "TRP", "TYR", "VAL",
)  # fmt: skip


def covered(name, atoms, positions=None):
    """The mapping, with every atom in a bead and all mass conserved."""
    mapping = Mapping.build(load_mapping(name), atoms, positions)
    assert len(mapping.unmapped) == 0
    assert mapping.topology.masses.sum() == pytest.approx(atoms.masses.sum())
    return mapping


@pytest.mark.parametrize(
    ("ends", "types"),
    [
        ({}, {"EO-middle": 5, "ET-end": 1, "OH-end": 1}),
        ({"head": "[*]O"}, {"EO-middle": 6, "OH-end": 2}),
    ],
)
def test_peo(ends, types):
    chain = build_polymer("[*]CCO[*]", 7, **ends)
    assert Counter(covered("peo", chain.atoms).topology.types) == types


def test_dimethoxy_peo():
    chain = build_polymer("[*]COC[*]", 7)
    assert Counter(covered("peo", chain.atoms).topology.types) == {"EO-middle": 5, "EO-end": 2}


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_polyethylene(length):
    chain = build_polymer("[*]CC[*]", length)
    assert len(covered("polyethylene", chain.atoms).topology) == max(1, (4 * length + 4) // 8)


def test_polystyrene():
    chain = build_polymer("[*]CC(c1ccccc1)[*]", 6, tacticity="syndiotactic")
    mapping = covered("polystyrene", chain.atoms, chain.positions)
    assert Counter(mapping.topology.types) == {"PS-BB-middle": 4, "PS-BB-end": 2, "PS-PH": 6}
    frames = FrameMap.build(mapping, chain.positions[None])
    (ring,) = frames.types
    assert ring.name == "PS-PH"
    np.testing.assert_allclose(np.array(ring.body.coordinates)[:6, 2], 0.0, atol=0.01)  # flat, z its normal
    assert len(frames.topology.joints) == 6


def test_atactic_polystyrene_has_to_be_declared():
    chain = build_polymer("[*]CC(c1ccccc1)[*]", 6, tacticity="atactic")
    with pytest.raises(ValueError, match=r"'PS-BB-middle' has stereocentres of different .*: .* `mixed_stereo"):
        Mapping.build(load_mapping("polystyrene"), chain.atoms, chain.positions)


def test_polystyrene_sulfonate():
    chain = build_polymer("[*]CC(c1ccc(S(=O)(=O)[O-])cc1)[*]", 5, tacticity="isotactic")
    ions = chain.topology.addChain()
    for _ in range(5):
        chain.topology.addAtom("NA", openmm.app.element.sodium, chain.topology.addResidue("NA", ions))
    beads = covered("polystyrene-sulfonate", chain.atoms).topology
    assert Counter(beads.types) == {"PSS-BB-middle": 3, "PSS-BB-end": 2, "PSS-PH": 5, "PSS-SO3": 5, "NA": 5}


@pytest.fixture(scope="module")
def peptide():
    """The twenty amino acids in a row, with the names of OpenMM."""
    known = {entry.get("name"): entry for entry in ElementTree.parse(DATA / "residues.xml").getroot()}
    topology = mdtraj.Topology()
    chain, last = topology.add_chain(), None
    for name in AMINO:
        residue = topology.add_residue(name, chain)
        atoms = {}
        for bond in known[name].iter("Bond"):
            ends = [bond.get("from"), bond.get("to")]
            if any(end.startswith(("-", "H2", "HXT")) or end in ("OXT", "H3") for end in ends):
                continue
            for end in ends:
                if end not in atoms:
                    atoms[end] = topology.add_atom(end, Element.getBySymbol(end.lstrip("123")[0]), residue)
            topology.add_bond(atoms[ends[0]], atoms[ends[1]])
        if last is not None:
            topology.add_bond(last, atoms["N"])
        last = atoms["C"]
    return AtomTopology.from_mdtraj(topology)


@pytest.mark.parametrize(
    ("name", "beads"), [("ca", 20), ("ca-sidechain", 39), ("protein-5-bead", 99), ("protein-martini", 52)]
)
def test_proteins(name, beads, peptide):
    mapping = covered(name, peptide)
    assert len(mapping.topology) == beads
    assert len(set(mapping.topology.molecules)) == 1


def test_martini_beads_are_small(peptide):
    mapping = covered("protein-martini", peptide)
    heavy = np.isin(peptide.elements, ("C", "N", "O", "S")).astype(float)
    sizes = mapping.owners @ heavy
    assert (sizes.min(), sizes.max()) == (1, 5)
    assert {str(atom.name) for atom in map(peptide.topology.atom, mapping.shared)} == {"CZ", "HZ"}


def lipid(name, tmp_path):
    """The first molecule of a bilayer that comes with OpenMM."""
    lines = (DATA / f"{name}.pdb").read_text().splitlines()
    atoms = [line for line in lines if line.startswith("HETATM") and line[22:26].strip() == "1" and "HOH" not in line]
    serials = {line[6:11] for line in atoms}
    bonds = [line for line in lines if line.startswith("CONECT") and line[6:11] in serials]
    (tmp_path / "lipid.pdb").write_text("\n".join([*atoms, *bonds, "END"]))
    found = mdtraj.load(str(tmp_path / "lipid.pdb"))
    return AtomTopology.from_mdtraj(found.topology), found.xyz[0]


@pytest.mark.parametrize(("name", "beads"), [("POPC", 12), ("DOPC", 12), ("DPPC", 12)])
def test_lipids(name, beads, tmp_path):
    mapping = covered("lipids-martini", *lipid(name, tmp_path))
    assert len(mapping.topology) == beads
    assert len(mapping.topology.bonds) == beads - 1
    heavy = mapping.owners @ (~np.isin(mapping.atoms.elements, ("H", ""))).astype(float)
    assert heavy.min() >= 3
    assert heavy.max() <= 6
    assert Counter(mapping.topology.types)["D2"] == {"POPC": 1, "DOPC": 2, "DPPC": 0}[name]


def test_ions_by_element_whatever_their_names():
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for residue, symbol in (("SOD", "Na"), ("NA", "Na"), ("CLA", "Cl"), ("CAL", "Ca")):
        topology.add_atom(residue, Element.getBySymbol(symbol), topology.add_residue(residue, chain))
    found = Mapping.build(load_mapping("ions"), AtomTopology.from_mdtraj(topology, bonds=[])).topology
    assert found.types == ("NA", "NA", "CL", "CA")


def test_all_of_them_are_tested():
    assert set(shipped.names("mappings")) >= {
        "peo", "polyethylene", "polystyrene", "polystyrene-sulfonate", "protein-5-bead", "protein-martini",
        "lipids-martini", "ions", "ca", "ca-sidechain", "water",
    }  # fmt: skip
