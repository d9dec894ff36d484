"""Refines the priors of a trained potential until a short simulation agrees with the data, and picks the best model.

Force matching sees forces only where there are frames: how much of the data lies in each basin hardly enters its loss,
and models of the same loss differ in it. What the configurations say about it is let in here. The relative entropy of
data and model is smallest where the averages of every prior's features, such as cos(n phi), are the same in both
(Shell 2008); each round simulates, compares the averages and moves the priors by a Newton step (Chaimovich and Shell
2011). The network stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cgenn.analysis import compare_distributions
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.data.splits import block_split
from cgenn.files import write_json
from cgenn.h5md import Frames
from cgenn.potential import bonded
from cgenn.potential.linkage import Linkage
from cgenn.potential.potential import Potential
from cgenn.potential.priors import AnglePrior, BondPrior, DihedralPrior, Priors, type_key
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run, model_digest
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology
from cgenn.training.force_matching import ForceErrors, force_errors
from cgenn.units import thermal_energy

RIDGE = 0.02
"""Added to the variance of every feature, in units of it: keeps a step small where the simulation says little."""

log = logging.getLogger(__name__)

Name = tuple[str, str, str]
"""A feature: kind of term, bead types, function."""


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
    dataset: BeadDataset | str | Path,
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
        dataset: the bead dataset it was trained on, or one of them.
        config: of each simulation; replicas start from frames of the dataset. Long enough to cross the barriers that
            matter, and with many replicas, or molecules in a box.
        out: folder for the results.
        rounds: models to make, besides the one given.

    Raises:
        ValueError: if there are no priors to refine, the simulation is not at the dataset's
            temperature, `rounds` is negative, or `out` holds the refinement of another model.
    """
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    dataset = dataset if isinstance(dataset, BeadDataset) else BeadDataset.open(dataset)
    if rounds < 0:
        raise ValueError(f"`rounds` must not be negative, got {rounds}")
    if config.temperature not in (None, dataset.temperature):
        raise ValueError(f"the simulation is at {config.temperature} K, but {dataset.path} of {dataset.temperature} K")
    if not _features(potential, dataset, dataset.read(slice(1)))[0]:
        raise ValueError(f"the model has no bonded priors for the beads of {dataset.path}: nothing can be refined")
    folder, scores, models = Path(out), [], []
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        saved = here / "model.safetensors"
        if not saved.exists():
            potential.save(saved)
        elif number == 0 and model_digest(Potential.load(saved)) != model_digest(potential):
            raise ValueError(f"{folder} holds the refinement of another model: choose another folder")
        potential = Potential.load(saved)
        run = simulate(potential, dataset.path, config, here / "run")
        scores.append(score(dataset, run, here.name))
        models.append(saved)
        log.info(
            "%s: mean divergence from the data %.4f (sampling alone %.4f)", here.name, scores[-1].js, scores[-1].floor
        )
        if number < rounds:
            potential = _improved(potential, dataset, run.read())
    best = int(np.argmin([entry.js for entry in scores]))
    chosen = Potential.load(models[best])
    if dataset.has_forces:
        errors = _validation_errors(chosen, dataset)
        chosen.provenance["force_errors"] = errors.as_dict()
        if errors.torques is not None:
            chosen.provenance["torque_errors"] = errors.torques.as_dict()
    chosen.provenance["refinement"] = {"chosen": scores[best].model, "js": [entry.js for entry in scores]}
    chosen.save(folder / "model.safetensors")
    write_json(folder / "refinement.json", {"scores": [vars(entry) for entry in scores], "chosen": scores[best].model})
    return chosen


def _validation_errors(potential: Potential, dataset: BeadDataset) -> ForceErrors:
    """Errors of forces and torques of a refined model on the frames that its training kept aside."""
    fraction = potential.provenance.get("training", {}).get("validation_fraction", 0.1)
    _, held = block_split(len(dataset), dataset.segments, fraction)
    return force_errors(potential, [dataset], [held])


