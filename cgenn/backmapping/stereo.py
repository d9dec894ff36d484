"""What must not happen to molecules: centres turned inside out, rings pierced, atoms on top of each other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Self

import networkx
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array, eye_array

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.whole import lattice_steps
from cgenn.neighbors import edge_vectors, neighbors

_RING = 6
"""Most atoms of a ring that is looked at; larger ones let a bond through."""
_NEAR = 0.3
"""Distance from the centre of a ring of the bonds that may pierce it [nm]."""
_CONTACT = 0.25
"""Distance up to which contacts are looked at [nm]."""
_CLOSER = 0.9
"""A clash is closer than so much of the closest contact of such atoms in the reference frames."""


@dataclass(frozen=True, eq=False)
class Stereocentres:
    """Atoms with four different neighbours, and the volume that three of these span, whose sign is the hand.

    Attributes:
        centres: shape (centres,).
        neighbours: shape (centres, 3).
        volumes: mean of a . (b x c) over reference frames, from the centre to its neighbours, shape (centres,) [nm^3].
    """

    centres: Int[np.ndarray, " centres"]
    neighbours: Int[np.ndarray, "centres 3"]
    volumes: Float[np.ndarray, " centres"]

    @classmethod
    def find(cls, atoms: AtomTopology, positions: Float[np.ndarray, "frames atoms 3"]) -> Self:
        """Those that keep one hand in all of the frames, whose molecules must be whole [nm]."""
        classes = _classes(atoms)
        matrix = csr_array(
            (np.ones(2 * len(atoms.bonds)), np.r_[atoms.bonds, atoms.bonds[:, ::-1]].T), 2 * (len(atoms),)
        )
        found = []
        for centre in np.flatnonzero(np.diff(matrix.indptr) == 4).tolist():
            around = matrix.indices[matrix.indptr[centre] : matrix.indptr[centre + 1]]
            if len(set(classes[around].tolist())) == 4:
                found.append((centre, *sorted(around.tolist())[:3]))
        table = np.array(found, dtype=np.int64).reshape(-1, 4)
        volumes = cls(table[:, 0], table[:, 1:], np.zeros(len(table))).measure(positions)
        kept = np.all(volumes > 0, axis=0) | np.all(volumes < 0, axis=0)
        return cls(table[kept, 0], table[kept, 1:], volumes[:, kept].mean(axis=0))

    def measure(self, positions: Float[np.ndarray, "frames atoms 3"]) -> Float[np.ndarray, "frames centres"]:
        """Their volumes in some frames [nm^3]."""
        a, b, c = (positions[:, self.neighbours[:, k]] - positions[:, self.centres] for k in range(3))
        return np.sum(a * np.cross(b, c), axis=-1)

    def turned(self, positions: Float[np.ndarray, "atoms 3"]) -> Int[np.ndarray, " turned"]:
        """The centres that have the wrong hand."""
        return self.centres[self.measure(positions[None])[0] * self.volumes <= 0]


def _classes(atoms: AtomTopology) -> Int[np.ndarray, " atoms"]:
    """The same number for atoms that elements and bonds do not tell apart (Morgan 1965, doi 10.1021/c160017a018)."""
    around: dict[int, list[int]] = defaultdict(list)
    for i, j in atoms.bonds.tolist():
        around[i].append(j)
        around[j].append(i)
    symbols = [None if atom.element is None else atom.element.symbol for atom in atoms.topology.atoms]
    names: dict = {}
    classes = [names.setdefault(symbol, len(names)) for symbol in symbols]
    while True:
        count, names = len(names), {}
        keys = [(own, *sorted(classes[other] for other in around[atom])) for atom, own in enumerate(classes)]
        classes = [names.setdefault(key, len(names)) for key in keys]
        if len(names) == count:
            return np.array(classes)


@dataclass(frozen=True, eq=False)
class Rings:
    """Rings of at most six atoms, and the bonds that might go through them.

    Attributes:
        rings: atoms of each, in order.
        bonds: shape (bonds, 2).
    """

    rings: list[Int[np.ndarray, " atoms"]]
    bonds: Int[np.ndarray, "bonds 2"]

    @classmethod
    def find(cls, atoms: AtomTopology) -> Self:
        """Of all molecules."""
        graph = networkx.Graph(atoms.bonds.tolist())
        cycles = networkx.simple_cycles(graph, length_bound=_RING)
        return cls([np.array(cycle) for cycle in cycles if len(cycle) > 3], atoms.bonds)

    def pierced(
        self, positions: Float[np.ndarray, "atoms 3"], box: Float[np.ndarray, "3 3"] | None
    ) -> list[tuple[int, int, int]]:
        """First atom of each ring that a bond goes through, and the atoms of the bond."""
        found = []
        for ring in self.rings:
            middle = positions[ring].mean(axis=0)
            starts, ends = (positions[self.bonds[:, end]] - middle for end in (0, 1))
            if box is not None:
                steps = lattice_steps(starts[None], box[None])[0] @ box
                starts, ends = starts - steps, ends - steps
            near = (np.linalg.norm(starts, axis=1) < _NEAR) & ~np.isin(self.bonds, ring).any(axis=1)
            corners = positions[ring] - middle
            for bond in np.flatnonzero(near).tolist():
                if _crosses(starts[bond], ends[bond], corners):
                    found.append((int(ring[0]), *self.bonds[bond].tolist()))
        return found


def _crosses(start: np.ndarray, end: np.ndarray, corners: Float[np.ndarray, "corners 3"]) -> bool:
    """Whether a line goes through one of the triangles of a ring's corners and its centre at the origin."""
    along = end - start
    first, second = corners, np.roll(corners, -1, axis=0)
    normal = np.cross(first, second)
    slope = normal @ along
    where = -(normal @ start) / np.where(np.abs(slope) < 1e-12, np.inf, slope)
    points = start + where[:, None] * along
    # barycentric coordinates of the points in the triangles
    squares = np.square(normal).sum(axis=1)
    u = np.sum(np.cross(points, second) * normal, axis=1) / squares
    v = np.sum(np.cross(first, points) * normal, axis=1) / squares
    inside = (u >= 0) & (v >= 0) & (u + v <= 1)
    return bool(np.any(inside & (where > 0) & (where < 1) & (np.abs(slope) >= 1e-12)))


