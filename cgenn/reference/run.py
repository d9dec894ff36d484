"""All-atom reference runs: positions and forces to learn from, and the ensemble to compare with."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import numpy as np
import openmm.app
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cgenn.files import atomic
from cgenn.reference.manifest import Manifest, read_entries
from cgenn.reference.replica import Replica
from cgenn.reference.settings import RunSettings, choose_platform
from cgenn.reference.system import AllAtomSystem, load_system

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceRun:
    """A finished reference run.

    Attributes:
        folder: where it lies.
        system: name of the system.
        temperature: [K].
        topology: PDB file of all atoms.
        trajectories: H5MD files, one for each replica.
        n_frames: in all of them.
        results: mean values over all frames, as in `reference.json`.
    """

    folder: Path
    system: str
    temperature: float
    topology: Path
    trajectories: tuple[Path, ...]
    n_frames: int
    results: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read `reference.json`.

        Raises:
            ValueError: if there is no run in the folder, or it is not finished.
        """
        folder = Path(folder)
        entries = read_entries(folder)
        if entries["status"] != "finished":
            raise ValueError(f"the reference run in {folder} is not finished: start it again with the same settings")
        results = entries["results"]
        return cls(
            folder=folder,
            system=entries["system"],
            temperature=entries["temperature"],
            topology=folder / "topology.pdb",
            trajectories=tuple(folder / name for name in results["trajectories"]),
            n_frames=results["n_frames"],
            results=results,
        )


def run_reference(
    system: str | Path | AllAtomSystem,
    out: str | Path,
    *,
    length: float | None = None,
    interval: float | None = None,
    temperature: float | None = None,
    equilibration: float | None = None,
    replicas: int = 1,
    seed: int = 0,
    platform: str | None = None,
    progress: bool = True,
) -> ReferenceRun:
    """Run an all-atom system in OpenMM and write positions, forces and box of each frame.

    The folder `out` gets `topology.pdb`, `reference.json`, and for each replica `trajectory.h5` (H5MD) and `state.csv`
    (numbered from 0 if there are several). The forces are those of all terms of the force field on each atom, before
    constraints act. A run that was stopped or killed goes on when the same command is given again; one that is finished
    is not run again.

    Args:
        system: name of a shipped system, or path of a folder with a `system.toml`.
        out: folder of the run.
        length: of each replica [ps]; this and the following by default as in `system.toml`.
        interval: between frames [ps].
        temperature: [K].
        equilibration: before the first frame, once for the box, once for the rest [ps].
        replicas: independent runs; several run at the same time, each in a process of its own.
        seed: of the random numbers; the same on the Reference platform gives the same run, bit by bit.
        platform: OpenMM platform; by default the fastest one.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if the system or a setting is not valid, or `out` holds a run with other settings.
        FloatingPointError: if the run diverges.
    """
    definition = system if isinstance(system, AllAtomSystem) else load_system(system)
    topology, built, positions = definition.build()
    given = {"length": length, "interval": interval, "temperature": temperature, "equilibration": equilibration}
    keys = ("temperature", "pressure", "timestep", "friction", "equilibration", "length", "interval")
    defaults = {key: getattr(definition.definition, key) for key in keys}
    settings = RunSettings.parse(
        defaults
        | {key: value for key, value in given.items() if value is not None}
        | {"platform": choose_platform(platform, built.getNumParticles()), "seed": seed, "replicas": replicas},
        f"reference run of {definition.name!r}",
    )
    manifest, folder = Manifest(definition, settings), Path(out)
    with _shown(progress) as bars:
        if manifest.check_same(folder) == "finished":
            bars.console.print(f"{folder} is finished already: nothing is run", markup=False)
            return ReferenceRun.open(folder)
        log.info(
            "%s: %d atoms on %s, %g ps of equilibration, then %g ps with a frame every %g ps",
            definition.name,
            built.getNumParticles(),
            settings.platform,
            settings.equilibration,
            settings.length,
            settings.interval,
        )
        manifest.write(folder, None)
        with atomic(folder / "topology.pdb") as temporary, open(temporary, "w", encoding="utf-8") as file:
            openmm.app.PDBFile.writeFile(topology, positions * 10.0, file, keepIds=True)
        _run_all(manifest, folder, bars)
    manifest.write(folder, _results(manifest, folder))
    return ReferenceRun.open(folder)


def _run_all(manifest: Manifest, folder: Path, bars: Progress) -> None:
    settings = manifest.settings
    if settings.replicas == 1:
        report = _bar(bars, manifest.system.name, settings)
        Replica(manifest.system, settings, folder, 0).run(manifest.metadata(), report)
        return
    workers = min(settings.replicas, os.cpu_count() or 1)
    children: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(workers) as pool:
        futures = []
        for index in range(settings.replicas):
            report = _bar(bars, f"{manifest.system.name} {index}", settings)
            futures.append(pool.submit(_run_apart, folder, index, workers, report, children))
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise


def _run_apart(
    folder: Path, index: int, workers: int, report: Callable[[int], None], children: list[subprocess.Popen[str]]
) -> None:
    """Run one replica in a process of its own: OpenMM's Reference platform has one random stream for each process."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OPENMM_CPU_THREADS": str(max(1, (os.cpu_count() or 1) // workers)),
    }
    command = [sys.executable, "-m", "cgenn.reference.replica", str(folder), str(index)]
    with (
        TemporaryFile("w+", encoding="utf-8") as problems,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=problems, text=True, env=environment) as child,
    ):
        children.append(child)
        for line in child.stdout or ():
            report(int(line))
        if child.wait() != 0:
            problems.seek(0)
            kind, _, message = (problems.read().strip().splitlines() or ["it was stopped"])[-1].partition(": ")
            known = {"FloatingPointError": FloatingPointError, "ValueError": ValueError, "OSError": OSError}
            error = known.get(kind, RuntimeError if message else ChildProcessError)
            raise error(f"replica {index} of the run in {folder}: {message or kind}")


def _bar(bars: Progress, label: str, settings: RunSettings) -> Callable[[int], None]:
    """Add a progress bar; the function that moves it. The clock starts with the first frame."""
    task = bars.add_task(f"{label}: equilibrating", total=None, interval=settings.interval)
    started = False

    def report(frames: int) -> None:
        nonlocal started
        if not started:
            bars.reset(task, total=settings.n_frames, completed=frames, description=label)
            started = True
        bars.update(task, completed=frames)

    return report


def _results(manifest: Manifest, folder: Path) -> dict[str, Any]:
    settings = manifest.settings
    replicas = [Replica(manifest.system, settings, folder, index) for index in range(settings.replicas)]
    tables = [np.loadtxt(replica.state, delimiter=",", skiprows=1, ndmin=2) for replica in replicas]
    mean = np.concatenate(tables).mean(axis=0).tolist()
    names = ["potential energy [kJ/mol]", "temperature [K]", "volume [nm^3]", "density [g/cm^3]"]
    return {
        "trajectories": [replica.trajectory.name for replica in replicas],
        "n_frames": settings.n_frames * settings.replicas,
        "mean": dict(zip(names, mean[2:], strict=False)),
    }


class _Speed(ProgressColumn):
    """Simulated time per day of real time."""

    def render(self, task: Task) -> Text:
        rate = (task.speed or 0.0) * task.fields["interval"] * 86.4
        return Text(f"{rate:.0f} ns/day" if rate >= 10 else f"{rate:.2g} ns/day")


def _shown(progress: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames"),
        _Speed(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True, quiet=not progress), disable=not progress)
