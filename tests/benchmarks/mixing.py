"""What it costs beside a force field that all pairs of beads are listed: time and memory of OpenMM's part.

python tests/benchmarks/mixing.py [--particles 6000] [--beads 100,300,1000,2000]

So many particles at 100/nm^3 with charges and Lennard-Jones interactions, PME with a cutoff of 0.9 nm; every second one
is a bead until there are enough. The network is left out: what is measured is how the rest of the System changes.
OpenMM's CPU platform, one thread, medians of CPU time of energy and forces.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import statistics
import time

import torch  # isort: skip  # noqa: F401  (before openmm)
import numpy as np
import openmm
import typer

from cgenn.simulation.mixing import mixed_system
from cgenn.simulation.placement import Placement

DENSITY = 100.0


def force_field(particles: int) -> tuple[openmm.System, np.ndarray]:
    """A System and positions."""
    points = int(np.ceil(particles ** (1 / 3)))
    edge = (particles / DENSITY) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(points)] * 3), axis=-1).reshape(-1, 3)[:particles]
    positions = grid * edge / points + np.random.default_rng(0).normal(scale=0.01, size=(particles, 3))
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*np.diag([edge] * 3).tolist())
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(0.9)
    for particle in range(particles):
        system.addParticle(18.0)
        force.addParticle(0.4 * (-1) ** particle, 0.2, 0.1)
    system.addForce(force)
    return system, positions


def milliseconds(system: openmm.System, positions: np.ndarray) -> float:
    """Of energy and forces."""
    platform = openmm.Platform.getPlatform("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})
    context.setPositions(positions)
    times = []
    for _ in range(6):
        started = time.process_time()
        context.getState(energy=True, forces=True)
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times[1:])


def main(particles: int = 6000, beads: str = "100,300,1000,2000") -> None:
    """See above."""
    system, positions = force_field(particles)
    typer.echo(f"{particles} particles, force field alone: {milliseconds(system, positions):.0f} ms")
    for number in map(int, beads.split(",")):
        placement = Placement.among(range(0, 2 * number, 2), particles, periodic=True)
        for charged in (False, True):
            started = time.process_time()
            mixed = mixed_system(system, [openmm.CustomExternalForce("0")], placement, long_range=charged)
            made = time.process_time() - started
            cost = milliseconds(mixed, positions)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            model = "with" if charged else "without"
            typer.echo(f"{number} beads, {model} charges: {cost:.0f} ms, made in {made:.1f} s, peak {memory:.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
