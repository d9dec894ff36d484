"""What the beads are and how they are bonded: the topology of a coarse-grained system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import openmm.app
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cgenn.body import Body


def _read_only(values: Any, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = np.array(values, dtype=dtype).reshape(shape)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class BeadTopology:
    """Beads, their types, masses, charges and bonds.

    Attributes:
        types: bead type of each bead; what the potential sees of its chemistry.
        names: name of each bead within its residue.
        residue_names: name of the residue that each bead belongs to.
        residue_index: index of that residue, shape (beads,).
        masses: shape (beads,) [amu].
        charges: shape (beads,) [e].
        bonds: pairs of bead indices, first below second, sorted, shape (bonds, 2).
        bodies: of the types whose beads have an orientation, by type.
        joints: for bonds of oriented beads, which atoms of their bodies are bonded: two beads, first below second, and
            the atom of each, -1 for its centre, shape (joints, 4).
    """

    types: tuple[str, ...]
    names: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_index: np.ndarray
    masses: np.ndarray
    charges: np.ndarray
    bonds: np.ndarray
    bodies: Mapping[str, Body] = field(default_factory=dict)
    joints: np.ndarray = field(default_factory=lambda: _read_only([], np.int64, (0, 4)))

    @classmethod
    def build(
        cls,
        types: Sequence[str],
        masses: Sequence[float] | np.ndarray,
        *,
        bonds: Sequence[tuple[int, int]] | np.ndarray = (),
        charges: Sequence[float] | np.ndarray | None = None,
        names: Sequence[str] | None = None,
        residue_names: Sequence[str] | None = None,
        residue_index: Sequence[int] | np.ndarray | None = None,
        bodies: Mapping[str, Body] | None = None,
        joints: Sequence[tuple[int, int, int, int]] | np.ndarray = (),
    ) -> BeadTopology:
        """Check and build a topology; what is not given defaults to zero charges and one residue.

        Raises:
            ValueError: if lengths differ, a mass is not positive, a charge is not finite, a bond names a bead that is
                not there, a body a type that no bead has, or a joint a bond or an atom that is not there.
        """
        n = len(types)
        if n == 0:
            raise ValueError("a bead topology needs at least one bead")
        masses = np.asarray(masses, dtype=float)
        given = {"masses": masses, "charges": charges, "names": names, "residue_names": residue_names}
        for label, values in {**given, "residue_index": residue_index}.items():
            if values is not None and len(values) != n:
                raise ValueError(f"`{label}` must have one entry per bead ({n}), got {len(values)}")
        if not np.all(masses > 0):
            bead = int(np.argmin(masses > 0))
            raise ValueError(f"bead {bead} (type {types[bead]!r}) has mass {masses[bead]} amu, expected more than zero")
        if charges is not None and not np.isfinite(charges := np.asarray(charges, dtype=float)).all():
            bead = int(np.argmin(np.isfinite(charges)))
            raise ValueError(f"bead {bead} (type {types[bead]!r}) has the charge {charges[bead]} e")
        if np.any(np.asarray(bonds) % 1 != 0):
            raise ValueError(f"`bonds` must be pairs of beads, counted from 0, got {np.asarray(bonds).tolist()}")
        pairs = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
        if pairs.size and (pairs.min() < 0 or pairs.max() >= n):
            wrong = int(pairs.min() if pairs.min() < 0 else pairs.max())
            raise ValueError(f"a bond names bead {wrong}, but there are {n} beads, counted from 0")
        if np.any(pairs[:, 0] == pairs[:, 1]):
            raise ValueError("a bond joins a bead to itself")
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        if unknown := set(bodies or {}) - set(types):
            raise ValueError(f"`bodies` names the type {min(unknown)!r}, which no bead has")
        return cls(
            types=tuple(types),
            names=tuple(names if names is not None else types),
            residue_names=tuple(residue_names if residue_names is not None else ["CG"] * n),
            residue_index=_read_only(np.zeros(n) if residue_index is None else residue_index, np.int64, (n,)),
            masses=_read_only(masses, np.float64, (n,)),
            charges=_read_only(np.zeros(n) if charges is None else charges, np.float64, (n,)),
            bonds=_read_only(pairs, np.int64, (len(pairs), 2)),
            bodies=dict(bodies or {}),
            joints=_read_only(_checked_joints(joints, types, pairs, bodies or {}), np.int64, (len(joints), 4)),
        )

    def __len__(self) -> int:
        return len(self.types)

    @cached_property
    def oriented(self) -> np.ndarray:
        """Whether each bead has an orientation, shape (beads,)."""
        return _read_only([name in self.bodies for name in self.types], np.bool_, (len(self),))

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded neighbours of each bead."""
        lists: list[list[int]] = [[] for _ in self.types]
        for i, j in self.bonds.tolist():
            lists[i].append(j)
            lists[j].append(i)
        return tuple(tuple(sorted(entry)) for entry in lists)

    @cached_property
    def angles(self) -> np.ndarray:
        """Bonded triples i-j-k with i < k, shape (angles, 3)."""
        rows = [(i, j, k) for j, around in enumerate(self.neighbours) for i in around for k in around if i < k]
        return _read_only(sorted(rows), np.int64, (len(rows), 3))

    @cached_property
    def dihedrals(self) -> np.ndarray:
        """Bonded chains i-j-k-l of four different beads, j < k, shape (dihedrals, 4)."""
        rows = [
            (i, j, k, m)
            for j, k in self.bonds.tolist()
            for i in self.neighbours[j]
            for m in self.neighbours[k]
            if i != k and m != j and i != m
        ]
        return _read_only(sorted(rows), np.int64, (len(rows), 4))

    @cached_property
    def molecules(self) -> np.ndarray:
        """Index of the molecule (bonded component) of each bead, shape (beads,)."""
        n = len(self)
        links = coo_array((np.ones(len(self.bonds)), (self.bonds[:, 0], self.bonds[:, 1])), shape=(n, n))
        return _read_only(connected_components(links, directed=False)[1], np.int64, (n,))

    @cached_property
    def excluded_pairs(self) -> np.ndarray:
        """Pairs one, two or three bonds apart: no short-range repulsion acts between them, shape (pairs, 2)."""
        pairs = self.bonded_pairs(3)
        return _read_only(pairs, np.int64, (len(pairs), 2))

    def bonded_pairs(self, bonds: int) -> np.ndarray:
        """Pairs `bonds` (up to 3) bonds apart or fewer, the lower index first, shape (pairs, 2)."""
        ends = [np.zeros((0, 2), np.int64), self.bonds, self.angles[:, [0, 2]], self.dihedrals[:, [0, 3]]]
        return np.unique(np.sort(np.concatenate(ends[: bonds + 1]), axis=1), axis=0)

    def repeat(self, copies: int) -> BeadTopology:
        """`copies` of this system after one another, not bonded to each other."""
        if copies < 1:
            raise ValueError(f"`copies` must be at least 1, got {copies}")
        beads, residues = len(self), int(self.residue_index.max()) + 1
        offsets = np.arange(copies)
        return BeadTopology.build(
            self.types * copies,
            np.tile(self.masses, copies),
            bonds=(self.bonds[None] + beads * offsets[:, None, None]).reshape(-1, 2),
            charges=np.tile(self.charges, copies),
            names=self.names * copies,
            residue_names=self.residue_names * copies,
            residue_index=(self.residue_index[None] + residues * offsets[:, None]).reshape(-1),
            bodies=self.bodies,
            joints=(self.joints[None] + beads * offsets[:, None, None] * [1, 1, 0, 0]).reshape(-1, 4),
        )

    def with_bodies(self, bodies: Mapping[str, Body]) -> BeadTopology:
        """The same beads, oriented where their type is in `bodies` and nowhere else.

        Raises:
            ValueError: if a bond is one of an atom that a body does not have.
        """
        chosen = {name: body for name, body in bodies.items() if name in self.types}
        if chosen == self.bodies:
            return self
        oriented = np.array([name in chosen for name in self.types])
        joints = np.concatenate([self.joints[:, :2], np.where(oriented[self.joints[:, :2]], self.joints[:, 2:], -1)], 1)
        joints = joints[joints[:, 2:].max(1, initial=-1) >= 0]
        checked = _checked_joints(joints, self.types, self.bonds, chosen)
        return replace(self, bodies=chosen, joints=_read_only(checked, np.int64, joints.shape))

    def to_openmm(self) -> openmm.app.Topology:
        """The same as an OpenMM topology: beads are atoms without an element, their type is the atom id.

        A chain or residue ends where the next bead belongs to another molecule or residue, so that the order of the
        atoms stays the order of the beads.
        """
        result = openmm.app.Topology()
        atoms = []
        chain = residue = last_molecule = last_residue = None
        for bead, molecule in enumerate(self.molecules.tolist()):
            if chain is None or molecule != last_molecule:
                chain, last_residue = result.addChain(), None
            if last_residue != self.residue_index[bead]:
                residue = result.addResidue(self.residue_names[bead], chain)
            last_molecule, last_residue = molecule, self.residue_index[bead]
            atoms.append(result.addAtom(self.names[bead], None, residue, id=self.types[bead]))
        for i, j in self.bonds.tolist():
            result.addBond(atoms[i], atoms[j])
        return result

    @classmethod
    def from_openmm(
        cls,
        topology: openmm.app.Topology,
        masses: Sequence[float] | np.ndarray,
        *,
        types: Sequence[str] | None = None,
        charges: Sequence[float] | np.ndarray | None = None,
    ) -> BeadTopology:
        """Read an OpenMM topology whose atoms are beads, `masses` in amu; `types` defaults to the atom ids."""
        atoms = list(topology.atoms())
        return cls.build(
            [atom.id for atom in atoms] if types is None else types,
            masses,
            bonds=[(bond[0].index, bond[1].index) for bond in topology.bonds()],
            charges=charges,
            names=[atom.name for atom in atoms],
            residue_names=[atom.residue.name for atom in atoms],
            residue_index=[atom.residue.index for atom in atoms],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for JSON."""
        return {
            "types": list(self.types),
            "names": list(self.names),
            "residue_names": list(self.residue_names),
            "residue_index": self.residue_index.tolist(),
            "masses": self.masses.tolist(),
            "charges": self.charges.tolist(),
            "bonds": self.bonds.tolist(),
            **({"bodies": {name: body.model_dump() for name, body in self.bodies.items()}} if self.bodies else {}),
            **({"joints": self.joints.tolist()} if len(self.joints) else {}),
        }

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> BeadTopology:
        """The inverse of `to_dict`.

        Raises:
            ValueError: if types or masses are missing, `bodies` is not a table, or what `build` complains about.
        """
        for name in ("types", "masses"):
            if not isinstance(entries, dict) or not isinstance(entries.get(name), list):
                raise ValueError(f"the topology of the beads must have `{name}`, a list with one entry per bead")
        given = entries.get("bodies", {})
        if not isinstance(given, dict):
            raise ValueError(
                f"`bodies` of the topology must be a table with a body for each oriented type, got {given!r}"
            )
        bodies = {name: Body.parse(body, f"body {name!r}") for name, body in given.items()}
        return cls.build(**{**entries, "bodies": bodies})


def _checked_joints(
    joints: Sequence[tuple[int, int, int, int]] | np.ndarray,
    types: Sequence[str],
    bonds: np.ndarray,
    bodies: Mapping[str, Body],
) -> np.ndarray:
    """Sorted, first bead below second, each being one of the bonds, each atom one of the body."""
    rows = np.asarray(joints, dtype=np.int64).reshape(-1, 4)
    rows = np.where(rows[:, :1] > rows[:, 1:2], rows[:, [1, 0, 3, 2]], rows)
    known = set(map(tuple, bonds.tolist()))
    for i, j, *atoms in rows.tolist():
        if (i, j) not in known:
            raise ValueError(f"a joint is of beads {i} and {j}, which no bond joins")
        for bead, atom in zip((i, j), atoms, strict=True):
            size = len(bodies[types[bead]].names) if types[bead] in bodies else 0
            if not -1 <= atom < size:
                raise ValueError(f"a joint names atom {atom} of bead {bead} (type {types[bead]!r}), which has {size}")
    if len(np.unique(rows[:, :2], axis=0)) < len(rows):
        raise ValueError("two joints are of the same bond")
    return rows[np.lexsort(rows.T[1::-1])]
