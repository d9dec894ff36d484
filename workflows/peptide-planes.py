"""Alanine dipeptide as a chain of two oriented peptide planes and three simple beads.

    cgenn run peptide-planes --json

All-atom run (systems/alanine-dipeptide-implicit), mapping (mappings/dipeptide-planes.toml), training on forces and
torques, simulation in OpenMM. phi and psi are those of the atoms, which are where the planes put them.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.analysis import Ensemble, compare_surfaces
from cgenn.analysis.figures import surface_figure
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.files import atomic, write_json
from cgenn.h5md import Frames
from cgenn.simulation.atoms import AtomView

PHI, PSI = (("P1", "C"), ("P1", "N"), ("CA", "CA"), ("P2", "C")), (("P1", "N"), ("CA", "CA"), ("P2", "C"), ("P2", "N"))
"""Bead and atom."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/peptide-planes"),
    seed: Annotated[int, typer.Option(help="Of the training and the simulation.")] = 0,
    quick: Annotated[bool, typer.Option(help="Some picoseconds and an epoch: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Errors of forces and torques, and the free-energy surface of phi and psi, against the all-atom run."""
    console = Console(stderr=True, highlight=False)
    length, interval, epochs, replicas, steps = (40.0, 0.2, 1, 10, 200) if quick else (10000.0, 2.0, 20, 200, 4000)
    console.rule("all-atom run")
    aa = cgenn.run_reference("alanine-dipeptide-implicit", out / "aa", length=length, interval=interval, replicas=2)
    if not (out / "cg.h5").exists():
        cgenn.map_trajectory(aa.folder, None, "dipeptide-planes", out / "cg.h5")
    data = cgenn.BeadDataset.open(out / "cg.h5")
    console.rule("training")
    network = cgenn.NetworkConfig(cutoff=0.8, channels=16)
    config = cgenn.TrainingConfig(network=network, epochs=epochs, seed=seed)
    potential = cgenn.train(out / "cg.h5", config, out / "model")
    console.rule("simulation")
    settings = cgenn.SimulationConfig(
        timestep=0.004, steps=steps, equilibration=steps // 4, report_interval=20, replicas=replicas, seed=seed
    )
    run = cgenn.simulate(potential, out / "cg.h5", settings, out / "run")
    result = errors(potential) | surface(data, run, out / "free_energy.png")
    write_json(out / "peptide-planes.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def errors(potential: cgenn.Potential) -> dict[str, float]:
    """Root mean square errors on the frames kept aside: of nothing, the priors, the model; and the noise floor."""
    found: dict[str, float] = {}
    for kind in ("force", "torque"):
        squares = potential.provenance[f"{kind}_errors"]
        found |= {f"{kind}_rmse_{name}": value**0.5 for name, value in squares.items() if value is not None}
    return found


def surface(data: cgenn.BeadDataset, run: cgenn.Run, figure: Path) -> dict[str, object]:
    """Divergence of (phi, psi) from the all-atom run's, and a figure of both surfaces."""
    view = AtomView.of(data.topology)
    names = zip((data.topology.names[bead] for bead in view.beads), view.names, strict=True)
    place = {name: atom for atom, name in enumerate(names)}
    phi, psi = ((place[i], place[j], place[k], place[m]) for i, j, k, m in (PHI, PSI))
    reference, model = (
        Ensemble(view.positions(*turned(frames)), None, beads.blocks)
        for frames, beads in ((data.read(), data_ensemble(data)), (run.read(), model_ensemble(run)))
    )
    found = compare_surfaces(reference, model, (phi, psi))
    with atomic(figure) as partial:
        partial.write_bytes(surface_figure(found, data.temperature, ("phi", "psi"), ("all-atom", "oriented planes")))
    result: dict[str, object] = {"js": found.js, "js_standard_error": found.js_error}
    result["js_sampling_floor"] = found.floor[0]
    units = {"force_rmse": "kJ/mol/nm", "torque_rmse": "kJ/mol", "js": "nat", "ns_per_day": "ns/day"}
    return result | {"figure": str(figure), "ns_per_day": run.record["ns_per_day_all_replicas"], "units": units}


def turned(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Positions and orientations of all conformations, one after another."""
    beads = frames.positions.shape[-2]
    assert frames.orientations is not None
    return frames.positions.reshape(-1, beads, 3), frames.orientations.reshape(-1, beads, 4)


if __name__ == "__main__":
    typer.run(main)
