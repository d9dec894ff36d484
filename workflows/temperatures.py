"""Temperature as an input: a model of two temperatures, simulated at one between them that it has no data of.

    cgenn run temperatures --json

Alanine dipeptide in vacuum, all atoms at 300, 400 and 500 K. Three models: of 300 and 500 K with the temperature as an
input, of 300 K alone, and of 400 K alone; all are simulated at 400 K and compared with the atoms there.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.files import write_json

SYSTEM, MAPPING = "alanine-dipeptide-vacuum", "backbone"
COLD, BETWEEN, HOT = 300.0, 400.0, 500.0
"""[K]"""
MODELS = {"input": (COLD, HOT), "cold": (COLD,), "between": (BETWEEN,)}
"""Temperatures of the data that each one learns from [K]."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/temperatures"),
    length: Annotated[float, typer.Option(help="Of each all-atom run [ps].")] = 1000.0,
    interval: Annotated[float, typer.Option(help="Between frames of the atoms [ps].")] = 0.2,
    epochs: Annotated[int, typer.Option(help="Of each training.")] = 10,
    seeds: Annotated[int, typer.Option(help="Independent trainings of each model.", min=1)] = 3,
    replicas: Annotated[int, typer.Option(help="Copies of the beads, each simulated for 50 ps.")] = 50,
    quick: Annotated[bool, typer.Option(help="Few frames, one epoch, one seed: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Divergence from the atoms at a temperature between those of the data."""
    console = Console(stderr=True, highlight=False)
    equilibration, steps = 10.0, 12_500
    if quick:
        length, equilibration, epochs, seeds, replicas, steps = 10.0, 1.0, 1, 1, 4, 200
    data: dict[float, Path] = {}
    for temperature in (COLD, BETWEEN, HOT):
        name = f"{temperature:g}K"
        console.rule(f"atoms at {temperature:g} K")
        folder, data[temperature] = out / f"aa-{name}", out / f"{name}.h5"
        given = {"length": length, "interval": interval, "equilibration": equilibration, "temperature": temperature}
        cgenn.run_reference(SYSTEM, folder, **given)
        if not data[temperature].exists():
            cgenn.map_trajectory(folder / "trajectory.h5", folder / "topology.pdb", MAPPING, data[temperature])
    found: dict[str, list[dict]] = {name: [] for name in MODELS}
    for seed in range(seeds):
        for name, temperatures in MODELS.items():
            console.rule(f"{name}, seed {seed}")
            network = cgenn.NetworkConfig(temperature_input=len(temperatures) > 1)
            config = cgenn.TrainingConfig(network=network, epochs=epochs, seed=seed)
            folder = out / f"{name}-{seed}"
            potential = cgenn.train([data[one] for one in temperatures], config, folder / "model")
            settings = cgenn.SimulationConfig(
                temperature=BETWEEN, timestep=0.004, steps=steps, equilibration=steps // 5, report_interval=50,
                replicas=replicas, seed=seed,
            )  # fmt: skip
            run = cgenn.simulate(potential, data[BETWEEN], settings, folder / "run")
            found[name].append(cgenn.compare(run, data[BETWEEN], folder / "report").numbers["headline"])
    result = summary(found)
    write_json(out / "temperatures.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def summary(found: dict[str, list[dict]]) -> dict:
    """Means over the seeds, and their standard errors where there are several."""
    result: dict = {}
    for name, headlines in found.items():
        for key in ("js", "js_dihedrals", "js_pair_distances", "js_sampling_floor"):
            values = [headline[key] for headline in headlines]
            error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            result[f"{key}_{name}"] = {"mean": float(np.mean(values)), "error": error}
    return result | {"seeds": len(headlines), "temperature": BETWEEN, "units": {"js": "nat", "temperature": "K"}}


if __name__ == "__main__":
    typer.run(main)
