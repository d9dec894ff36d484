"""What the command line says of refinement: the functions of the same names, their results as plain entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cgenn.settings import read_settings
from cgenn.simulation.config import SimulationConfig

Model = Annotated[Path, typer.Argument(help="Model file.")]
Datasets = Annotated[list[Path], typer.Argument(help="Bead datasets, of one or of several molecules.")]
Out = Annotated[Path, typer.Option(help="Folder for the rounds and the best model, model.safetensors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Of each simulation; see below.")]
SettingsFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
Tension = Annotated[float | None, typer.Option(help=r"Of a membrane across z, instead of a pressure \[bar nm].")]
Reach = Annotated[float | None, typer.Option(help=r"Where new terms end \[nm]; default the cutoff of the network.")]


def refine(
    model: Model,
    datasets: Datasets,
    out: Out,
    rounds: Annotated[int, typer.Option(help="Models to make, besides the one given.")] = 3,
    config: SettingsFile = None,
    settings: Settings = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> dict[str, Any]:
    """Move bonds, angles and dihedrals of a model until its simulations have those of the data."""
    from cgenn.refinement.refine import refine

    found = refine(model, datasets, read_settings(SimulationConfig, config, settings), out, rounds=rounds)
    return {"model": str(out / "model.safetensors"), **found.provenance["refinement"]}


def match_pairs(
    model: Model,
    datasets: Datasets,
    out: Out,
    rounds: Annotated[int, typer.Option(help="Models to make, besides the one given.")] = 8,
    pressure: Annotated[float | None, typer.Option(help=r"A ramp takes the model there meanwhile \[bar].")] = None,
    tension: Tension = None,
    reach: Reach = None,
    config: SettingsFile = None,
    settings: Settings = [],  # noqa: B006
    as_json: Json = False,
) -> dict[str, Any]:
    """Add pair splines to a model until its simulations have the radial distributions of the data."""
    from cgenn.refinement.pairs import match_pairs

    chosen = read_settings(SimulationConfig, config, settings)
    found = match_pairs(model, datasets, chosen, out, rounds=rounds, pressure=pressure, tension=tension, reach=reach)
    return {"model": str(out / "model.safetensors"), **found.provenance["pairs"]}


def match_pressure(
    model: Model,
    datasets: Datasets,
    out: Out,
    rounds: Annotated[int, typer.Option(help="Models to make, besides the one given.")] = 3,
    pressure: Annotated[
        float | None, typer.Option(help=r"That the atoms were held at \[bar]; default 1, or that of the barostat.")
    ] = None,
    tension: Tension = None,
    reach: Reach = None,
    config: SettingsFile = None,
    settings: Settings = [],  # noqa: B006
    as_json: Json = False,
) -> dict[str, Any]:
    """Adjust the ramp of a model until its simulations have the pressure of the atoms."""
    from cgenn.refinement.pressure import match_pressure

    chosen = read_settings(SimulationConfig, config, settings)
    found = match_pressure(model, datasets, chosen, out, rounds=rounds, pressure=pressure, tension=tension, reach=reach)
    quantity, unit = (
        json.loads((out / "pressure.json").read_text(encoding="utf-8"))[key] for key in ("quantity", "unit")
    )
    return {"model": str(out / "model.safetensors"), "quantity": quantity, **found.provenance[quantity], "unit": unit}


COMMANDS: dict[Callable[..., dict[str, Any]], str] = {
    refine: "cgenn refine model/model.safetensors cg.h5 --out refined --set steps=20000",
    match_pairs: "cgenn match-pairs model/model.safetensors cg.h5 --out paired --pressure 1 --set steps=20000",
    match_pressure: "cgenn match-pressure model/model.safetensors cg.h5 --out matched --pressure 1 --set steps=20000",
}
"""Each with an example; all have the settings of a simulation."""
