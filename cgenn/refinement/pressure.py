"""Gives a potential of beads in a box the pressure that the atoms were held at, by a ramp between the beads.

A coarse-grained potential seldom has the pressure of the atoms at their density, and at constant pressure it then has
another density. A ramp A (1 - r/range) between beads that are not bonded neighbours changes the pressure by
A <sum_pairs r> / (3 V range) and hardly anything else (Reith, Puetz and Mueller-Plathe 2003, doi 10.1002/jcc.10307;
Wang, Junghans and Kremer 2009, doi 10.1140/epje/i2008-10413-5); its height A is found in a few short simulations.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cgenn.analysis import blocking_error
from cgenn.data.dataset import BeadDataset
from cgenn.files import write_json
from cgenn.potential.derivatives import Energy
from cgenn.potential.potential import Potential
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors, RampPrior
from cgenn.refinement.refine import Source, kept, opened, runs_of, with_priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.pressure import energy_pressures, pressures
from cgenn.units import thermal_energy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PressureRound:
    """What one model did.

    Attributes:
        model: its name, that of its folder.
        height: of its ramp [kJ/mol].
        pressures: mean of the run of each dataset [bar].
        errors: their standard errors [bar].
        slopes: change of each pressure with the height [bar mol/kJ].
    """

    model: str
    height: float
    pressures: tuple[float, ...]
    errors: tuple[float, ...]
    slopes: tuple[float, ...]

    def deviation(self, pressure: float) -> float:
        """Root mean square of the differences from a pressure [bar]."""
        return float(np.sqrt(np.mean((np.array(self.pressures) - pressure) ** 2)))

    def step(self, pressure: float) -> float:
        """What to add to the height, so that the squares of the differences are least [kJ/mol]."""
        slopes = np.array(self.slopes)
        return float(slopes @ (pressure - np.array(self.pressures)) / (slopes @ slopes))


def match_pressure(
    potential: Potential | str | Path,
    datasets: Source | Sequence[Source],
    config: SimulationConfig,
    out: str | Path,
    *,
    pressure: float = 1.0,
    rounds: int = 3,
    reach: float | None = None,
) -> Potential:
    """Adjust the ramp of a potential until its own runs have the pressure of the atoms; the best model comes back.

    Each round simulates beads of every dataset at constant volume, the mean one of the dataset, and changes the height
    of the ramp by what the virials ask for, by kT at most. The folder `out` gets every model with its runs (`round-0`,
    the model as given, and so on), `pressure.json` with heights and pressures, and the model whose pressures were
    nearest as `model.safetensors`. What is there already is not done again.

    Args:
        potential: a potential or its file.
        datasets: one bead dataset or several, of frames in a box at one pressure; the ramp is the same for all.
        config: of each simulation, at constant volume. The standard error of the pressure, divided by the bulk modulus
            of the system, is what is left in its density.
        out: folder for the results.
        pressure: that the atoms were held at [bar].
        rounds: models to make, besides the one given.
        reach: distance at which a new ramp ends [nm], by default the cutoff of the network.

    Raises:
        ValueError: if a dataset has no box or another temperature, the simulation is not one of one copy at constant
            volume, no two beads are near enough for the ramp, `rounds` is not positive, or `out` holds another model or
            models for another pressure.
    """
    given = opened(datasets, config)
    _check(given, config, rounds)
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    potential = potential.at_data_temperature(given[0].temperature)
    folder, found = Path(out), []
    if (folder / "pressure.json").exists():
        wanted = json.loads((folder / "pressure.json").read_text(encoding="utf-8"))["wanted"]
        if wanted != pressure:
            raise ValueError(f"{folder} holds models for {wanted:g} bar, not {pressure:g} bar: choose another folder")
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        potential = kept(potential, here, first=number == 0)
        found.append(_measured(potential, given, config, here, reach))
        log.info("%s: ramp of %.4f kJ/mol, %s", here.name, found[-1].height, _said(found[-1], pressure))
        if number < rounds:
            ramp = _ramp(potential, reach)
            limit = thermal_energy(potential.config.temperature)
            height = ramp.height + float(np.clip(found[-1].step(pressure), -limit, limit))
            ramp = ramp.model_copy(update={"height": height})
            potential = with_priors(potential, potential.priors.model_copy(update={"ramp": ramp}))
    best = min(found, key=lambda entry: entry.deviation(pressure))
    chosen = Potential.load(folder / best.model / "model.safetensors")
    chosen.provenance["pressure"] = {"chosen": best.model, "wanted": pressure, "found": list(best.pressures)}
    chosen.save(folder / "model.safetensors")
    units = {"height": "kJ/mol", "pressures": "bar", "errors": "bar", "slopes": "bar mol/kJ"}
    entries = {"wanted": pressure, "chosen": best.model, "rounds": [asdict(entry) for entry in found], "units": units}
    write_json(folder / "pressure.json", entries)
    return chosen


def _check(datasets: list[BeadDataset], config: SimulationConfig, rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}")
    if config.ensemble != "nvt" or config.replicas != 1:
        raise ValueError(
            "a pressure is measured in one copy at constant volume: `ensemble` must be 'nvt' and `replicas` 1, got "
            f"{config.ensemble!r} and {config.replicas}"
        )
    for dataset in datasets:
        if not dataset.periodic:
            raise ValueError(f"{dataset.path} has no box: there is no pressure to match")


def _ramp(potential: Potential, reach: float | None) -> RampPrior:
    return potential.priors.ramp or RampPrior(height=0.0, range=reach or potential.config.cutoff)


def _measured(
    potential: Potential, datasets: list[BeadDataset], config: SimulationConfig, here: Path, reach: float | None
) -> PressureRound:
    """Runs of all datasets, and the pressures in them."""
    ramp = _ramp(potential, reach)
    unit = with_priors(potential, Priors(ramp=ramp.model_copy(update={"height": 1.0})))
    means, errors, slopes = [], [], []
    for dataset, run in zip(datasets, runs_of(potential, datasets, config, here), strict=True):
        frames, terms = run.read(), unit.prior_energy(run.topology)
        values = pressures(potential, run.topology, frames, run.temperature)
        slope = energy_pressures(_ramp_energy(terms), unit, run.topology, frames).mean()
        if slope <= 0:
            raise ValueError(f"no two beads of {dataset.path} are within the {ramp.range} nm of the ramp")
        means.append(float(values.mean()))
        errors.append(float(blocking_error(values)))
        slopes.append(float(slope))
    return PressureRound(here.name, ramp.height, tuple(means), tuple(errors), tuple(slopes))


def _ramp_energy(terms: PriorEnergy) -> Energy:
    return lambda graph: terms(graph)["ramp"]


def _said(entry: PressureRound, pressure: float) -> str:
    values = ", ".join(f"{mean:.0f} +- {error:.0f}" for mean, error in zip(entry.pressures, entry.errors, strict=True))
    return f"{values} bar where {pressure:g} bar are wanted"
