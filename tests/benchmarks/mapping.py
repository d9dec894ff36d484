"""How fast positions are mapped in memory: 5 000 atoms to 500 beads. Run as a script; prints a table."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array

from cgenn.mapping.linear import LinearMap
from cgenn.mapping.whole import Tree

ATOMS, BEADS, FRAMES = 5000, 500, 500


def rate(function: Callable[[], object]) -> float:
    """Frames per second of CPU time, the best of five runs."""
    function()
    times = []
    for _ in range(5):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return FRAMES / min(times)


def main() -> None:
    """Beads of 2 to 20 neighbouring atoms, as residues are, and the same with the atoms in random order."""
    rng = np.random.default_rng(0)
    sizes = rng.multinomial(ATOMS - 2 * BEADS, np.ones(BEADS) / BEADS) + 2
    rows, weights = np.repeat(np.arange(BEADS), sizes), rng.random(ATOMS)
    positions = rng.random((FRAMES, ATOMS, 3))
    table = Table("what", "numbers", "frames/s", title=f"{ATOMS} atoms to {BEADS} beads, one core")
    for dtype in ("float32", "float64"):
        values = positions.astype(dtype)
        for label, columns in {"neighbouring": np.arange(ATOMS), "scattered": rng.permutation(ATOMS)}.items():
            linear = LinearMap(csr_array((weights, (rows, columns)), shape=(BEADS, ATOMS)))
            table.add_row(f"map, {label} atoms", dtype, f"{rate(lambda m=linear, x=values: m(x)):.0f}")
    bonds = np.stack([np.arange(ATOMS - 1), np.arange(1, ATOMS)], axis=1)
    tree = Tree.build(ATOMS, np.delete(bonds, np.cumsum(sizes)[:-1] - 1, axis=0), bonds[:0])
    compact = 3.0 * rng.random((FRAMES, BEADS, 3))[:, rows] + 0.2 * positions
    for label, cell in {"cubic": 3.0 * np.eye(3), "triclinic": np.array([[3.0, 0, 0], [1, 3, 0], [-1, 1, 3]])}.items():
        box = np.tile(cell, (FRAMES, 1, 1))
        wrapped = compact - np.floor(compact @ np.linalg.inv(cell)) @ cell
        table.add_row(f"make whole, {label}", "float64", f"{rate(lambda x=wrapped, b=box: tree.make_whole(x, b)):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