@dataclass(frozen=True, eq=False)
class Contacts:
    """How close atoms come that no three bonds join.

    Attributes:
        elements: number of the element of each atom.
        joined: pairs of atoms i, j at most three bonds apart, as i times the number of atoms plus j.
        closest: distance of the closest contact of two elements in reference frames [nm].
    """

    elements: Int[np.ndarray, " atoms"]
    joined: Int[np.ndarray, " joined"]
    closest: Float[np.ndarray, "elements elements"]

    @classmethod
    def find(
        cls,
        atoms: AtomTopology,
        positions: Float[np.ndarray, "frames atoms 3"],
        boxes: Float[np.ndarray, "frames 3 3"] | None,
    ) -> Self:
        """The closest contacts in reference frames [nm]."""
        symbols = ["" if atom.element is None else atom.element.symbol for atom in atoms.topology.atoms]
        elements = np.unique(symbols, return_inverse=True)[1]
        step = atoms.adjacency + eye_array(len(atoms), format="csr")
        closest = np.full(2 * (elements.max() + 1,), _CONTACT)
        rows, columns = (step @ step @ step).nonzero()
        found = cls(elements, rows.astype(np.int64) * len(atoms) + columns, closest)
        for frame, places in enumerate(positions):
            i, j, distances = found._pairs(places, None if boxes is None else boxes[frame])
            np.minimum.at(closest, (elements[i], elements[j]), distances)
        return cls(elements, found.joined, np.minimum(closest, closest.T))

    def clashes(self, positions: Float[np.ndarray, "atoms 3"], box: Float[np.ndarray, "3 3"] | None) -> int:
        """Pairs closer than 90 % of the closest contact of their elements in the reference frames."""
        i, j, distances = self._pairs(positions, box)
        return int(np.sum(distances < _CLOSER * self.closest[self.elements[i], self.elements[j]]))

    def _pairs(
        self, positions: Float[np.ndarray, "atoms 3"], box: Float[np.ndarray, "3 3"] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cell = None if box is None else torch.tensor(box, dtype=torch.float64)[None]
        places = torch.tensor(positions, dtype=torch.float64)
        pairs = neighbors(places, _CONTACT, cell=cell, both=False)
        cells = None if cell is None else cell.expand(len(pairs.receivers), 3, 3)
        vectors = edge_vectors(places, pairs.receivers, pairs.senders, pairs.shifts, cells)
        i, j = pairs.receivers.numpy().copy(), pairs.senders.numpy().copy()
        apart = ~np.isin(i * len(positions) + j, self.joined)
        return i[apart], j[apart], vectors.norm(dim=1).numpy()[apart]
