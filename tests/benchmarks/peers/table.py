"""The records as a table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.cases import Case

OURS = "cgenn"
"""The model that the others are compared with."""


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """Cases as rows, numbers of beads as columns: time per bead, how many times that of cgenn, and memory.

    Networks of cgenn that are not compiled are compared with what is compiled of the same kind.
    """
    sizes = sorted({record["beads"] for record in records})
    times = {(_case(record), record["beads"]): record for record in records}
    heads = [*(f"{size:,} beads".replace(",", " ") for size in sizes), "kB per bead"]
    lines = ["| µs per bead | lmax | layers | channels | " + " | ".join(heads) + " |", "|---" * (4 + len(heads)) + "|"]
    for case in dict.fromkeys(map(_case, records)):
        cells = [_cell(times, case, size) for size in sizes]
        peak = next((times[case, size]["peak_kb_per_bead"] for size in reversed(sizes) if (case, size) in times), None)
        cells.append("" if peak is None else f"{peak:.0f}")
        lines.append("| " + " | ".join([*map(str, case), *cells]) + " |")
    return "\n".join(lines)


def _case(record: dict[str, Any]) -> Case:
    return Case(*(record[field] for field in Case._fields))


def _cell(times: dict[tuple[Case, int], dict[str, Any]], case: Case, size: int) -> str:
    record = times.get((case, size))
    if record is None:
        return ""
    text = f"{record['us_per_bead']:.{1 if record['us_per_bead'] < 100 else 0}f}"
    other = case.model.replace("-e3nn", "") if case.model.startswith(OURS) else OURS
    ours = times.get((case._replace(model=other, lmax=max(case.lmax, 1)), size))
    if ours is None or other == case.model:
        return text
    return f"{text} ({record['us_per_bead'] / ours['us_per_bead']:.1f}x)"
