"""Charges at random in a box: what a network with a cutoff cannot learn, and predicted charges with Ewald's sum can.

    cgenn run random-charges --json

64 charges of +1 e and 64 of -1 e with a short-range repulsion (docs/ion-models.md); the network sees 0.4 nm. The data
to train on state half of each charge, and the loss is that of the forces alone: the charges have to be found from
these. Forces fix them up to a common sign, which the halves give. The control is the same network without charges,
trained on the same configurations.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.comparison import predict
from cgenn.files import write_json
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.reference.random_charges import RandomCharges
from cgenn.units import factor

VALIDATION = 0.1
TEST_FRAMES = 50
MEV = 1e3 / factor("force", "eV/A")
"""Forces in kJ/mol/nm to meV/A."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/random-charges"),
    configurations: Annotated[int, typer.Option(help="To train on.", min=10)] = 100,
    seed: Annotated[int, typer.Option(help="Of the trainings.")] = 0,
    quick: Annotated[bool, typer.Option(help="Ten configurations and two epochs: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Force errors on unseen configurations with and without charges that the network predicts."""
    console = Console(stderr=True, highlight=False)
    configurations, tested, epochs = (10, 4, 2) if quick else (configurations, TEST_FRAMES, 40)
    model = RandomCharges()
    console.rule("reference")
    data, test = out / f"train-{configurations}.h5", out / f"test-{tested}.h5"
    for path, frames, first, stated in (
        (data, round(configurations / (1 - VALIDATION)), 0, 0.5), (test, tested, 1, 1.0),
    ):  # fmt: skip
        if not path.exists():
            made = model.frames(frames, first)
            made = dataclasses.replace(made, charges=stated * made.charges)
            cgenn.BeadDataset.write(path, model.topology, made, temperature=300.0)
    truth = cgenn.BeadDataset.open(test).read()
    charges = ElectrostaticsConfig(charges="predicted", groups="system", accuracy=1e-5)
    result: dict = {}
    for name, electrostatics in (("long_range", charges), ("short_range", None)):
        console.rule(f"training: {name.replace('_', ' ')}")
        network = cgenn.NetworkConfig(cutoff=0.4, channels=16, layers=1, electrostatics=electrostatics)
        config = cgenn.TrainingConfig(
            network=network, weights=cgenn.LossWeights(charges=0), epochs=epochs, batch_size=4, seed=seed,
            validation_fraction=VALIDATION,
        )  # fmt: skip
        folder = out / f"{name}-{configurations}-{seed}"
        found = predict(cgenn.train(data, config, folder), test)
        result[f"force_mae_{name}"] = MEV * float(np.abs(found.forces - truth.forces).mean())
        if found.charges is not None:
            result["charge_mae"] = float(np.abs(found.charges - truth.charges).mean())
            result["charge_largest_error"] = float(np.abs(found.charges - truth.charges).max())
    result["force_mean_component"] = MEV * float(np.abs(truth.forces).mean())
    units = {key: "e" if key.startswith("charge") else "meV/A" for key in result}
    result |= {"configurations": configurations, "units": units}
    write_json(out / "random-charges.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


if __name__ == "__main__":
    typer.run(main)
