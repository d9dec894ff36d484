"""A coarse-grained run against the data its model was trained on: one report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import openmm
import torch

from cgenn.analysis import (
    Ensemble,
    Number,
    Picture,
    Report,
    Section,
    Table,
    compare_ensembles,
    orientation_figure,
    orientational_correlation,
    p2_deviation,
    radial_distributions,
    training_figure,
)
from cgenn.analysis.conformations import Surface
from cgenn.analysis.radial import default_range
from cgenn.analysis.sections import Value
from cgenn.body import rotation_matrices
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.potential import Potential
from cgenn.reference.settings import choose_platform
from cgenn.reference.system import load_system
from cgenn.simulation.run import Run
from cgenn.simulation.start import Start
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology

TORQUE_ERRORS = {"null": "no torques", "model": "this model", "floor": "noise floor (estimated)"}

ERRORS = {"null": "no interaction", "priors": "priors alone", "model": "this model", "floor": "noise floor (estimated)"}

log = logging.getLogger(__name__)

_BEADS_AT_ONCE = 2000
_BINS, _TURNED = 100, 6
"""Bins of the distance, and at most so many figures, of the orientations of beads of one type."""


def compare(
    run: Run | str | Path,
    dataset: BeadDataset | str | Path,
    out: str | Path,
    *,
    reference_histogram: np.ndarray | None = None,
    surface: Surface | None = None,
    native: np.ndarray | None = None,
    headline: Mapping[str, Number | Value] | None = None,
    sections: Sequence[Section] = (),
    title: str = "Coarse-grained model against its reference",
) -> Report:
    """Compare a simulation with a bead dataset and write `report.html`, `report.json` and figures into `out`.

    Args:
        run: a run or its folder.
        dataset: mapped all-atom frames of the same beads.
        out: folder of the report.
        reference_histogram: of two dihedrals, from a longer reference, on [-pi, pi]^2; taken as exact.
        surface: the beads of the two dihedrals of the free-energy surface; those of the topology if it has just two.
        native: structure of a protein, positions of all beads, molecules whole [nm], that its RMSD and contacts are
            measured from; the first frame of the dataset by default.
        headline: further numbers for the top of the page.
        sections: further sections for the end of it.
        title: of the page.

    Raises:
        ValueError: if the beads or the temperatures of the run and the dataset differ, or the run is not finished.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    dataset = dataset if isinstance(dataset, BeadDataset) else BeadDataset.open(dataset)
    topology = dataset.topology
    _check(run, dataset)
    log.info("comparing %d frames of %s with %d of %s", run.n_frames, run.folder, len(dataset), dataset.path)
    own: dict[str, Number | Value] = {
        "ns_per_day": Number(run.record["ns_per_day_all_replicas"], "Speed, all replicas", "ns/day"),
        "backend": Number(run.record["backend"], "OpenMM backend"),
        **_errors(run, "force", ERRORS, "kJ/mol/nm"),
        **_errors(run, "torque", TORQUE_ERRORS, "kJ/mol"),
    }
    reference, model = data_ensemble(dataset), model_ensemble(run)
    return compare_ensembles(
        topology,
        reference,
        model,
        run.temperature,
        out,
        surface=surface,
        reference_histogram=reference_histogram,
        native=native,
        time_series=_time_series(run),
        headline={**own, **(headline or {})},
        sections=[
            *_orientations(topology, (dataset, reference), (run, model)),
            *_training(run),
            *sections,
        ],
        provenance={"run": run.folder.name, "dataset": dataset.path.name, **_settings(run)},
        title=title,
    )


def _check(run: Run, dataset: BeadDataset) -> None:
    if not run.finished:
        steps = run.record["steps"]
        raise ValueError(f"the run in {run.folder} is not finished ({steps} steps are): simulate it to the end first")
    if run.topology.types != dataset.topology.types:
        raise ValueError(
            f"{run.folder} has {len(run.topology)} beads of types {', '.join(sorted(set(run.topology.types)))}; "
            f"{dataset.path} has {len(dataset.topology)} of {', '.join(sorted(set(dataset.topology.types)))}"
        )
    if abs(run.temperature - dataset.temperature) > 1e-6 * dataset.temperature:
        raise ValueError(
            f"{run.folder} was simulated at {run.temperature} K, but {dataset.path} is of {dataset.temperature} K"
        )


