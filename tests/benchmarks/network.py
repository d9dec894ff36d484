"""CPU time of one evaluation of the network, energy and forces, per bead, on one thread.

python tests/benchmarks/network.py
"""

import statistics
import time

import numpy as np
import torch

from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential, PotentialConfig
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

BEADS, DENSITY, CUTOFF = 1000, 7.4, 1.0
"""Beads in a cubic box, number density [1/nm^3] and cutoff [nm]: about 31 neighbours each."""


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    edge = (BEADS / DENSITY) ** (1 / 3)
    topology = BeadTopology.build(["A", "B"] * (BEADS // 2), [20.0] * BEADS)
    positions = torch.from_numpy(random.uniform(0, edge, (1, BEADS, 3)).astype("float32"))
    box = edge * torch.eye(3)[None]
    print(f"torch {torch.__version__}, {BEADS} beads, 2 layers, 32 channels, float32, median of 7")
    print("lmax | neighbours | us per bead (CPU time, neighbour search not included)")
    for lmax in (1, 2):
        config = PotentialConfig(
            types=("A", "B"), average_neighbors=31.0, energy_scale=1.0, temperature=300.0, cutoff=CUTOFF, lmax=lmax
        )
        potential = Potential(config, Priors()).float().requires_grad_(False)
        graph = potential.graph(topology, positions, box)
        times = []
        for _ in range(8):
            start = time.process_time()
            energy_and_forces(potential.network_energy, graph)
            times.append(time.process_time() - start)
        per_bead = 1e6 * statistics.median(times[1:]) / BEADS
        print(f"{lmax} | {len(graph.senders) / BEADS:.1f} | {per_bead:.0f}")


if __name__ == "__main__":
    main()
