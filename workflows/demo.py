"""Alanine dipeptide from an all-atom run to a coarse-grained one, in one go: the quickest look at everything.

    cgenn run demo --out runs/demo

Every stage writes into a folder of its own and is not done again if it is there; an interrupted run goes on.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import cgenn
from cgenn.comparison import training_history

console = Console(stderr=True, highlight=False)


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    system: Annotated[str, typer.Option(help="All-atom system (cgenn list).")] = "alanine-dipeptide-implicit",
    quick: Annotated[bool, typer.Option(help="A minute instead of ten: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the headline numbers as JSON.")] = False,
) -> None:
    """All-atom reference run, mapping, training, coarse-grained simulation in OpenMM, comparison."""
    length, epochs, replicas, steps = (40.0, 1, 20, 500) if quick else (20000.0, 20, 300, 4000)

    console.rule("1/5  all-atom reference run")
    aa = cgenn.run_reference(system, out / "aa", length=length, interval=length / (500 if quick else 5000), replicas=2)
    console.rule("2/5  mapping to 5 beads")
    dataset = out / "cg.h5"
    if not dataset.exists():
        cgenn.map_trajectory(aa.folder, None, "backbone", dataset)
    console.rule("3/5  training")
    network = cgenn.NetworkConfig(cutoff=0.8)
    config = cgenn.TrainingConfig(network=network, epochs=epochs, noise=0.01)
    potential = cgenn.train(dataset, config, out / "model")
    console.rule("4/5  coarse-grained simulation")
    settings = cgenn.SimulationConfig(
        timestep=0.004, steps=steps, equilibration=steps // 4, report_interval=20, replicas=replicas
    )
    run = cgenn.simulate(potential, dataset, settings, out / "run")
    console.rule("5/5  comparison")
    history = training_history(out / "model")
    report = cgenn.compare(run, dataset, out / "report", sections=[history] if history else [])
    headline = report.numbers["headline"]
    if as_json:
        typer.echo(report.json.read_text(encoding="utf-8"))
    else:
        for name, value in headline.items():
            typer.echo(f"{name}: {value}")
    typer.echo(f"report: {report.html.resolve()}", err=as_json)


if __name__ == "__main__":
    typer.run(main)
