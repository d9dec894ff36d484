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
from dataclasses import asdict
from pathlib import Path

from cgenn.files import write_json
from cgenn.potential.potential import Potential
from cgenn.refinement.gauge import Gauge, raised, reading
from cgenn.refinement.rounds import Source, check_boxes, kept, opened, runs_of
from cgenn.simulation.config import SimulationConfig

log = logging.getLogger(__name__)


def match_pressure(
    potential: Potential | str | Path,
    datasets: Source | Sequence[Source],
    config: SimulationConfig,
    out: str | Path,
    *,
    pressure: float = 1.0,
    tension: float | None = None,
    rounds: int = 3,
    reach: float | None = None,
) -> Potential:
    """Adjust the ramp of a potential until its own runs have the pressure of the atoms; the best model comes back.

    Each round simulates beads of every dataset and changes the height of the ramp, by kT at most. At constant volume,
    the mean one of the dataset, it is the pressure that is matched, or the tension, and virials say by how much. With a
    barostat in `config` it is the mean volume of the dataset, or the mean area of a membrane, and their covariance with
    the energy of the ramp says it: slower, but what is wanted in the end, and right also where beads are not as stiff
    as atoms. The folder `out` gets every model with its runs (`round-0`, the model as given, and so on),
    `pressure.json`, and the best model as `model.safetensors`. What is there already is not done again.

    Args:
        potential: a trained potential or its file.
        datasets: bead datasets in a box, one or several; with several the squares of the differences are least.
        config: of each simulation. At constant volume the standard error of the pressure, divided by the bulk modulus
            of the system, is what is left in its density; many frames make it small.
        out: folder for the results.
        pressure: that the atoms were held at [bar].
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
    check_gauge(folder / "pressure.json", gauge)
    for number in range(rounds + 1):
        here = folder / f"round-{number}"
        potential = kept(potential, here, first=number == 0)
        found[here.name] = reading(gauge, potential, given, runs_of(potential, given, config, here), reach)
        log.info("%s: ramp of %.4f kJ/mol, %s", here.name, found[here.name].height, found[here.name].said(gauge))
        if number < rounds:
            potential = raised(potential, found[here.name], gauge, reach)
    best = min(found, key=lambda name: found[name].deviation(gauge.wanted))
    chosen = Potential.load(folder / best / "model.safetensors")
    chosen.provenance[gauge.name] = {"chosen": best, "wanted": gauge.wanted, "found": list(found[best].values)}
    chosen.save(folder / "model.safetensors")
    units = {"height": "kJ/mol", "values": gauge.unit, "errors": gauge.unit, "slopes": f"{gauge.unit} mol/kJ"}
    entries = {
        "quantity": gauge.name,
        "wanted": gauge.wanted,
        "chosen": best,
        "rounds": [{"model": name} | asdict(entry) for name, entry in found.items()],
        "units": units,
    }
    write_json(folder / "pressure.json", entries)
    return chosen


def _gauge(config: SimulationConfig, pressure: float, tension: float | None) -> Gauge:
    """What is matched in an ensemble."""
    if config.ensemble == "nvt":
        return Gauge("pressure", pressure) if tension is None else Gauge("tension", tension)
    for name, barostat, asked in (("pressure", config.pressure, pressure), ("tension", config.tension, tension)):
        if asked is not None and asked != barostat and not (name == "pressure" and config.ensemble == "area"):
            raise ValueError(f"the barostat is set to a {name} of {barostat:g}, but {asked:g} is to be matched")
    return Gauge("volume" if config.ensemble == "npt" else "area", 1.0)


def check_gauge(record: Path, gauge: Gauge) -> None:
    """Raise ValueError if the record of earlier rounds is of another quantity or value."""
    if not record.exists():
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    if (before["quantity"], before["wanted"]) != (gauge.name, gauge.wanted):
        said = f"a {before['quantity']} of {before['wanted']:g} {Gauge(before['quantity'], 0.0).unit}"
        raise ValueError(
            f"{record.parent} holds models for {said}, not for a {gauge.name} of {gauge.wanted:g} {gauge.unit}: choose "
            "another folder"
        )
