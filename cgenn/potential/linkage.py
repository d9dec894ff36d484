"""What the bonded terms act on: beads, and atoms of the bodies of oriented beads that are bonded to other beads.

Where a joint tells which atom a of a body a bond begins at, the terms of this bond take that atom, at R + Q r, for the
bead. How the partner b lies towards the body is told by two more of its atoms, a' and a'': the distance a-b, the angle
a'-a-b and the dihedral a''-a'-a-b are the place of b in the frame of the body, and the dihedral a'-a-b-b' is the twist.
Between two bodies these are just the six degrees of freedom.

Only atoms that the point group of the body leaves in their places count, so that the terms have this symmetry. A bond
that begins at another atom is one of the centre; without references its angle or twist is left to the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.body import Body, rotation_matrices
from cgenn.symmetry import point_group
from cgenn.topology import BeadTopology

HEAVY = 2.1
"""Above this mass an atom is not a hydrogen [amu]."""

FIXED = 1e-6
"""An atom that is moved by less than this is in its place [nm]."""

OFF = 0.2
"""Least sine of the angle at a reference atom."""


@dataclass(frozen=True, eq=False)
class Linkage:
    """Points, the beads first and then atoms of bodies, and the bonded terms between them.

    Attributes:
        names: of the points, by which priors know them: the type of a bead, or "type:atom".
        beads: bead that each of the atoms belongs to, shape (atoms,).
        coordinates: of these atoms in the frame of their body, shape (atoms, 3) [nm].
        bonds, angles, dihedrals: points of each term, shapes (terms, 2), (terms, 3) and (terms, 4).
    """

    names: tuple[str, ...]
    beads: Int[np.ndarray, " atoms"]
    coordinates: Float[np.ndarray, "atoms 3"]
    bonds: Int[np.ndarray, "bonds 2"]
    angles: Int[np.ndarray, "angles 3"]
    dihedrals: Int[np.ndarray, "dihedrals 4"]

    @classmethod
    def of(cls, topology: BeadTopology) -> Linkage:
        """Of the beads of a topology; without joints the terms are those of the topology."""
        if len(topology.joints):
            return _Builder(topology).build()
        none = np.zeros(0, dtype=np.int64), np.zeros((0, 3))
        return cls(topology.types, *none, topology.bonds, topology.angles, topology.dihedrals)

    def points(
        self, positions: Float[np.ndarray, "frames beads 3"], orientations: Float[np.ndarray, "frames beads 4"] | None
    ) -> Float[Tensor, "frames points 3"]:
        """Positions of all points [nm], of beads with these unit quaternions (w, x, y, z), in double precision."""
        places = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.float64))
        turned = len(self.beads) > 0 and orientations is not None
        frames = torch.from_numpy(rotation_matrices(np.asarray(orientations, dtype=float))) if turned else None
        return joined_points(places, frames, torch.from_numpy(self.beads), torch.from_numpy(self.coordinates))


def joined_points(
    positions: Float[Tensor, "systems beads 3"],
    orientations: Float[Tensor, "systems beads 3 3"] | None,
    beads: Int[Tensor, " atoms"],
    coordinates: Float[Tensor, "atoms 3"],
) -> Float[Tensor, "systems points 3"]:
    """Positions of all points of a linkage [nm].

    Raises:
        ValueError: if there are atoms, but no orientations.
    """
    if not len(beads):
        return positions
    if orientations is None:
        raise ValueError("bonds act on atoms of oriented beads, but there are no `orientations`")
    arms = torch.einsum("saij,aj->sai", orientations[:, beads], coordinates.to(positions))
    return torch.cat([positions, positions[:, beads] + arms], dim=1)


class _Builder:
    """Collects the points and terms of a topology with joints."""

    def __init__(self, topology: BeadTopology) -> None:
        self.topology = topology
        self.atoms: dict[tuple[int, int], int] = {}
        self.ends: dict[tuple[int, int], int] = {}  # the point at which the bond to another bead begins
        joints = {(i, j): (a, b) for i, j, a, b in topology.joints.tolist()}
        for i, j in topology.bonds.tolist():
            a, b = (self._kept(bead, atom) for bead, atom in zip((i, j), joints.get((i, j), (-1, -1)), strict=True))
            self.ends[i, j], self.ends[j, i] = self._point(i, a), self._point(j, b)
        self.references = {pair: self._references(pair) for pair in self.ends}

    def _kept(self, bead: int, atom: int) -> int:
        """The atom, or -1 for the centre if the point group moves it."""
        return atom if atom >= 0 and atom in fixed_atoms(self.topology.bodies[self.topology.types[bead]]) else -1

    def _point(self, bead: int, atom: int) -> int:
        return bead if atom < 0 else self.atoms.setdefault((bead, atom), len(self.topology) + len(self.atoms))

    def _references(self, pair: tuple[int, int]) -> list[int]:
        """Points in the body of the first bead next to where its bond to the second begins; none without a joint."""
        bead, end = pair[0], self.ends[pair]
        if end < len(self.topology):
            return []
        atom = next(atom for (other, atom), point in self.atoms.items() if (other, point) == (bead, end))
        return [
            self._point(bead, one) for one in reference_atoms(self.topology.bodies[self.topology.types[bead]], atom)
        ]

    def _beside(self, bead: int, other: int) -> list[int]:
        """Points that tell how things are turned about the bond from a bead to another."""
        if self.ends[bead, other] >= len(self.topology):
            return self.references[bead, other][:1]
        return [self.ends[one, bead] for one in self.topology.neighbours[bead] if one != other]

    def build(self) -> Linkage:
        bonds: set[tuple[int, ...]] = set()
        angles: set[tuple[int, ...]] = set()
        dihedrals: set[tuple[int, ...]] = set()
        for i, j in self.ends:
            first, second = self.ends[i, j], self.ends[j, i]
            bonds.add((first, second))
            angles.update((point, first, second) for point in self._beside(i, j))
            if len(self.references[i, j]) == 2:
                dihedrals.add((*self.references[i, j][::-1], first, second))
            sides = [(left, right) for left in self._beside(i, j) for right in self._beside(j, i) if left != right]
            dihedrals.update((left, first, second, right) for left, right in sides)
        atoms = list(self.atoms)
        types, bodies = self.topology.types, self.topology.bodies
        held = [(bodies[types[bead]], types[bead], atom) for bead, atom in atoms]
        return Linkage(
            names=(*types, *(f"{name}:{body.names[atom]}" for body, name, atom in held)),
            beads=np.array([bead for bead, _ in atoms], dtype=np.int64),
            coordinates=np.array([body.coordinates[atom] for body, _, atom in held]).reshape(-1, 3),
            bonds=_each_once(bonds, 2),
            angles=_each_once(angles, 3),
            dihedrals=_each_once(dihedrals, 4),
        )


def fixed_atoms(body: Body) -> list[int]:
    """Those that all elements of the point group leave in their places."""
    places = np.reshape(body.coordinates, (-1, 3))
    moved = np.linalg.norm(places @ point_group(body.symmetry).elements.transpose(0, 2, 1) - places, axis=2)
    return np.flatnonzero(moved.max(0) < FIXED).tolist()


def reference_atoms(body: Body, atom: int) -> list[int]:
    """Up to two fixed atoms that, with the given one, tell the frame of a body: the nearest one and, of those off the
    line of the two, the one farthest off it by angle; atoms other than hydrogen first."""
    places, masses = np.array(body.coordinates), np.array(body.masses)
    others = np.array([one for one in fixed_atoms(body) if one != atom], dtype=np.int64)
    if not len(others):
        return []
    away = np.linalg.norm(places[others] - places[atom], axis=1)
    nearest = int(others[np.lexsort((away.round(6), masses[others] < HEAVY))[0]])
    back = _unit(places[atom] - places[nearest])
    found = []
    for one in others[others != nearest].tolist():
        sine = float(np.linalg.norm(np.cross(back, _unit(places[one] - places[nearest]))))
        if sine > OFF:
            found.append((bool(masses[one] < HEAVY), -round(sine, 6), one))
    return [nearest, *([min(found)[2]] if found else [])]


def _each_once(rows: Iterable[tuple[int, ...]], points: int) -> Int[np.ndarray, "terms points"]:
    """Sorted; a term is the same in both directions."""
    return np.array(sorted({min(row, row[::-1]) for row in rows}), dtype=np.int64).reshape(-1, points)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
