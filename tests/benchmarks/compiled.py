"""Where the time of the compiled network goes, how far it is from the floor, and what a step of OpenMM adds to it.

python -m tests.benchmarks.compiled [--quick] [--lmax 1,2,3]

A melt of 1000 beads, natural parity, 2 layers, 32 channels, single precision, one thread, the list of neighbours given;
CPU time, medians. Kernels are compiled anew, in an empty cache, four at a time where there are as many cores.
`tests/benchmarks/floor.py` says what the floor is.
"""

from __future__ import annotations

import torch  # isort: skip  (before openmm, for openmm-torch)
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import openmm
import typer
import warp

from cgenn.compiled.launch import Launch, in_threads
from cgenn.graph import build_graph
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.backends import Backend
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology
from tests.benchmarks.floor import bytes_moved, median, operations, rates
from tests.benchmarks.peers.graphs import write_graph
from tests.benchmarks.peers.measure import Graph
from tests.benchmarks.records import Record, show, versions

BEADS, SKIN, STEPS = 1000, 0.2, 200
TYPES = tuple("ABCDEFGH")
PARTS = {"gather": "messages", "ungather": "message_derivatives"}


def main(
    quick: Annotated[bool, typer.Option(help="lmax 1.")] = False,
    lmax: Annotated[str, typer.Option(help="Several with commas.")] = "1,2,3",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        graph = Graph.load(write_graph(Path(folder), BEADS), "cpu")
        warp.config.kernel_cache_dir = folder
        show(records(graph, [1] if quick else [int(degree) for degree in lmax.split(",")]), as_json)


def records(graph: Graph, degrees: list[int]) -> Iterator[Record]:
    """One for each degree."""
    arithmetic, transfer = rates()
    backends: tuple[Backend, ...] = ("openmm-torch", "python")
    for lmax in degrees:
        potential = random_potential(graph, lmax)
        start = time.process_time()
        fast = compiled(potential)
        took = time.process_time() - start
        assert isinstance(fast, CompiledPotential)
        found = {name: 1e6 * value / BEADS for name, value in parts(fast, graph).items()}
        whole = found.pop("whole")
        needed = operations(potential.network, graph.neighbors)
        moved = bytes_moved(fast.kernels._space(graph.types).layers, BEADS, graph.neighbors)
        floor = 1e6 * max(needed / arithmetic, moved / transfer)
        yield {
            "model": "cgenn",
            "lmax": lmax,
            "layers": potential.config.layers,
            "channels": potential.config.channels,
            "threads": 1,
            "beads": BEADS,
            "compile_s": took,
            "us_per_bead": whole,
            "peak_kb_per_bead": None,
            **{f"us_{name}": value for name, value in found.items()},
            "flop_per_bead": needed,
            "bytes_per_bead": moved,
            "gflop_per_s": 1e-9 * arithmetic,
            "gb_per_s": 1e-9 * transfer,
            "us_floor_operations": 1e6 * needed / arithmetic,
            "us_floor_bytes": 1e6 * moved / transfer,
            "over_floor": whole / floor,
            **{f"step_over_model_{name}": step_ratio(potential, graph, name) for name in backends},
            "versions": versions("openmm", "warp-lang", "cgenn"),
        }


def random_potential(graph: Graph, lmax: int) -> Potential:
    """With random weights, for beads like these."""
    torch.manual_seed(0)
    config = PotentialConfig(
        types=TYPES,
        cutoff=graph.cutoff,
        lmax=lmax,
        reflection_invariant=True,
        average_neighbors=graph.neighbors,
        energy_scale=0.2,
        temperature=300.0,
    )
    return Potential(config, Priors()).float().requires_grad_(False)


def parts(fast: CompiledPotential, melt: Graph) -> dict[str, float]:
    """CPU time of each kind of kernel in one call, and of the whole [s]."""
    graph = build_graph(melt.positions, melt.types, melt.cutoff + SKIN, cell=melt.cell[None])
    found: dict[str, float] = defaultdict(float)
    found["whole"] = median(lambda: fast.network_energy_forces_torques(graph))
    space = fast.kernels._space(graph.types)
    for layer in space.layers:
        for name, part in vars(layer).items():
            if isinstance(part, Launch):
                found[PARTS[name]] += median(part)
    for steps in (*space.nodes, *space.unnodes):
        found["nodes"] += median(partial(in_threads, steps))
    edges = space.edges(graph, melt.cutoff)
    by_vectors = edges.slopes(1)
    found["edges"] = median(lambda: edges.move(graph.positions, graph.cell))
    found["edges"] += median(lambda: edges.collect(by_vectors))
    return found


def step_ratio(potential: Potential, melt: Graph, backend: Backend) -> float:
    """Time of steps over that of the learned force in them, CPU platform."""
    topology = BeadTopology.build([TYPES[number] for number in melt.types], [20.0] * len(melt.types))
    system, _ = create_system(potential, topology, box=melt.cell.numpy().astype(float), backend=backend, device="cpu")
    platform = openmm.Platform.getPlatform("CPU")
    context = openmm.Context(system, openmm.LangevinMiddleIntegrator(300, 1, 0.002), platform, {"Threads": "1"})
    context.setPositions(melt.positions.numpy().astype(float))
    context.getIntegrator().step(20)
    inside, evaluate = [0.0], LearnedForce.evaluate

    def timed(self: LearnedForce, *given):
        start = time.process_time()
        result = evaluate(self, *given)
        inside[0] += time.process_time() - start
        return result

    LearnedForce.evaluate = timed
    try:
        start = time.process_time()
        context.getIntegrator().step(STEPS)
        return (time.process_time() - start) / inside[0]
    finally:
        LearnedForce.evaluate = evaluate


main.__doc__ = __doc__

if __name__ == "__main__":
    typer.run(main)
