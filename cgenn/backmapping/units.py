"""What atoms are put back as: units, which are molecules, and the fragments of a unit, one for each of its beads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import block_array, csr_array, eye_array
from scipy.sparse.csgraph import connected_components

from cgenn.mapping.atoms import by_group
from cgenn.mapping.mapping import Mapping


@dataclass(frozen=True, eq=False)
class Kind:
    """All units of the same atoms, bonds and beads: molecules, or several that share a bead.

    Attributes:
        atoms: of each unit, shape (units, atoms).
        beads: of each unit, shape (units, beads).
        homes: the bead whose fragment each atom is part of, counted within the unit, shape (atoms,).
        surroundings: each bead and those at most two bonds away, counted within the unit.
        bonded: which of the surroundings of each bead are at most one bond away.
    """

    atoms: Int[np.ndarray, "units atoms"]
    beads: Int[np.ndarray, "units beads"]
    homes: Int[np.ndarray, " atoms"]
    surroundings: tuple[Int[np.ndarray, " beads"], ...]
    bonded: tuple[Bool[np.ndarray, " beads"], ...]


def find_kinds(mapping: Mapping) -> tuple[list[Kind], Int[np.ndarray, " free"]]:
    """The kinds of units, and the atoms that are in no unit because no bead is of their molecule."""
    n_atoms = len(mapping.atoms)
    joined = block_array([[mapping.atoms.adjacency, mapping.owners.T], [mapping.owners, None]], format="csr")
    labels = connected_components(joined, directed=False)[1]
    homes, (bonded, near) = find_homes(mapping), _within_bonds(mapping)
    atoms, beads = (by_group(np.arange(len(part)), part) for part in (labels[:n_atoms], labels[n_atoms:]))
    found: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
    for label, members in beads.items():
        found.setdefault(_signature(mapping, homes, atoms[label], members), []).append((atoms[label], members))
    kinds = []
    for units in found.values():
        first_atoms, first_beads = units[0]
        kinds.append(
            Kind(
                np.stack([unit[0] for unit in units]),
                np.stack([unit[1] for unit in units]),
                np.searchsorted(first_beads, homes[first_atoms]),
                tuple(np.searchsorted(first_beads, near[[bead]].indices) for bead in first_beads.tolist()),
                tuple(np.isin(near[[bead]].indices, bonded[[bead]].indices) for bead in first_beads.tolist()),
            )
        )
    return kinds, np.flatnonzero(~np.isin(labels[:n_atoms], labels[n_atoms:]))


def find_homes(mapping: Mapping) -> Int[np.ndarray, " atoms"]:
    """The bead whose fragment each atom is part of; -1 for those of molecules without a bead.

    An atom is in the fragment of the first bead that owns it; an atom of no bead, in that of the bead whose atoms are
    the fewest bonds away.
    """
    homes = np.full(len(mapping.atoms), -1)
    beads, atoms = mapping.owners.nonzero()
    homes[atoms[::-1]] = beads[::-1]
    links = np.concatenate([mapping.atoms.links, mapping.atoms.links[:, ::-1]])
    while True:
        inner, outer = links[(homes[links[:, 0]] >= 0) & (homes[links[:, 1]] < 0)].T
        if not len(inner):
            return homes
        homes[outer] = homes[inner]


def _within_bonds(mapping: Mapping) -> tuple[csr_array, csr_array]:
    """Beads at most one bond, and at most two bonds, from each bead."""
    i, j = mapping.topology.bonds.T
    n = len(mapping.topology)
    one = csr_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n)) + eye_array(n, format="csr")
    two = csr_array(one @ one)
    two.sort_indices()
    return csr_array(one), two


def _signature(mapping: Mapping, homes: np.ndarray, atoms: np.ndarray, beads: np.ndarray) -> tuple:
    """What two units must have in common to be of one kind."""
    residues = [mapping.atoms.topology.atom(atom).residue.name for atom in atoms.tolist()]
    names = [mapping.atoms.topology.atom(atom).name for atom in atoms.tolist()]
    links = mapping.atoms.adjacency[atoms][:, atoms].tocoo()
    types = [mapping.topology.types[bead] for bead in beads.tolist()]
    places = np.searchsorted(beads, homes[atoms])
    return (*residues, *names, *types, links.row.tobytes(), links.col.tobytes(), places.tobytes())
