"""The folder of a run: what belongs to it, whether it may be continued, and how it is read."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import openmm.app
import safetensors.torch
from jaxtyping import Float

from cgenn.files import atomic, write_json
from cgenn.h5md import Frames, H5MDFile
from cgenn.potential.potential import Potential
from cgenn.provenance import versions
from cgenn.simulation.atoms import AtomView
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.mechanics import angular_momenta
from cgenn.simulation.start import Start
from cgenn.topology import BeadTopology

_PACKAGES = ("cgenn", "openmm", "openmmtorch", "torch", "e3nn")


@dataclass
class RunFolder:
    """A run's folder while it is being written; `entries` is what run.json holds."""

    path: Path
    entries: dict[str, Any]

    @classmethod
    def claim(cls, path: Path, settings: dict[str, Any]) -> Self:
        """Make the folder, or take up the run that is in it.

        Raises:
            ValueError: if it holds a run with other settings.
        """
        path.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(settings))
        record = path / "run.json"
        if not record.exists():
            if (path / "trajectory.h5").exists():
                raise ValueError(f"{path}: holds a trajectory but no run.json: not a run that can be continued")
            return cls(path, {"status": "started", "settings": settings, "steps": 0, "seconds": 0.0})
        entries = _read_record(record)
        before = entries["settings"]
        changed = [key for key in settings if settings[key] != before.get(key)]
        if changed:
            differences = "; ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
            raise ValueError(f"{path}: holds a run with other settings ({differences}): choose another folder")
        return cls(path, entries)

    @property
    def trajectory(self) -> Path:
        """Frames."""
        return self.path / "trajectory.h5"

    @property
    def states(self) -> Path:
        """Energies."""
        return self.path / "state.csv"

    @property
    def dipoles(self) -> Path:
        """Dipole of the whole system."""
        return self.path / "dipole.csv"

    @property
    def checkpoint(self) -> Path:
        """Where to go on from."""
        return self.path / "checkpoint.chk"

    def is_done(self, steps: int) -> bool:
        """Whether a finished run with as many steps is here already.

        Raises:
            ValueError: if it has more.
        """
        done = self.entries["steps"]
        if done > steps:
            raise ValueError(f"{self.path}: holds a run of {done} steps already, more than `steps` = {steps}")
        return done == steps and self.entries["status"] == "finished"

    def describe(self, potential: Potential, backend: str, platform: str) -> None:
        """Note what the run is made with."""
        made_with = {"backend": backend, "platform": platform, "versions": versions(*_PACKAGES)}
        self.entries |= {"status": "running", **made_with}
        self.entries["model"] = potential.provenance
        self.note(self.entries["steps"], self.entries["seconds"])

    def note(self, step: int, seconds: float) -> None:
        """Note a checkpoint and the time spent until then [s]."""
        self.entries |= {"steps": step, "seconds": round(seconds, 3)}
        write_json(self.path / "run.json", self.entries)

    def finish(self, config: SimulationConfig) -> None:
        """Note that all is done, and how fast it went; equilibration counts."""
        steps, days = self.entries["steps"] + config.equilibration, max(self.entries["seconds"], 1e-3) / 86400
        per_day = steps * config.timestep / 1000 / days
        frames = H5MDFile(self.trajectory).n_frames
        speed = {"ns_per_day": per_day, "ns_per_day_all_replicas": per_day * config.replicas}
        self.entries |= {"status": "finished", "frames": frames, **speed}
        write_json(self.path / "run.json", self.entries)

    def write_topology(self, origin: Start) -> None:
        """Write one copy of the beads where they start as PDB, the oriented ones as their atoms."""
        view = AtomView.of(origin.topology)
        topology = view.to_openmm() if origin.topology.oriented.any() else origin.topology.to_openmm()
        positions = view.positions(origin.positions[0], None if origin.orientations is None else origin.orientations[0])
        if origin.box is not None:
            topology.setPeriodicBoxVectors(origin.box * openmm.unit.nanometer)
        with atomic(self.path / "topology.pdb") as temporary, open(temporary, "w", encoding="utf-8") as file:
            openmm.app.PDBFile.writeFile(topology, positions * openmm.unit.nanometer, file)

    def cut(self, table: Path, rows: int) -> None:
        """Drop the rows of a table after the first `rows`."""
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(lines) <= rows:
            raise ValueError(f"{table}: holds {len(lines) - 1} rows, but the checkpoint was written after {rows}")
        with atomic(table) as temporary:
            temporary.write_text("".join(lines[: rows + 1]), encoding="utf-8")

    def export(self, formats: Sequence[str]) -> None:
        """Write the finished trajectory in other formats too, unless that was done."""
        for name in formats:
            target = self.path / f"trajectory.{name}"
            if not target.exists() or target.stat().st_mtime < self.trajectory.stat().st_mtime:
                _export(H5MDFile(self.trajectory), target)


