"""Liquid benzene, one bead with an orientation per molecule: forces and torques learnt, structure and density.

    cgenn run benzene --data benzene_oplsaa_300K_7x500.npz --json

Data: Wilson and Huang 2023 (doi 10.1063/5.0143724), seven frames of 500 molecules, OPLS-AA. Frames 2 to 7 are learnt,
frame 1 is kept aside, once with orientations and once without. Both models then run at the density of the all-atom
liquid (systems/benzene); the first one also at 1 atm, and at the pressure that it has itself at that density. With
`--further` more models learn from frames of the all-atom run besides.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated

import numpy as np
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
from cgenn.comparison import data_ensemble, model_ensemble, predict, speed
from cgenn.files import atomic, write_json
from cgenn.reference.system import load_system
from cgenn.simulation.pressure import pressures
from cgenn.units import AMU_PER_NM3, factor

LABELS = {"reference": "all-atom", "oriented": "with orientations", "isotropic": "without"}
FORCE, TORQUE = factor("force", "kcal/mol/A"), factor("energy", "kcal/mol")
"""kJ/mol/nm in kcal/mol/A, kJ/mol in kcal/mol."""
EPOCHS = 60
FRAMES = {"train": slice(1, 7), "held-out": slice(0, 1)}
R_MAX, BINS = 1.2, 60
"""Of the distributions over distance [nm]."""
ATMOSPHERE = 1.01325
"""[bar]"""


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Frames of 500 molecules, atoms (npz with `units`).")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/benzene"),
    further: Annotated[list[int], typer.Option(help="All-atom frames to learn from besides; repeat for several.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of the trainings and simulations.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few epochs and steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Force and torque errors on the frame kept aside; g(r), <P2>(r), density and speed against the all-atom liquid."""
    console = Console(stderr=True, highlight=False)
    length, equilibration, interval = (0.8, 0.04, 0.08) if quick else (200.0, 10.0, 0.5)
    console.rule("training data")
    train, held = (mapped(data, chosen, out / f"{name}.h5") for name, chosen in FRAMES.items())
    console.rule(LABELS["reference"])
    aa = cgenn.run_reference("benzene", out / "aa", length=length, equilibration=equilibration, interval=interval)
    bodies = cgenn.BeadDataset.open(train).topology.bodies
    strides = {"cg": 1} | {f"further-{count}": aa.n_frames // count for count in further}
    for name, stride in strides.items():
        if not (out / f"{name}.h5").exists():
            cgenn.map_trajectory(aa.folder, None, "benzene", out / f"{name}.h5", bodies=bodies, stride=stride)
    potentials, runs = {}, {}
    for name in ("oriented", "isotropic"):
        console.rule(LABELS[name])
        potentials[name] = cgenn.train(
            train, training(seed, quick, oriented=name == "oriented"), out / name, validation=held
        )
        runs[name] = simulate(potentials[name], out, name, seed, quick)
    result = errors(potentials, held) | structure(runs, out)
    result |= densities(potentials["oriented"], runs["oriented"], out, seed, quick)
    result |= speed(potentials["oriented"], out / "cg.h5", "benzene", 0.02, seconds=0.0 if quick else 10.0)
    if further:
        console.rule("more data")
        result["learning_curve"] = learning_curve(potentials["oriented"], further, out, seed, quick)
    units = {key: UNITS[max(filter(key.startswith, UNITS), key=len)] for key in result if key not in UNITLESS}
    result |= {"figure": str(out / "orientation.png"), "units": units}
    write_json(out / "benzene.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def mapped(data: Path, chosen: slice, out: Path) -> Path:
    """Some frames of the data as beads; all with the reference geometry of those to learn from."""
    if not out.exists():
        with np.load(data) as file:
            entries = {key: file[key] for key in ("positions", "forces", "box", "units")}
        frames = {key: values[chosen] if values.ndim else values for key, values in entries.items()}
        with atomic(out.with_suffix(".npz")) as partial, open(partial, "wb") as target:
            np.savez(target, **frames)
        first = out.with_name("train.h5")
        cgenn.map_trajectory(
            out.with_suffix(".npz"), liquid(entries["positions"].shape[1]), "benzene", out, temperature=300.0,
            constraints=[], bodies=cgenn.BeadDataset.open(first).topology.bodies if first.exists() else None,
        )  # fmt: skip
    return out


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


def training(seed: int, quick: bool, *, oriented: bool = True, epochs: int = EPOCHS) -> cgenn.TrainingConfig:
    """Settings of a training; nothing is chosen by the frame that is kept aside."""
    network = cgenn.NetworkConfig(cutoff=1.0, lmax=1, channels=8, layers=1, oriented=oriented)
    rate, epochs = (0.002, 3) if quick else (0.01, epochs)
    return cgenn.TrainingConfig(network=network, epochs=epochs, batch_size=1, learning_rate=rate, seed=seed)


def simulate(
    potential: cgenn.Potential, out: Path, name: str, seed: int, quick: bool, pressure: float | None = None
) -> cgenn.Run:
    """A run at the density of the all-atom liquid, or at a pressure [bar]."""
    steps, timestep, interval = (20, 0.001, 1) if quick else (5000 if pressure is None else 15000, 0.02, 10)
    settings = cgenn.SimulationConfig(
        timestep=timestep, steps=steps, equilibration=steps // 10, report_interval=interval, seed=seed,
        ensemble="nvt" if pressure is None else "npt", pressure=pressure or ATMOSPHERE,
    )  # fmt: skip
    return cgenn.simulate(potential, out / "cg.h5", settings, out / f"run-{name}")


def errors(potentials: dict[str, cgenn.Potential], held: Path) -> dict[str, float]:
    """Root mean square errors on the frame kept aside, and those of no forces or torques at all."""
    result = rmse(potentials["oriented"], held)
    result["force_rmse_isotropic"] = rmse(potentials["isotropic"], held)["force_rmse"]
    data = cgenn.BeadDataset.open(held).read()
    result["force_rmse_null"] = float(np.sqrt(np.mean(data.forces**2))) / FORCE
    result["torque_rmse_null"] = float(np.sqrt(np.mean(data.torques**2))) / TORQUE
    for kind, unit in (("force", FORCE), ("torque", TORQUE)):
        floor = potentials["oriented"].provenance[f"{kind}_errors"].get("floor")
        if floor is not None:
            result[f"{kind}_rmse_noise_floor"] = floor**0.5 / unit
    return result


def rmse(potential: cgenn.Potential, held: Path) -> dict[str, float]:
    """Root mean square errors of forces and, if the model has any, of torques."""
    data, found = cgenn.BeadDataset.open(held).read(), predict(potential, held)
    result = {"force_rmse": float(np.sqrt(np.mean((found.forces - data.forces) ** 2))) / FORCE}
    if found.torques is not None:
        result["torque_rmse"] = float(np.sqrt(np.mean((found.torques - data.torques) ** 2))) / TORQUE
    return result


def learning_curve(
    first: cgenn.Potential, further: list[int], out: Path, seed: int, quick: bool
) -> list[dict[str, float]]:
    """Errors on the same frame of models that learn from more molecules, in as many steps."""
    train, held = (out / f"{name}.h5" for name in FRAMES)
    start = cgenn.BeadDataset.open(train)
    curve = [{"molecules": len(start) * len(start.topology), **rmse(first, held)}]
    for count in further:
        more = cgenn.BeadDataset.open(out / f"further-{count}.h5")
        config = training(seed, quick, epochs=max(1, round(EPOCHS * len(start) / (len(start) + len(more)))))
        potential = cgenn.train([start, more], config, out / f"oriented-further-{count}", validation=held)
        molecules = curve[0]["molecules"] + len(more) * len(more.topology)
        curve.append({"molecules": molecules, **rmse(potential, held)})
    return curve


def structure(runs: dict[str, cgenn.Run], out: Path) -> dict[str, float]:
    """Deviations of g(r) and <P2>(r) from those of the all-atom liquid, and a figure of both."""
    reference = cgenn.BeadDataset.open(out / "cg.h5")
    ensembles = {"reference": data_ensemble(reference)} | {name: model_ensemble(run) for name, run in runs.items()}
    types, bins = reference.topology.types, {"r_max": R_MAX, "bins": BINS}
    radial = {name: radial_distributions(types, entry, **bins) for name, entry in ensembles.items()}
    turned = {"reference": reference.read().orientations, "oriented": runs["oriented"].read().orientations}
    axes = {name: orientational_correlation(ensembles[name], entry, **bins) for name, entry in turned.items()}
    picture = orientation_figure(*({LABELS[name]: entry for name, entry in found.items()} for found in (radial, axes)))
    with atomic(out / "orientation.png") as partial:
        partial.write_bytes(picture)
    rdf, p2 = rdf_deviation(radial["oriented"], radial["reference"]), p2_deviation(axes["oriented"], axes["reference"])
    return {
        "rdf_deviation": rdf.value,
        "rdf_deviation_floor": rdf.floor,
        "rdf_deviation_isotropic": rdf_deviation(radial["isotropic"], radial["reference"]).value,
        "p2_deviation": p2.value,
        "p2_deviation_floor": p2.floor,
    }


def densities(potential: cgenn.Potential, run: cgenn.Run, out: Path, seed: int, quick: bool) -> dict[str, float]:
    """Density at 1 atm, the pressure of the model at the density of the all-atom liquid, and its density there.

    Forces on beads do not tell how the free energy of what was left out depends on the volume; to first order that is
    a constant pressure (Das and Andersen 2010, doi 10.1063/1.3394862), which the barostat can make up for.
    """
    text = (shipped.folder("systems") / "benzene" / "reference.toml").read_text(encoding="utf-8")
    expected = tomllib.loads(text)["measured_density"]["value"]
    frames = run.read(slice(None, None, 1 if quick else 4))
    pressure = pressures(potential, run.topology, frames, 300.0)
    result = {"density_all_atom": expected, "pressure": float(pressure.mean())}
    result["pressure_standard_error"] = blocking_error(pressure)
    for label, given in (("", ATMOSPHERE), ("_corrected", round(result["pressure"], 3))):
        npt = simulate(potential, out, f"oriented-npt{label}", seed, quick, pressure=given)
        values = float(npt.topology.masses.sum()) * AMU_PER_NM3 / np.linalg.det(model_ensemble(npt).box)
        result[f"density{label}"] = float(values.mean())
        result[f"density_standard_error{label}"] = float(np.std(tenths(values), ddof=1) / np.sqrt(10))
        result[f"density_error{label}"] = float(values.mean()) / expected - 1.0
    return result


def tenths(values: np.ndarray) -> list[float]:
    """Means of ten pieces: volumes change slowly, so that nothing finer is independent."""
    return [float(piece.mean()) for piece in np.array_split(values, 10)]


UNITS = {
    "force_rmse": "kcal/mol/A, root mean square of a component",
    "torque_rmse": "kcal/mol, root mean square of a component",
    "rdf_deviation": f"1, integral of |g - g_ref| over that of g_ref, up to {R_MAX} nm",
    "p2_deviation": f"1, integral of g_ref |P2 - P2_ref| over that of g_ref |P2_ref|, up to {R_MAX} nm",
    "density": "g/cm^3",
    "density_error": "1, difference over the density of the all-atom liquid",
    "pressure": "bar",
    "ns_per_day": "ns/day",
    "speed_up": "1",
}
"""By the beginning of a key; the longest that fits."""
UNITLESS = {"learning_curve"}


if __name__ == "__main__":
    typer.run(main)
