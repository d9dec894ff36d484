"""What every worker does: read graphs, time calls, take the peak of the memory, print one line of JSON per graph.

Needs numpy and torch only, so that it runs in any environment. A worker is `python -m tests.benchmarks.peers.run_x`
with the arguments below; it hands `work` a function that builds its model.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

WARM_UP, MOST = 2, 1_000_000
"""Calls that are not counted, and most beads that all the others are about."""
ENOUGH, PATIENCE = 3, 20.0
"""Calls after which no more are made if they have taken so long [s]."""


@dataclass(frozen=True)
class Graph:
    """Positions [nm], indices of types, edge of the periodic box [nm], cutoff [nm], number of directed pairs."""

    positions: Tensor
    types: Tensor
    edge: float
    cutoff: float
    pairs: int

    @classmethod
    def load(cls, path: Path, device: str) -> Graph:
        """Read one that `graphs.write_graph` wrote."""
        with np.load(path) as file:
            positions, types = (torch.from_numpy(file[name]).to(device) for name in ("positions", "types"))
            return cls(positions, types, float(file["edge"]), float(file["cutoff"]), int(file["pairs"]))

    @property
    def cell(self) -> Tensor:
        """Cell vectors as rows [nm]."""
        return self.edge * torch.eye(3, device=self.positions.device)

    def angstroms(self) -> Graph:
        """The same for packages whose defaults count in angstroms."""
        return replace(self, positions=10 * self.positions, edge=10 * self.edge, cutoff=10 * self.cutoff)

    @property
    def neighbors(self) -> float:
        """Mean number of neighbours."""
        return self.pairs / len(self.positions)


@dataclass(frozen=True)
class Calls:
    """What is timed, on one graph.

    Attributes:
        find: finds the neighbours.
        evaluate: energy and forces from what `find` found.
        pairs: number of directed pairs of what it found.
        finds_again: whether `evaluate` finds the neighbours by itself.
        serves: number of evaluations that one list of neighbours serves; finding it includes one evaluation, if it is
            more than one.
    """

    find: Callable[[], Any]
    evaluate: Callable[[Any], tuple[Tensor, Tensor]]
    pairs: Callable[[Any], int]
    finds_again: bool = False
    serves: int = 1


Build = Callable[[argparse.Namespace, Graph], Callable[[Graph], Calls]]
"""Options and a graph of typical size, to compile with -> a function that prepares the calls on any graph."""


def options() -> argparse.Namespace:
    """The arguments of a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    for name in ("lmax", "layers", "channels", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for compiled models")
    parser.add_argument("graphs", type=Path, nargs="+")
    return parser.parse_args()


def work(build: Build, *packages: str) -> None:
    """Measure the model on each graph, the smallest first."""
    chosen = options()
    torch.set_num_threads(1)  # also while compiling: code compiled for two threads is several times slower
    torch.manual_seed(0)
    graphs = [Graph.load(path, chosen.device) for path in chosen.graphs]
    sys.stdout, lines = sys.stderr, sys.stdout
    prepare = build(chosen, graphs[min(1, len(graphs) - 1)])
    measured(prepare(graphs[0]), graphs[0], chosen, repeats=1)
    versions = {name: version(name) for name in ("torch", *packages)}
    for graph in graphs:
        result = measured(prepare(graph), graph, chosen, repeats=chosen.repeats)
        print(json.dumps({**result, "versions": versions}), file=lines, flush=True)


def measured(calls: Calls, graph: Graph, chosen: argparse.Namespace, repeats: int) -> dict[str, Any]:
    """Medians of time and the peak of memory, per bead."""
    clock, memory = stopwatch(chosen), Peak(chosen.device)
    torch.set_num_threads(chosen.threads)
    repeats = max(1, min(repeats, MOST // len(graph.positions)))
    searches, evaluations = [], []
    found = None
    for _ in range(WARM_UP + repeats):
        del found
        start = clock()
        found = calls.find()
        middle = clock()
        energy, forces = calls.evaluate(found)
        evaluations.append(clock() - middle)
        searches.append(middle - start)
        if len(searches) >= WARM_UP + ENOUGH and sum(searches + evaluations) > PATIENCE:
            break
    peak = memory.kilobytes()
    pairs = calls.pairs(found)  # not one of the calls: to count takes memory, too
    torch.set_num_threads(1)
    check(energy, forces)
    if abs(pairs - graph.pairs) > 1e-4 * graph.pairs:
        raise ValueError(f"{pairs} pairs were found, {graph.pairs} are within the cutoff")
    beads, search = len(graph.positions), statistics.median(searches[WARM_UP:])
    evaluation = statistics.median(evaluations[WARM_UP:])
    if calls.serves > 1:
        search = (search - evaluation) / calls.serves
    return {
        "beads": beads,
        "neighbors": graph.neighbors,
        "us_per_bead": 1e6 * (evaluation if calls.finds_again else search + evaluation) / beads,
        "us_per_bead_model": 1e6 * (evaluation - search if calls.finds_again else evaluation) / beads,
        "peak_kb_per_bead": None if peak is None else peak / beads,
        "repeats": len(searches) - WARM_UP,
    }


def check(energy: Tensor, forces: Tensor) -> None:
    """What came out is an energy and its forces: finite, of some size, and without a net force."""
    size = float(forces.norm(dim=1).mean())
    if not (torch.isfinite(energy).all() and 0 < size < float("inf")):
        raise ValueError(f"the energy is {energy}, the mean size of a force {size}")
    if float(forces.sum(0).norm()) > 1e-3 * size * len(forces):
        raise ValueError("the forces do not add up to zero")


def stopwatch(chosen: argparse.Namespace) -> Callable[[], float]:
    """Seconds: CPU time of the process; on several threads or a GPU those on the clock."""
    if chosen.device == "cuda":
        return lambda: (torch.cuda.synchronize(), time.perf_counter())[1]
    return time.process_time if chosen.threads == 1 else time.perf_counter


class Peak:
    """How much more memory than at its start the process had at most: resident set (Linux), or the device's.

    Memory that was freed earlier goes back to the system first, so that none is used again unseen.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated() / 1024
        elif os.path.exists("/proc/self/clear_refs"):
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self.start = self._resident("VmRSS")

    def kilobytes(self) -> float | None:
        """None where it cannot be found out."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 1024 - self.start
        return self._resident("VmHWM") - self.start if hasattr(self, "start") else None

    @staticmethod
    def _resident(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
