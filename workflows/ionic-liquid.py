"""The ionic liquid [BMIM][PF6], one bead per ion, with and without Coulomb forces beyond the reach of the network.

    cgenn run ionic-liquid --json

Reference run (systems/bmim-pf6, 350 K), mapping, training, simulation in OpenMM, and what perfect screening asks of the
charge structure factor. The cation's bead is at its centre of charge (mappings/bmim-pf6.toml): at the centre of mass it
would hide a dipole that screens, and bare charges would be too large.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import cgenn
from cgenn.analysis import compare_ions
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.files import write_json
from cgenn.potential.electrostatics import ElectrostaticsConfig


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/ionic-liquid"),
    seed: Annotated[int, typer.Option(help="Of the trainings and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few frames, an epoch and a few steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Radial distributions and charge structure factors: with PME, of a control without, and of the reference."""
    console = Console(stderr=True, highlight=False)
    length, equilibration, stride, epochs, steps = (1.0, 0.1, 1, 1, 40) if quick else (5000.0, 100.0, 2, 10, 20000)
    console.rule("reference run")
    aa = cgenn.run_reference(
        "bmim-pf6", out / "aa", length=length, equilibration=equilibration, interval=0.1 if quick else 5.0
    )
    for name, every in (("cg", 1), ("train", stride)):
        if not (out / f"{name}.h5").exists():
            cgenn.map_trajectory(aa.folder, None, "bmim-pf6", out / f"{name}.h5", stride=every)
    data = cgenn.BeadDataset.open(out / "cg.h5")
    charges = ElectrostaticsConfig(charges="types", groups="molecule")
    models = {}
    for name, label, electrostatics in (
        ("long_range", "network and PME", charges),
        ("short_range", "network alone", None),
    ):
        console.rule(label)
        network = cgenn.NetworkConfig(cutoff=0.9, lmax=0, channels=16, layers=1, electrostatics=electrostatics)
        config = cgenn.TrainingConfig(network=network, epochs=epochs, batch_size=2, learning_rate=0.02, seed=seed)
        potential = cgenn.train(out / "train.h5", config, out / name)
        settings = cgenn.SimulationConfig(
            timestep=0.02, steps=steps, equilibration=steps // 4, report_interval=20, seed=seed
        )
        run = cgenn.simulate(potential, out / "cg.h5", settings, out / f"run-{name}")
        models[name] = replace(model_ensemble(run), label=label)
    reference, temperature = data_ensemble(data), data.temperature
    result = compare_ions(data.topology, reference, models["long_range"], models["short_range"], temperature, out)
    write_json(out / "ionic-liquid.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


if __name__ == "__main__":
    typer.run(main)
