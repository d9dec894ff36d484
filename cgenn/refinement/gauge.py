"""What a ramp can put right: pressure or tension where the box is kept, volume or area where it is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cgenn.analysis import blocking_error
from cgenn.comparison import data_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.files import write_json
from cgenn.graph import BeadGraph
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, RampPrior
from cgenn.refinement.rounds import sizes_of, with_priors
from cgenn.simulation.folder import Run
from cgenn.simulation.pressure import energy_pressures, energy_tensions, pressures, tensions
from cgenn.units import BAR, thermal_energy


@dataclass(frozen=True)
class Gauge:
    """A quantity that a ramp between beads changes, and the value that is wanted.

    Attributes:
        name: "pressure" or "tension" of a box that is kept, "volume" or "area" (across z) of one that is not, relative
            to the mean of the data.
        wanted: [`unit`].
    """

    name: Literal["pressure", "tension", "volume", "area"]
    wanted: float

    @property
    def size(self) -> Literal["volume", "area"]:
        """What runs at the mean size of the data have in common with them."""
        return "area" if self.name in ("tension", "area") else "volume"

    @property
    def record(self) -> dict[str, Any]:
        """What a folder of rounds is for."""
        return {"quantity": self.name, "wanted": self.wanted, "unit": self.unit}

    @property
    def unit(self) -> str:
        """Of the quantity."""
        return {"pressure": "bar", "tension": "bar nm"}.get(self.name, "of that of the data")

    def read(
        self, potential: Potential, ramp: Potential, dataset: BeadDataset, run: Run
    ) -> tuple[Float[np.ndarray, " frames"], float]:
        """The quantity in each frame of a run, and how much its mean changes with the height of the ramp.

        That of a pressure is what the ramp adds to it; that of a volume is this times var(V) / kT, as its fluctuations
        tell how it yields.

        Args:
            ramp: a potential of nothing but the ramp, with a height of one.

        Raises:
            ValueError: if the box never changed where it should.
        """
        frames, terms = run.read(), ramp.prior_energy(run.topology)

        def energy(graph: BeadGraph) -> Tensor:
            return terms(graph)["ramp"]

        push = energy_pressures if self.size == "volume" else energy_tensions
        slope = float(push(energy, ramp, run.topology, frames).mean())
        if self.name in ("pressure", "tension"):
            of_potential = pressures if self.name == "pressure" else tensions
            return of_potential(potential, run.topology, frames, run.temperature), slope
        sizes = sizes_of(frames.box, self.size)
        if np.ptp(sizes) == 0:
            raise ValueError(f"the {self.name} of the box never changed in {run.folder}: simulate more `steps`")
        usual = float(sizes_of(data_ensemble(dataset).box, self.size).mean())
        yields = float(sizes.var()) * BAR / thermal_energy(run.temperature)  # [nm^3/bar], [nm^2/(bar nm)]
        return sizes / usual, (slope if self.name == "volume" else -slope) * yields / usual


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
        digits = 0 if gauge.name in ("pressure", "tension") else 4
        each = zip(self.values, self.errors, strict=True)
        values = ", ".join(f"{mean:.{digits}f} +- {error:.{digits}f}" for mean, error in each)
        return f"{gauge.name} {values} {gauge.unit} where {gauge.wanted:g} {gauge.unit} are wanted"


def ramp_of(potential: Potential, reach: float | None) -> RampPrior:
    """Its ramp, or one without height that reaches as far as the network."""
    return potential.priors.ramp or RampPrior(height=0.0, range=reach or potential.config.cutoff)


def reading(
    gauge: Gauge, potential: Potential, datasets: list[BeadDataset], runs: list[Run], reach: float | None
) -> Reading:
    """The quantity in runs of a potential, one for each dataset, and how a ramp would change it.

    Raises:
        ValueError: if there is no box, it never changed where it should, or no two beads are near enough for the ramp.
    """
    ramp = ramp_of(potential, reach)
    unit = with_priors(potential, Priors(ramp=ramp.model_copy(update={"height": 1.0})))
    means, errors, slopes = [], [], []
    for dataset, run in zip(datasets, runs, strict=True):
        mean, error, slope = _of_run(gauge, potential, unit, dataset, run)
        means.append(mean)
        errors.append(error)
        slopes.append(slope)
    return Reading(ramp.height, tuple(means), tuple(errors), tuple(slopes))


def _of_run(
    gauge: Gauge, potential: Potential, unit: Potential, dataset: BeadDataset, run: Run
) -> tuple[float, float, float]:
    """Mean, its standard error and slope; kept in the folder of the run, for they can take as long as it did."""
    kept, ramp = run.folder / "reading.json", unit.priors.ramp
    assert ramp is not None
    of = {"quantity": gauge.name, "range": ramp.range, "frames": run.n_frames}
    if kept.exists() and (found := json.loads(kept.read_text(encoding="utf-8")))["of"] == of:
        return found["mean"], found["error"], found["slope"]
    values, slope = gauge.read(potential, unit, dataset, run)
    if slope == 0:
        raise ValueError(f"no two beads of {dataset.path} are within the {ramp.range} nm of the ramp")
    mean, error = float(values.mean()), float(blocking_error(values))
    write_json(kept, {"of": of, "mean": mean, "error": error, "slope": slope})
    return mean, error, slope


def raised(potential: Potential, found: Reading, gauge: Gauge, reach: float | None, share: float = 1.0) -> Potential:
    """The potential with the ramp that the reading asks for, or a share of the way there, moved by kT at most."""
    step = share * found.step(gauge.wanted, thermal_energy(potential.config.temperature))
    ramp = ramp_of(potential, reach).model_copy(update={"height": found.height + step})
    return with_priors(potential, potential.priors.model_copy(update={"ramp": ramp}))
