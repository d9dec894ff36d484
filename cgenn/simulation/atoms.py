"""Oriented beads as the atoms that they stand for: what viewers show of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import openmm
import openmm.app
from jaxtyping import Float, Int
from openmm.app.element import Element

from cgenn.body import rotation_matrices
from cgenn.topology import BeadTopology

_BOND, _BOND_OF_HYDROGEN = 0.19, 0.13
"""Atoms closer than this are shown as bonded [nm]."""

_SAME_ELEMENT = 0.1
"""A mass this close to that of an element is that of an atom of it [amu]."""


@dataclass(frozen=True, eq=False)
class AtomView:
    """The reference atoms of the bodies of oriented beads; other beads are one atom without an element.

    Attributes:
        topology: of the beads.
        beads: which bead each atom is of.
        local: where it is in the frame of the bead, shape (atoms, 3) [nm].
        names: of the atoms.
        elements: None where there is none of that mass.
    """

    topology: BeadTopology
    beads: Int[np.ndarray, " atoms"]
    local: Float[np.ndarray, "atoms 3"]
    names: tuple[str, ...]
    elements: tuple[Element | None, ...]

    @classmethod
    def of(cls, topology: BeadTopology) -> AtomView:
        """Of the beads of a topology."""
        beads: list[int] = []
        local: list[tuple[float, float, float]] = []
        names: list[str] = []
        elements: list[Element | None] = []
        for bead, kind in enumerate(topology.types):
            body = topology.bodies.get(kind)
            if body is None or not body.names:
                shown = [((0.0, 0.0, 0.0), topology.names[bead], None)]
            else:
                kinds = map(_element, body.masses)
                shown = list(zip(body.coordinates, body.names, kinds, strict=True))
            for place, name, element in shown:
                beads.append(bead)
                local.append(place)
                names.append(name)
                elements.append(element)
        return cls(topology, np.array(beads), np.array(local), tuple(names), tuple(elements))

    def positions(
        self,
        positions: Float[np.ndarray, "*frames beads 3"],
        orientations: Float[np.ndarray, "*frames beads 4"] | None = None,
    ) -> Float[np.ndarray, "*frames atoms 3"]:
        """Where the atoms are [nm], for positions of the beads and their quaternions (w, x, y, z)."""
        centers = positions[..., self.beads, :]
        if orientations is None:
            return centers
        frames = rotation_matrices(np.asarray(orientations, dtype=float))
        return centers + np.einsum("...axk,ak->...ax", frames[..., self.beads, :, :], self.local)

    def to_openmm(self) -> openmm.app.Topology:
        """The atoms in the residues of their beads, one chain for each molecule, with the bonds of `bonds`."""
        result = openmm.app.Topology()
        atoms = []
        chain = residue = last = None
        molecules = self.topology.molecules.tolist()
        for bead, name, element in zip(self.beads.tolist(), self.names, self.elements, strict=True):
            place = molecules[bead], int(self.topology.residue_index[bead])
            if last is None or last[0] != place[0]:
                chain = result.addChain()
            if last != place:
                residue = result.addResidue(self.topology.residue_names[bead], chain)
            last = place
            atoms.append(result.addAtom(name, element, residue))
        for i, j in self.bonds:
            result.addBond(atoms[i], atoms[j])
        return result

    @property
    def bonds(self) -> list[tuple[int, int]]:
        """Atoms of one body that are close enough, and beads that are one atom and bonded."""
        first, sizes = np.searchsorted(self.beads, np.arange(len(self.topology))), np.bincount(self.beads)
        found = []
        for start, size in zip(first.tolist(), sizes.tolist(), strict=True):
            for i, j in combinations(range(start, start + size), 2):
                hydrogens = [self.elements[atom] for atom in (i, j)].count(Element.getBySymbol("H"))
                if np.linalg.norm(self.local[i] - self.local[j]) < (_BOND, _BOND_OF_HYDROGEN, 0.0)[hydrogens]:
                    found.append((i, j))
        single = (sizes == 1)[self.topology.bonds].all(axis=1)
        return found + [(int(first[i]), int(first[j])) for i, j in self.topology.bonds[single]]


@cache
def _element(mass: float) -> Element | None:
    found = Element.getByMass(mass)
    return found if found is not None and abs(found.mass._value - mass) < _SAME_ELEMENT else None
