"""What a box under a barostat answers to: a pressure, or the tension of a membrane across z."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cgenn.analysis import blocking_error
from cgenn.data.dataset import BeadDataset
from cgenn.potential.derivatives import Energy
from cgenn.potential.potential import Potential
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors, RampPrior
from cgenn.refinement.rounds import with_priors
from cgenn.simulation.folder import Run
from cgenn.simulation.pressure import energy_pressures, energy_tensions, pressures, tensions
from cgenn.units import thermal_energy


@dataclass(frozen=True)
class Gauge:
    """A quantity that a ramp between beads changes, and the value that is wanted.

    Attributes:
        name: "pressure" or "tension".
        wanted: [`unit`].
    """

    name: str
    wanted: float

    @property
    def unit(self) -> str:
        """Of the quantity."""
        return {"pressure": "bar", "tension": "bar nm"}[self.name]

    @property
    def of_frames(self) -> Callable[..., np.ndarray]:
        """The quantity in the frames of a run, of a potential."""
        return {"pressure": pressures, "tension": tensions}[self.name]

    @property
    def of_energy(self) -> Callable[..., np.ndarray]:
        """What an energy adds to it in frames."""
        return {"pressure": energy_pressures, "tension": energy_tensions}[self.name]


@dataclass(frozen=True)
class Reading:
    """What the runs of one model said.

    Attributes:
        height: of its ramp [kJ/mol].
        values: mean of the run of each dataset, in the unit of the gauge.
        errors: their standard errors.
        slopes: change of each value with the height [unit mol/kJ].
    """

    height: float
    values: tuple[float, ...]
    errors: tuple[float, ...]
    slopes: tuple[float, ...]

    def deviation(self, wanted: float) -> float:
        """Root mean square of the differences from a value."""
        return float(np.sqrt(np.mean((np.array(self.values) - wanted) ** 2)))

    def step(self, wanted: float, limit: float) -> float:
        """What to add to the height, so that the squares of the differences are least, at most the limit [kJ/mol]."""
        slopes = np.array(self.slopes)
        best = slopes @ (wanted - np.array(self.values)) / (slopes @ slopes)
        return float(np.clip(best, -limit, limit))

    def said(self, gauge: Gauge) -> str:
        """For the log."""
        values = ", ".join(f"{mean:.0f} +- {error:.0f}" for mean, error in zip(self.values, self.errors, strict=True))
        return f"{gauge.name} {values} {gauge.unit} where {gauge.wanted:g} {gauge.unit} are wanted"


def ramp_of(potential: Potential, reach: float | None) -> RampPrior:
    """Its ramp, or one without height that reaches as far as the network."""
    return potential.priors.ramp or RampPrior(height=0.0, range=reach or potential.config.cutoff)


def reading(
    gauge: Gauge, potential: Potential, datasets: list[BeadDataset], runs: list[Run], reach: float | None
) -> Reading:
    """The quantity in runs of a potential, one for each dataset, and how a ramp would change it.

    Raises:
        ValueError: if there is no box, or no two beads are near enough for the ramp.
    """
    ramp = ramp_of(potential, reach)
    unit = with_priors(potential, Priors(ramp=ramp.model_copy(update={"height": 1.0})))
    means, errors, slopes = [], [], []
    for dataset, run in zip(datasets, runs, strict=True):
        frames, terms = run.read(), unit.prior_energy(run.topology)
        values = gauge.of_frames(potential, run.topology, frames, run.temperature)
        slope = float(gauge.of_energy(_ramp_energy(terms), unit, run.topology, frames).mean())
        if slope == 0:
            raise ValueError(f"no two beads of {dataset.path} are within the {ramp.range} nm of the ramp")
        means.append(float(values.mean()))
        errors.append(float(blocking_error(values)))
        slopes.append(slope)
    return Reading(ramp.height, tuple(means), tuple(errors), tuple(slopes))


def raised(potential: Potential, found: Reading, gauge: Gauge, reach: float | None) -> Potential:
    """The potential with the ramp that the reading asks for, moved by kT at most."""
    step = found.step(gauge.wanted, thermal_energy(potential.config.temperature))
    ramp = ramp_of(potential, reach).model_copy(update={"height": found.height + step})
    return with_priors(potential, potential.priors.model_copy(update={"ramp": ramp}))


def _ramp_energy(terms: PriorEnergy) -> Energy:
    return lambda graph: terms(graph)["ramp"]