def _features(
    potential: Potential, dataset: BeadDataset, frames: Frames
) -> tuple[list[Name], Float[np.ndarray, "frames features"], Float[np.ndarray, " features"]]:
    beads = dataset.topology.with_bodies(potential.config.bodies)
    return features(potential.priors, beads, frames.positions, frames.orientations)


def _improved(potential: Potential, dataset: BeadDataset, run: Frames) -> Potential:
    """The potential with its priors moved by one Newton step of the relative entropy."""
    priors = potential.priors
    names, wanted, terms = _features(potential, dataset, dataset.read())
    _, found, _ = _features(potential, dataset, run)
    step = thermal_energy(potential.config.temperature) * newton_step(names, terms, wanted.mean(axis=0), found)
    moved = Potential(
        potential.config, moved_priors(priors, dict(zip(names, step.tolist(), strict=True))), potential.provenance
    )
    moved.to(potential.dtype)
    moved.network.load_state_dict(potential.network.state_dict())
    return moved.requires_grad_(False).eval()


def newton_step(
    names: list[Name],
    terms: Float[np.ndarray, " features"],
    wanted: Float[np.ndarray, " features"],
    found: Float[np.ndarray, "frames features"],
) -> Float[np.ndarray, " features"]:
    """What to add to the coefficients, in kT per unit of each feature, so that `found` gets the averages `wanted`.

    covariance^-1 (found - wanted), with squares taken about the mean of each side: a well in the wrong place then
    moves and does not become softer first.
    """
    mean, basis = found.mean(axis=0), np.eye(len(names))
    squares = np.array([number for number, name in enumerate(names) if name[2] == "x2"], dtype=int)
    basis[squares - 1, squares] = -2 * mean[squares - 1] / terms[squares]
    difference = mean - wanted
    difference[squares] -= (mean[squares - 1] ** 2 - wanted[squares - 1] ** 2) / terms[squares]
    turned = found @ basis
    scale = turned.std(axis=0) + 1e-12
    covariance = np.cov((turned / scale).T, ddof=0).reshape(len(names), len(names)) + RIDGE * np.eye(len(names))
    return basis @ (np.linalg.solve(covariance, difference / scale) / scale)


def features(
    priors: Priors,
    topology: BeadTopology,
    positions: Float[np.ndarray, "frames beads 3"],
    orientations: Float[np.ndarray, "frames beads 4"] | None = None,
) -> tuple[list[Name], Float[np.ndarray, "frames features"], Float[np.ndarray, " features"]]:
    """Functions that the prior energy is linear in, summed over the terms of the same types, and how many those are.

    Bonds and angles: x - x0 and its square, x0 where the prior's well lies; with several wells, the share that each of
    the others has in the density there: linear for small steps. Dihedrals: cos(n phi) and sin(n phi).
    """
    linkage = Linkage.of(topology)
    points = linkage.points(positions, orientations)
    columns: dict[Name, np.ndarray] = {}
    terms: dict[Name, int] = {}

    def add(kind: str, key: str, function: str, values: np.ndarray) -> None:
        name = (kind, key, function)
        columns[name] = columns.get(name, 0) + values
        terms[name] = terms.get(name, 0) + 1

    kinds: list[tuple[str, np.ndarray, dict, Callable]] = [
        ("bonds", linkage.bonds, priors.bonds, bonded.distances),
        ("angles", linkage.angles, priors.angles, bonded.angles),
        ("dihedrals", linkage.dihedrals, priors.dihedrals, bonded.dihedrals),
    ]
    for kind, index, known, coordinate in kinds:
        for row in index.tolist():
            key = type_key(linkage.names[point] for point in row)
            if key not in known:
                continue
            values = coordinate(
                points[:, row].flatten(0, 1), torch.arange(points[:, row].shape[0] * len(row)).view(-1, len(row))
            )
            x = values.numpy()
            if kind == "dihedrals":
                for n in range(1, len(known[key].k) + 1):
                    add(kind, key, f"cos{n}", np.cos(n * x))
                    add(kind, key, f"sin{n}", np.sin(n * x))
            elif known[key].others:
                shares = _shares(known[key], values)
                for number in range(len(known[key].others)):
                    add(kind, key, f"well{number}", shares[:, number + 1])
            else:
                away = x - (known[key].length if kind == "bonds" else known[key].angle)
                add(kind, key, "x", away)
                add(kind, key, "x2", away**2)
    values = np.stack(list(columns.values()), axis=1) if columns else np.empty((len(positions), 0))
    return list(columns), values, np.array(list(terms.values()), dtype=float)


