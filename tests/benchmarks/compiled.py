"""Where the time of the compiled network goes, and what a step of OpenMM adds to it: one thread, CPU time, medians.

python -m tests.benchmarks.compiled [--lmax 2]
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import openmm
import torch
import typer

from cgenn.compiled.launch import Launch, in_threads
from cgenn.graph import build_graph
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.potential import Potential, PotentialConfig
from cgenn.potential.priors import Priors
from cgenn.simulation.backends import Backend
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology
from tests.benchmarks.peers.graphs import write_graph
from tests.benchmarks.peers.measure import Graph

SKIN, STEPS = 0.2, 200
TYPES = tuple("ABCDEFGH")
EDGES = {"gather": "edges: messages", "ungather": "edges: their derivatives"}


def main(
    beads: Annotated[int, typer.Option(help="In a cubic box, some 31 neighbours each.")] = 1000,
    lmax: Annotated[int, typer.Option(max=2)] = 1,
) -> None:
    """The parts of one evaluation, and the time of a step by that of the learned force."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        graph = Graph.load(write_graph(Path(folder), beads), "cpu")
    config = PotentialConfig(
        types=TYPES,
        cutoff=graph.cutoff,
        lmax=lmax,
        reflection_invariant=True,
        average_neighbors=31.0,
        energy_scale=0.2,
        temperature=300.0,
    )
    potential = Potential(config, Priors()).requires_grad_(False)
    print(f"torch {torch.__version__}, {beads} beads, lmax {lmax}, natural parity, 2 layers, 32 channels, float32")
    print("| part | us per bead |\n|---|---|")
    for name, value in parts(potential, graph).items():
        print(f"| {name} | {1e6 * value / beads:.2f} |")
    topology = BeadTopology.build([TYPES[number] for number in graph.types], [20.0] * beads)
    backends: tuple[Backend, ...] = ("openmm-torch", "python")
    for backend in backends:
        ratio = step_ratio(potential, topology, graph, backend)
        print(f"step of OpenMM by its learned force, {backend}: {ratio:.3f}")


def parts(potential: Potential, melt: Graph) -> dict[str, float]:
    """CPU time of each kind of kernel in one call, and of the whole [s]."""
    fast = compiled(potential)
    assert isinstance(fast, CompiledPotential)
    graph = build_graph(melt.positions, melt.types, melt.cutoff + SKIN, cell=melt.cell[None])
    found: dict[str, float] = defaultdict(float)
    found["one evaluation"] = median(lambda: fast.network_energy_and_forces(graph))
    space = fast.kernels._space(graph.types)
    for layer in space.layers:
        for name, part in vars(layer).items():
            if isinstance(part, Launch):
                found[EDGES[name]] += median(part)
    for steps in (*space.nodes, *space.unnodes):
        found["beads: mixing of channels, products, gates, readouts"] += median(partial(in_threads, steps))
    edges = space.edges(graph, melt.cutoff)
    by_vectors = edges.slopes(1)
    found["edges at new positions, and forces from them"] = median(lambda: edges.move(graph.positions, graph.cell))
    found["edges at new positions, and forces from them"] += median(lambda: edges.collect(by_vectors))
    return found


def step_ratio(potential: Potential, topology: BeadTopology, melt: Graph, backend: Backend) -> float:
    """Time of steps over that of the learned force in them, CPU platform."""
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


def median(call: Callable[[], object], repeats: int = 31) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    typer.run(main)