class _OnDisk:
    """Positions or orientations of a run or dataset, read frame by frame as they are asked for."""

    def __init__(self, source: Run | BeadDataset, quantity: str = "positions", size: int = 3) -> None:
        self.source, self.quantity = source, quantity
        self.shape = (source.n_frames, len(source.topology), size)

    def __getitem__(self, frames: slice | np.ndarray) -> np.ndarray:
        return getattr(self.source.read(frames), self.quantity)

    def box(self) -> np.ndarray | None:
        """Box vectors of all frames [nm]; None where there are none."""
        if self.source.read(slice(1)).box is None:
            return None
        step = max(1, 1_000_000 // self.shape[1])
        parts = [self.source.read(slice(start, start + step)).box for start in range(0, self.shape[0], step)]
        return np.concatenate([part for part in parts if part is not None])


def model_ensemble(run: Run) -> Ensemble:
    """The frames of a run; each replica is a block. A report of the run is one frame of every replica."""
    frames = _OnDisk(run)
    blocks = np.arange(frames.shape[0]) % run.replicas if run.replicas > 1 else None
    return Ensemble(frames, frames.box(), blocks, "CG", run.times)


def data_ensemble(dataset: BeadDataset) -> Ensemble:
    """The frames of a dataset; each source trajectory is a block."""
    frames = _OnDisk(dataset)
    blocks = np.concatenate([np.full(stop - start, number) for number, (start, stop) in enumerate(dataset.segments)])
    return Ensemble(frames, frames.box(), blocks, "all-atom, mapped", dataset.times)


def _time_series(run: Run) -> dict[str, np.ndarray]:
    """Time first, then what the run reported of it."""
    states = run.states()
    time = next((name for name in states if name.lower().startswith("time")), None)
    if time is None:
        return {}
    others = {name: values for name, values in states.items() if name != time and not name.lower().startswith("step")}
    return {time: states[time], **others}


def _roots(run: Run, quantity: str, names: Mapping[str, str]) -> dict[str, float]:
    """Root mean square errors of the model on its validation frames, as far as they are known."""
    errors = run.record["model"].get(f"{quantity}_errors", {})
    return {key: errors[key] ** 0.5 for key in names if errors.get(key) is not None}


def _errors(run: Run, quantity: str, names: Mapping[str, str], unit: str) -> dict[str, Number]:
    roots = _roots(run, quantity, names)
    if "model" not in roots:
        return {}
    others = ", ".join(f"{roots[key]:.4g} {names[key]}" for key in ("null", "priors", "floor") if key in roots)
    number = Number(roots["model"], f"Root mean square {quantity} error", unit, None, others)
    return {f"{quantity}_rmse": number}


def _training(run: Run) -> list[Section]:
    """The force and torque errors of the model, in words that say what they mean."""
    forces, torques = _roots(run, "force", ERRORS), _roots(run, "torque", TORQUE_ERRORS)
    if not forces:
        return []
    text = (
        "The forces of one arrangement of beads differ from frame to frame, because the atoms differ. No potential of "
        "the beads can do better than the noise floor; between it and the priors lies what a network can learn."
    )
    rows = tuple((ERRORS[key], value) for key, value in forces.items())
    tables = [Table(("validation frames", "root mean square force error [kJ/mol/nm]"), rows)]
    if torques:
        rows = tuple((TORQUE_ERRORS[key], value) for key, value in torques.items())
        tables.append(Table(("validation frames", "root mean square torque error [kJ/mol]"), rows))
    return [Section("Training", text, tables=tuple(tables))]


def _orientations(
    topology: BeadTopology, reference: tuple[BeadDataset, Ensemble], model: tuple[Run, Ensemble]
) -> list[Section]:
    """How axes of oriented beads of one type lie towards each other, where both have orientations and a box."""
    sides = (reference, model)
    if any(entry.box is None or source.read(slice(1)).orientations is None for source, entry in sides):
        return []
    r_max, chains = default_range([entry for _, entry in sides]), topology.molecules
    radial = {
        entry.label: radial_distributions(topology.types, entry, r_max=r_max, bins=_BINS, molecules=chains)
        for _, entry in sides
    }
    pairs = radial[reference[1].label].names
    rows, pictures = [], []
    for name in topology.bodies:
        if name not in model[0].topology.bodies or f"{name}|{name}" not in pairs:
            continue
        beads = np.flatnonzero(np.array(topology.types) == name)
        found = {
            entry.label: orientational_correlation(
                entry, _OnDisk(source, "orientations", 4), r_max=r_max, bins=_BINS, beads=beads
            )
            for source, entry in sides
        }
        deviation = p2_deviation(found[model[1].label], found[reference[1].label])
        rows.append((name, len(beads), *(value if np.isfinite(value) else None for value in deviation)))
        caption = f"Radial distribution function and orientational correlation of the z axes of {name}."
        image = orientation_figure(radial, found, pairs.index(f"{name}|{name}"))
        pictures.append(Picture(f"orientation_{len(rows)}", image, caption))
    text = (
        "<P2>(r) is the mean of (3 cos^2 - 1) / 2 of the angle between the axes of two beads at a distance r: 1 where "
        "they are parallel or opposite, -1/2 at right angles, 0 where they know nothing of each other. Differences are "
        "relative to the reference, weighted with g(r)."
    )
    heads = ("type", "beads", "difference of <P2>", "from sampling")
    return [Section("Orientations", text, tuple(pictures[:_TURNED]), (Table(heads, tuple(rows)),))] if rows else []


def _settings(run: Run) -> dict[str, object]:
    settings = run.record["settings"]
    named = {
        "timestep": "time step [ps]",
        "ensemble": "ensemble",
        "replicas": "replicas",
        "platform": "OpenMM platform",
    }
    return {label: settings[key] for key, label in named.items()} | {"versions": run.record["versions"]}


def training_history(folder: str | Path, picture: str = "training") -> Section | None:
    """The losses of a training folder as a section of a report; None where there are none."""
    path = Path(folder) / "metrics" / "metrics.csv"
    if not path.exists():
        return None
    table = np.genfromtxt(path, delimiter=",", names=True)
    names = [name for name in ("train_loss", "validation_loss") if name in (table.dtype.names or ())]
    curves = {name.replace("_", " "): np.atleast_1d(table[name]) for name in names}
    image = training_figure({"epoch": np.atleast_1d(table["epoch"]), **curves}, unit="of the residual force")
    return Section("Training history", pictures=(Picture(picture, image, "Loss by epoch."),))


def predict(potential: Potential, dataset: BeadDataset | str | Path) -> Frames:
    """Energies, forces and, if the potential has them, torques, charges and dipoles at the frames of a dataset."""
    dataset = dataset if isinstance(dataset, BeadDataset) else BeadDataset.open(dataset)
    topology, electric = dataset.topology, potential.config.electrostatics is not None
    potential = potential.at_data_temperature(dataset.temperature)
    energies, forces, torques, charges, dipoles = [], [], [], [], []
    for chunk in dataset.iter_chunks(max(1, _BEADS_AT_ONCE // len(topology))):
        positions = torch.from_numpy(chunk.positions).to(potential.dtype)
        box = None if chunk.box is None else torch.from_numpy(chunk.box).to(potential.dtype)
        turned = None
        if potential.config.bodies and chunk.orientations is not None:
            turned = torch.from_numpy(rotation_matrices(chunk.orientations)).to(potential.dtype)
        graph = potential.graph(topology, positions, box, turned)
        energy, force, torque = energy_forces_torques(lambda graph: potential(graph, topology), graph)
        energies.append(energy.numpy())
        forces.append(force.view_as(positions).numpy())
        torques.append(torque.view_as(positions).numpy())
        if electric:
            moments = potential.moments(graph)
            charges.append(moments.charges.detach().view(positions.shape[:2]).numpy())
            if moments.dipoles is not None:
                dipoles.append(moments.dipoles.detach().view_as(positions).numpy())
    read = dataset.read()
    return Frames(
        positions=read.positions,
        box=read.box,
        forces=np.concatenate(forces),
        energies=np.concatenate(energies),
        charges=np.concatenate(charges) if charges else None,
        dipoles=np.concatenate(dipoles) if dipoles else None,
        orientations=read.orientations,
        torques=np.concatenate(torques) if potential.config.bodies else None,
    )


def speed(
    potential: Potential, dataset: str | Path, system: str | Path, timestep: float, *, seconds: float = 5.0
) -> dict[str, float]:
    """Simulated time per day of the atoms of a shipped system and of one copy of its beads, one after the other.

    Args:
        potential: of the beads.
        dataset: of the same beads, which start from a frame of it.
        system: all-atom system, name or folder; its own time step and temperature are taken.
        timestep: of the beads [ps].
        seconds: to measure each of the two for, at least.
    """
    atoms = load_system(system)
    given, (_, built, positions) = atoms.definition, atoms.build()
    all_atom = pace(built, positions, given.timestep, given.temperature, seconds=seconds)
    beads, _ = create_system(potential, dataset)
    places = Start.read(dataset, 1, 0, potential.config.bodies).particles[0]
    own = pace(beads, places, timestep, given.temperature, seconds=seconds)
    return {"ns_per_day": own, "ns_per_day_all_atom": all_atom, "speed_up": own / all_atom}


def pace(
    system: openmm.System, positions: np.ndarray, timestep: float, temperature: float, *, seconds: float = 5.0
) -> float:
    """Simulated time per day of a System with a Langevin thermostat on its fastest platform [ns/day].

    Args:
        system: its default box is taken.
        positions: of the particles [nm].
        timestep: [ps].
        temperature: [K].
        seconds: to measure for, at least, and five steps.
    """
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, timestep)
    integrator.setConstraintTolerance(1e-6)
    platform = openmm.Platform.getPlatformByName(choose_platform(None, len(positions)))
    context = openmm.Context(system, integrator, platform)
    context.setPositions(positions)
    integrator.step(10)
    start, steps, took = perf_counter(), 0, 0.0
    while steps == 0 or took < seconds:
        integrator.step(5)
        context.getState(energy=True)
        steps, took = steps + 5, perf_counter() - start
    return 86.4 * steps * timestep / took
