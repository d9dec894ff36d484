"""Which molecules there are: kinds of them, their backbones, and which are proteins or lipids."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from cgenn.analysis.ensemble import Chunk
from cgenn.mapping.atoms import by_group
from cgenn.mapping.whole import Tree
from cgenn.topology import BeadTopology

_AMINO_ACIDS = re.compile(
    "ALA|ARG|ASN|AS[PH]|CY[SXM]|GL[NUHY]|HI[SDEP]|HS[DEP]|ILE|LEU|LY[SN]|MET|MSE|PHE|PRO|SER|THR|TRP|TYR|VAL"
)
_LIPID = re.compile(r"[A-Z]{2}P[ACEGIS]|(D[LMOP]|PO)P")
"""Residue names such as DOPC or POPE: two tails and a phosphate with its head group; in OpenMM's patches DOP or POP."""
_FEWEST_RESIDUES = 4


@dataclass(frozen=True, eq=False)
class MoleculeKind:
    """Molecules of the same residues and names of beads, bonded in the same way; types, as of tacticity, may differ.

    Attributes:
        name: for a person.
        beads: of each of the molecules, shape (molecules, size).
        bonds: within a molecule, shape (bonds, 2).
        backbone: the shortest path along bonds from the bead farthest from the first to that farthest from it, shape
            (length,): without rings the longest path that there is.
    """

    name: str
    beads: Int[np.ndarray, "molecules size"]
    bonds: Int[np.ndarray, "bonds 2"]
    backbone: Int[np.ndarray, " length"]

    def paths(self, bead: int) -> tuple[Float[np.ndarray, " size"], Int[np.ndarray, " size"]]:
        """How many bonds lie between a bead and each of the others, and which bead comes before that."""
        return _paths(self.beads.shape[1], self.bonds, bead)

    @property
    def has_ends(self) -> bool:
        """Whether the backbone ends in beads with one bond, as that of a chain does and that of a ring does not."""
        degrees = np.bincount(self.bonds.ravel(), minlength=self.beads.shape[1])
        return len(self.backbone) > 1 and bool(np.all(degrees[self.backbone[[0, -1]]] == 1))


def molecule_kinds(topology: BeadTopology) -> tuple[MoleculeKind, ...]:
    """The kinds of molecules of a topology, in the order in which they appear."""
    members = list(by_group(np.arange(len(topology)), topology.molecules).values())
    place = np.empty(len(topology), dtype=np.int64)
    for beads in members:
        place[beads] = np.arange(len(beads))
    bonds: list[list[tuple[int, int]]] = [[] for _ in members]
    for i, j in topology.bonds.tolist():
        bonds[topology.molecules[i]].append((int(place[i]), int(place[j])))
    labels = list(zip(topology.residue_names, topology.names, strict=True))
    groups: dict[tuple[tuple[tuple[str, str], ...], tuple[tuple[int, int], ...]], list[np.ndarray]] = {}
    for beads, pairs in zip(members, bonds, strict=True):
        groups.setdefault((tuple(labels[bead] for bead in beads), tuple(sorted(pairs))), []).append(beads)
    return tuple(_kind(topology, np.stack(beads), pairs) for (_, pairs), beads in groups.items())


def _kind(topology: BeadTopology, beads: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> MoleculeKind:
    bonds = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    residues = list(dict.fromkeys(topology.residue_names[bead] for bead in beads[0]))
    name = residues[0] if len(residues) == 1 else "\N{EN DASH}".join((residues[0], residues[-1]))
    size = f", {beads.shape[1]} beads" if beads.shape[1] > 1 else ""
    return MoleculeKind(f"{len(beads)} {name}{size}", beads, bonds, _backbone(beads.shape[1], bonds))


def _paths(size: int, bonds: Int[np.ndarray, "bonds 2"], bead: int) -> tuple[np.ndarray, np.ndarray]:
    links = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(size, size)).tocsr()
    return shortest_path(links, directed=False, unweighted=True, return_predecessors=True, indices=bead)


def _backbone(size: int, bonds: Int[np.ndarray, "bonds 2"]) -> Int[np.ndarray, " length"]:
    first = int(_paths(size, bonds, 0)[0].argmax())
    steps, before = _paths(size, bonds, first)
    path = [int(steps.argmax())]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


def is_protein(topology: BeadTopology, kind: MoleculeKind) -> bool:
    """Whether it has four or more amino acids."""
    return len(residue_trace(topology, kind)) >= _FEWEST_RESIDUES


def is_lipid(topology: BeadTopology, kind: MoleculeKind) -> bool:
    """Whether all of its residues are named like phospholipids, such as DOPC, and it has five or more beads."""
    return kind.beads.shape[1] >= 5 and all(_LIPID.fullmatch(topology.residue_names[bead]) for bead in kind.beads[0])


def residue_trace(topology: BeadTopology, kind: MoleculeKind) -> Int[np.ndarray, " residues"]:
    """One bead for each amino acid of a molecule, that named CA or else its first; places within the molecule."""
    residues: dict[int, list[int]] = {}
    for place, bead in enumerate(kind.beads[0].tolist()):
        if _AMINO_ACIDS.fullmatch(topology.residue_names[bead]):
            residues.setdefault(int(topology.residue_index[bead]), []).append(place)
    names = [topology.names[bead] for bead in kind.beads[0]]
    return np.array(
        [next((place for place in places if names[place] == "CA"), places[0]) for places in residues.values()],
        dtype=np.int64,
    )


def molecule_tree(topology: BeadTopology) -> Tree:
    """How to walk along the bonds."""
    return Tree.build(len(topology), topology.bonds)


def whole(chunk: Chunk, tree: Tree) -> Float[np.ndarray, "frames beads 3"]:
    """Positions with every molecule in one piece [nm]."""
    return chunk.positions if chunk.box is None else tree.make_whole(chunk.positions, chunk.box)
