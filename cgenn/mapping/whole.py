"""Makes molecules whole that the periodic boundary has cut, in any box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

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
    left = np.array(displacements, dtype=float)
    cell = np.asarray(box, dtype=float)
    if np.abs(np.triu(cell, 1)).max(initial=0.0) > 1e-6 * np.abs(cell).max():
        rotation, upper = np.linalg.qr(np.swapaxes(cell, 1, 2))
        left, cell = left @ rotation, np.swapaxes(upper, 1, 2)
    steps = np.empty_like(left)
    for axis in (2, 1, 0):
        steps[..., axis] = np.rint(left[..., axis] / cell[:, None, axis, axis])
        left -= steps[..., axis, None] * cell[:, None, axis, :]
    return steps


@dataclass(frozen=True, eq=False)
class Tree:
    """How to walk from atom to atom along bonds: the parent of each atom, itself for the first of a molecule.

    Attributes:
        parents: shape (atoms,).
    """

    parents: Int[np.ndarray, " atoms"]

    @classmethod
    def build(cls, n_atoms: int, bonds: Int[np.ndarray, "bonds 2"], weak: Int[np.ndarray, "weak 2"]) -> Tree:
        """Span the atoms by `bonds`, and by the links `weak` where they are needed to hold a bead together."""
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

    def make_whole(
        self, positions: Float[np.ndarray, "frames atoms 3"], box: Float[np.ndarray, "frames 3 3"]
    ) -> Float[np.ndarray, "frames atoms 3"]:
        """Positions with every molecule in one piece, each where its first atom is.

        The lattice steps between neighbours are summed from each atom up to the first of its molecule, doubling the
        distance that is looked back each time.
        """
        children = np.flatnonzero(self.parents != np.arange(len(self.parents)))
        if not len(children):
            return positions
        steps = np.zeros(positions.shape)
        steps[:, children] = lattice_steps(positions[:, children] - positions[:, self.parents[children]], box)
        moved = children[np.any(steps[:, children], axis=(0, 2))]
        if not len(moved):
            return positions
        ancestors = self.parents
        while not np.array_equal(ancestors, ancestors[ancestors]):
            steps = steps + steps[:, ancestors]
            ancestors = ancestors[ancestors]
        return (positions - steps @ box).astype(positions.dtype)
