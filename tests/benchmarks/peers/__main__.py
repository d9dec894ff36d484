"""Energy and forces of one call against other packages: time and memory per bead, everyone on the same graphs.

Each package runs in an environment of its own with fixed versions, installed below the work folder at the first run;
set PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to take CPU builds of torch, which are much smaller. What cannot be installed
is named and left out. Single precision, random weights, 8 types of beads, some 31 neighbours within 1 nm, 8 radial
functions and, where that can be chosen, one hidden layer of 64 behind them. Per case a process of its own, which uses
each graph twice before it counts; medians of CPU time (on several threads or a GPU: on the clock), with the neighbour
list that the package comes with, or else vesin's, found anew at each call (`us_per_bead`), and without it
(`us_per_bead_model`). `peak_kb_per_bead`: how far the resident memory of the process rose during the calls.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cgenn.files import atomic
from tests.benchmarks.peers.cases import BEADS, MODELS, QUICK_BEADS, Case, cases
from tests.benchmarks.peers.environments import PINS, python
from tests.benchmarks.peers.graphs import write_graph
from tests.benchmarks.peers.table import markdown

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "100000000",
}
"""Environment variables that everyone gets, besides the number of threads."""


def measure(
    case: Case, interpreter: Path, graphs: list[Path], work: Path, *, threads: int, repeats: int, device: str
) -> Iterator[dict[str, Any]]:
    """One record per graph.

    Raises:
        ValueError: if the worker failed, with the last line it wrote.
    """
    arguments = {**case._asdict(), "threads": threads, "repeats": repeats, "device": device}
    command = [str(interpreter), "-m", f"tests.benchmarks.peers.{MODELS[case.model].worker}"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    command += [f"--work={work / 'compiled'}", *map(str, graphs)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {**SETTINGS, "OMP_NUM_THREADS": f"{threads}", "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    shared = {**case._asdict(), "threads": threads, "device": device}
    stamp = {"hardware": hardware(), "date": date.today().isoformat()}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]  # packages print at their import
    yield from ({**shared, **json.loads(line), **stamp} for line in lines)
    if done.returncode:
        raise ValueError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])


def hardware() -> str:
    """The processor and its number of cores."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {os.cpu_count()} cores"


def run(
    chosen: list[Case], beads: tuple[int, ...], out: Path, work: Path, *, patience: float = 3600, **settings: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """The records, which are also written after each case, and what could not be measured.

    Args:
        chosen: what to measure.
        beads: sizes of the graphs.
        out: file of the records.
        work: folder of graphs, environments and compiled models.
        patience: how long an environment may take to install [s].
        settings: see `measure`.
    """
    work.mkdir(parents=True, exist_ok=True)
    graphs = [write_graph(work.resolve() / "graphs", size) for size in beads]
    interpreters: dict[str | None, Path] = {None: Path(sys.executable)}
    records: list[dict[str, Any]] = []
    missing: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(chosen))
        for name in PINS:
            if any(MODELS[case.model].environment == name for case in chosen):
                progress.update(task, description=f"installing {name}")
                try:
                    interpreters[name] = python(work.resolve() / "envs", name, patience)
                except ValueError as error:
                    missing.append(str(error))
                    progress.console.print(f"not measured: {error}", soft_wrap=True)
        for case in chosen:
            label = f"{case.model}, lmax {case.lmax}, {case.layers} layers, {case.channels} channels"
            progress.update(task, description=label)
            interpreter = interpreters.get(MODELS[case.model].environment)
            try:
                if interpreter is not None:
                    records.extend(measure(case, interpreter, graphs, work.resolve(), **settings))
            except ValueError as error:
                missing.append(f"{label}: {error}")
                progress.console.print(f"not measured: {missing[-1]}", soft_wrap=True)
            with atomic(out) as temporary:
                temporary.write_text(json.dumps(records, indent=1) + "\n")
            progress.advance(task)
    return records, missing


def main(
    quick: Annotated[bool, typer.Option(help="One size of model, two of graphs, three calls: minutes.")] = False,
    out: Annotated[Path, typer.Option(help="The records, JSON.")] = Path("bench.json"),
    work: Annotated[Path, typer.Option(help="Graphs, environments and compiled models.")] = Path(".bench"),
    only: Annotated[str, typer.Option(help="Models whose names begin so; several with commas.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of the calls; compiling uses one.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"must be cpu or cuda, got {device!r}", param_hint="--device")
    chosen = [case for case in cases(quick) if case.model.startswith(tuple(only.split(",")))]
    if not chosen:
        raise typer.BadParameter(f"begins no name; there are {', '.join(MODELS)}", param_hint="--only")
    records, missing = run(
        chosen,
        QUICK_BEADS if quick else BEADS,
        out,
        work,
        patience=300 if quick else 3600,
        threads=threads,
        repeats=3 if quick else 7,
        device=device,
    )
    typer.echo(markdown(records))
    if missing:
        typer.echo("\nNot measured:\n" + "\n".join(f"- {reason}" for reason in missing))


main.__doc__ = __doc__

if __name__ == "__main__":
    typer.run(main)
