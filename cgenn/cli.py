"""The command line: thin over the functions of the same names."""

from __future__ import annotations

import json
import logging
import math
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import torch  # noqa: F401  # isort: skip  (before openmm, see simulation/backends.py)
import openmm
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from cgenn import shipped
from cgenn.chemistry import commands as chemistry
from cgenn.refinement import commands as refinement
from cgenn.settings import describe, read_settings
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.watch import SimulationError
from cgenn.training.config import TrainingConfig

_errors = Console(stderr=True, highlight=False)


_RESUMED = ("reference", "train", "simulate", "run", "refine", "match-pairs", "match-pressure")
"""Commands that go on from what an interrupted one saved."""


@contextmanager
def _ctrl_c_is_kept() -> Iterator[None]:
    """Python drops an exception that comes while an object is deallocated: a Ctrl-C dropped so is sent once more."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if dropped.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class _Sentences(TyperGroup):
    """What a user did wrong becomes a sentence and an exit status of 2; what went wrong otherwise, of 1."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        logging.basicConfig(level=logging.WARNING, handlers=[_Lines()])
        logging.getLogger("cgenn").setLevel(logging.INFO if _is_first() else logging.ERROR)
        try:
            with _ctrl_c_is_kept():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            goes_on = "goes on from what was saved" if ctx.invoked_subcommand in _RESUMED else "starts again"
            _say(f"interrupted: {stop if stop.args else f'the same command {goes_on}'}")
            raise typer.Exit(130) from None
        except (ValueError, ImportError, FileNotFoundError) as error:
            _say(f"error: {error}")
            raise typer.Exit(2) from None
        except (OSError, ArithmeticError, SimulationError, openmm.OpenMMException) as error:
            _say(f"error: {type(error).__name__}: {error}")
            raise typer.Exit(1) from None


