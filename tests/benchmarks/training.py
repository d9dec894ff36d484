"""The network's training step against the same network with its convolutions left to autograd, one thread.

python -m tests.benchmarks.training [--lmax 2] [--beads 200] [--peptides]

A step is the energy, the forces with `create_graph`, and the derivatives of the mean square force by the weights. Both
networks take turns in one process; medians of CPU time. The memory is the most that a step holds besides its inputs.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from cgenn.graph import BeadGraph, build_graph
from cgenn.nn.network import EquivariantNetwork
from cgenn.nn.tensor_product import EdgeProduct
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from tests.benchmarks.peers.graphs import write_graph
from tests.benchmarks.peers.measure import Graph
from tests.nn.plain import plain_convolution

TYPES = tuple("ABCDEFGH")
PEPTIDES = 128
"""Molecules of five beads, as in a batch of the alanine dipeptide workflow."""


def main(
    beads: Annotated[int, typer.Option(help="Of a liquid, some 31 neighbours each.")] = 1000,
    lmax: Annotated[int, typer.Option()] = 1,
    peptides: Annotated[bool, typer.Option(help="A batch of small molecules in place of a liquid.")] = False,
    steps: Annotated[int, typer.Option(help="Of each.")] = 7,
) -> None:
    """A row of the table: time and memory of a step of both, and how many times one is the other."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = chains() if peptides else liquid(beads)
    neighbors = len(graph.senders) / len(graph.types)
    config = PotentialConfig(types=TYPES, lmax=lmax, average_neighbors=neighbors, energy_scale=1.0, temperature=300.0)
    network = Potential(config, Priors()).network
    known = EdgeProduct.forward
    times: dict[str, list[float]] = {"autograd": [], "cgenn": []}
    memory = {}
    try:
        for turn in range(steps + 1):
            for name, forward in (("autograd", plain_convolution), ("cgenn", known)):
                EdgeProduct.forward = forward
                times[name].append(timed(lambda: step(network, graph)))
                if turn == 0:
                    memory[name] = peak(lambda: step(network, graph))
    finally:
        EdgeProduct.forward = known
    found = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"torch {torch.__version__}, 2 layers, 32 channels, float32, {neighbors:.1f} neighbours")
    print(
        "| beads | lmax | autograd, ms | cgenn, ms | times faster | autograd, MB | cgenn, MB |\n"
        "|---|---|---|---|---|---|---|"
    )
    print(
        f"| {len(graph.types)} | {lmax} | {1e3 * found['autograd']:.0f} | {1e3 * found['cgenn']:.0f} "
        f"| {found['autograd'] / found['cgenn']:.2f} | {memory['autograd'] / 1e6:.0f} | {memory['cgenn'] / 1e6:.0f} |"
    )


def liquid(beads: int) -> BeadGraph:
    with TemporaryDirectory() as folder:
        melt = Graph.load(write_graph(Path(folder), beads), "cpu")
    return build_graph(melt.positions, melt.types, melt.cutoff, cell=melt.cell[None])


def chains() -> BeadGraph:
    """Zigzags of five beads, each seeing all others, slightly displaced."""
    place = torch.arange(5.0)
    one = torch.stack([0.12 * place, 0.08 * (place % 2), torch.zeros(5)], dim=1)
    positions = (one + 0.01 * torch.randn(PEPTIDES, 5, 3)).flatten(0, 1)
    batch = torch.arange(PEPTIDES).repeat_interleave(5)
    return build_graph(positions, torch.arange(5).repeat(PEPTIDES), 1.0, batch=batch, n_systems=PEPTIDES)


def step(network: EquivariantNetwork, graph: BeadGraph) -> None:
    positions = graph.positions.clone().requires_grad_(True)
    vectors = graph.with_positions(positions).edge_vectors()
    energy = network(vectors, graph.types, graph.receivers, graph.senders).energies.sum()
    (slopes,) = torch.autograd.grad(energy, positions, create_graph=True)
    network.zero_grad()
    slopes.square().mean().backward()


def timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def peak(call: Callable[[], object]) -> int:
    """The largest sum of what was taken and given back [bytes]."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    events = sorted(found.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


if __name__ == "__main__":
    typer.run(main)