def _shares(prior: BondPrior | AnglePrior, values: torch.Tensor) -> Float[np.ndarray, "values wells"]:
    """Of each well, with its mirror image, in the density at the values: the derivative of the energy by the well's."""
    parameters = torch.tensor([[prior.kt, *prior.wells.ravel()]], dtype=values.dtype)
    shares = bonded.well_exponents(values, parameters.expand(len(values), -1)).softmax(1)
    return shares.unflatten(1, (-1, len(prior.others) + 1)).sum(1).numpy()


def moved_priors(priors: Priors, step: dict[Name, float]) -> Priors:
    """Priors with `step` added to the coefficient of every feature [kJ/mol per unit of the feature]."""
    bonds = {
        key: _moved_wells(prior, step, ("bonds", key))
        if prior.others
        else BondPrior.model_validate(_well(prior.length, prior.k, step, ("bonds", key), "length"))
        for key, prior in priors.bonds.items()
    }
    angles = {
        key: _moved_wells(prior, step, ("angles", key))
        if prior.others
        else AnglePrior.model_validate(_well(prior.angle, prior.k, step, ("angles", key), "angle", highest=np.pi))
        for key, prior in priors.angles.items()
    }
    dihedrals = {}
    for key, prior in priors.dihedrals.items():
        orders = range(1, len(prior.k) + 1)
        cosine = [
            k * np.cos(p) + step.get(("dihedrals", key, f"cos{n}"), 0.0)
            for n, k, p in zip(orders, prior.k, prior.phase, strict=True)
        ]
        sine = [
            k * np.sin(p) + step.get(("dihedrals", key, f"sin{n}"), 0.0)
            for n, k, p in zip(orders, prior.k, prior.phase, strict=True)
        ]
        dihedrals[key] = DihedralPrior(
            k=tuple(np.hypot(cosine, sine).tolist()), phase=tuple(np.arctan2(sine, cosine).tolist())
        )
    return priors.model_copy(update={"bonds": bonds, "angles": angles, "dihedrals": dihedrals})


def _moved_wells(prior: Any, step: dict[Name, float], name: tuple[str, str]) -> Any:
    """The prior with the energies of its wells but the first moved, by kt at most."""
    limit = (-prior.kt, prior.kt)
    others = [
        one.model_copy(update={"energy": one.energy + float(np.clip(step.get((*name, f"well{number}"), 0.0), *limit))})
        for number, one in enumerate(prior.others)
    ]
    return prior.model_copy(update={"others": tuple(others)})


def _well(
    centre: float, k: float, step: dict[Name, float], name: tuple[str, str], label: str, highest: float = np.inf
) -> dict[str, float]:
    """Harmonic well of k/2 (x - x0)^2 with the coefficients of x - x0 and its square moved.

    At most halved or doubled in strength, and at most a fifth off the centre.
    """
    stiffness = float(np.clip(k + 2 * step.get((*name, "x2"), 0.0), 0.5 * k, 2 * k))
    moved = centre - step.get((*name, "x"), 0.0) / stiffness if stiffness else centre
    return {label: float(np.clip(moved, 0.8 * centre, min(1.2 * centre, highest))), "k": stiffness}
