"""A bilayer of POPC: lipids of twelve beads without water, learnt from atoms in water: do they stay a bilayer?

    cgenn run bilayer --json

All-atom bilayer from OpenMM's patch (systems/popc-bilayer), beads as in Martini, forces between lipids learnt by a
small network, radial distributions and tension made those of the atoms by splines between pairs and a ramp, whose
height is adjusted once more until the mean area is theirs. The beads run at the area of the atoms, then with a membrane
barostat without tension. Area, thickness and order of the tails stand beside those of the atoms.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import openmm.app
import typer
from rich.console import Console

import cgenn
from cgenn.analysis import Ensemble, Report, blocking_error
from cgenn.analysis.membrane_section import membrane_part
from cgenn.comparison import data_ensemble, model_ensemble, speed
from cgenn.files import atomic, write_json
from cgenn.mapping.bond_orders import import_rdkit
from cgenn.reference.system import AllAtomSystem, load_system
from cgenn.refinement.rounds import at_mean_size
from cgenn.simulation.pressure import tensions

SYSTEM, MAPPING = "popc-bilayer", "lipids-martini"
TIMESTEP, AREA_ROUND = 0.01, 100.0
"""Of the beads [ps]; length of a simulation that finds the mean area [ps]."""
ROUNDS = {"paired": (16.0, 8), "settled": (200.0, 3)}
"""Of `match_pairs`: length of each simulation [ps], and rounds after the first. In short ones the model gets so far
that long ones are worth it: tails come to rest slowly."""
NOISE, VIRIALS = 0.03, 1.0
"""Of the displacements that let configurations tell their forces [nm]; weight of the virials."""
UNITS = {"area": "nm^2", "thickness": "nm", "tension": "bar nm", "force_rmse": "kJ/mol/nm", "ns_per_day": "ns/day"}
"""By the beginning of a key; everything else is a share or a ratio."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/bilayer"),
    length: Annotated[float, typer.Option(help="Of each all-atom run [ps].")] = 40.0,
    equilibration: Annotated[float, typer.Option(help="Of each all-atom run [ps].")] = 10.0,
    interval: Annotated[float, typer.Option(help="Between frames of the atoms [ps].")] = 0.4,
    runs: Annotated[int, typer.Option(help="All-atom runs with velocities of their own, one after the other.")] = 1,
    beads: Annotated[float, typer.Option(help="Of each run of the beads [ps].")] = 200.0,
    epochs: Annotated[int, typer.Option(help="Of the training.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the training and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="A raft of few lipids and steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Area per lipid, thickness, order of the tails and speed of beads against atoms."""
    console = Console(stderr=True, highlight=False)
    import_rdkit("the mapping of lipids")  # said before the atoms are simulated, not after
    system = load_system(SYSTEM)
    if quick:
        system, length, equilibration, interval, beads, epochs = raft(out / "raft"), 0.2, 0.02, 0.02, 0.4, 1
    console.rule("1/7  atoms")
    given = {"length": length, "equilibration": equilibration, "interval": interval}
    folders = [cgenn.run_reference(system, out / f"aa-{run}", seed=run, **given).folder for run in range(runs)]
    console.rule("2/7  mapping")
    trajectories = [folder / "trajectory.h5" for folder in folders]
    if not (out / "cg.h5").exists():
        cgenn.map_trajectory(trajectories, folders[0] / "topology.pdb", MAPPING, out / "cg.h5")
    dataset = cgenn.BeadDataset.open(out / "cg.h5")
    console.rule("3/7  training")
    network = cgenn.NetworkConfig(
        cutoff=1.0, lmax=1, channels=16, layers=1, reflection_invariant=True, excluded_bonds=3
    )
    config = cgenn.TrainingConfig(
        network=network, epochs=epochs, batch_size=1, noise=0.0 if quick else NOISE, seed=seed,
        virials="equilibrium", weights={"virials": VIRIALS}, ema_decay=0.9,
    )  # fmt: skip
    potential = cgenn.train(dataset, config, out / "model")
    console.rule("4/7  pairs")
    for name, (duration, rounds) in ROUNDS.items():
        settings = simulation(0.4 if quick else duration, seed)
        potential = cgenn.match_pairs(
            potential, dataset, settings, out / name, tension=0.0, rounds=1 if quick else rounds
        )
    console.rule("5/7  area")
    settings = simulation(4.0 if quick else AREA_ROUND, seed).model_copy(update={"ensemble": "area"})
    potential = cgenn.match_pressure(potential, dataset, settings, out / "matched", rounds=1 if quick else 2)
    console.rule("6/7  beads")
    errors = potential.provenance["force_errors"]
    result: dict = {
        f"force_rmse_{key}": errors[key] ** 0.5 for key in ("null", "priors", "model", "floor") if errors[key]
    }
    settings, start = simulation(beads, seed + 1), at_mean_size(dataset, "area")
    for name, ensemble in (("nvt", "nvt"), ("tensionless", "area")):
        run = cgenn.simulate(potential, start, settings.model_copy(update={"ensemble": ensemble}), out / name)
        if name == "nvt":
            found = tensions(potential, run.topology, run.read(), run.temperature)
            result |= {"tension": float(found.mean()), "tension_error": float(blocking_error(found))}
        report = cgenn.compare(run, dataset, out / "report" / name, title=f"Bilayer of POPC, {name}")
        result |= numbers(report, name)
        atoms, whole = data_ensemble(dataset), model_ensemble(run)
        for which, fifth in (("first", 0), ("last", 4)):
            ends = membrane_part(dataset.topology, atoms, of_a_fifth(whole, fifth)).numbers["bilayer"]
            result |= {f"{key}_{name}_{which}_fifth": entry["model"] for key, entry in ends.items()}
        with atomic(out / f"{name}.png") as partial:
            partial.write_bytes((report.folder / "bilayer.png").read_bytes())
    console.rule("7/7  speed")
    result |= speed(potential, out / "cg.h5", system.folder, TIMESTEP, seconds=0.0 if quick else 10.0)
    units = {key: next((unit for name, unit in UNITS.items() if key.startswith(name)), "1") for key in result}
    units |= {key: "1" for key in result if "difference" in key}
    result |= {"figure": str(out / "tensionless.png"), "units": units}
    write_json(out / "bilayer.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def simulation(length: float, seed: int) -> cgenn.SimulationConfig:
    """Of beads at constant area, so long [ps] after a fifth of it."""
    steps = round(length / TIMESTEP)
    return cgenn.SimulationConfig(
        timestep=TIMESTEP, steps=steps, equilibration=steps // 5, report_interval=max(2, steps // 200), seed=seed
    )


def numbers(report: Report, name: str) -> dict:
    """Of the atoms and of the beads in the run of that name, with standard errors, and the relative difference."""
    result: dict = {}
    for key, entry in report.numbers["bilayer"].items():
        for side, label in (("reference", "aa"), ("model", name)):
            result |= {f"{key}_{label}": entry[side], f"{key}_{label}_error": entry[f"{side}_error"]}
        result[f"{key}_{name}_difference"] = entry["model"] / entry["reference"] - 1.0
    return result


def of_a_fifth(whole: Ensemble, number: int) -> Ensemble:
    """One of five pieces of a run, from 0 to 4: is it at rest?"""
    assert whole.box is not None
    piece = slice(number * whole.n_frames // 5, (number + 1) * whole.n_frames // 5)
    positions, box = (np.asarray(values[piece]) for values in (whole.positions, whole.box))
    return dataclasses.replace(whole, positions=positions, box=box, times=None)


def raft(folder: Path, lipids: int = 16) -> AllAtomSystem:
    """The lipids nearest to the middle of the patch, as many in each leaflet, in vacuum: a system of its own."""
    if (folder / "system.toml").exists():
        return load_system(folder)
    whole = load_system(SYSTEM)
    patch = openmm.app.PDBFile(str(whole.structure))
    positions = np.array(patch.getPositions(asNumpy=True)._value)
    residues = [residue for residue in patch.topology.residues() if residue.name != "HOH"]
    centres = np.array([positions[[atom.index for atom in residue.atoms()]].mean(0) for residue in residues])
    middle = centres.mean(0)
    order = np.argsort(np.linalg.norm((centres - middle)[:, :2], axis=1))
    upper = centres[order, 2] > middle[2]
    chosen = {residues[number].index for side in (upper, ~upper) for number in order[side][: lipids // 2]}
    modeller = openmm.app.Modeller(patch.topology, patch.positions)
    modeller.delete([residue for residue in patch.topology.residues() if residue.index not in chosen])
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "structure.pdb") as partial, open(partial, "w", encoding="utf-8") as file:
        openmm.app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    lines = [f"{key} = {json.dumps(value)}" for key, value in whole.definition.model_dump(exclude_none=True).items()]
    lines = [line for line in lines if line.split()[0] not in ("structure", "minimization")] + ["minimization = 5"]
    with atomic(folder / "system.toml") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_system(folder)


if __name__ == "__main__":
    typer.run(main)
