"""Chains from the SMILES of a repeat unit: bonds, bond orders, names, residues and a first conformation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import openmm.app
from jaxtyping import Float
from openmm import unit

from cgenn.files import atomic
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.bond_orders import import_rdkit

if TYPE_CHECKING:
    from rdkit import Chem

Tacticity = Literal["isotactic", "syndiotactic", "atactic"]


@dataclass(frozen=True, eq=False)
class Polymer:
    """One molecule in vacuum.

    Attributes:
        molecule: with hydrogens, bond orders and positions [A].
        topology: one residue per repeat unit; ends belong to the first and the last.
    """

    molecule: Chem.Mol
    topology: openmm.app.Topology

    @property
    def atoms(self) -> AtomTopology:
        """What mapping needs of it."""
        return AtomTopology.from_openmm(self.topology)

    @property
    def positions(self) -> Float[np.ndarray, "atoms 3"]:
        """[nm]."""
        return 0.1 * self.molecule.GetConformer().GetPositions()

    def save(self, path: str | Path) -> None:
        """Write a PDB file, with CONECT records, or an SDF file, with bond orders, as the name says.

        Raises:
            ValueError: if the name ends in neither .pdb nor .sdf.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in (".pdb", ".sdf"):
            raise ValueError(f"{path}: a polymer is written as .pdb or .sdf, got {suffix!r}")
        with atomic(path) as temporary:
            if suffix == ".pdb":
                with open(temporary, "w", encoding="utf-8") as file:
                    openmm.app.PDBFile.writeFile(self.topology, self.positions * unit.nanometer, file, keepIds=True)
                return
            with import_rdkit("writing an SDF file").SDWriter(str(temporary)) as writer:
                writer.write(self.molecule)


def build_polymer(
    unit_smiles: str,
    length: int,
    *,
    head: str = "[*][H]",
    tail: str = "[*][H]",
    tacticity: Tacticity = "atactic",
    residue: str = "UNT",
    seed: int = 0,
) -> Polymer:
    """A chain of `length` repeat units, the second [*] of each bonded to the first of the next.

    Args:
        unit_smiles: of the repeat unit with two [*], such as "[*]CCO[*]".
        head, tail: what is bonded to the first and the last [*]; SMILES with one [*], such as "[*]C".
        tacticity: of stereocentres that the SMILES leaves open: each diad meso, each racemic, or at random.
        residue: name of the residues, at most three letters.
        seed: of the conformation and of atactic chains.

    Raises:
        ValueError: if a SMILES cannot be understood or has not the right number of [*], or no conformation is found.
        ImportError: without RDKit.
    """
    chem = import_rdkit("building a polymer")
    if length < 1:
        raise ValueError(f"`length` must be at least 1, got {length}")
    if tacticity not in ("isotactic", "syndiotactic", "atactic"):
        raise ValueError(f"`tacticity` must be isotactic, syndiotactic or atactic, got {tacticity!r}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must be from 0 to 2147483647, got {seed}")
    if not 1 <= len(residue) <= 3:
        raise ValueError(f"`residue` must have one to three letters, got {residue!r}")
    monomer = _read(unit_smiles, 2, "the repeat unit")
    generator = np.random.default_rng(seed)
    parts = [_joined(_read(head, 1, "`head`"), [length + 1], 0)]
    for number in range(length):
        copy = _joined(monomer, [length + 1 if number == 0 else number, number + 1], number)
        _choose_hands(copy, tacticity, number, generator)
        parts.append(copy)
    parts.append(_joined(_read(tail, 1, "`tail`"), [length], length - 1))
    together = parts[0]
    for part in parts[1:]:
        together = chem.CombineMols(together, part)
    chain = _zipped(together, unit_smiles)
    chem.AssignStereochemistry(chain, cleanIt=True, force=True)
    chain = _in_order(chem.AddHs(chem.RemoveHs(chain)))
    _embed(chain, seed)
    return Polymer(chain, _topology(chain, residue))


def _read(smiles: str, open_ends: int, purpose: str) -> Chem.Mol:
    chem = import_rdkit(purpose)
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        molecule = chem.MolFromSmiles(smiles, chem.SmilesParserParams())
    if molecule is None:
        raise ValueError(f"{purpose}: cannot understand the SMILES {smiles!r}")
    found = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    if len(found) != open_ends or any(atom.GetDegree() != 1 for atom in found):
        raise ValueError(f"{purpose}: expected a SMILES with {open_ends} [*], each with one bond, got {smiles!r}")
    if sum(len(set(part) & {atom.GetIdx() for atom in found}) == open_ends for part in chem.GetMolFrags(molecule)) != 1:
        raise ValueError(f"{purpose}: expected the two [*] of one molecule, got {smiles!r}, where nothing joins them")
    if any(other.GetAtomicNum() == 0 for atom in found for other in atom.GetNeighbors()):
        raise ValueError(f"{purpose}: expected atoms between the two [*], got {smiles!r}")
    return molecule


