"""cgenn itself, without priors. The name of a model says which evaluator, and at its end which symmetry.

"-so3" is the default, which can tell mirror images apart; without it the features have natural parity, as those of the
others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential, PotentialConfig
from cgenn.potential.priors import Priors
from tests.benchmarks.peers.measure import Calls, Graph, work

Evaluator = Callable[[BeadGraph], tuple[Tensor, Tensor]]


def evaluator(name: str, potential: Potential, typical: BeadGraph) -> Evaluator:
    """What computes the energy and the forces of a graph; `typical` is there to be compiled with."""
    if name == "cgenn-e3nn":
        return lambda graph: energy_and_forces(potential.network_energy, graph)
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
    found = bead_graph(typical)
    evaluate = evaluator(chosen.model.removesuffix("-so3"), potential, found)
    return lambda graph: Calls(lambda: bead_graph(graph), evaluate, lambda found: len(found.senders))


def bead_graph(graph: Graph) -> BeadGraph:
    """As a simulation finds it."""
    return build_graph(graph.positions, graph.types, graph.cutoff, cell=graph.cell[None])


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    work(build, "cgenn", "e3nn", "vesin")
