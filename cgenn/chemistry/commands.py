"""What the command line says of chemistry: the functions of the same names, their results as plain entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Unit = Annotated[str, typer.Argument(help="Of the repeat unit, with two [*].")]
Head = Annotated[str, typer.Option(help="What the first unit is bonded to, with one [*].")]
Tail = Annotated[str, typer.Option(help="What the last unit is bonded to, with one [*].")]
Hands = Annotated[str, typer.Option(help="isotactic, syndiotactic or atactic.")]


def suggest(source: str, out: Path) -> dict[str, Any]:
    """Propose a mapping and write it."""
    from cgenn.chemistry.suggest import suggest_mapping
    from cgenn.files import atomic

    text = suggest_mapping(source)
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return {"mapping": str(out), "rules": text.count("[[beads]]")}


def audit(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    mapping: Annotated[str, typer.Option(help="Name of a shipped mapping (cgenn list) or a TOML file.")],
    trajectory: Annotated[Path | None, typer.Option(help="Conformations; default those of the topology.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for audit.json, molecules.svg and view.html.")] = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Show what a mapping does with the atoms: a table of bead types, and pictures."""
    from cgenn.chemistry.audit import audit_table, write_audit

    report = write_audit(topology, mapping, trajectory, out)
    if as_json:
        return report
    Console().print(audit_table(report))
    return {key: value for key, value in report.items() if key != "types"}


def polymer(
    smiles: Unit,
    length: Annotated[int, typer.Option(help="Number of repeat units.")],
    out: Annotated[Path, typer.Option(help="File to write: .pdb (bonds) or .sdf (bond orders).")],
    head: Head = "[*][H]",
    tail: Tail = "[*][H]",
    tacticity: Hands = "atactic",
    seed: Annotated[int, typer.Option(help="Of the conformation and of atactic chains.")] = 0,
    as_json: Json = False,
) -> dict[str, Any]:
    """Build a chain from the SMILES of its repeat unit."""
    from cgenn.chemistry.polymer import build_polymer

    chain = build_polymer(smiles, length, head=head, tail=tail, tacticity=tacticity, seed=seed)  # type: ignore[arg-type]
    chain.save(out)
    return {"file": str(out), "atoms": len(chain.atoms), "residues": length}


def melt(
    smiles: Unit,
    length: Annotated[int, typer.Option(help="Number of repeat units of a chain.")],
    chains: Annotated[int, typer.Option(help="Number of chains.")],
    density: Annotated[float, typer.Option(help=r"Of the structure \[g/cm3].")],
    temperature: Annotated[float, typer.Option(help=r"\[K]")],
    out: Annotated[Path, typer.Option(help="Folder to make, for `cgenn reference`.")],
    pressure: Annotated[float, typer.Option(help=r"Of the reference run \[bar].")] = 1.0,
    head: Head = "[*][H]",
    tail: Tail = "[*][H]",
    tacticity: Hands = "atactic",
    force_field: Annotated[str, typer.Option(help="OpenFF by name, or an own OpenMM XML file.")] = "openff-2.3.0",
    seed: Annotated[int, typer.Option(help="Of conformations, places and dynamics.")] = 0,
    as_json: Json = False,
) -> dict[str, Any]:
    """Build a melt of chains, with force field and settings: a system that `cgenn reference` runs."""
    from cgenn.chemistry.melt import build_melt

    made = build_melt(
        smiles,
        length,
        chains,
        out,
        density=density,
        temperature=temperature,
        pressure=pressure,
        head=head,
        tail=tail,
        tacticity=tacticity,  # type: ignore[arg-type]
        force_field=force_field,
        seed=seed,
    )
    return {"folder": str(out), "atoms": made.atoms, "edge": made.edge, "residues": list(made.residues)}


COMMANDS: dict[Callable[..., dict[str, Any]], str] = {
    audit: "cgenn audit aa/topology.pdb --mapping backbone --out audit",
    polymer: "cgenn polymer '[*]CCO[*]' --length 10 --out chain.pdb",
    melt: "cgenn melt '[*]CCO[*]' --length 10 --chains 20 --density 1.0 --temperature 400 --out peo",
}
"""Each with an example."""
