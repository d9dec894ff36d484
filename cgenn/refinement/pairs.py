"""Gives a potential the radial distribution functions of the data, by splines between pairs of bead types.

Iterative Boltzmann inversion: where the model has g times as many pairs as the data, its energy is raised by kT ln g,
round by round (Soper 1996; Reith, Puetz and Mueller-Plathe 2003, doi 10.1002/jcc.10307). The network and the bonded
terms stay as they are; a ramp can keep the pressure meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cgenn.analysis import Ensemble, RadialDistributions, radial_distributions, rdf_deviation
from cgenn.analysis.orientation import Deviation
from cgenn.comparison import data_ensemble, model_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.files import write_json
from cgenn.potential.potential import Potential
from cgenn.potential.priors import PairPrior, type_key
from cgenn.refinement.gauge import Gauge, Reading, raised, reading
from cgenn.refinement.rounds import (
    Source,
    check_boxes,
    claim,
    kept,
    note_force_errors,
    opened,
    runs_of,
    with_priors,
)
from cgenn.simulation.config import SimulationConfig
from cgenn.units import thermal_energy

log = logging.getLogger(__name__)

_KNOTS = 0.05
"""Distance between knots of the splines, about [nm]."""
_BINS = 4
"""Of the radial distribution functions between two knots."""
_SMOOTH = 0.3
"""Differences of neighbouring coefficients in a round are about so large without data [kT]."""
_CORE = 0.5
"""Error of a bin that is nearer than any pair of the data."""
_NOISE = 0.03
"""Relative error of a bin with many pairs, whose frames are not independent."""


@dataclass(frozen=True)
class PairRound:
    """What one model did.

    Attributes:
        deviations: of g(r) from the data, for each pair of types: integral of the difference over that of the data.
        floors: what these would be by the errors of both alone; None where there is one block of frames.
        mean: of the deviations, weighted with the pairs of the data.
        reading: of pressure or tension, if one is wanted.
    """

    deviations: dict[str, float]
    floors: dict[str, float | None]
    mean: float
    reading: Reading | None = None


def match_pairs(
    potential: Potential | str | Path,
    datasets: Source | Sequence[Source],
    config: SimulationConfig,
    out: str | Path,
    *,
    rounds: int = 8,
    pressure: float | None = None,
    tension: float | None = None,
    reach: float | None = None,
) -> Potential:
    """Add splines between pairs of bead types until runs have the radial distribution functions of the atoms.

    Each round simulates beads of every dataset at constant volume, the mean one of the dataset, and adds, as smooth
    splines, kT ln(g/g_data) h / (1 + h), h the highest value of g_data in the whole box: all types change at once, and
    those that hardly meet say little. Nearer than any pair of the data it adds kT h / (1 + h), for a network may have
    holes there. After a round that is no nearer to the data the next one starts from the nearest again, with half the
    steps from then on; a model that was matched before goes on with the steps it had come to. Pairs within a molecule
    are not counted. The folder `out` gets every model with its runs (`round-0`, the model as given, and so on),
    `pairs.json`, and the model that is nearest to the data as `model.safetensors`. What is there already is not done
    again.

    Args:
        potential: a trained potential or its file.
        datasets: bead datasets in a box, one or several; those of several count together.
        config: of each simulation, at constant volume.
        out: folder for the results.
        rounds: models to make, besides the one given.
        pressure: that the atoms were held at; if given, a ramp takes the model there meanwhile [bar].
        tension: of a membrane across z, likewise [bar nm].
        reach: distance at which new splines and a new ramp end [nm], by default the cutoff of the network.

    Raises:
        ValueError: if a dataset has no box or another temperature, the simulation is not one of one copy at constant
            volume, `reach` does not fit into half the box, beads are all of one molecule, both pressure and tension are
            given, `rounds` is not positive, or `out` holds another model.
    """
    given = opened(datasets, config)
    check_boxes(given, config, rounds)
    if pressure is not None and tension is not None:
        raise ValueError(f"a ramp has one height: give `pressure` or `tension`, got {pressure:g} bar and {tension:g}")
    gauge = None if pressure is None else Gauge("pressure", pressure)
    gauge = gauge if tension is None else Gauge("tension", tension)
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    potential = potential.at_data_temperature(given[0].temperature)
    pairs = potential.priors.pairs or _without_energy(potential, reach or potential.config.cutoff)
    wanted = [_counted(entry, data_ensemble(entry), pairs) for entry in given]
    for entry, counted in zip(given, wanted, strict=True):
        if not counted.counts.any():
            raise ValueError(f"no two beads of different molecules of {entry.path} are within {pairs.range:g} nm")
    folder, found, best = Path(out), {}, ""
    share = potential.provenance.get("pairs", {}).get("share", 1.0)
    header = {"range": pairs.range} | ({"quantity": None} if gauge is None else gauge.record)
    claim(folder / "pairs.json", header)
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        potential = kept(potential, here, first=number == 0)
        runs = runs_of(potential, given, config, here, "volume" if gauge is None else gauge.size)
        made = [_counted(entry, model_ensemble(run), pairs) for entry, run in zip(given, runs, strict=True)]
        read = None if gauge is None else reading(gauge, potential, given, runs, reach)
        found[here.name] = _round(made, wanted, read)
        said = "" if gauge is None or read is None else f", {read.said(gauge)}"
        log.info("%s: mean deviation of g(r) %.4f%s", here.name, found[here.name].mean, said)
        if not best or found[here.name].mean < found[best].mean:
            best, nearest = here.name, (potential, made)
        else:
            share *= 0.5
        if number < rounds:
            potential = _improved(*nearest, pairs, wanted, share)
            if gauge is not None and (read := found[best].reading) is not None:
                potential = raised(potential, read, gauge, reach, share)
    chosen = Potential.load(folder / best / "model.safetensors")
    note_force_errors(chosen, given)
    chosen.provenance["pairs"] = {
        "chosen": best, "deviations": [entry.mean for entry in found.values()], "share": share
    }  # fmt: skip
    chosen.save(folder / "model.safetensors")
    rounds_made = [{"model": name} | asdict(entry) for name, entry in found.items()]
    write_json(folder / "pairs.json", header | {"chosen": best, "rounds": rounds_made})
    return chosen


def _without_energy(potential: Potential, reach: float) -> PairPrior:
    names, knots = potential.config.types, max(3, round(reach / _KNOTS))
    keys = sorted({type_key((first, second)) for first in names for second in names})
    return PairPrior(range=reach, coefficients=dict.fromkeys(keys, (0.0,) * (knots - 1)))


def _counted(dataset: BeadDataset, ensemble: Ensemble, pairs: PairPrior) -> RadialDistributions:
    topology = dataset.topology
    if topology.molecules.max() == 0:
        raise ValueError(f"the beads of {dataset.path} are one molecule: there are no pairs of different ones to match")
    bins = _BINS * pairs.intervals
    return radial_distributions(topology.types, ensemble, r_max=pairs.range, bins=bins, molecules=topology.molecules)


def _round(made: list[RadialDistributions], wanted: list[RadialDistributions], found: Reading | None) -> PairRound:
    """Deviations of pairs of types that meet within reach in the data; means over the datasets in which they do."""
    values: dict[str, list[Deviation]] = {}
    weights = []
    for model, data in zip(made, wanted, strict=True):
        for row in np.flatnonzero(data.counts.any(axis=(0, 2))).tolist():
            deviation = rdf_deviation(model, data, row)
            values.setdefault(data.names[row], []).append(deviation)
            weights.append((float(data.counts[:, row].sum() / data.frames.sum()), deviation.value))
    deviations = {key: float(np.mean([entry.value for entry in several])) for key, several in values.items()}
    floors = {key: float(np.mean([entry.floor for entry in several])) for key, several in values.items()}
    mean = sum(weight * value for weight, value in weights) / sum(weight for weight, _ in weights)
    return PairRound(
        deviations, {key: value if np.isfinite(value) else None for key, value in floors.items()}, mean, found
    )


def _improved(
    potential: Potential,
    made: list[RadialDistributions],
    pairs: PairPrior,
    wanted: list[RadialDistributions],
    share: float,
) -> Potential:
    kt, known = thermal_energy(potential.config.temperature), (potential.priors.pairs or pairs).coefficients
    changed = dict(known)
    basis = _basis(wanted[0].r, pairs)
    for key in {key for entry in wanted for key in entry.names}:
        model, data = (_pooled(side, key) for side in (made, wanted))
        highest = float(data.g.max())
        step = share * kt * highest / (1 + highest) * _smooth(basis, *_logarithm(model, data))
        changed[key] = tuple(np.add(known.get(key, 0.0), step).tolist())
    moved = pairs.model_copy(update={"coefficients": changed})
    return with_priors(potential, potential.priors.model_copy(update={"pairs": moved}))


@dataclass(frozen=True, eq=False)
class _Pooled:
    """One pair of types in all datasets, each of which counts as one frame.

    Attributes:
        g: pairs in each bin over those of a gas.
        counts: pairs counted in all frames.
        ideal: how many a gas would have had in them.
    """

    g: Float[np.ndarray, " bins"]
    counts: Float[np.ndarray, " bins"]
    ideal: Float[np.ndarray, " bins"]


def _pooled(several: list[RadialDistributions], key: str) -> _Pooled:
    found, gas, counts, ideal = 0.0, 0.0, 0.0, 0.0
    for entry in several:
        if key in entry.names:
            row, frames = entry.names.index(key), entry.frames.sum()
            shell = 4.0 / 3.0 * np.pi * np.diff(entry.edges**3)
            there, as_gas = entry.counts[:, row].sum(0), entry.n_pairs[row] * shell * entry.inverse_volume.sum()
            found, gas, counts, ideal = found + there / frames, gas + as_gas / frames, counts + there, ideal + as_gas
    return _Pooled(*(np.asarray(values) for values in (found / gas, counts, ideal)))


def _logarithm(model: _Pooled, data: _Pooled) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """ln g/g_data in each bin, from -1 to 1, and its standard error; an empty bin counts as half a pair.

    Nearer than any pair of the data it is 1, come there what may: a network can have holes where it has seen nothing.
    """
    half = 0.5 / np.minimum(model.ideal, data.ideal)
    value = np.clip(np.log(model.g + half) - np.log(data.g + half), -1.0, 1.0)
    error = np.sqrt(1 / (model.counts + 0.5) + 1 / (data.counts + 0.5) + _NOISE**2)
    core = int(np.argmax(data.counts > 0)) if data.counts.any() else 0
    value[:core], error[:core] = 1.0, _CORE
    return value, error


def _basis(r: Float[np.ndarray, " bins"], pairs: PairPrior) -> Float[np.ndarray, "bins coefficients"]:
    """The energy at r for each coefficient alone."""
    x = np.abs(r[:, None] * pairs.intervals / pairs.range - np.arange(-1, pairs.intervals - 1))
    splines = np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.clip(2 - x, 0, None) ** 3 / 6)
    basis = splines[:, 1:].copy()
    basis[:, 0] += 2 * splines[:, 0]
    basis[:, 1] -= splines[:, 0]
    return basis


def _smooth(
    basis: Float[np.ndarray, "bins coefficients"], values: Float[np.ndarray, " bins"], error: Float[np.ndarray, " bins"]
) -> Float[np.ndarray, " coefficients"]:
    """Coefficients of the spline through values with errors, as flat as they allow; it is zero at the end."""
    flat = np.diff(np.eye(basis.shape[1] + 1), axis=0)[:, :-1] / _SMOOTH
    rows = np.concatenate([basis / error[:, None], flat])
    return np.linalg.lstsq(rows, np.concatenate([values / error, np.zeros(len(flat))]), rcond=None)[0]