@dataclass(frozen=True, eq=False)
class Run:
    """A simulation on disk.

    Attributes:
        folder: where it lies.
        record: content of run.json: status, settings, backend, platform, versions, seconds, ns_per_day.
    """

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a run's folder, finished or not.

        Raises:
            ValueError: if it is not the folder of a run.
        """
        folder = Path(folder)
        if not (folder / "run.json").exists():
            raise ValueError(f"{folder}: not the folder of a run, there is no run.json")
        return cls(folder, _read_record(folder / "run.json"))

    @property
    def finished(self) -> bool:
        """Whether all steps were done."""
        return self.record["status"] == "finished"

    @property
    def trajectory(self) -> Path:
        """The frames, a bead dataset."""
        return self.folder / "trajectory.h5"

    @cached_property
    def topology(self) -> BeadTopology:
        """Of one copy of the system."""
        return BeadTopology.from_dict(H5MDFile(self.trajectory).metadata["dataset"]["topology"])

    @property
    def temperature(self) -> float:
        """[K]."""
        return self.record["settings"]["temperature"]

    @property
    def replicas(self) -> int:
        """Copies of the system; the frames of one report lie one after the other."""
        return self.record["settings"]["replicas"]

    @property
    def n_frames(self) -> int:
        """Frames of all replicas."""
        return H5MDFile(self.trajectory).n_frames

    @property
    def times(self) -> np.ndarray:
        """Of all frames, shape (frames,) [ps]."""
        return H5MDFile(self.trajectory).times

    def read(self, frames: slice | Sequence[int] | np.ndarray = slice(None)) -> Frames:
        """Frames of one copy of the system each."""
        return H5MDFile(self.trajectory).read(frames)

    @property
    def positions(self) -> Float[np.ndarray, "frames beads 3"]:
        """All positions [nm]."""
        return self.read().positions

    def angular_momenta(
        self, frames: slice | Sequence[int] | np.ndarray = slice(None)
    ) -> Float[np.ndarray, "frames beads 3"]:
        """Those of oriented beads about their centres, I omega about the axes of space [amu nm^2/ps]; of others zero.

        Raises:
            ValueError: if no bead is oriented, or the run did not store velocities.
        """
        return angular_momenta(self.topology, self.read(frames))

    def states(self) -> dict[str, np.ndarray]:
        """Columns of state.csv, sums over replicas; the volume is NaN without a box."""
        return _columns(self.folder / "state.csv")

    def dipoles(self) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, "rows replicas 3"]]:
        """Times [ps] and the dipole of the whole system [e nm], every `dipole_interval` steps.

        Raises:
            ValueError: if the run did not write them.
        """
        if not (self.folder / "dipole.csv").exists():
            raise ValueError(f"{self.folder}: there is no dipole.csv: simulate with `dipole_interval`")
        _, times, *axes = _columns(self.folder / "dipole.csv").values()
        return times[:: self.replicas], np.stack(axes, axis=1).reshape(-1, self.replicas, 3)


def _columns(path: Path) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    table = np.array([[float(value or "nan") for value in row] for row in rows]).reshape(-1, len(header))
    return {name: table[:, column] for column, name in enumerate(header)}


def model_digest(potential: Potential) -> str:
    """SHA-256 of weights, configuration and priors, wherever they are stored."""
    config = potential.config.model_dump()
    if not potential.config.bodies:  # so that older runs go on
        config = {name: value for name, value in config.items() if name not in ("bodies", "oriented")}
    content = json.dumps([config, potential.priors.model_dump()], sort_keys=True).encode()
    weights = {name: value.detach().cpu().contiguous() for name, value in potential.network.state_dict().items()}
    return hashlib.sha256(content + safetensors.torch.save(weights)).hexdigest()


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


def _export(frames: H5MDFile, target: Path) -> None:
    """Oriented beads as their atoms, as in topology.pdb."""
    import mdtraj.formats  # slow to import, and only needed here
    from mdtraj.utils import box_vectors_to_lengths_and_angles

    view = AtomView.of(BeadTopology.from_dict(frames.metadata["dataset"]["topology"]))
    with atomic(target) as temporary:
        kind = mdtraj.formats.DCDTrajectoryFile if target.suffix == ".dcd" else mdtraj.formats.XTCTrajectoryFile
        done = 0
        with kind(str(temporary), "w") as file:
            for chunk in frames.iter_chunks(1000):
                steps, times = (values[done : done + len(chunk)] for values in (frames.steps, frames.times))
                done += len(chunk)
                positions = view.positions(chunk.positions, chunk.orientations).astype("f4")
                if target.suffix == ".xtc":
                    file.write(positions, time=times.astype("f4"), step=steps.astype("i4"), box=chunk.box)
                    continue
                cell = {}
                if chunk.box is not None:
                    shape = np.array(box_vectors_to_lengths_and_angles(*chunk.box.transpose(1, 0, 2))).T
                    cell = {"cell_lengths": 10 * shape[:, :3], "cell_angles": shape[:, 3:]}
                file.write(10 * positions, **cell)