def _zipped(parts: Chem.Mol, unit_smiles: str) -> Chem.Mol:
    """One chain of closed shells: files of atoms could not say where an unpaired electron is."""
    chem = import_rdkit("")
    from rdkit.rdBase import BlockLogs

    try:
        with BlockLogs():
            chain = chem.molzip(parts)
            chem.SanitizeMol(chain)
    except chem.MolSanitizeException as error:
        raise ValueError(f"{unit_smiles!r} with these ends makes no molecule: {error}") from None
    for atom in chain.GetAtoms():
        if atom.GetNumRadicalElectrons():
            raise ValueError(
                f"{unit_smiles!r} with these ends leaves {atom.GetSymbol()} with an unpaired electron: expected closed "
                "shells; an atom in brackets names its hydrogens, as [CH2]"
            )
    return chain


def _joined(molecule: Chem.Mol, joints: list[int], number: int) -> Chem.Mol:
    """A copy whose open ends are numbered by what they are bonded to, and whose atoms know their residue."""
    copy = import_rdkit("").Mol(molecule)
    ends = iter(joints)
    for atom in copy.GetAtoms():
        atom.SetIntProp("residue", number)
        if len(joints) == 1:
            atom.SetIntProp("end", 1)
        if atom.GetAtomicNum() == 0:
            atom.SetAtomMapNum(next(ends))
    return copy


def has_open_stereocentres(unit_smiles: str) -> bool:
    """Whether a repeat unit has stereocentres that its SMILES leaves open, so that chains have a tacticity.

    Raises:
        ValueError: if the SMILES cannot be understood.
    """
    return bool(_open_centres(_read(unit_smiles, 2, "the repeat unit")))


def _open_centres(monomer: Chem.Mol) -> list[int]:
    """Stereocentres without a hand, where the two ends differ."""
    chem = import_rdkit("")
    ends = [atom for atom in monomer.GetAtoms() if atom.GetAtomicNum() == 0]
    for mass, atom in enumerate(ends, start=1):
        atom.SetIsotope(mass)
    found = chem.FindMolChiralCenters(monomer, includeUnassigned=True, useLegacyImplementation=False)
    for atom in ends:
        atom.SetIsotope(0)
    return [centre for centre, code in found if code == "?"]


def _choose_hands(monomer: Chem.Mol, tacticity: Tacticity, number: int, generator: np.random.Generator) -> None:
    """Turn the stereocentres that the SMILES leaves open one way or the other."""
    chem = import_rdkit("")
    for centre in _open_centres(monomer):
        turned = {"isotactic": 0, "syndiotactic": number % 2, "atactic": int(generator.integers(2))}[tacticity]
        tags = (chem.ChiralType.CHI_TETRAHEDRAL_CW, chem.ChiralType.CHI_TETRAHEDRAL_CCW)
        monomer.GetAtomWithIdx(centre).SetChiralTag(tags[turned])


def _in_order(chain: Chem.Mol) -> Chem.Mol:
    """Residue after residue, each with its unit's heavy atoms first, then what its ends have, then hydrogens."""
    keys = []
    for atom in chain.GetAtoms():
        host = atom.GetNeighbors()[0] if atom.GetAtomicNum() == 1 and atom.GetDegree() == 1 else atom
        atom.SetIntProp("residue", host.GetIntProp("residue"))
        kind = 2 if host.GetIdx() != atom.GetIdx() else int(host.HasProp("end"))
        keys.append((atom.GetIntProp("residue"), kind, host.GetIdx()))
    return import_rdkit("").RenumberAtoms(chain, sorted(range(len(keys)), key=lambda one: keys[one]))


def _embed(chain: Chem.Mol, seed: int) -> None:
    """A conformation without overlaps: distance geometry, then some steps of a general force field."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    settings: Any = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed
    settings.useRandomCoords = True
    if rdDistGeom.EmbedMolecule(chain, settings) != 0:
        raise ValueError("no conformation of this chain was found: is it too crowded, or a stereocentre impossible?")
    rdForceFieldHelpers.UFFOptimizeMolecule(chain, maxIters=200)


def _topology(chain: Chem.Mol, residue_name: str) -> openmm.app.Topology:
    """Heavy atoms are named by element and number within their residue, hydrogens after the heavy atom they are on."""
    topology = openmm.app.Topology()
    residues = topology.addChain("A")
    atoms: list[openmm.app.topology.Atom] = []
    last, counts = -1, Counter[str]()
    for atom in chain.GetAtoms():
        if atom.GetIntProp("residue") != last:
            last, counts = atom.GetIntProp("residue"), Counter()
            residue = topology.addResidue(residue_name, residues, id=str(last + 1))
        symbol = atom.GetSymbol()
        if symbol == "H" and atom.GetDegree():
            symbol = "H" + atoms[atom.GetNeighbors()[0].GetIdx()].name.removeprefix("C")
        counts[symbol] += 1
        name = f"{symbol}{'ABCDEF'[counts[symbol] - 1]}" if atom.GetSymbol() == "H" else f"{symbol}{counts[symbol]}"
        element = openmm.app.Element.getByAtomicNumber(atom.GetAtomicNum())
        atoms.append(topology.addAtom(name, element, residue))
    for bond in chain.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology
