"""Reporters: objects for `openmm.app.Simulation.reporters`, in one's own scripts as in `simulate`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from cgenn.h5md import H5MDWriter
from cgenn.simulation.bonded import PRIOR_GROUP
from cgenn.topology import BeadTopology
from cgenn.units import GAS_CONSTANT, thermal_energy

_DATASET_VERSION = 1


class H5MDReporter:
    """Writes frames as a bead dataset, which `compare`, `train` and MDAnalysis read.

    With replicas every report adds one frame of each replica, one replica after the other. Call `close` at the end.
    """

    def __init__(
        self,
        path: str | Path,
        interval: int,
        topology: BeadTopology,
        *,
        temperature: float,
        periodic: bool = False,
        replicas: int = 1,
        provenance: dict[str, Any] | None = None,
        append: bool = False,
    ) -> None:
        """`topology` is that of one copy; `interval` in steps, `temperature` [K].

        Raises:
            ValueError: if the temperature is not positive, or the file to append to holds something else.
        """
        thermal_energy(temperature)
        self._interval, self._replicas, self._periodic = interval, replicas, periodic
        self._dataset = {
            "version": _DATASET_VERSION,
            "topology": topology.to_dict(),
            "temperature": float(temperature),
            "segments": [],
            "provenance": {"replicas": replicas, "report_interval": interval, **(provenance or {})},
        }
        self.file = H5MDWriter(
            path,
            len(topology),
            metadata={"dataset": self._dataset},
            species=topology.types,
            masses=topology.masses,
            charges=topology.charges,
            bonds=topology.bonds,
            periodic=periodic,
            forces=False,
            append=append,
        )

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Add the frames of one report; steps up to zero are equilibration."""
        if simulation.currentStep <= 0:
            return
        positions = np.asarray(state.getPositions(asNumpy=True)._value).reshape(self._replicas, -1, 3)
        box = None
        if self._periodic:
            vectors = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value)
            box = np.broadcast_to(vectors, (self._replicas, 3, 3))
        self.file.write(positions, box=box, time=state.getTime()._value, step=simulation.currentStep)

    def flush(self) -> None:
        """Write everything to disk."""
        self.file.flush()

    def close(self, *, discard: bool = False) -> None:
        """Close the file; `discard` drops the frames since the last flush."""
        if discard:
            self.file.__exit__(Exception)
            return
        if self.file.n_frames:
            self.file.set_metadata({"dataset": {**self._dataset, "segments": [(0, self.file.n_frames)]}})
        self.file.close()


class StateReporter:
    """Writes step, time, energies, temperature and volume as CSV, energies summed over replicas."""

    def __init__(self, path: str | Path, interval: int, *, append: bool = False) -> None:
        """`interval` in steps."""
        self._interval = interval
        self._freedom: int | None = None
        self._file = open(path, "a" if append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        if not append:
            self._writer.writerow(COLUMNS)

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": False, "include": ["energy"]}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Add one row; the native priors are evaluated once more on their own, which costs next to nothing."""
        if simulation.currentStep <= 0:
            return
        potential, kinetic = state.getPotentialEnergy()._value, state.getKineticEnergy()._value
        alone = simulation.context.getState(energy=True, groups={PRIOR_GROUP})
        priors = alone.getPotentialEnergy()._value
        self._freedom = self._freedom or degrees_of_freedom(simulation.system)
        temperature = 2 * kinetic / (self._freedom * GAS_CONSTANT)
        periodic = simulation.system.usesPeriodicBoundaryConditions()
        volume = state.getPeriodicBoxVolume()._value if periodic else ""
        energies = [potential - priors, priors, kinetic, potential + kinetic]
        values = [simulation.currentStep, state.getTime()._value, *energies, temperature, volume]
        self._writer.writerow([value if isinstance(value, (int, str)) else f"{value:.10g}" for value in values])

    def flush(self) -> None:
        """Write everything to disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


COLUMNS = (
    "step", "time [ps]", "network [kJ/mol]", "priors [kJ/mol]", "kinetic [kJ/mol]", "total [kJ/mol]",
    "temperature [K]", "volume [nm^3]",
)  # fmt: skip
"""Columns of state.csv."""


def degrees_of_freedom(system: openmm.System) -> int:
    """Number of velocities that are free."""
    massive = sum(system.getParticleMass(i)._value > 0 for i in range(system.getNumParticles()))
    removed = 3 * any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    return 3 * massive - system.getNumConstraints() - removed
