"""Melts of polyethylene: one potential learns from two chain lengths and is used on one that it has not seen.

    cgenn run polyethylene --json

All-atom melts at 450 K and 1 bar (systems/polyethylene-c12, -c16, -c24), one bead for two carbons, configurations and
forces of C12H26 and C16H34 learnt by a network of what is more than three bonds apart; wells of bonds and angles are
refined on both, splines between pairs give both the radial distributions of the atoms, and a ramp their volume at
1 bar. Simulations at 1 bar of all three are compared with the atoms: density, size of the chains, structure, diffusion,
speed.
"""

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.analysis import (
    Diffusion,
    angles,
    diffusion,
    distances,
    end_to_end_distance,
    jensen_shannon,
    radial_distributions,
    radius_of_gyration,
    rdf_deviation,
    unwrapped,
)
from cgenn.analysis.compared import Compared
from cgenn.analysis.statistics import Estimate
from cgenn.comparison import data_ensemble, model_ensemble, speed
from cgenn.files import atomic, write_json
from cgenn.h5md import Frames
from cgenn.topology import BeadTopology
from cgenn.units import AMU_PER_NM3

Value: TypeAlias = tuple[float, float]
TRAINED, UNSEEN = ("c12", "c16"), ("c24",)
LENGTHS = {"c12": 1.0, "c16": 1.0, "c24": 1.6}
"""Of the all-atom runs, relative: long chains need time to turn."""
EQUILIBRATION, INTERVAL = 40.0, 0.5
"""Of the atoms, and between their frames [ps]."""
ROUND, STEPS = 16_000, 60_000
"""Of the beads, in a round at constant volume and in the end; at constant pressure rounds are twice as long."""
TIMESTEP, R_MAX = 0.006, 1.0
"""Of the beads [ps]; of the radial distributions [nm]."""
NOISE = 0.03
"""Of the displacements that let configurations tell their forces [nm]: beads stay where the data are."""
PRESSURE = 1.0
"""Of the atoms and of the beads [bar]."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/polyethylene"),
    length: Annotated[float, typer.Option(help="All-atom run of C12H26; C16H34 too, C24H50 1.6 times [ps].")] = 200.0,
    seed: Annotated[int, typer.Option(help="Of the training and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few frames, epochs and steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Density, size of the chains, g(r), bonds, angles, diffusion and speed of beads against atoms."""
    console = Console(stderr=True, highlight=False)
    for chain in TRAINED + UNSEEN:
        console.rule(f"atoms, {chain}")
        given = {"length": length * LENGTHS[chain], "equilibration": EQUILIBRATION, "interval": INTERVAL}
        if quick:
            given = {"length": 0.32, "equilibration": 0.04, "interval": 0.008}
        aa = cgenn.run_reference(f"polyethylene-{chain}", out / f"aa-{chain}", **given)
        if not (out / f"{chain}.h5").exists():
            cgenn.map_trajectory(aa.folder, None, "residue-com", out / f"{chain}.h5")
    learnt = [out / f"{chain}.h5" for chain in TRAINED]
    console.rule("training")
    potential = cgenn.train(learnt, training(seed, quick), out / "model")
    console.rule("bonds and angles")
    settings = simulation(seed, 60 if quick else ROUND)
    potential = cgenn.refine(potential, learnt, settings, out / "refined", rounds=1 if quick else 2)
    console.rule("pairs")
    potential = cgenn.match_pairs(
        potential, learnt, settings, out / "paired", pressure=PRESSURE, reach=R_MAX, rounds=1 if quick else 4
    )
    console.rule("volume")
    settings = simulation(seed, 600 if quick else 2 * ROUND, ensemble="npt")
    potential = cgenn.match_pressure(
        potential, learnt, settings, out / "matched", pressure=PRESSURE, rounds=1 if quick else 2
    )
    result: dict[str, object] = {}
    curves = {}
    for chain in TRAINED + UNSEEN:
        console.rule(f"beads, {chain}")
        settings = simulation(seed + 1, 64 if quick else STEPS, ensemble="npt")
        run = cgenn.simulate(potential, out / f"{chain}.h5", settings, out / f"cg-{chain}")
        cgenn.compare(run, out / f"{chain}.h5", out / "report" / chain, title=f"Melt of polyethylene, {chain.upper()}")
        intervals = {"aa": given["interval"], "cg": settings.report_interval * TIMESTEP}
        numbers, curves[chain] = compared(cgenn.BeadDataset.open(out / f"{chain}.h5"), run, intervals)
        system, seconds = f"polyethylene-{chain}", 0.0 if quick else 10.0
        numbers |= speed(potential, out / f"{chain}.h5", system, TIMESTEP, seconds=seconds)
        result |= {f"{key}_{chain}": value for key, value in numbers.items()}
    with atomic(out / "polyethylene.png") as partial:
        figure(curves, partial)
    result |= {"figure": str(out / "polyethylene.png"), "units": {key: unit_of(key) for key in result}}
    write_json(out / "polyethylene.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def training(seed: int, quick: bool) -> cgenn.TrainingConfig:
    """Configurations, forces and virials; no handedness, as chains have none, and no neighbours along the chain."""
    network = cgenn.NetworkConfig(
        cutoff=0.8, lmax=1, channels=16, layers=1, reflection_invariant=True, excluded_bonds=3
    )
    return cgenn.TrainingConfig(
        network=network, noise=0.0 if quick else NOISE, virials="equilibrium", weights={"virials": 1.0},
        epochs=1 if quick else 6, batch_size=4, seed=seed, learning_rate=0.001 if quick else 0.01,
    )  # fmt: skip


def simulation(seed: int, steps: int, **entries: str) -> cgenn.SimulationConfig:
    """Of beads: long enough for trans and gauche to come to their shares, with many frames, as pressures need them."""
    return cgenn.SimulationConfig(
        timestep=TIMESTEP, steps=steps, equilibration=steps // 5, report_interval=2 if steps < 100 else 40, seed=seed,
        pressure=PRESSURE, **entries,
    )  # fmt: skip


def compared(data: cgenn.BeadDataset, run: cgenn.Run, intervals: dict[str, float]) -> tuple[dict[str, float], dict]:
    """Numbers of atoms and beads with standard errors and relative differences, and g(r) and displacements of both."""
    topology = data.topology
    ensembles = {"aa": data_ensemble(data), "cg": model_ensemble(run)}
    found, curves = {}, {}
    for label, frames in (("aa", data.read()), ("cg", run.read())):
        found[label], moved = measured(topology, frames, intervals[label])
        radial = radial_distributions(topology.types, ensembles[label], r_max=R_MAX, molecules=topology.molecules)
        curves[label] = (radial, moved.time, moved.displacement)
    result: dict[str, float] = {}
    for key in found["aa"]:
        (atoms, atoms_error), (beads, beads_error) = found["aa"][key], found["cg"][key]
        result |= {f"{key}_aa": atoms, f"{key}_aa_error": atoms_error}
        result |= {f"{key}_cg": beads, f"{key}_cg_error": beads_error, f"{key}_difference": beads / atoms - 1.0}
    for row, name in enumerate(curves["aa"][0].names):
        rdf, pair = rdf_deviation(curves["cg"][0], curves["aa"][0], row), name.replace("-COM", "").replace("|", "_")
        result |= {f"rdf_deviation_{pair.lower()}": rdf.value, f"rdf_deviation_{pair.lower()}_floor": rdf.floor}
    scaling = Compared("", "", "", *(Estimate(*found[label]["diffusion"]) for label in ("aa", "cg"))).ratio
    result |= {"time_scaling": scaling.value, "time_scaling_error": scaling.error or 0.0}
    for name, measure, index in (("bonds", distances, topology.bonds), ("angles", angles, topology.angles)):
        values = [
            measure(np.asarray(entry.positions[:], dtype=float), index, entry.box) for entry in ensembles.values()
        ]
        edges = np.histogram_bin_edges(np.concatenate([entry.ravel() for entry in values]), 50)
        result[f"{name}_js"] = jensen_shannon(*(np.histogram(entry, edges)[0] for entry in values))
    return result, curves


def measured(topology: BeadTopology, frames: Frames, interval: float) -> tuple[dict[str, Value], Diffusion]:
    """Density, sizes of the chains and diffusion coefficient, each with its standard error."""
    assert frames.box is not None
    chains = np.stack([np.flatnonzero(topology.molecules == chain) for chain in range(topology.molecules.max() + 1)])
    positions, masses = frames.positions[:, chains].astype(float), topology.masses[chains[0]]
    values = {
        "density": topology.masses.sum() * AMU_PER_NM3 / np.linalg.det(frames.box),
        "rg": radius_of_gyration(positions, masses).mean(1),
        "ree": end_to_end_distance(positions).mean(1),
    }
    pieces = {key: [float(piece.mean()) for piece in np.array_split(value, 10)] for key, value in values.items()}
    result = {key: (float(np.mean(value)), float(np.std(value, ddof=1)) / 10**0.5) for key, value in pieces.items()}
    moved = diffusion([unwrapped(np.average(positions, axis=2, weights=masses), frames.box)], interval)
    return result | {"diffusion": (moved.coefficient, moved.coefficient_error or 0.0)}, moved


def figure(curves: dict[str, dict], path: Path) -> None:
    """g(r) of beads in the middle of different chains, and displacements of centres of mass."""
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for number, (chain, sides) in enumerate(curves.items()):
        for label, (radial, time, moved) in sides.items():
            style = {"color": f"C{number}", "ls": "-" if label == "aa" else "--"}
            name = f"{chain.upper()}, {'atoms' if label == 'aa' else 'beads'}"
            left.plot(radial.r, radial.g[radial.names.index("MID-COM|MID-COM")] + number, label=name, **style)
            right.loglog(time[1:], moved[1:], label=name, **style)
    left.set(xlabel="r [nm]", ylabel="g(r) of middle beads, shifted")
    right.set(xlabel="t [ps]", ylabel="displacement of chains [nm$^2$]")
    right.legend(fontsize=7)
    picture.savefig(path, format="png", dpi=150)
    plt.close(picture)


def unit_of(key: str) -> str:
    """By the beginning of a key; differences are relative."""
    units = {"density": "g/cm^3", "rg": "nm", "ree": "nm", "diffusion": "nm^2/ps (1e-6 m^2/s)", "ns_per_day": "ns/day"}
    relative = any(part in key for part in ("difference", "deviation", "js", "scaling", "speed_up"))
    return "1" if relative else next((unit for name, unit in units.items() if key.startswith(name)), "")


if __name__ == "__main__":
    typer.run(main)
