"""Chignolin: a hairpin of ten residues from atoms to beads, and whether it stays folded as the atoms do.

    cgenn run chignolin --json

All-atom runs from the crystal structure in implicit water (systems/chignolin), mapping, training, and runs of
several copies of the beads from the crystal structure, each as long as those of the atoms. RMSD, native contacts,
secondary structure and the free-energy surface of slow coordinates stand beside those of the atoms, with both errors.
"""

import json
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.analysis import Report
from cgenn.comparison import speed, training_history
from cgenn.files import atomic, write_json

SYSTEM, MAPPING = "chignolin", "ca"
TIMESTEP = 0.008
"""Of the beads [ps]."""
UNITS = {"rmsd": "nm", "js": "nat", "force_rmse": "kJ/mol/nm", "ns_per_day": "ns/day"}
"""By the beginning of a key; everything else is a share or a ratio."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/chignolin"),
    length: Annotated[float, typer.Option(help="Of two all-atom runs and of each copy of the beads [ps].")] = 2000.0,
    seed: Annotated[int, typer.Option(help="Of the training and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="Some picoseconds and an epoch: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """RMSD, native contacts, secondary structure, slow coordinates and speed of beads against atoms."""
    console = Console(stderr=True, highlight=False)
    interval, equilibration, epochs, replicas = 0.4, 100.0, 30, 20
    if quick:
        length, interval, equilibration, epochs, replicas = 8.8, 0.08, 0.8, 1, 3
    console.rule("1/5  all-atom runs")
    aa = cgenn.run_reference(
        SYSTEM, out / "aa", length=length, interval=interval, equilibration=equilibration, replicas=2
    )
    console.rule("2/5  mapping")
    if not (out / "native.h5").exists():
        crystal = {"temperature": aa.temperature, "forces": False}
        cgenn.map_trajectory(aa.topology, aa.topology, MAPPING, out / "native.h5", **crystal)
    if not (out / "cg.h5").exists():
        cgenn.map_trajectory(aa.folder, None, MAPPING, out / "cg.h5")
    dataset = cgenn.BeadDataset.open(out / "cg.h5")
    native = cgenn.BeadDataset.open(out / "native.h5").read().positions[0]
    console.rule("3/5  training")
    network = cgenn.NetworkConfig(cutoff=1.2, channels=16)
    config = cgenn.TrainingConfig(network=network, epochs=epochs, noise=0.01, seed=seed)
    potential = cgenn.train(dataset, config, out / "model")
    console.rule("4/5  simulation")
    every = round(interval / TIMESTEP)
    settings = cgenn.SimulationConfig(
        timestep=TIMESTEP, steps=every * round(length / interval), equilibration=round(equilibration / TIMESTEP),
        report_interval=every, replicas=replicas, seed=seed,
    )  # fmt: skip
    run = cgenn.simulate(potential, (dataset.topology, native), settings, out / "run")
    console.rule("5/5  comparison")
    history = training_history(out / "model")
    report = cgenn.compare(run, dataset, out / "report", native=native, sections=[history] if history else [])
    figure(report, out / "chignolin.png")
    result = numbers(report) | speed(potential, out / "cg.h5", SYSTEM, TIMESTEP, seconds=0.0 if quick else 10.0)
    result |= {"ns_per_day_all_replicas": run.record["ns_per_day_all_replicas"]}
    units = {key: next((unit for name, unit in UNITS.items() if key.startswith(name)), "1") for key in result}
    result |= {"figure": str(out / "chignolin.png"), "report": str(report.html), "units": units}
    write_json(out / "chignolin.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def numbers(report: Report) -> dict:
    """Of atoms and beads, each with its standard error; the divergences of the surface; errors of the forces."""
    result: dict = {}
    for key, entry in report.numbers["protein"].items():
        for side, label in (("reference", "aa"), ("model", "cg")):
            result |= {f"{key}_{label}": entry[side], f"{key}_{label}_error": entry[f"{side}_error"]}
    slow = report.numbers.get("slow_coordinates", {})
    result |= {key: slow[key] for key in ("js", "js_error", "js_sampling_floor", "js_sampling_spread") if key in slow}
    return result | {"force_rmse": report.numbers["headline"]["force_rmse"]}


def figure(report: Report, path: Path) -> None:
    """Surfaces of the slow coordinates above distributions of RMSD and Q and the secondary structure."""
    names = [report.folder / f"{name}.png" for name in ("slow_coordinates", "protein")]
    images = [plt.imread(name) for name in names if name.exists()]
    page = np.ones((sum(len(image) for image in images), max(image.shape[1] for image in images), images[0].shape[2]))
    top = 0
    for image in images:
        left = (page.shape[1] - image.shape[1]) // 2
        page[top : top + len(image), left : left + image.shape[1]] = image
        top += len(image)
    with atomic(path) as partial:
        plt.imsave(partial, page, format="png")


if __name__ == "__main__":
    typer.run(main)
