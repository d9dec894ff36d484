"""A crystal that the training never saw: rock-salt to train on, caesium chloride to test with.

    cgenn run ionic-polymorphs --json

Ions whose charges follow their surroundings by charge equilibration (docs/ion-models.md); the network sees 0.4 nm. The
control is the same network without charges, trained on the same configurations.
"""

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
from cgenn.reference.charge_equilibration import EquilibratedIons
from cgenn.reference.crystals import Crystal
from cgenn.reference.ions import frames_of
from cgenn.training.config import LossWeights

SCALES = np.linspace(0.96, 1.04, 9)
"""Of the lattice constant, for the energies of the crystals."""
CELLS = {"rock-salt": 2, "caesium-chloride": 3}
"""In each direction: 64 and 54 ions."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/ionic-polymorphs"),
    seed: Annotated[int, typer.Option(help="Of the trainings.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few configurations and an epoch: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Forces and lattice energies of the unseen crystal, with and without charges that the network predicts."""
    console = Console(stderr=True, highlight=False)
    frames, tested, epochs = (12, 4, 1) if quick else (120, 40, 45)
    console.rule("reference")
    crystals = {name: Crystal.relaxed(name, cells, EquilibratedIons()) for name, cells in CELLS.items()}
    train = disturbed(out / "train.h5", crystals["rock-salt"], frames, 0.025, 0.12, 0)
    test = disturbed(out / "test.h5", crystals["caesium-chloride"], tested, 0.02, 0.04, 1)
    lattices = {
        name: written(out / f"{name}.h5", crystal, crystal.scaled(SCALES)) for name, crystal in crystals.items()
    }
    charges = ElectrostaticsConfig(
        charges="predicted", groups="system", smearing=EquilibratedIons().smearing, accuracy=1e-5, self_energy=True
    )
    truth, exact = test.read(), {name: data.read().energies for name, data in lattices.items()}
    result: dict = {}
    for name, electrostatics in (("long_range", charges), ("short_range", None)):
        console.rule(f"training: {name.replace('_', ' ')}")
        network = cgenn.NetworkConfig(cutoff=0.4, lmax=0, channels=16, layers=1, electrostatics=electrostatics)
        weights = LossWeights(virials=0.003)
        config = cgenn.TrainingConfig(
            network=network,
            weights=weights,
            epochs=epochs,
            batch_size=2,
            learning_rate=0.02,
            weight_decay=0.03,
            seed=seed,
        )
        potential = cgenn.train(train, config, out / name)
        found = predict(potential, test)
        result[f"force_rmse_unseen_{name}"] = float(np.sqrt(np.square(found.forces - truth.forces).mean()))
        if found.charges is not None:
            result["charge_mae_unseen"] = float(np.abs(found.charges - truth.charges).mean())
        differences = difference(lattices, {key: predict(potential, data).energies for key, data in lattices.items()})
        errors = differences - difference(lattices, exact)
        result[f"lattice_energy_difference_error_{name}"] = float(np.sqrt(np.square(errors).mean()))
    middle = len(SCALES) // 2
    result |= {
        "force_rms_unseen": float(np.sqrt(np.square(truth.forces).mean())),
        "lattice_energy_difference": float(difference(lattices, exact)[middle]),
        "charge_rock_salt": float(lattices["rock-salt"].read().charges[middle, 0]),
        "charge_caesium_chloride": float(lattices["caesium-chloride"].read().charges[middle, 0]),
    }
    meanings = {
        "force": "kJ/mol/nm, of a component",
        "lattice_energy": "kJ/mol of ion pairs; errors are root mean squares over lattice constants of caesium "
        "chloride from -4 % to +4 %, each against rock-salt at its least energy",
        "charge": "e",
    }
    units = {key: unit for key in result for start, unit in meanings.items() if key.startswith(start)}
    result["units"] = units
    write_json(out / "ionic-polymorphs.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def disturbed(path: Path, crystal: Crystal, frames: int, displacement: float, strain: float, seed: int):
    """A dataset of a crystal with displaced ions [nm] in strained cells."""
    random = np.random.default_rng(seed)
    return written(path, crystal, crystal.disturbed(frames, displacement=displacement, strain=strain, random=random))


def written(path: Path, crystal: Crystal, configurations: tuple):
    """A dataset of configurations with what the reference model says of them."""
    if not path.exists():
        frames = frames_of(EquilibratedIons(), *configurations)
        cgenn.BeadDataset.write(path, crystal.topology(), frames, temperature=300.0)
    return cgenn.BeadDataset.open(path)


def difference(lattices: dict, energies: dict) -> np.ndarray:
    """Energies of caesium chloride at all lattice constants less that of rock-salt at its own [kJ/mol of ion pairs]."""
    each = {name: energies[name] / (len(data.topology) / 2) for name, data in lattices.items()}
    return each["caesium-chloride"] - each["rock-salt"][len(SCALES) // 2]


if __name__ == "__main__":
    typer.run(main)