class _Lines(logging.Handler):
    """A line for each record, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        _say(f"{warning}{record.getMessage()}")


def _is_first() -> bool:
    """Whether this is the one process that speaks, of those of a parallel training."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def _output_for_results() -> Iterator[None]:
    """Send what others write to the standard output to the standard error; Gloo does so past Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _say(sentence: str) -> None:
    _errors.print(sentence, markup=False, emoji=False, soft_wrap=True)


app = typer.Typer(
    cls=_Sentences,
    help="From an all-atom system to a coarse-grained simulation in OpenMM. Units: nm, ps, kJ/mol, e, amu, K.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="One setting; see the list below.")]
SettingsFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]


def _show(result: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """One result, for a person or for a program."""
    if not _is_first():
        return
    typer.echo(json.dumps(_plain(result), indent=2, allow_nan=False) if as_json else "\n".join(_lines(result)))


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(result: Any, indent: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
            continue
        values = value if isinstance(value, list | tuple) else [value] if value not in (None, {}) else []
        shown = (f"{entry:.6g}" if isinstance(entry, float) else str(entry) for entry in values)
        yield f"{indent}{key}: {', '.join(shown) or 'none'}"


def _with_settings(model: type, example: str) -> Callable[[Callable], Callable]:
    """Register a command whose help ends with its settings and an example."""
    return app.command(
        epilog=f"[bold]Settings[/] (--set KEY=VALUE)\n\n{escape(describe(model))}\n\n[bold]Example:[/] {example}"
    )


@app.command("list", epilog="[bold]Example:[/] cgenn list --json")
def list_shipped(as_json: Json = False) -> None:
    """List the mappings, systems and workflows that come with cgenn."""
    _show({kind: shipped.names(kind) for kind in ("mappings", "systems", "workflows")}, as_json)


@app.command(epilog="[bold]Example:[/] cgenn reference alanine-dipeptide-vacuum --out aa --length 200")
def reference(
    system: Annotated[str, typer.Argument(help="Name of a shipped system (cgenn list) or path of a folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    length: Annotated[float | None, typer.Option(help=r"Of each replica \[ps]; default as in system.toml.")] = None,
    interval: Annotated[float | None, typer.Option(help=r"Between frames \[ps].")] = None,
    temperature: Annotated[float | None, typer.Option(help="[K]")] = None,
    equilibration: Annotated[float | None, typer.Option(help=r"Before the first frame \[ps].")] = None,
    replicas: Annotated[int, typer.Option(help="Independent runs, each in a process of its own.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    platform: Annotated[str | None, typer.Option(help="OpenMM platform; default the fastest.")] = None,
    as_json: Json = False,
) -> None:
    """Run an all-atom system in OpenMM; write positions, forces and box (H5MD). The same command resumes."""
    from cgenn.reference.run import run_reference

    run = run_reference(
        system,
        out,
        length=length,
        interval=interval,
        temperature=temperature,
        equilibration=equilibration,
        replicas=replicas,
        seed=seed,
        platform=platform,
        progress=not as_json,
    )
    files = [str(path) for path in run.trajectories]
    mean = run.results["mean"]
    _show({"folder": str(run.folder), "trajectories": files, "frames": run.n_frames, "mean": mean}, as_json)


@app.command("map", epilog="[bold]Example:[/] cgenn map aa --mapping backbone --out cg.h5")
def map_command(
    trajectory: Annotated[list[Path], typer.Argument(help="Folder of a reference run, or trajectory files.")],
    out: Annotated[Path, typer.Option(help="The bead dataset to write (H5MD); with --suggest the mapping (TOML).")],
    mapping: Annotated[str, typer.Option(help="Name of a shipped mapping (cgenn list) or a TOML file.")] = "",
    suggest: Annotated[bool, typer.Option("--suggest", help="Propose a mapping of a topology file or SMILES.")] = False,
    topology: Annotated[Path | None, typer.Option(help="Topology file; default topology.pdb beside it.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the ensemble [K]; default as in the file.")] = None,
    force_map: Annotated[str, typer.Option(help="optimal (least noise) or sum.")] = "optimal",
    forces: Annotated[bool, typer.Option(help="Whether forces are mapped too.")] = True,
    periodic: Annotated[bool | None, typer.Option(help="Whether to keep the box; default if there is one.")] = None,
    stride: Annotated[int, typer.Option(help="Use every n-th frame.")] = 1,
    bodies: Annotated[Path | None, typer.Option(help="Dataset whose geometries of oriented beads are used.")] = None,
    as_json: Json = False,
) -> None:
    """Map all-atom positions and forces to beads."""
    from cgenn.data.dataset import read_bodies
    from cgenn.data.map_trajectory import map_trajectory

    if suggest == bool(mapping) or (suggest and len(trajectory) != 1):
        raise ValueError("expected either --mapping, or --suggest with one topology file or SMILES")
    if suggest:
        return _show(chemistry.suggest(str(trajectory[0]), out), as_json)
    if force_map not in ("optimal", "sum"):
        raise ValueError(f"--force-map must be optimal or sum, got {force_map!r}")
    dataset = map_trajectory(
        list(trajectory),
        topology,
        mapping,
        out,
        temperature=temperature,
        force_map=force_map,  # type: ignore[arg-type]
        forces=forces,
        periodic=periodic,
        stride=stride,
        bodies=None if bodies is None else read_bodies(bodies),
    )
    atoms, rigid = dataset.provenance["atoms"], dataset.provenance.get("rigidity", {})
    made = {"dataset": str(out), "frames": len(dataset), "beads": len(dataset.topology), "atoms": atoms}
    _show({**made, "rigidity": rigid} if rigid else made, as_json)


def _shown(command: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """A command that shows what the function returns."""

    @wraps(command)
    def shown(*, as_json: bool = False, **words: Any) -> None:
        _show(command(as_json=as_json, **words), as_json)

    return shown


for _command, _example in chemistry.COMMANDS.items():
    app.command(epilog=f"[bold]Example:[/] {escape(_example)}")(_shown(_command))


@_with_settings(TrainingConfig, "cgenn train cg.h5 --out model --set epochs=20 --set network.cutoff=0.8")
def train(
    datasets: Annotated[list[Path], typer.Argument(help="Bead datasets, of one or of several molecules.")],
    out: Annotated[Path, typer.Option(help="Folder for model.safetensors, training.json and the losses.")],
    validation: Annotated[
        list[Path], typer.Option(help="Bead dataset to validate on, instead of parts of the others.")
    ] = [],  # noqa: B006
    config: SettingsFile = None,
    settings: Settings = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Fit priors and train the network by force matching. The same command resumes."""
    from cgenn.training.train import train

    with _output_for_results():
        potential = train(datasets, read_settings(TrainingConfig, config, settings), out, validation=validation or None)
    told = ("epochs", "frames", "force_errors", "torque_errors", "units", "prior_notes")
    summary = {key: potential.provenance[key] for key in told if key in potential.provenance}
    _show({"model": str(out / "model.safetensors"), **summary}, as_json)


