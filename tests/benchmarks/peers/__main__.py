"""Time and memory of one call per bead, beside other packages, and further tables: all that `make bench` measures.

"peers": everyone on the same graphs. Each package runs in an environment of its own with fixed versions, installed
below the work folder at the first run; set PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to take CPU builds of torch, which
are much smaller. What cannot be installed is named and left out. Single precision, random weights, 8 types of beads,
some 31 neighbours within 1 nm, 8 radial functions and, where that can be chosen, one hidden layer of 64 behind them.
Per case a process of its own, which uses each graph twice before it counts, and seven times then, or three times if
that takes long; the closest rivals (`cases.IN_TURNS`) have three such processes in turns. Medians of CPU time (on
several threads or a GPU: on the clock), with the neighbour list that the package comes with, or else vesin's, found
anew at each call (`us_per_bead`), and without it (`us_per_bead_model`). `peak_kb_per_bead`: how far the resident memory
of the process rose during the calls.

"scaling": cgenn with 100 to 1 000 000 beads (15 GB of memory). "cores": the same on more threads, on the clock.
"compiled", "systems", "electrostatics": scripts of these names beside this folder, which say what they do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cgenn.files import atomic
from tests.benchmarks.peers.cases import MODELS, Job, jobs
from tests.benchmarks.peers.environments import PINS, python
from tests.benchmarks.peers.graphs import write_graph
from tests.benchmarks.peers.table import markdown
from tests.benchmarks.records import Record, combined, hardware, table

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "100000000",
}
"""Environment variables that everyone gets, besides the number of threads."""
SCRIPTS = ("compiled", "systems", "electrostatics")


def measure(
    job: Job, interpreter: Path, graphs: list[Path], work: Path, *, repeats: int, device: str
) -> Iterator[Record]:
    """One record per graph.

    Raises:
        ValueError: if the worker failed, with the last line it wrote.
    """
    case = job.case._asdict()
    arguments = {**case, "threads": job.threads, "repeats": repeats, "device": device}
    command = [str(interpreter), "-m", f"tests.benchmarks.peers.{MODELS[job.case.model].worker}"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    command += [f"--work={work / 'compiled'}", *map(str, graphs)]
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    environment |= {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    for record in printed(command, job.threads, environment):
        yield {"table": job.table, **case, "threads": job.threads, "device": device, **record}


def printed(command: list[str], threads: int, environment: dict[str, str]) -> Iterator[Record]:
    """The records that a process prints, one in a line.

    Raises:
        ValueError: if it failed, with the last line it wrote.
    """
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own |= {**SETTINGS, "OMP_NUM_THREADS": f"{threads}", **environment}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    stamp = {"hardware": hardware(), "date": date.today().isoformat()}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]  # packages print at their import
    yield from ({**json.loads(line), **stamp} for line in lines)
    if done.returncode:
        raise ValueError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])


def run(
    chosen: Sequence[Job | str], out: Path, work: Path, *, quick: bool, device: str
) -> tuple[list[Record], list[str]]:
    """The records, which are also written after each job, and what could not be measured.

    Args:
        chosen: what to measure: jobs, or names of scripts.
        out: file of the records.
        work: folder of graphs, environments and compiled models.
        quick: fewer calls, and less patience with pip.
        device: cpu or cuda.
    """
    work = work.resolve()
    records: list[Record] = []
    missing: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("installing", total=len(chosen))

        def miss(reason: str) -> None:
            missing.append(reason)
            progress.console.print(f"not measured: {reason}", soft_wrap=True)

        interpreters = installed(chosen, work, 300 if quick else 3600, miss)
        for job in chosen:
            progress.update(task, description=label(job))
            try:
                if isinstance(job, str):
                    command = [sys.executable, "-m", f"tests.benchmarks.{job}", "--json"]
                    found = printed(command + ["--quick"] * quick, 1, {})
                    records.extend({"table": job, **record} for record in found)
                elif interpreter := interpreters.get(MODELS[job.case.model].environment):
                    graphs = [write_graph(work / "graphs", size) for size in job.beads]
                    records.extend(measure(job, interpreter, graphs, work, repeats=3 if quick else 7, device=device))
            except ValueError as error:
                miss(f"{label(job)}: {error}")
            with atomic(out) as temporary:
                temporary.write_text(json.dumps(combined(records), indent=1) + "\n")
            progress.advance(task)
    return combined(records), missing


def installed(
    chosen: Sequence[Job | str], work: Path, patience: float, miss: Callable[[str], None]
) -> dict[str | None, Path]:
    """The interpreters of the environments that are needed and can be had."""
    found: dict[str | None, Path] = {None: Path(sys.executable)}
    for name in PINS:
        if any(isinstance(job, Job) and MODELS[job.case.model].environment == name for job in chosen):
            try:
                found[name] = python(work / "envs", name, patience)
            except ValueError as error:
                miss(str(error))
    return found


def label(job: Job | str) -> str:
    """A job in words."""
    if isinstance(job, str):
        return job
    case, threads = job.case, f", {job.threads} threads" if job.threads > 1 else ""
    return f"{job.table}: {case.model}, lmax {case.lmax}, {case.layers} layers, {case.channels} channels{threads}"


def main(
    quick: Annotated[bool, typer.Option(help="One size of model, small graphs, few calls: minutes.")] = False,
    out: Annotated[Path, typer.Option(help="The records, JSON.")] = Path("bench.json"),
    work: Annotated[Path, typer.Option(help="Graphs, environments and compiled models.")] = Path(".bench"),
    only: Annotated[str, typer.Option(help="Models, or further tables, that begin so; several with commas.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of the calls; compiling uses one.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"must be cpu or cuda, got {device!r}", param_hint="--device")
    known: list[Job | str] = [*jobs(quick, threads, device), *(SCRIPTS if device == "cpu" else ())]
    chosen = [job for job in known if name_of(job).startswith(tuple(only.split(",")))]
    if not chosen:
        names = ", ".join(dict.fromkeys(map(name_of, known)))
        raise typer.BadParameter(f"begins no name; there are {names}", param_hint="--only")
    records, missing = run(chosen, out, work, quick=quick, device=device)
    for name in dict.fromkeys(record["table"] for record in records):
        rows = [record for record in records if record["table"] == name]
        typer.echo(f"\n{name}\n\n{markdown(rows) if name == 'peers' else table(rows)}")
    if missing:
        typer.echo("\nNot measured:\n" + "\n".join(f"- {reason}" for reason in missing))


def name_of(job: Job | str) -> str:
    """What `--only` compares: that of the model, or of the table."""
    return job if isinstance(job, str) else job.case.model if job.table == "peers" else job.table


main.__doc__ = __doc__

if __name__ == "__main__":
    typer.run(main)
