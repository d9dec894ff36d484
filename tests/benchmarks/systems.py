"""Simulated time per day of the systems that come with cgenn: all atoms, and the beads of one of the mappings.

python -m tests.benchmarks.systems [--quick] [--only benzene,villin] [--threads 2]

Both run on OpenMM's CPU platform with as many threads, under a Langevin thermostat: the atoms as `system.toml` says,
the beads under a model of default size with random weights, of which nothing but the cost is left (an energy of 0.001
kJ/mol), under a repulsion and, for ions, under constant charges. Each is started again after every 0.2 ps, so that
beads stay about where the atoms put them. One thread: CPU time; several: on the clock.
"""

from __future__ import annotations

import torch  # isort: skip  (before openmm, for openmm-torch)
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import openmm
import openmm.app
import typer

from cgenn.data.dataset import BeadDataset
from cgenn.data.map_trajectory import map_trajectory
from cgenn.mapping.atoms import AtomTopology
from cgenn.neighbors import neighbors
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, RepulsionPrior, type_key
from cgenn.reference.system import AllAtomSystem, load_system
from cgenn.simulation.start import Start
from cgenn.simulation.system import create_system
from tests.benchmarks.records import Record, show, stopwatch, versions


class Beads(NamedTuple):
    """A mapping, the time step of the beads [ps], and whether they have charges."""

    mapping: str
    timestep: float = 0.004
    charged: bool = False


SYSTEMS = {
    "alanine-dipeptide-vacuum": Beads("backbone"),
    "alanine-dipeptide-implicit": Beads("backbone"),
    "alanine-dipeptide-explicit": Beads("backbone"),
    "villin": Beads("ca"),
    "chignolin": Beads("ca", 0.008),
    "polyethylene-c12": Beads("residue-com", 0.006),
    "polyethylene-c16": Beads("residue-com", 0.006),
    "polyethylene-c24": Beads("residue-com", 0.006),
    "popc-bilayer": Beads("lipids-martini", 0.01),
    "benzene": Beads("benzene", 0.02),
    "methanol": Beads("molecule-com"),
    "water-spce": Beads("water"),
    "molten-nacl": Beads("molecule-com", charged=True),
    "bmim-pf6": Beads("bmim-pf6", 0.02, charged=True),
}
"""Time steps are those of the workflows, and 4 fs where there is none."""
REPULSION = RepulsionPrior(sigma=0.25, epsilon=2.0)
STRETCH = 0.2
"""Between two starts [ps]."""


