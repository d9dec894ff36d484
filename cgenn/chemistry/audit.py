"""What a mapping does with the atoms: a table of bead types, and what is left out or shared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from cgenn.chemistry.mapped import MappedAtoms
from cgenn.chemistry.pictures import draw_mapping, view_mapping
from cgenn.data.topology import TopologyLike
from cgenn.files import write_json
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.superposition import superpose

_SAMPLES = 5000
"""Most conformations of beads of a type that its rigidity is told from."""


def audit_mapping(
    topology: TopologyLike, mapping: str | Path | MappingDefinition, trajectory: str | Path | None = None
) -> dict[str, Any]:
    """Which atoms make up the beads of each type, and which make up none or several; fit for JSON.

    By type: how many beads there are, the formulas of their atoms with how many beads have each, the mean mass [amu]
    and charge [e], the types that they are bonded to, the point group if they have an orientation, and, with several
    frames, the root mean square distance of their heavy atoms from their mean geometry [nm].

    Args:
        topology: file or topology of the atoms.
        mapping: name or file of a mapping, or one in memory.
        trajectory: conformations; by default those of the topology file.

    Raises:
        ValueError: if a file cannot be read or the mapping does not fit the atoms.
    """
    return _audit(MappedAtoms.open(topology, mapping, trajectory))


def write_audit(
    topology: TopologyLike,
    mapping: str | Path | MappingDefinition,
    trajectory: str | Path | None,
    out: str | Path | None,
) -> dict[str, Any]:
    """The same; with a folder `out` also as audit.json there, beside molecules.svg and, with positions, view.html."""
    mapped = MappedAtoms.open(topology, mapping, trajectory)
    report = _audit(mapped)
    if out is not None:
        draw_mapping(mapped.mapping, Path(out) / "molecules.svg")
        if mapped.positions is not None:
            view_mapping(mapped.mapping, mapped.positions[0], Path(out) / "view.html")
        write_json(Path(out) / "audit.json", report)
    return report


def audit_table(report: dict[str, Any]) -> Table:
    """The bead types for a person."""
    table = Table("type", "beads", "atoms", "mass [amu]", "charge [e]", "bonded to", "rms deviation [nm]", "symmetry")
    for row in report["types"]:
        formulas = ", ".join(row["formulas"])
        charge = "" if row["charge"] is None else f"{row['charge']:.3f}"
        deviation = "" if row["rms_deviation"] is None else f"{row['rms_deviation']:.4f}"
        numbers = (str(row["number"]), formulas, f"{row['mass']:.2f}", charge)
        table.add_row(row["type"], *numbers, ", ".join(row["bonded_to"]), deviation, row["symmetry"] or "")
    return table


def _audit(mapped: MappedAtoms) -> dict[str, Any]:
    mapping, beads = mapped.mapping, mapped.mapping.topology
    types = np.array(beads.types)
    partners = _partners(mapping)
    rows = []
    for name in dict.fromkeys(beads.types):
        chosen = np.flatnonzero(types == name)
        rows.append(
            {
                "type": name,
                "number": len(chosen),
                "formulas": dict(Counter(mapping.atoms.formula(mapping.owners[[bead]].indices) for bead in chosen)),
                "mass": float(beads.masses[chosen].mean()),
                "charge": float(beads.charges[chosen].mean()) if mapping.atoms.charges is not None else None,
                "bonded_to": partners.get(name, []),
                "symmetry": _symmetry(mapping, chosen[0]),
                "rms_deviation": None if mapped.positions is None else _deviation(mapping, chosen, mapped.positions),
            }
        )
    report = mapping.report
    kept = ("atoms", "beads", "outside_selection", "unmapped", "shared")
    return {
        **{key: report[key] for key in kept},
        "mass": {"atoms": float(mapping.atoms.masses.sum()), "beads": float(beads.masses.sum())},
        "types": rows,
    }


def _partners(mapping: Mapping) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for i, j in mapping.topology.bonds.tolist():
        first, second = mapping.topology.types[i], mapping.topology.types[j]
        found.setdefault(first, set()).add(second)
        found.setdefault(second, set()).add(first)
    return {name: sorted(others) for name, others in found.items()}


def _symmetry(mapping: Mapping, bead: int) -> str | None:
    frame = mapping.definition.beads[mapping.rules[bead]].frame
    return None if frame is None else frame.symmetry


def _deviation(mapping: Mapping, beads: np.ndarray, positions: Float[np.ndarray, "frames atoms 3"]) -> float | None:
    """Root mean square distance of heavy atoms from their mean geometry, superposed; None where it means nothing."""
    heavy = ~np.isin(mapping.atoms.elements, ("H", ""))
    members = [np.sort(row[heavy[row]]) for row in (mapping.owners[[bead]].indices for bead in beads)]
    kinds = {tuple(mapping.atoms.elements[row].tolist()) for row in members}
    if len(positions) < 2 or len(kinds) > 1 or len(members[0]) < 2:
        return None
    groups = positions[:, np.stack(members)].reshape(-1, len(members[0]), 3).astype(float)
    groups = groups[:: max(1, -(-len(groups) // _SAMPLES))]
    groups = groups - groups.mean(axis=1, keepdims=True)
    reference = groups[0]
    for _ in range(3):
        turned = np.einsum("nji,naj->nai", superpose(reference, groups), groups)
        reference = turned.mean(axis=0)
    return float(np.sqrt(np.mean(np.sum((turned - reference) ** 2, axis=2))))
