"""Molten sodium chloride, one bead per ion, with and without Coulomb forces beyond the reach of the network.

    cgenn run molten-salt --json

All-atom run (systems/molten-nacl), mapping, training, simulation in OpenMM, and what screening says: at small k the
charge structure factor of any conducting liquid is (k / k_D)^2. The charges are constant: OpenMM's own PME sums them.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.analysis import (
    charge_structure_figure,
    debye_wavenumber,
    radial_distributions,
    radial_figure,
    structure_factors,
)
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.potential.electrostatics import ElectrostaticsConfig

LABELS = {"reference": "all-atom", "long_range": "network and PME", "short_range": "network alone"}
K_MAX = 40.0
"""Of the structure factors [1/nm]."""


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
    ensembles = {"reference": data_ensemble(data)}
    charges = ElectrostaticsConfig(charges="types", groups="system", excluded_bonds=0)
    for name, electrostatics in (("long_range", charges), ("short_range", None)):
        console.rule(LABELS[name])
        network = cgenn.NetworkConfig(cutoff=0.5, lmax=0, channels=16, layers=1, electrostatics=electrostatics)
        config = cgenn.TrainingConfig(network=network, epochs=epochs, batch_size=1, learning_rate=0.02, seed=seed)
        potential = cgenn.train(out / "train.h5", config, out / name)
        settings = cgenn.SimulationConfig(
            timestep=0.004, steps=steps, equilibration=steps // 4, report_interval=10, seed=seed
        )
        ensembles[name] = model_ensemble(cgenn.simulate(potential, out / "cg.h5", settings, out / f"run-{name}"))
    result = compared(ensembles, data, out)
    (out / "molten-salt.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def compared(ensembles: dict, data: cgenn.BeadDataset, out: Path) -> dict:
    """Numbers and figures of the three ensembles."""
    topology, box = data.topology, ensembles["reference"].box
    density = len(topology) / float(np.linalg.det(box[0]))
    debye = debye_wavenumber(topology.charges, density, data.temperature)
    radial = {name: radial_distributions(topology.types, entry, bins=100) for name, entry in ensembles.items()}
    factors = {name: structure_factors(entry, K_MAX, charges=topology.charges) for name, entry in ensembles.items()}
    rows, labels = range(len(radial["reference"].names)), tuple(LABELS.values())
    picture = radial_figure(radial["reference"], radial["long_range"], rows, labels, radial["short_range"])
    (out / "radial.png").write_bytes(picture)
    picture = charge_structure_figure({LABELS[name]: entry for name, entry in factors.items()}, debye)
    (out / "charge-structure.png").write_bytes(picture)
    k = float(factors["reference"].k[0])
    result: dict = {"k_min": k, "s_zz_screening_limit": (k / debye) ** 2}
    for name in ensembles:
        result[f"s_zz_at_k_min_{name}"] = float(factors[name].charge[0])
        if name != "reference":
            result[f"rdf_error_{name}"] = float(np.abs(radial[name].g - radial["reference"].g).mean())
    meanings = {"k_min": "1/nm", "s_zz": "1, per sum of squared charges", "rdf_error": "1, mean |difference of g(r)|"}
    units = {key: unit for key in result for start, unit in meanings.items() if key.startswith(start)}
    return {**result, "figures": [str(out / "radial.png"), str(out / "charge-structure.png")], "units": units}


if __name__ == "__main__":
    typer.run(main)
