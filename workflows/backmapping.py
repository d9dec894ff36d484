"""There and back: atoms of every shipped system to beads, and from the beads alone to atoms again.

    cgenn run backmapping --json

Of each system two independent runs are made: fragments come from one, frames of beads from the other. `round_trip` is
how far the beads are, when the file of new atoms is mapped again, from those that they were made for; energies are
those of the whole system, after the same relaxation of new atoms and of those of the reference. A system or mapping
that does not get there is a row with the reason.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import openmm
import typer
from rich.console import Console

import cgenn
from cgenn import shipped
from cgenn.analysis.structure import minimum_image
from cgenn.backmapping.reference import AtomReference
from cgenn.files import write_json
from cgenn.reference.system import load_system

CASES = {
    "alanine-dipeptide-vacuum": (["backbone", "dipeptide-planes", "ca"], 200.0, 2.0, 10.0),
    "alanine-dipeptide-implicit": (["backbone"], 200.0, 2.0, 10.0),
    "alanine-dipeptide-explicit": (["backbone"], 5.0, 0.5, 10.0),
    "benzene": (["benzene"], 5.0, 0.5, 2.0),
    "bmim-pf6": (["bmim-pf6"], 40.0, 5.0, 20.0),
    "chignolin": (["protein-5-bead", "ca-sidechain", "ca"], 30.0, 1.0, 5.0),
    "methanol": (["molecule-com"], 4.0, 0.5, 2.0),
    "molten-nacl": (["molecule-com"], 2.0, 0.2, 2.0),
    "polyethylene-c12": (["residue-com", "polyethylene"], 2.0, 0.2, 2.0),
    "polyethylene-c16": (["residue-com"], 2.0, 0.2, 2.0),
    "polyethylene-c24": (["residue-com"], 2.0, 0.2, 2.0),
    "villin": (["backbone", "ca-sidechain", "ca", "residue-com"], 30.0, 1.0, 5.0),
    "water-spce": (["water"], 5.0, 0.5, 2.0),
}
"""Mappings, and length, interval and equilibration [ps] of the runs."""
OTHERS = {"chignolin-explicit": ["protein-5-bead"], "popc-bilayer": ["lipids-martini"]}
"""Mappings of systems whose runs are ten frames in 500 time steps; where none is named, one bead for each residue."""
LIMIT = 0.01
"""Of the round trip [nm]."""
QUICK = ("alanine-dipeptide-vacuum",)


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/backmapping"),
    only: Annotated[list[str], typer.Option(help="Systems; default all.")] = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="All systems, also with --quick.")] = False,
    frames: Annotated[int, typer.Option(help="Of each system and mapping.")] = 3,
    dynamics: Annotated[float, typer.Option(help="Restrained dynamics of each frame [ps].")] = 1.0,
    quick: Annotated[bool, typer.Option(help="Short runs, two frames, one mapping; one small system.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Map atoms of the shipped systems to beads, put atoms back, and compare."""
    console = Console(stderr=True, highlight=False)
    rows: list[dict] = []
    if unknown := set(only) - set(shipped.names("systems")):
        expected = ", ".join(shipped.names("systems"))
        raise ValueError(f"--only: no system {min(unknown)!r}, expected one of {expected}")
    every = sorted(shipped.names("systems"), key=size)
    for system in only or (QUICK if quick and not everything else every):
        mappings, length, interval, equilibration = case(system)
        if quick:
            mappings, length, equilibration = mappings[:1], 5 * interval, 1.0
        folder = out / system
        console.rule(system)
        for mapping in mappings:
            try:
                aa = cgenn.run_reference(
                    system, folder / "aa", length=length, interval=interval, equilibration=equilibration, replicas=2
                )
                reference = AtomReference.open(aa.folder)
                fragments = replace(reference, sources=reference.sources[:1])
                row = there_and_back(folder, aa, fragments, mapping, 2 if quick else frames, dynamics)
            except (ImportError, ValueError, ArithmeticError, openmm.OpenMMException) as error:
                row = {"system": system, "mapping": mapping, "reason": str(error)}
            rows.append(row)
            write_json(out / "backmapping.json", {"rows": rows})
    typer.echo(json.dumps({"rows": rows}, indent=2) if as_json else table(rows))


def size(system: str) -> tuple[bool, int]:
    """Of the structure, so that small systems come first, and those that water is added to last."""
    found = load_system(system)
    return found.definition.solvent is not None, found.structure.stat().st_size


def case(system: str) -> tuple[list[str], float, float, float]:
    """Mappings, and length, interval and equilibration [ps]."""
    step = load_system(system).definition.timestep
    return CASES.get(system, (OTHERS.get(system, ["residue-com"]), 500 * step, 50 * step, 500 * step))


def there_and_back(folder: Path, aa, fragments: AtomReference, mapping: str, frames: int, dynamics: float) -> dict:
    """One row of the table."""
    beads = cgenn.map_trajectory(aa.trajectories[1], aa.topology, mapping, folder / f"{mapping}.h5", forces=False)
    chosen = range(0, len(beads), max(1, len(beads) // frames))[:frames]
    made = cgenn.backmap(
        beads, beads, fragments, folder / f"{mapping}-atoms.h5", select=chosen, dynamics=dynamics, compare=frames
    )
    again = cgenn.map_trajectory(
        made.path, aa.topology, mapping, folder / f"{mapping}-again.h5",
        forces=False, temperature=beads.temperature, bodies=beads.topology.bodies or None,
    )  # fmt: skip
    before, after = beads.read(list(chosen)), again.read()
    apart = after.positions.astype(float) - before.positions
    if before.box is not None:
        apart = minimum_image(apart, before.box)
    farthest = float(np.linalg.norm(apart, axis=-1).max())
    found = {"round_trip": farthest, "within_limit": farthest <= LIMIT, "units": {"round_trip": "nm"}}
    return {"system": fragments.name, "mapping": mapping, **made.record, **found}


def table(rows: list[dict]) -> str:
    """As it stands in docs/backmapping.md."""
    head = ("system", "mapping", "atoms", "beads", "round trip [nm]", "turned [deg]", "energy [kJ/mol]", "reference")
    lines = [f"| {' | '.join((*head, 'clashes', 'rings pierced'))} |", "|" + "---|" * 10]
    for row in rows:
        if "reason" in row:
            cells = [row["system"], row["mapping"], row["reason"].replace("|", "/"), *[""] * 7]
            lines.append(f"| {' | '.join(cells)} |")
            continue
        turned = row.get("orientation_deviation")
        cells = [
            row["system"], row["mapping"], row["atoms"], row["beads"], f"{row['round_trip']:.0e}",
            "" if turned is None else f"{turned['max']:.2f}",
            *(f"{row[key]['mean']:.1f} ± {row[key]['sd']:.1f}" for key in ("energy", "reference_energy")),
            row["clashes"], row["pierced_rings"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
