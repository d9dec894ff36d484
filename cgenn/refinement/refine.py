"""Refines the priors of a trained potential until a short simulation agrees with the data, and picks the best model.

Force matching sees forces only where there are frames: how much of the data lies in each basin hardly enters its loss,
and models of the same loss differ in it. What the configurations say about it is let in here. The relative entropy of
data and model is smallest where the averages of every prior's features, such as cos(n phi), are the same in both
(Shell 2008); each round simulates, compares the averages and moves the priors by a Newton step (Chaimovich and Shell
2011). The network stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cgenn.analysis import compare_distributions
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.files import write_json
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.refinement.features import Name, features, moved_priors, newton_step
from cgenn.refinement.rounds import Source, kept, note_force_errors, opened, runs_of, with_priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run
from cgenn.units import thermal_energy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """How far a model's ensemble is from the data: mean Jensen-Shannon divergence of its distributions."""

    model: str
    js: float
    floor: float


def score(dataset: BeadDataset, run: Run, name: str) -> Score:
    """Compare the frames of a simulation with those of the dataset."""
    found = compare_distributions(dataset.topology, data_ensemble(dataset), model_ensemble(run))
    if not found:
        raise ValueError("the beads have neither bonds nor pairs to compare: a model of single beads cannot be scored")
    return Score(
        name, float(np.mean([entry.js for entry in found])), float(np.mean([entry.floor[0] for entry in found]))
    )


def refine(
    potential: Potential | str | Path,
    dataset: Source | Sequence[Source],
    config: SimulationConfig,
    out: str | Path,
    *,
    rounds: int = 3,
) -> Potential:
    """Refine the bonded priors in `rounds` short simulations; the best model of them all comes back.

    The folder `out` gets every model with its run (`round-0`, the model as given, and so on), `refinement.json` with
    the scores, and the best one as `model.safetensors`. What is there already is not done again.

    Args:
        potential: a trained potential or its file.
        dataset: the bead dataset it was trained on, or one of them, or several: each is simulated, and the steps and
            scores are means over them.
        config: of each simulation; replicas start from frames of the dataset, those in a box from the frame of about
            the mean volume. Long enough to cross the barriers that matter, and with many replicas, or molecules in a
            box.
        out: folder for the results.
        rounds: models to make, besides the one given.

    Raises:
        ValueError: if there are no priors to refine, the simulation is not at the dataset's
            temperature, `rounds` is negative, or `out` holds the refinement of another model.
    """
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    if rounds < 0:
        raise ValueError(f"`rounds` must not be negative, got {rounds}")
    datasets = opened(dataset, config)
    potential = potential.at_data_temperature(datasets[0].temperature)
    for entry in datasets:
        if not _features(potential, entry, entry.read(slice(1)))[0]:
            raise ValueError(f"the model has no bonded priors for the beads of {entry.path}: nothing can be refined")
    folder, scores, models = Path(out), [], []
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        potential = kept(potential, here, first=number == 0)
        runs = runs_of(potential, datasets, config, here)
        each = [score(entry, run, here.name) for entry, run in zip(datasets, runs, strict=True)]
        js, floor = (float(np.mean([getattr(entry, name) for entry in each])) for name in ("js", "floor"))
        scores.append(Score(here.name, js, floor))
        models.append(here / "model.safetensors")
        log.info("%s: mean divergence from the data %.4f (sampling alone %.4f)", here.name, js, floor)
        if number < rounds:
            potential = _improved(potential, datasets, [run.read() for run in runs])
    best = int(np.argmin([entry.js for entry in scores]))
    chosen = Potential.load(models[best])
    note_force_errors(chosen, datasets)
    chosen.provenance["refinement"] = {"chosen": scores[best].model, "js": [entry.js for entry in scores]}
    chosen.save(folder / "model.safetensors")
    write_json(folder / "refinement.json", {"scores": [vars(entry) for entry in scores], "chosen": scores[best].model})
    return chosen


def _features(
    potential: Potential, dataset: BeadDataset, frames: Frames
) -> tuple[list[Name], Float[np.ndarray, "frames features"], Float[np.ndarray, " features"]]:
    beads = dataset.topology.with_bodies(potential.config.bodies)
    return features(potential.priors, beads, frames.positions, frames.orientations)


def _improved(potential: Potential, datasets: list[BeadDataset], runs: list[Frames]) -> Potential:
    """The potential with its priors moved by one Newton step of the relative entropy.

    With several datasets by the mean of their steps, of which each counts by the number of its terms.
    """
    steps: dict[Name, float] = {}
    counts: dict[Name, float] = {}
    for dataset, run in zip(datasets, runs, strict=True):
        names, wanted, terms = _features(potential, dataset, dataset.read())
        _, found, _ = _features(potential, dataset, run)
        step = thermal_energy(potential.config.temperature) * newton_step(names, terms, wanted.mean(axis=0), found)
        for name, change, count in zip(names, step.tolist(), terms.tolist(), strict=True):
            steps[name] = steps.get(name, 0.0) + count * change
            counts[name] = counts.get(name, 0.0) + count
    return with_priors(
        potential, moved_priors(potential.priors, {name: step / counts[name] for name, step in steps.items()})
    )