def main(
    quick: Annotated[bool, typer.Option(help="Half a second for each instead of ten.")] = False,
    only: Annotated[str, typer.Option(help="Systems whose names begin so; several with commas.")] = "",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    torch.set_num_threads(threads)
    chosen = [name for name in SYSTEMS if name.startswith(tuple(only.split(",")))]
    seconds = 0.5 if quick else 10.0
    show((measured(load_system(name), SYSTEMS[name], threads, seconds) for name in chosen), as_json)


def measured(system: AllAtomSystem, beads: Beads, threads: int, seconds: float) -> Record:
    """Both speeds."""
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        atoms, dataset = started(system, beads.mapping, Path(folder), threads)
        potential = random_potential(dataset, system.definition.temperature, beads)
        cg, _ = create_system(potential, dataset.path, device="cpu")
        start = Start.read(dataset.path, 1, 0, potential.config.bodies)
    model = context_of(cg, system, beads.timestep, threads)
    model.setPositions(start.particles[0])
    all_atom, own = (pace(each, threads, seconds, system.definition.temperature) for each in (atoms, model))
    config, count = potential.config, len(dataset.topology)
    cell = None if start.box is None else torch.as_tensor(start.box)[None]
    near = neighbors(torch.as_tensor(start.positions[0]), config.cutoff, cell=cell)
    per_day = 86.4 * system.definition.timestep / all_atom, 86.4 * beads.timestep / own
    return {
        "model": "cgenn" if config.reflection_invariant else "cgenn-so3",
        "lmax": config.lmax,
        "layers": config.layers,
        "channels": config.channels,
        "threads": threads,
        "system": system.name,
        "mapping": beads.mapping,
        "atoms": atoms.getSystem().getNumParticles(),
        "beads": count,
        "pairs_per_bead": len(near.senders) / count,
        "fs_all_atom": 1e3 * system.definition.timestep,
        "fs": 1e3 * beads.timestep,
        "us_per_step_all_atom": 1e6 * all_atom,
        "us_per_step": 1e6 * own,
        "us_per_bead": 1e6 * own / count,
        "peak_kb_per_bead": None,
        "ns_per_day_all_atom": per_day[0],
        "ns_per_day": per_day[1],
        "speed_up": per_day[1] / per_day[0],
        "versions": versions("openmm", "cgenn"),
    }


def started(system: AllAtomSystem, mapping: str, folder: Path, threads: int) -> tuple[openmm.Context, BeadDataset]:
    """The atoms after a short minimisation, and their beads."""
    topology, atoms, positions = system.build()
    context = context_of(atoms, system, system.definition.timestep, threads)
    context.setPositions(positions)
    context.computeVirtualSites()
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=50)
    frame = folder / "atoms.pdb"
    with open(frame, "w") as file:
        openmm.app.PDBFile.writeFile(topology, context.getState(positions=True).getPositions(), file)
    known, temperature = AtomTopology.from_openmm(topology, atoms), system.definition.temperature
    dataset = map_trajectory(frame, known, mapping, folder / "cg.h5", temperature=temperature, forces=False)
    return context, dataset


def random_potential(dataset: BeadDataset, temperature: float, beads: Beads) -> Potential:
    """Of default size, for the beads of a dataset."""
    topology = dataset.topology
    types = tuple(sorted(set(topology.types)))
    options: dict[str, object] = {}
    if beads.charged:
        charges = dict(zip(topology.types, topology.charges.tolist(), strict=True))
        options["electrostatics"] = ElectrostaticsConfig(charges="types", groups="system", excluded_bonds=0)
        options["type_charges"] = tuple(charges[name] for name in types)
    config = PotentialConfig(
        types=types,
        average_neighbors=20.0,
        energy_scale=1e-3,
        temperature=temperature,
        bodies=topology.bodies,
        **options,  # type: ignore[arg-type]
    )
    pairs = {type_key((one, other)): REPULSION for one in types for other in types}
    return Potential(config, Priors(repulsion=pairs)).float().requires_grad_(False).eval()


def context_of(system: openmm.System, definition: AllAtomSystem, timestep: float, threads: int) -> openmm.Context:
    """On the CPU platform, with the thermostat of the definition."""
    settings = definition.definition
    integrator = openmm.LangevinMiddleIntegrator(settings.temperature, settings.friction, timestep)
    integrator.setConstraintTolerance(1e-6)
    integrator.setRandomNumberSeed(1)
    return openmm.Context(system, integrator, openmm.Platform.getPlatform("CPU"), {"Threads": f"{threads}"})


def pace(context: openmm.Context, threads: int, seconds: float, temperature: float) -> float:
    """Time of a step [s], from stretches of `STRETCH` from the same start that take `seconds` in all."""
    integrator = context.getIntegrator()
    start, steps = context.getState(positions=True), max(1, round(STRETCH / integrator.getStepSize()._value))
    integrator.step(10)  # compiles, finds neighbours
    spent, taken = 0.0, 0
    while spent < seconds:
        context.setPositions(start.getPositions())
        context.setVelocitiesToTemperature(temperature, 1)
        before = stopwatch(threads)
        integrator.step(steps)
        spent, taken = spent + stopwatch(threads) - before, taken + steps
    if not np.isfinite(context.getState(energy=True).getPotentialEnergy()._value):
        raise ValueError("the energy is not finite")
    return spent / taken


main.__doc__ = __doc__

if __name__ == "__main__":
    typer.run(main)
