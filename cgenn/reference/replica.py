"""One trajectory of a reference run, in this process or, as `python -m cgenn.reference.replica`, in one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import openmm
import openmm.app

from cgenn.files import atomic, named
from cgenn.mapping.atoms import AtomTopology
from cgenn.reference.dynamics import FrameReader, Seeds, add_barostat, advance, equilibrate, make_context
from cgenn.reference.manifest import Manifest
from cgenn.reference.records import FrameLog, read_log, write_state, write_trajectory
from cgenn.reference.settings import RunSettings
from cgenn.reference.system import AllAtomSystem

_CHECKPOINT_SECONDS = 2.0


class Replica:
    """A trajectory on its way: frames are logged, and every few seconds a checkpoint is written.

    Started again after it was stopped or killed, it goes on from the checkpoint.
    """

    def __init__(self, system: AllAtomSystem, settings: RunSettings, folder: Path, index: int):
        label = settings.label(index)
        self.system, self.settings, self.index = system, settings, index
        self.trajectory = folder / f"trajectory{label}.h5"
        self.state = folder / f"state{label}.csv"
        self._log = folder / f"frames{label}.partial"
        self._checkpoint = folder / f"checkpoint{label}.chk"

    def run(self, metadata: dict[str, Any], report: Callable[[int], None]) -> None:
        """Run what is left; `report` is called with the number of frames recorded.

        Raises:
            FloatingPointError: if it diverges.
            ValueError: if the checkpoint cannot be used.
        """
        if self.trajectory.exists():
            report(self.settings.n_frames)
            return
        topology, system, positions = self.system.build()
        seeds = Seeds.of(self.settings.seed, self.index)
        ensemble = self.system.definition.ensemble
        if ensemble != "nvt":
            add_barostat(system, self.settings, seeds, membrane=ensemble == "membrane")
        context = make_context(system, self.settings, seeds)
        if self._checkpoint.exists():
            self._resume(context)
        else:
            self._begin(context, positions, seeds)
        self._produce(context, report)
        del context
        self._publish(topology, system, metadata)

    def _begin(self, context: openmm.Context, positions: np.ndarray, seeds: Seeds) -> None:
        minimization = self.system.definition.minimization
        state = equilibrate(context.getSystem(), positions, self.settings, seeds, minimization)
        context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
        context.setPositions(state.getPositions())
        context.setVelocities(state.getVelocities())

    def _resume(self, context: openmm.Context) -> None:
        try:
            context.loadCheckpoint(self._checkpoint.read_bytes())
        except openmm.OpenMMException as error:
            raise ValueError(
                f"{self._checkpoint}: cannot go on from this checkpoint, which was perhaps written by another version "
                f"of OpenMM or on other hardware ({error}); delete it to start this trajectory again"
            ) from None

    def _produce(self, context: openmm.Context, report: Callable[[int], None]) -> None:
        settings = self.settings
        system = context.getSystem()
        definition = self.system.definition
        reader = FrameReader(system, definition.periodic, definition.virials)
        done = context.getStepCount() // settings.steps_per_frame
        log = FrameLog(self._log, system.getNumParticles(), keep=done)
        with named(self._log), log, self._checkpoints(context, log) as save:
            save(True)
            report(done)
            while log.n_frames < settings.n_frames:
                target = (log.n_frames + 1) * settings.steps_per_frame
                advance(context, target - context.getStepCount())
                log.append(reader.read(context))
                save(False)
                report(log.n_frames)

    @contextmanager
    def _checkpoints(self, context: openmm.Context, log: FrameLog) -> Iterator[Callable[[bool], None]]:
        last = monotonic()

        def save(now: bool) -> None:
            nonlocal last
            if now or monotonic() - last > _CHECKPOINT_SECONDS:
                log.flush()
                with atomic(self._checkpoint) as temporary:
                    temporary.write_bytes(context.createCheckpoint())
                last = monotonic()

        try:
            yield save
        except KeyboardInterrupt:
            if context.getStepCount() // self.settings.steps_per_frame == log.n_frames:
                save(True)
            raise
        save(True)

    def _publish(self, topology: openmm.app.Topology, system: openmm.System, metadata: dict[str, Any]) -> None:
        atoms = AtomTopology.from_openmm(topology, system)
        particles = _particles(atoms)
        periodic, virials = self.system.definition.periodic, self.system.definition.virials
        records = read_log(self._log, len(atoms))
        write_state(records, self.state, float(particles["masses"].sum()), periodic)
        metadata = metadata | {"replica": self.index, "constraints": np.asarray(atoms.constraints).tolist()}
        write_trajectory(records, self.trajectory, metadata=metadata, periodic=periodic, virials=virials, **particles)
        del records
        self._log.unlink()
        self._checkpoint.unlink()


def _particles(atoms: AtomTopology) -> dict[str, Any]:
    """As `H5MDWriter` takes them; masses are those of the elements, which hydrogen mass repartitioning changes not."""
    elements = [atom.element for atom in atoms.topology.atoms]
    return {
        "n_particles": len(atoms),
        "species": [element.symbol for element in elements],
        "masses": np.array([element.mass for element in elements]),
        "charges": atoms.charges,
        "bonds": atoms.bonds,
    }


def main(folder: str, index: str) -> None:
    """Run one replica of the run in `folder`, writing the number of frames done to the standard output.

    When the process that reads it has gone, writing fails and this one ends too.
    """
    manifest = Manifest.read(Path(folder))

    def report(frames: int) -> None:
        sys.stdout.write(f"{frames}\n")
        sys.stdout.flush()

    Replica(manifest.system, manifest.settings, Path(folder), int(index)).run(manifest.metadata(), report)


if __name__ == "__main__":
    main(*sys.argv[1:])
