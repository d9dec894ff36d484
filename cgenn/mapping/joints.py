"""Which atoms are bonded where the beads are: what the bonds of oriented beads act on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from cgenn.mapping.mapping import Mapping


def find_joints(
    mapping: Mapping, groups: Sequence[tuple[Int[np.ndarray, " beads"], Int[np.ndarray, "beads atoms"]]]
) -> Int[np.ndarray, "joints 4"]:
    """Two beads and the place of the bonded atom in the body of each, -1 for a bead without an orientation.

    Where several bonds join two beads the first counts.

    Args:
        mapping: of the atoms to beads.
        groups: the beads of each oriented type, and the atoms of each in the order of its body.
    """
    places = {
        bead: {atom: place for place, atom in enumerate(row)}
        for beads, atoms in groups
        for bead, row in zip(beads.tolist(), atoms.tolist(), strict=True)
    }
    owned = np.split(mapping.owners.indices, mapping.owners.indptr[1:-1])
    rows = []
    for i, j in mapping.topology.bonds.tolist():
        if i not in places and j not in places:
            continue
        first, second = np.sort(owned[i]), np.sort(owned[j])
        links = mapping.atoms.adjacency[first][:, second].tocoo()
        if links.nnz:
            link = np.lexsort((links.col, links.row))[0]
            atoms = int(first[links.row[link]]), int(second[links.col[link]])
            rows.append((i, j, places.get(i, {}).get(atoms[0], -1), places.get(j, {}).get(atoms[1], -1)))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)
