"""Liquid benzene, one bead with an orientation per molecule: forces and torques learnt, structure and density.

    cgenn run benzene --data benzene_oplsaa_300K_7x500.npz --json

Data: Wilson and Huang 2023 (doi 10.1063/5.0143724), seven frames of 500 molecules, OPLS-AA. Frames 2 to 7 are learnt,
frame 1 is kept aside, once with orientations and once without. Both models then run at the density of the all-atom
liquid (systems/benzene), and the first one at its pressure too.
"""

import json
import tomllib
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import openmm
import openmm.app
import typer
from rich.console import Console

import cgenn
from cgenn import shipped
from cgenn.analysis import (
    blocking_error,
    orientation_figure,
    orientational_correlation,
    p2_deviation,
    radial_distributions,
    rdf_deviation,
)
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.files import atomic
from cgenn.reference.settings import choose_platform
from cgenn.reference.system import load_system

LABELS = {"reference": "all-atom", "oriented": "with orientations", "isotropic": "without"}
FORCE, TORQUE = 41.84, 4.184
"""kJ/mol/nm in kcal/mol/A, kJ/mol in kcal/mol."""
R_MAX, BINS = 1.2, 60
"""Of the distributions over distance [nm]."""
AMU_PER_NM3 = 1.66053906660e-3
"""[g/cm^3]"""


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Frames of 500 molecules, atoms (npz with `units`).")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/benzene"),
    seed: Annotated[int, typer.Option(help="Of the trainings and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="One epoch and a few steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Force and torque errors on the frame kept aside; g(r), <P2>(r), density and speed against the all-atom liquid."""
    console = Console(stderr=True, highlight=False)
    length, equilibration, interval, epochs, steps = (
        (0.8, 0.04, 0.08, 1, 20) if quick else (200.0, 10.0, 0.5, 300, 20000)
    )
    console.rule("training data")
    mapped = out / "train.h5"
    if not mapped.exists():
        molecules = held_out_last(data, out / "frames.npz")
        cgenn.map_trajectory(
            out / "frames.npz", liquid(molecules), "benzene", mapped, temperature=300.0, constraints=[]
        )
    console.rule(LABELS["reference"])
    aa = cgenn.run_reference("benzene", out / "aa", length=length, equilibration=equilibration, interval=interval)
    if not (out / "cg.h5").exists():
        bodies = cgenn.BeadDataset.open(mapped).topology.bodies
        cgenn.map_trajectory(aa.folder, None, "benzene", out / "cg.h5", bodies=bodies)
    runs, potentials = {}, {}
    for name in ("oriented", "isotropic"):
        console.rule(LABELS[name])
        network = cgenn.NetworkConfig(cutoff=1.0, oriented=name == "oriented")
        config = cgenn.TrainingConfig(network=network, epochs=epochs, batch_size=1, validation_fraction=0.1, seed=seed)
        potentials[name] = cgenn.train(mapped, config, out / name)
        for ensemble in ("nvt", "npt")[: 2 if name == "oriented" else 1]:
            settings = cgenn.SimulationConfig(
                timestep=0.01, steps=steps, equilibration=steps // 10, report_interval=max(1, steps // 400),
                ensemble=ensemble, pressure=1.01325, seed=seed,
            )  # fmt: skip
            runs[name, ensemble] = cgenn.simulate(
                potentials[name], out / "cg.h5", settings, out / f"run-{name}-{ensemble}"
            )
    result = {**errors(potentials), **structure(runs, out), **density(runs["oriented", "npt"])}
    result |= speed(runs["oriented", "nvt"], 10 if quick else 500)
    result["units"] = {key: UNITS[max(filter(key.startswith, UNITS), key=len)] for key in result if key != "figure"}
    (out / "benzene.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def held_out_last(data: Path, frames: Path) -> int:
    """Write the frames in the order 2 ... 7, 1, of which training sets the last aside; the number of molecules."""
    with np.load(data) as file:
        entries = {key: file[key] for key in ("positions", "forces", "box", "units")}
    for key in ("positions", "forces", "box"):
        entries[key] = np.roll(entries[key], -1, axis=0)
    with atomic(frames) as partial, open(partial, "wb") as target:
        np.savez(target, **entries)
    return entries["positions"].shape[1]


def liquid(count: int) -> openmm.app.Topology:
    """As many molecules as the data has, each like those of the all-atom system."""
    template = next(load_system("benzene").build()[0].residues())
    first = next(template.atoms()).index
    topology = openmm.app.Topology()
    chain = topology.addChain()
    for _ in range(count):
        residue = topology.addResidue(template.name, chain)
        atoms = [topology.addAtom(atom.name, atom.element, residue) for atom in template.atoms()]
        for one, other in template.bonds():
            topology.addBond(atoms[one.index - first], atoms[other.index - first])
    return topology


def errors(potentials: dict[str, cgenn.Potential]) -> dict[str, Any]:
    """Root mean square errors on the frame kept aside, and those of no forces or torques at all."""
    forces, torques = (potentials["oriented"].provenance[f"{kind}_errors"] for kind in ("force", "torque"))
    isotropic = potentials["isotropic"].provenance["force_errors"]
    result = {
        "force_rmse": forces["model"] ** 0.5 / FORCE,
        "force_rmse_isotropic": isotropic["model"] ** 0.5 / FORCE,
        "force_rmse_null": forces["null"] ** 0.5 / FORCE,
        "torque_rmse": torques["model"] ** 0.5 / TORQUE,
        "torque_rmse_null": torques["null"] ** 0.5 / TORQUE,
    }
    return result


def structure(runs: dict, out: Path) -> dict[str, Any]:
    """Deviations of g(r) and <P2>(r) from those of the all-atom liquid, and a figure of both."""
    reference = cgenn.BeadDataset.open(out / "cg.h5")
    ensembles = {"reference": data_ensemble(reference)}
    ensembles |= {name: model_ensemble(runs[name, "nvt"]) for name in ("oriented", "isotropic")}
    radial = {
        name: radial_distributions(reference.topology.types, entry, r_max=R_MAX, bins=BINS)
        for name, entry in ensembles.items()
    }
    turned = {"reference": reference.read().orientations, "oriented": runs["oriented", "nvt"].read().orientations}
    axes = {
        name: orientational_correlation(ensembles[name], entry, r_max=R_MAX, bins=BINS)
        for name, entry in turned.items()
    }
    picture = orientation_figure(*({LABELS[name]: entry for name, entry in found.items()} for found in (radial, axes)))
    (out / "orientation.png").write_bytes(picture)
    rdf, p2 = rdf_deviation(radial["oriented"], radial["reference"]), p2_deviation(axes["oriented"], axes["reference"])
    return {
        "rdf_deviation": rdf.value,
        "rdf_deviation_floor": rdf.floor,
        "rdf_deviation_isotropic": rdf_deviation(radial["isotropic"], radial["reference"]).value,
        "p2_deviation": p2.value,
        "p2_deviation_floor": p2.floor,
        "figure": str(out / "orientation.png"),
    }


def density(run: cgenn.Run) -> dict[str, float]:
    """Mean density at constant pressure, and its relative difference from that of the all-atom liquid."""
    text = (shipped.folder("systems") / "benzene" / "reference.toml").read_text(encoding="utf-8")
    expected = tomllib.loads(text)["measured_density"]["value"]
    values = float(run.topology.masses.sum()) * AMU_PER_NM3 / np.linalg.det(model_ensemble(run).box)
    error = blocking_error(values)
    return {
        "density": float(values.mean()),
        "density_standard_error": error,
        "density_all_atom": expected,
        "density_error": float(values.mean()) / expected - 1.0,
    }


def speed(run: cgenn.Run, steps: int) -> dict[str, float]:
    """Simulated time per day of the model and of the all-atom liquid, with the same number of molecules."""
    system = load_system("benzene")
    settings, (_, built, positions) = system.definition, system.build()
    integrator = openmm.LangevinMiddleIntegrator(settings.temperature, settings.friction, settings.timestep)
    platform = openmm.Platform.getPlatformByName(choose_platform(None, len(positions)))
    context = openmm.Context(built, integrator, platform)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(settings.temperature, 1)
    integrator.step(10)
    start = perf_counter()
    integrator.step(steps)
    context.getState(energy=True)
    all_atom = 86.4 * steps * settings.timestep / (perf_counter() - start)
    own = float(run.record["ns_per_day"])
    return {"ns_per_day": own, "ns_per_day_all_atom": all_atom, "speed_up": own / all_atom}


UNITS = {
    "force_rmse": "kcal/mol/A, root mean square of a component",
    "torque_rmse": "kcal/mol, root mean square of a component",
    "rdf_deviation": f"1, integral of |g - g_ref| over that of g_ref, up to {R_MAX} nm",
    "p2_deviation": f"1, integral of g_ref |P2 - P2_ref| over that of g_ref |P2_ref|, up to {R_MAX} nm",
    "density": "g/cm^3",
    "density_error": "1, difference over the density of the all-atom liquid",
    "ns_per_day": "ns/day",
    "speed_up": "1",
}
"""By the beginning of a key; the longest that fits."""


if __name__ == "__main__":
    typer.run(main)
