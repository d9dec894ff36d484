"""cgenn itself, without priors. The name of a model says which evaluator, and at its end which symmetry.

"-so3" is the default, which can tell mirror images apart; without it the features have natural parity, as those of the
others. "cgenn" is what a simulation runs; its list of neighbours has a skin, and serves some steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from cgenn.compiled.network import refusal
from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from tests.benchmarks.peers.measure import Calls, Graph, work

SKIN, SERVES = 0.2, 20
"""Of the neighbour list of a simulation [nm], and how many steps it typically serves."""
Evaluator = Callable[[BeadGraph], tuple[Tensor, Tensor]]


def evaluator(name: str, potential: Potential) -> Evaluator:
    """What computes the energy and the forces of a graph."""
    if name == "cgenn-e3nn":
        return lambda graph: energy_and_forces(potential.network_energy, graph)
    if name == "cgenn":
        fast = compiled(potential)
        if not isinstance(fast, CompiledPotential):
            raise ValueError(f"the network cannot be compiled: {refusal(potential.network)}")
        return lambda graph: fast.network_energy_forces_torques(graph)[:2]
    raise ValueError(f"no evaluator {name!r}")


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    config = PotentialConfig(
        types=tuple("ABCDEFGH"),
        cutoff=typical.cutoff,
        lmax=chosen.lmax,
        layers=chosen.layers,
        channels=chosen.channels,
        reflection_invariant=not chosen.model.endswith("-so3"),
        average_neighbors=typical.neighbors,
        energy_scale=1.0,
        temperature=300.0,
    )
    potential = Potential(config, Priors()).float().to(chosen.device).eval().requires_grad_(False)
    evaluate = evaluator(chosen.model.removesuffix("-so3"), potential)
    if "e3nn" in chosen.model:
        return lambda graph: Calls(lambda: bead_graph(graph), evaluate, lambda found: len(found.senders))

    def prepare(graph: Graph) -> Calls:
        def find() -> BeadGraph:
            found = bead_graph(graph, SKIN)
            evaluate(found)  # what depends on the list alone is done in the first evaluation
            return found

        return Calls(find, evaluate, lambda found: len(found.within(graph.cutoff).senders), serves=SERVES)

    return prepare


def bead_graph(graph: Graph, skin: float = 0.0) -> BeadGraph:
    """As a simulation finds it."""
    return build_graph(graph.positions, graph.types, graph.cutoff + skin, cell=graph.cell[None])


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    work(build, "cgenn", "e3nn", "vesin")
