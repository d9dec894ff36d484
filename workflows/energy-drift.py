"""How well a model conserves energy: Verlet dynamics at several time steps, without a thermostat.

cgenn run energy-drift model.safetensors cg.h5 --timesteps 0.001 --timesteps 0.002 --timesteps 0.004
"""

import json
from pathlib import Path
from typing import Annotated

import typer

import cgenn
from cgenn.simulation.conservation import energy_drift
from cgenn.threads import torch_threads


def main(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    dataset: Annotated[Path, typer.Argument(help="Bead dataset whose frames the replicas start from.")],
    timesteps: Annotated[list[float], typer.Option(help=r"\[ps]; repeat for several.")] = [0.001, 0.002, 0.004],  # noqa: B006
    length: Annotated[float, typer.Option(help=r"Of each run \[ps].")] = 20.0,
    replicas: Annotated[int, typer.Option(help="Copies that run side by side.")] = 20,
    precision: Annotated[str, typer.Option(help="Of the network: double or single.")] = "double",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Drift of the total energy per degree of freedom, with its standard error, and the size of its fluctuations."""
    if precision not in ("double", "single"):
        raise ValueError(f"--precision must be double or single, got {precision!r}")
    potential = cgenn.Potential.load(model)
    with torch_threads(1):
        found = energy_drift(potential, dataset, timesteps, length, replicas=replicas, precision=precision)
    if as_json:
        units = {"timestep": "ps", "drift": "kT/ns per degree of freedom", "fluctuation": "kT per degree of freedom"}
        typer.echo(json.dumps({"runs": [vars(entry) for entry in found], "units": units}, indent=2))
        return
    typer.echo("time step [ps] | drift [kT/ns per degree of freedom] | fluctuation [kT per degree of freedom]")
    for entry in found:
        typer.echo(f"{entry.timestep} | {entry.drift:.4f} +- {entry.error:.4f} | {entry.fluctuation:.1e}")


if __name__ == "__main__":
    typer.run(main)
