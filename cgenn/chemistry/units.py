"""Repeat units as residues of a force field: their names, and which of their atoms are of one type."""

from __future__ import annotations

from dataclasses import dataclass

import openmm.app

from cgenn.chemistry.polymer import Polymer
from cgenn.mapping.bond_orders import import_rdkit


@dataclass(frozen=True)
class Units:
    """How the atoms of a chain are told apart.

    Attributes:
        names: of each residue: BEG, MID and END; END for both ends where they are the same; ONE for a single unit.
        types: of each atom: name of its residue and of the first atom there that stands in the same place.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, chain: Polymer) -> Units:
        """Atoms of a residue are of one type where only a renumbering of its graph of elements tells them apart.

        A force field in OpenMM's format finds the atoms of a residue by this graph: whichever way it finds them, they
        then have the same parameters.
        """
        residues = list(chain.topology.residues())
        graphs = [_Graph.of(chain, residue) for residue in residues]
        first, last = "BEG", "END"
        if graphs[0].smiles == graphs[-1].smiles:
            first = "END"
        names = [first, *["MID"] * (len(residues) - 2), last] if len(residues) > 1 else ["ONE"]
        known: dict[str, tuple[str, ...]] = {}
        types = [""] * chain.topology.getNumAtoms()
        for name, graph in zip(names, graphs, strict=True):
            places = known.setdefault(name, graph.places)
            for atom, place in zip(graph.order, places, strict=True):
                types[atom] = f"{name}-{place}"
        return cls(tuple(names), tuple(types))


@dataclass(frozen=True)
class _Graph:
    """A residue as a graph of elements, what it is bonded to as open ends.

    Attributes:
        smiles: canonical.
        order: atoms of the chain, as they stand in it.
        places: of each of these, the name of the first atom that stands in the same place.
    """

    smiles: str
    order: tuple[int, ...]
    places: tuple[str, ...]

    @classmethod
    def of(cls, chain: Polymer, residue: openmm.app.topology.Residue) -> _Graph:
        chem = import_rdkit("telling the atoms of a repeat unit apart")
        members = {atom.index: number for number, atom in enumerate(residue.atoms())}
        atoms, names = list(members), [atom.name for atom in residue.atoms()]
        graph = chem.RWMol()
        for atom in residue.atoms():
            _add(graph, atom.element.atomic_number)
        for bond in chain.molecule.GetBonds():
            ends = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
            inside = [members[end] for end in ends if end in members]
            if len(inside) == 1:
                inside.append(_add(graph, 0))
            if inside:
                graph.AddBond(*inside, chem.BondType.SINGLE)
        smiles = chem.MolToSmiles(graph, allHsExplicit=True)
        written = graph.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]
        ranks = list(chem.CanonicalRankAtoms(graph, breakTies=False))
        first = {rank: names[number] for number, rank in reversed(list(enumerate(ranks[: len(atoms)])))}
        order = [number for number in written if number < len(atoms)]
        return cls(smiles, tuple(atoms[number] for number in order), tuple(first[ranks[number]] for number in order))


def _add(graph: object, number: int) -> int:
    chem = import_rdkit("")
    atom = chem.Atom(number)
    atom.SetNoImplicit(True)
    return graph.AddAtom(atom)  # type: ignore[attr-defined]
