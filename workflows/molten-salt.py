"""Molten sodium chloride, one bead per ion, with and without Coulomb forces beyond the reach of the network.

    cgenn run molten-salt --json

All-atom run (systems/molten-nacl), mapping, training, simulation in OpenMM, and what screening says: at small k the
charge structure factor of any conducting liquid is (k / k_D)^2. The charges are constant: OpenMM's own PME sums them.
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
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/molten-salt"),
    seed: Annotated[int, typer.Option(help="Of the trainings and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few frames, an epoch and a few steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Radial distributions and charge structure factors: with PME, of a control without, and of the reference."""
    console = Console(stderr=True, highlight=False)
    length, equilibration, stride, epochs, steps = (1.2, 0.1, 1, 1, 40) if quick else (40.0, 5.0, 5, 16, 4000)
    console.rule("all-atom reference run")
    aa = cgenn.run_reference("molten-nacl", out / "aa", length=length, equilibration=equilibration)
    for name, every in (("cg", 1), ("train", stride)):
        if not (out / f"{name}.h5").exists():
            cgenn.map_trajectory(aa.folder, None, "molecule-com", out / f"{name}.h5", stride=every)
    data = cgenn.BeadDataset.open(out / "cg.h5")
    models = {}
    charges = ElectrostaticsConfig(charges="types", groups="system", excluded_bonds=0)
    for name, label, electrostatics in (
        ("long_range", "network and PME", charges),
        ("short_range", "network alone", None),
    ):
        console.rule(label)
        network = cgenn.NetworkConfig(cutoff=0.5, lmax=0, channels=16, layers=1, electrostatics=electrostatics)
        config = cgenn.TrainingConfig(network=network, epochs=epochs, batch_size=1, learning_rate=0.02, seed=seed)
        potential = cgenn.train(out / "train.h5", config, out / name)
        settings = cgenn.SimulationConfig(
            timestep=0.004, steps=steps, equilibration=steps // 4, report_interval=10, seed=seed
        )
        run = cgenn.simulate(potential, out / "cg.h5", settings, out / f"run-{name}")
        models[name] = replace(model_ensemble(run), label=label)
    reference, temperature = data_ensemble(data), data.temperature
    result = compare_ions(data.topology, reference, models["long_range"], models["short_range"], temperature, out)
    write_json(out / "molten-salt.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


if __name__ == "__main__":
    typer.run(main)
