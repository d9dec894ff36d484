"""The whole learned force of cgenn with predicted charges or with orientations, as it is evaluated in each step.

"cgenn-charges": the network reads a charge of each bead, and particle-mesh Ewald is part of the force.
"cgenn-oriented": every bead is a plate with six-fold symmetry, and torques come with the forces.
"-e3nn" at the end: the network is not compiled. Lists of neighbours serve some steps in all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgenn.body import Body, rotation_matrices
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.memory import ChargedBeads, Memory
from cgenn.topology import BeadTopology
from tests.benchmarks.peers.measure import Calls, Graph, work
from tests.benchmarks.peers.ours import SERVES

TYPES = tuple("ABCDEFGH")
CHARGE = 0.3
"""Of the beads of a type, on average, positive or negative [e]."""
KINDS: dict[str, dict[str, Any]] = {
    "cgenn-charges": {
        "electrostatics": ElectrostaticsConfig(groups="system", excluded_bonds=0),
        "type_charges": tuple(CHARGE * (-1) ** number for number in range(len(TYPES))),
    },
    "cgenn-oriented": {"bodies": dict.fromkeys(TYPES, Body(symmetry="D6h", inertia=(0.9, 0.9, 1.8)))},
}


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    kind = chosen.model.removesuffix("-e3nn")
    config = PotentialConfig(
        types=TYPES, cutoff=typical.cutoff, lmax=chosen.lmax, layers=chosen.layers, channels=chosen.channels,
        average_neighbors=typical.neighbors, energy_scale=1.0, temperature=300.0, **KINDS[kind],
    )  # fmt: skip
    potential = Potential(config, Priors()).float().to(chosen.device).eval().requires_grad_(False)
    if kind == chosen.model:
        potential = compiled(potential)
        assert isinstance(potential, CompiledPotential)

    def prepare(graph: Graph) -> Calls:
        names = [TYPES[number] for number in graph.types]
        charges = dict(zip(TYPES, config.type_charges, strict=False))
        topology = BeadTopology.build(names, [20.0] * len(names), charges=[charges.get(name, 0.0) for name in names])
        charged = None if config.electrostatics is None else ChargedBeads.of(topology, config.electrostatics)
        turned = None
        if config.bodies:
            quaternions = np.random.default_rng(0).normal(size=(len(names), 4))
            quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
            turned = torch.from_numpy(rotation_matrices(quaternions)).to(graph.positions)

        def find() -> Memory:
            memory = Memory(potential, tuple(graph.types.tolist()), (), charged, 1)
            evaluate(memory)  # what depends on the lists alone is done in the first evaluation
            return memory

        def evaluate(memory: Memory) -> tuple[Tensor, Tensor]:
            found = memory.graph(graph.positions, graph.cell, turned)
            return memory.energy_forces_torques(found, 1.0)[:2]

        def pairs(memory: Memory) -> int:
            return len(memory.graph(graph.positions, graph.cell, turned).within(graph.cutoff).senders)

        return Calls(find, evaluate, pairs, serves=SERVES)

    return prepare


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    work(build, "cgenn", "e3nn", "vesin")