@_with_settings(SimulationConfig, "cgenn simulate model/model.safetensors cg.h5 --out run --set steps=100000")
def simulate(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    start: Annotated[Path, typer.Argument(help="Bead dataset, or trajectory.h5 of a run, to start from.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: SettingsFile = None,
    settings: Settings = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Simulate beads in OpenMM. The same command resumes; more steps extend a finished run."""
    from cgenn.simulation.run import simulate

    run = simulate(model, start, read_settings(SimulationConfig, config, settings), out, progress=not as_json)
    keys = ("backend", "platform", "steps", "frames", "seconds", "ns_per_day", "ns_per_day_all_replicas")
    _show({"folder": str(out), **{key: run.record[key] for key in keys}}, as_json)


for _command, _example in refinement.COMMANDS.items():
    _with_settings(SimulationConfig, _example)(_shown(_command))


@app.command(epilog="[bold]Example:[/] cgenn compare run cg.h5 --out report")
def compare(
    run: Annotated[Path, typer.Argument(help="Folder of a simulation.")],
    dataset: Annotated[Path, typer.Argument(help="Bead dataset of the all-atom reference.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    as_json: Json = False,
) -> None:
    """Compare a simulation with mapped all-atom data: numbers (JSON), figures (PNG), one HTML page."""
    from cgenn.comparison import compare

    with _errors.status(f"comparing {run} with {dataset}"):
        report = compare(run, dataset, out)
    _show({"report": str(report.html), **report.numbers["headline"]}, as_json)


@app.command(epilog="[bold]Example:[/] cgenn backmap run --dataset cg.h5 --reference aa --out atoms.h5 --frames ::20")
def backmap(
    run: Annotated[Path, typer.Argument(help="Folder of a simulation, or a bead dataset.")],
    dataset: Annotated[Path, typer.Option(help="Bead dataset that the model was trained on: knows the mapping.")],
    reference: Annotated[Path, typer.Option(help="Folder of the reference run: force field and fragments.")],
    out: Annotated[Path, typer.Option(help="The atoms to write (H5MD); topology and findings go beside it.")],
    frames: Annotated[str, typer.Option(help="Which, as START:STOP:STEP or one number.")] = ":",
    dynamics: Annotated[float, typer.Option(help=r"Restrained dynamics before the last minimisation \[ps].")] = 1.0,
    compare: Annotated[int, typer.Option(help="Reference frames relaxed likewise, to compare energies.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    platform: Annotated[str | None, typer.Option(help="OpenMM platform; default the fastest.")] = None,
    as_json: Json = False,
) -> None:
    """Put atoms back into frames of beads: fragments, then restrained relaxation in the reference's force field."""
    from cgenn.backmapping.backmap import backmap

    made = backmap(
        run,
        dataset,
        reference,
        out,
        select=_slice(frames),
        dynamics=dynamics,
        compare=compare,
        seed=seed,
        platform=platform,
        progress=not as_json,
    )
    _show({"atoms": str(made.path), "topology": str(made.topology), **made.record}, as_json)


def _slice(text: str) -> slice:
    """What START:STOP:STEP means."""
    try:
        parts = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1 and parts[0] is not None:
        return slice(parts[0], parts[0] + 1 or None)
    if not 2 <= len(parts) <= 3 or parts[2:] == [0]:
        raise ValueError(f"--frames must be START:STOP:STEP, such as 0:100:10, or one number, got {text!r}")
    return slice(*parts)


@app.command(epilog="[bold]Example:[/] cgenn check model/model.safetensors")
def check(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    as_json: Json = False,
) -> None:
    """Check a model: symmetries, forces, virial, cutoff, batches, backends. Exit status 1 if a check fails."""
    from cgenn.testing import check_model

    with _errors.status(f"checking {model}"):
        results = check_model(model)
    if as_json:
        _show([vars(result) for result in results], as_json)
    else:
        table = Table("check", "value", "tolerance", "", "what was compared")
        for result in results:
            tolerance = "" if result.tolerance is None else f"{result.tolerance:.0e}"
            table.add_row(
                result.name, f"{result.value:.1e}", tolerance, "ok" if result.passed else "FAILED", result.detail
            )
        Console().print(table)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog="[bold]Example:[/] cgenn run demo --help",
)
def run(ctx: typer.Context) -> None:
    """Run a workflow by name or path: cgenn run WORKFLOW [ITS OPTIONS]; each has its own --help."""
    if not ctx.args or ctx.args[0] in ("--help", "-h"):
        typer.echo(ctx.get_help())
        typer.echo(f"Workflows: {', '.join(shipped.names('workflows'))}")
        return
    path = shipped.find("workflows", ctx.args[0])
    before, sys.argv = sys.argv, [f"cgenn run {path.stem}", *ctx.args[1:]]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        if stop.code == 130:
            raise KeyboardInterrupt from None
        raise typer.Exit(stop.code if isinstance(stop.code, int) else 1) from None
    finally:
        sys.argv = before
