"""Bead-chain melts that everyone gets: periodic cubic boxes with about 31 neighbours within the cutoff.

A file holds `positions` (beads, 3) [nm] and `types` (beads,), the `edge` of the box [nm], the `cutoff` [nm] and the
number of directed `pairs` within it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from cgenn.files import atomic

CUTOFF, DENSITY, TYPES = 1.0, 7.4, 8
"""Cutoff [nm], beads per nm^3, number of bead types."""
LARGEST = 8000
"""Beads of a box with more are those of a smaller one again and again, where that is possible."""
CHAIN, BOND, CONTACT, APART = 20, 0.38, 0.36, 0.5
"""Beads of a chain, length of a bond [nm], least distance of two beads [nm], distance at which they first push [nm]."""


def melt(beads: int, edge: float, random: np.random.Generator) -> np.ndarray:
    """Random walks, spread out over the box, then pushed apart until no two beads overlap; bonds keep their length."""
    steps = random.normal(size=(beads, 3))
    steps *= BOND / np.linalg.norm(steps, axis=1, keepdims=True)
    chains = np.arange(beads) // CHAIN
    walks = np.cumsum(steps, axis=0)
    positions = walks - walks[chains * CHAIN] + random.uniform(0, edge, (beads, 3))[chains]
    first = np.flatnonzero(chains[:-1] == chains[1:])
    for distance in [APART] * 100 + [1.01 * CONTACT] * 100:
        close = cKDTree(positions % edge, boxsize=edge).query_pairs(distance, output_type="ndarray")
        _place(positions, *close.T, distance, edge)
        _place(positions, first, first + 1, BOND, edge)
    return positions % edge


def _place(positions: np.ndarray, one: np.ndarray, other: np.ndarray, distance: float, edge: float) -> None:
    """Move both beads of each pair along the line between them until they are so far apart."""
    vectors = positions[other] - positions[one]
    vectors -= edge * np.round(vectors / edge)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    push = 0.5 * (distance - lengths) * vectors / lengths
    np.add.at(positions, other, push)
    np.add.at(positions, one, -push)


def write_graph(folder: Path, beads: int) -> Path:
    """The file of the melt of so many beads, which is made unless it is there."""
    path = folder / f"{beads}.npz"
    if path.is_file():
        return path
    times = max(k for k in range(1, 11) if beads % k**3 == 0 and (k == 1 or beads // k**3 >= LARGEST))
    single = beads // times**3
    random = np.random.default_rng(single)
    edge = (single / DENSITY) ** (1 / 3)
    positions = melt(single, edge, random).astype(np.float32) % np.float32(edge)
    pairs = times**3 * len(cKDTree(positions % edge, boxsize=edge).query_pairs(CUTOFF, output_type="ndarray"))
    types = np.tile(random.integers(0, TYPES, single), times**3)
    cells = edge * np.stack(np.meshgrid(*[np.arange(times)] * 3), axis=-1).reshape(-1, 1, 3)
    positions, edge = (positions + cells).reshape(-1, 3).astype(np.float32), times * edge
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, positions=positions, types=types, edge=edge, cutoff=CUTOFF, pairs=2 * pairs)
    return path
