"""What every benchmark leaves: records, one for each case, as lines of JSON or as a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

Record = dict[str, Any]
MODEL = ("model", "lmax", "layers", "channels", "threads")
"""What a case is, besides its size."""
_UNSEEN = {"table", "versions", "hardware", "date", "device", "repeats", "rounds", "neighbors"}


def show(records: Iterable[Record], as_json: bool) -> None:
    """Print records, as lines of JSON once they are there, or as a table in Markdown."""
    if as_json:
        for record in records:
            print(json.dumps(record), flush=True)
    else:
        typer.echo(table(list(records)))


def table(records: Sequence[Record]) -> str:
    """Records as rows; what is the same in all of them stands above."""
    keys = [key for key in dict.fromkeys(key for record in records for key in record) if key not in _UNSEEN]
    same = {key: records[0].get(key) for key in MODEL if len({str(record.get(key)) for record in records}) == 1}
    columns = [key for key in keys if key not in same and any(record.get(key) is not None for record in records)]
    above = ", ".join(f"{key} {value}" for key, value in same.items() if value is not None)
    lines = [above, "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_text(record.get(key)) for key in columns) + " |" for record in records]
    return "\n".join(lines)


def combined(records: Iterable[Record]) -> list[Record]:
    """One record of each case: where it was measured in several `rounds`, medians over them."""
    cases: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        cases.setdefault(_identity(record), []).append(record)
    return [rounds[0] if len(rounds) == 1 else {**rounds[0], **_medians(rounds)} for rounds in cases.values()]


def _identity(record: Record) -> tuple[Any, ...]:
    """All that is no measured number."""
    return tuple(
        (key, value) for key, value in record.items() if isinstance(value, str | int) and key not in ("repeats", "date")
    )


def _medians(rounds: list[Record]) -> Record:
    numbers = [key for key, value in rounds[0].items() if isinstance(value, float)]
    return {key: statistics.median(record[key] for record in rounds) for key in numbers} | {"rounds": len(rounds)}


def stopwatch(threads: int) -> float:
    """Seconds: CPU time of the process, which others do not disturb, or with several threads those on the clock."""
    return time.process_time() if threads == 1 else time.perf_counter()


def versions(*packages: str) -> dict[str, str]:
    """Of packages, and of torch."""
    return {name: version(name) for name in ("torch", *packages)}


def hardware() -> str:
    """The processor and its number of cores."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {os.cpu_count()} cores"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
