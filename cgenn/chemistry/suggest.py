"""Proposes a mapping of molecules: pieces of about four heavy atoms, and the SMARTS that finds just these."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from cgenn.chemistry.fragments import cut_molecule
from cgenn.chemistry.mapped import read_structure
from cgenn.chemistry.polymer import build_polymer
from cgenn.data.topology import TopologyLike
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.bond_orders import import_rdkit
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.molecules import Kind, find_kinds
from cgenn.mapping.smarts import find_matches, merge_runs

if TYPE_CHECKING:
    from rdkit import Chem

_SHOWN_UNITS = 8
"""Repeat units of the chain that a SMILES with two [*] stands for."""
_SURROUNDINGS = 4
"""Most bonds around a piece that its SMARTS may name."""

Piece = tuple[int, ...]


@dataclass(frozen=True)
class _Rule:
    """What the definition is to say, of pieces in one copy of each molecule."""

    said: str
    pieces: frozenset[Piece]
    type: str = "{name}"


def suggest_mapping(source: TopologyLike) -> str:
    """A mapping definition, as TOML with comments, for molecules in a file or in memory, or given by SMILES.

    Repeat units are found along the longest chain and cut alike; rings, multiple bonds and groups at the end stay
    whole. A bead's SMARTS names as much of its surroundings as it takes to match nothing else. Where no SMARTS can,
    because both directions of a chain look the same, neighbours along it are merged, or atoms are named by residue.

    Args:
        source: topology, or SMILES of a molecule or, with two [*], of a repeat unit.

    Raises:
        ValueError: if bond orders cannot be told or pieces cannot be named.
        ImportError: without RDKit.
    """
    atoms, positions = _read(source)
    kinds = [Kind(kind.molecule, kind.members[:1]) for kind in find_kinds(atoms, np.arange(len(atoms)))]
    for kind in kinds:
        if all(atom.GetAtomicNum() <= 1 for atom in kind.molecule.GetAtoms()):
            said = atoms.describe(kind.members[0][0])
            raise ValueError(f"{said} is bonded to no heavy atom: are bonds missing? A PDB file needs CONECT records")
    pieces = {
        tuple(kind.members[0][list(piece)].tolist()): kind for kind in kinds for piece in cut_molecule(kind.molecule)
    }
    rules, left = _by_smarts(pieces, kinds, atoms)
    if left:
        merged = _by_merging(pieces, left, kinds, atoms)
        instead = [merged] if merged else _by_name(pieces, left, atoms)
        taken = {piece for rule in instead for piece in rule.pieces}
        rules = [*instead, *(rule for rule in rules if not rule.pieces & taken)]
    return _checked(rules, atoms, positions)


def _read(source: TopologyLike) -> tuple[AtomTopology, np.ndarray | None]:
    """Atoms, and a conformation where there is one [nm]."""
    if not isinstance(source, str) or Path(source).is_file() or Path(source).suffix.lower() in (".pdb", ".gro"):
        return read_structure(source)[:2]
    if source.count("*") == 2:
        chain = build_polymer(source, _SHOWN_UNITS)
        return chain.atoms, chain.positions[None]
    chem = import_rdkit("suggesting a mapping")
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        molecule = chem.MolFromSmiles(source)
    if molecule is None:
        raise ValueError(f"{source!r} is neither a topology file nor a SMILES")
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()) or not molecule.GetNumAtoms():
        raise ValueError(f"expected the SMILES of a molecule, or of a repeat unit with two [*], got {source!r}")
    molecule = chem.AddHs(molecule)
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for atom in molecule.GetAtoms():
        element = mdtraj.element.Element.getBySymbol(atom.GetSymbol())
        topology.add_atom(f"{atom.GetSymbol()}{atom.GetIdx() + 1}", element, residue)
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    return AtomTopology.from_mdtraj(topology, bonds=bonds), None


def _by_smarts(pieces: dict[Piece, Kind], kinds: list[Kind], atoms: AtomTopology) -> tuple[list[_Rule], list[Piece]]:
    """Rules whose SMARTS match nothing but pieces, each once, and the pieces for which there is none."""
    rules: list[_Rule] = []
    covered: set[Piece] = set()
    left = []
    for piece, kind in pieces.items():
        if piece in covered:
            continue
        local = np.searchsorted(kind.members[0], piece).tolist()
        for reach in range(_SURROUNDINGS + 1):
            smarts = _smarts(kind.molecule, local, reach)
            found = _found(smarts, kinds, len(atoms))
            if piece in found and found <= pieces.keys() and not found & covered:
                rules.append(_Rule(f'smarts = "{smarts}"', frozenset(found)))
                covered |= found
                break
        else:
            left.append(piece)
    return rules, [piece for piece in left if piece not in covered]


def _smarts(molecule: Chem.Mol, piece: list[int], reach: int) -> str:
    """The piece, its atoms with map numbers, and the heavy atoms within so many bonds."""
    chem = import_rdkit("suggesting a mapping")
    shown, symbols = set(piece), []
    for _ in range(reach):
        shown |= {
            other.GetIdx()
            for one in shown
            for other in molecule.GetAtomWithIdx(one).GetNeighbors()
            if other.GetAtomicNum() > 1
        }
    for atom in molecule.GetAtoms():
        number = ":1" if reach and atom.GetIdx() in piece else ""
        symbols.append(f"[{_primitive(atom)}{number}]")
    return chem.MolFragmentToSmiles(molecule, sorted(shown), atomSymbols=symbols, isomericSmiles=False)


def _primitive(atom: Chem.Atom) -> str:
    symbol = atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol()
    charge = atom.GetFormalCharge()
    return f"{symbol}H{atom.GetTotalNumHs(includeNeighbors=True)}" + (f"{charge:+d}" if charge else "")


def _found(smarts: str, kinds: list[Kind], n_atoms: int) -> set[Piece]:
    matches = find_matches(smarts, kinds, np.ones(n_atoms, dtype=bool), "a suggested bead")
    return {tuple(sorted(match.atoms.tolist())) for match in matches}


def _by_merging(pieces: dict[Piece, Kind], left: list[Piece], kinds: list[Kind], atoms: AtomTopology) -> _Rule | None:
    """One rule that merges atoms along a chain, for the pieces left and those that cannot be told from them."""
    primitives = {
        kind.members[0][atom.GetIdx()]: _primitive(atom) for kind in kinds for atom in kind.molecule.GetAtoms()
    }
    touched = set(left)
    while True:
        wanted = {atom for piece in touched for atom in piece}
        smarts = f"[{','.join(sorted({primitives[atom] for atom in wanted}))}]"
        matched = {piece[0] for piece in _found(smarts, kinds, len(atoms))}
        if matched == wanted:
            break
        more = {piece for piece in pieces if matched & set(piece)}
        if more <= touched:
            return None
        touched |= more
    size = Counter(map(len, left)).most_common(1)[0][0]
    every = find_matches(smarts, kinds, np.ones(len(atoms), dtype=bool), "a suggested bead")
    try:
        list(merge_runs(every, size, atoms, "a suggested bead"))
    except ValueError:
        return None
    return _Rule(f'smarts = "{smarts}"\nmerge = {size}', frozenset(touched), "{name}-{heavy}-{position}")


def _by_name(pieces: dict[Piece, Kind], left: list[Piece], atoms: AtomTopology) -> list[_Rule]:
    """Rules that name atoms by residue, for the pieces left and all others of these names."""
    named: dict[tuple[str, str], set[Piece]] = {}
    for piece in pieces:
        residues = {atoms.topology.atom(atom).residue for atom in piece}
        if len(residues) == 1:
            names = " ".join(atoms.topology.atom(atom).name for atom in piece)
            named.setdefault((residues.pop().name, names), set()).add(piece)
        elif piece in left:
            said = ", ".join(atoms.describe(atom) for atom in piece)
            raise ValueError(f"no SMARTS tells {said} from the rest of the molecule: write a definition by hand")
    return [
        _Rule(f'atoms = {{ {residue} = "{names}" }}', frozenset(found), "{name}-{position}")
        for (residue, names), found in named.items()
        if found & set(left)
    ]


def _checked(rules: list[_Rule], atoms: AtomTopology, positions: np.ndarray | None) -> str:
    """The definition, tried on the atoms; stereocentres that would share a type are declared."""
    import tomllib

    start = None if positions is None else positions[0]
    for mixed in (False, True):
        text = _text(rules, atoms, mixed)
        try:
            Mapping.build(MappingDefinition.parse(tomllib.loads(text), "the suggestion"), atoms, start)
        except ValueError as error:
            if mixed or "mixed_stereo" not in str(error):
                raise ValueError(f"no suggestion fits, write a definition by hand: {error}") from None
        else:
            break
    return text


def _text(rules: list[_Rule], atoms: AtomTopology, mixed: bool) -> str:
    lines = [
        'description = "Suggested from the bonds alone: a start, to be looked at with cgenn audit"',
    ]
    taken: Counter[str] = Counter()
    for rule in rules:
        formulas = Counter(atoms.formula(np.unique(atoms.companions[list(piece)].indices)) for piece in rule.pieces)
        heavy = atoms.formula(np.array(min(rule.pieces)))
        taken[heavy] += 1
        name = heavy + ("" if taken[heavy] == 1 else f"-{taken[heavy]}")
        seen = ", ".join(f"{number} of {formula}" for formula, number in sorted(formulas.items()))
        lines += ["", f"# in one molecule of each kind: {seen}", "[[beads]]", f'name = "{name}"', rule.said]
        lines.append(f'type = "{rule.type}"')
        if mixed and rule.said.startswith("smarts"):
            lines.append("mixed_stereo = true # or {tacticity} in `type`, where it matters")
        if any(symbol.islower() for symbol in rule.said.split('"')[1] if symbol in "cn"):
            lines.append(
                '# a ring is rigid: frame = { symmetry = "Cs", z = "largest" } makes it a bead with an orientation'
            )
    return "\n".join(lines) + "\n"
