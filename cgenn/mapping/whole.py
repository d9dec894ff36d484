"""Makes molecules whole that the periodic boundary has cut, in any box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

_ATOMS_AT_ONCE = 50_000
"""Atoms times frames worked on at a time, so that they stay in the processor's cache."""
_WEAK = 1e6
"""Weight of a link that is not a bond: taken only where no chain of bonds leads."""


def lattice_steps(
    displacements: Float[np.ndarray, "frames pairs 3"], box: Float[np.ndarray, "frames 3 3"]
) -> Float[np.ndarray, "frames pairs 3"]:
    """Whole numbers n, such that `displacements - n @ box` is the image closest to zero.

    The box is turned so that its vectors a, b, c are a lower triangular matrix; then n_c follows from z alone, n_b
    from what is left of y, and n_a from x. This is right for every displacement shorter than half of each of the
    heights a_x, b_y, c_z, however much the box is tilted, whether or not it is in reduced form.
    """
    left, cell = np.asarray(displacements, dtype=float), np.asarray(box, dtype=float)
    if np.abs(np.triu(cell, 1)).max(initial=0.0) > 1e-6 * np.abs(cell).max():
        rotation, upper = np.linalg.qr(np.swapaxes(cell, 1, 2))
        left, cell = left @ rotation, np.swapaxes(upper, 1, 2)
    parts = [np.array(left[..., axis]) for axis in range(3)]
    steps = np.empty(left.shape)
    for axis in (2, 1, 0):
        whole = np.rint(parts[axis] / cell[:, None, axis, axis])
        for other in range(axis):
            if cell[:, axis, other].any():
                parts[other] -= whole * cell[:, None, axis, other]
        steps[..., axis] = whole
    return steps


@dataclass(frozen=True, eq=False)
class Tree:
    """How to walk from atom to atom along bonds: the parent of each atom, itself for the first of a molecule.

    Attributes:
        parents: shape (atoms,).
    """

    parents: Int[np.ndarray, " atoms"]

    @classmethod
    def build(
        cls, n_atoms: int, bonds: Int[np.ndarray, "bonds 2"], weak: Int[np.ndarray, "weak 2"] | None = None
    ) -> Tree:
        """Span the atoms by `bonds`, and by the links `weak` where they are needed to hold a bead together."""
        weak = np.empty((0, 2), dtype=np.int64) if weak is None else weak
        links = np.concatenate([bonds, weak])
        weights = np.r_[np.ones(len(bonds)), np.full(len(weak), _WEAK)]
        links, first = np.unique(np.sort(links, axis=1), axis=0, return_index=True)
        graph = coo_array((weights[first], (links[:, 0], links[:, 1])), shape=(n_atoms, n_atoms)).tocsr()
        forest = minimum_spanning_tree(graph)
        parents = np.arange(n_atoms)
        seen = np.zeros(n_atoms, dtype=bool)
        seen[np.setdiff1d(np.arange(n_atoms), links)] = True
        for root in range(n_atoms):
            if not seen[root]:
                order, before = breadth_first_order(forest, root, directed=False)
                parents[order[1:]] = before[order[1:]]
                seen[order] = True
        return cls(parents)

    @cached_property
    def roots(self) -> Int[np.ndarray, " atoms"]:
        """The first atom of the molecule of each atom."""
        roots = self.parents
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
        return roots

    def make_whole(
        self, positions: Float[np.ndarray, "frames atoms 3"], box: Float[np.ndarray, "frames 3 3"]
    ) -> Float[np.ndarray, "frames atoms 3"]:
        """Positions with every molecule in one piece, each where its first atom is."""
        result = np.array(positions)
        at_once = max(1, _ATOMS_AT_ONCE // len(self.parents))
        for start in range(0, len(result), at_once):
            self._mend(result[start : start + at_once], np.asarray(box[start : start + at_once], dtype=float))
        return result

    def _mend(self, positions: np.ndarray, box: np.ndarray) -> None:
        """Make molecules whole in place.

        The lattice steps between neighbours are summed from each atom up to the first of its molecule, doubling the
        distance that is looked back each time; only in molecules that are cut in one of the frames.
        """
        children = np.flatnonzero(self.parents != np.arange(len(self.parents)))
        ends = np.take(positions, children, axis=1) - np.take(positions, self.parents[children], axis=1)
        taken = lattice_steps(ends, box)
        cut = np.zeros(len(self.parents), dtype=bool)
        cut[self.roots[children[np.any(taken != 0, axis=(0, 2))]]] = True
        if not cut.any():
            return
        atoms = np.flatnonzero(cut[self.roots])
        steps = np.zeros((len(positions), len(atoms), 3))
        inside = cut[self.roots[children]]
        steps[:, np.searchsorted(atoms, children[inside])] = taken[:, inside]
        ancestors = np.searchsorted(atoms, self.parents[atoms])
        while not np.array_equal(ancestors, ancestors[ancestors]):
            steps += np.take(steps, ancestors, axis=1)
            ancestors = ancestors[ancestors]
        positions[:, atoms] -= (steps @ box).astype(positions.dtype)
