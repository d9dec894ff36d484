"""Gives a potential of beads in a box the pressure that the atoms were held at, by a ramp between the beads.

A coarse-grained potential seldom has the pressure of the atoms at their density, and at constant pressure it then has
another density. A ramp A (1 - r/range) between beads that are not bonded neighbours changes the pressure by
A <sum_pairs r> / (3 V range) and hardly anything else (Reith, Puetz and Mueller-Plathe 2003, doi 10.1002/jcc.10307;
Wang, Junghans and Kremer 2009, doi 10.1140/epje/i2008-10413-5); its height A is found in a few short simulations.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cgenn.files import write_json
from cgenn.potential.potential import Potential
from cgenn.refinement.gauge import Gauge, raised, ramp_of, reading
from cgenn.refinement.rounds import Source, check_boxes, claim, kept, note_force_errors, opened, runs_of
from cgenn.simulation.config import SimulationConfig

log = logging.getLogger(__name__)


def match_pressure(
    potential: Potential | str | Path,
    datasets: Source | Sequence[Source],
    config: SimulationConfig,
    out: str | Path,
    *,
    pressure: float | None = None,
    tension: float | None = None,
    rounds: int = 3,
    reach: float | None = None,
) -> Potential:
    """Adjust the ramp of a potential until its own runs have the pressure of the atoms; the best model comes back.

    Each round simulates beads of every dataset and changes the height of the ramp, by kT at most. At constant volume,
    the mean one of the dataset, it is the pressure that is matched, or the tension, and virials say by how much. With a
    barostat in `config` it is the mean volume of the dataset, or the mean area of a membrane, and virials and
    fluctuations say it: slower, but what is wanted in the end, and right also where beads are not as stiff as atoms.
    The folder `out` gets every model with its runs (`round-0`, the model as given, and so on), `pressure.json`, and the
    best model as `model.safetensors`. What is there already is not done again.

    Args:
        potential: a trained potential or its file.
        datasets: bead datasets in a box, one or several; with several the squares of the differences are least.
        config: of each simulation. At constant volume the standard error of the pressure, divided by the bulk modulus
            of the system, is what is left in its density; many frames make it small.
        out: folder for the results.
        pressure: that the atoms were held at [bar]; by default 1, or that of the barostat.
        tension: of a membrane across z, matched instead of the pressure [bar nm]; with the ensemble "membrane" or
            "area" that of `config`.
        rounds: models to make, besides the one given.
        reach: distance at which a new ramp ends [nm], by default the cutoff of the network.

    Raises:
        ValueError: if a dataset has no box or another temperature, the simulation is one of several copies, or of
            another pressure or tension, no two beads are near enough for the ramp, `rounds` is not positive, or `out`
            holds another model or models for another pressure.
    """
    given = opened(datasets, config)
    check_boxes(given, config, rounds, ("nvt", "npt", "membrane", "area"))
    gauge = _gauge(config, pressure, tension)
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    potential = potential.at_data_temperature(given[0].temperature)
    folder, found = Path(out), {}
    reach = ramp_of(potential, reach).range
    header = gauge.record | {"reach": reach}
    claim(folder / "pressure.json", header)
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        potential = kept(potential, here, first=number == 0)
        found[here.name] = reading(gauge, potential, given, runs_of(potential, given, config, here, gauge.size), reach)
        log.info("%s: ramp of %.4f kJ/mol, %s", here.name, found[here.name].height, found[here.name].said(gauge))
        if number < rounds:
            potential = raised(potential, found[here.name], gauge, reach)
    best = min(found, key=lambda name: found[name].deviation(gauge.wanted))
    chosen = Potential.load(folder / best / "model.safetensors")
    note_force_errors(chosen, given)
    chosen.provenance[gauge.name] = {"chosen": best, "wanted": gauge.wanted, "found": list(found[best].values)}
    chosen.save(folder / "model.safetensors")
    rounds_made = [{"model": name} | asdict(entry) for name, entry in found.items()]
    units = {
        "height": "kJ/mol",
        "values": gauge.unit,
        "errors": gauge.unit,
        "slopes": f"{gauge.unit} mol/kJ",
        "reach": "nm",
    }
    write_json(folder / "pressure.json", header | {"chosen": best, "rounds": rounds_made, "units": units})
    return chosen


def _gauge(config: SimulationConfig, pressure: float | None, tension: float | None) -> Gauge:
    """What is matched in an ensemble."""
    if config.ensemble == "nvt":
        return (
            Gauge("pressure", 1.0 if pressure is None else pressure) if tension is None else Gauge("tension", tension)
        )
    kept = {"npt": ("pressure",), "membrane": ("pressure", "tension"), "area": ("tension",)}[config.ensemble]
    for name, asked, unit in (("pressure", pressure, "bar"), ("tension", tension, "bar nm")):
        held = getattr(config, name) if name in kept else None
        if asked not in (None, held):
            said = f"keeps no {name}" if held is None else f"keeps a {name} of {held:g} {unit}"
            raise ValueError(f"the ensemble {config.ensemble!r} {said}, but {asked:g} {unit} are to be matched")
    return Gauge("volume" if config.ensemble == "npt" else "area", 1.0)
