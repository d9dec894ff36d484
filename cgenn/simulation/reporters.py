"""Reporters: objects for `openmm.app.Simulation.reporters`, in one's own scripts as in `simulate`.

Charges and dipoles are reported by the `BeadMoments` of the potential.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from cgenn.h5md import H5MDWriter
from cgenn.simulation.bonded import PRIOR_GROUP
from cgenn.simulation.mechanics import Thermometer, bead_state
from cgenn.simulation.moments import BeadMoments, frame_of
from cgenn.simulation.rigid import RigidBeads
from cgenn.topology import BeadTopology
from cgenn.units import GAS_CONSTANT, thermal_energy

_DATASET_VERSION = 1


class H5MDReporter:
    """Writes frames as a bead dataset, which `compare`, `train` and MDAnalysis read.

    With replicas every report adds one frame of each replica, one replica after the other. Charges and dipoles that are
    predicted are stored with every frame, and so are orientations, as quaternions with w >= 0. Call `close` at the end.
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
        moments: BeadMoments | None = None,
        velocities: bool = False,
        forces: bool = False,
        provenance: dict[str, Any] | None = None,
        flushed: int | None = None,
        append: bool = False,
    ) -> None:
        """`topology` is that of one copy; `interval` in steps, `temperature` [K]; `flush` follows `flushed` reports.

        Constant charges are those of `moments`, or without it those of the topology. Where beads are oriented,
        `velocities` come with angular velocities, and `forces`, of all forces in the System, with torques.

        Raises:
            ValueError: if the temperature is not positive, or the file to append to holds something else.
        """
        thermal_energy(temperature)
        if moments is not None and not moments.predicted:
            topology = replace(topology, charges=moments.constant)
        self._moments = moments if moments is not None and moments.predicted else None
        self._interval, self._replicas, self._periodic = interval, replicas, periodic
        self._rigid, self._velocities, self._forces = RigidBeads.of(topology), velocities, forces
        oriented = self._rigid is not None
        self._dataset = {
            "version": _DATASET_VERSION,
            "topology": topology.to_dict(),
            "temperature": float(temperature),
            "segments": [],
            "provenance": {"replicas": replicas, "report_interval": interval, **(provenance or {})},
            "has_times": True,
        }
        self.file = H5MDWriter(
            path,
            len(topology),
            metadata={"dataset": self._dataset},
            species=topology.types,
            masses=topology.masses,
            charges=None if self._moments else topology.charges,
            bonds=topology.bonds,
            periodic=periodic,
            forces=forces,
            velocities=velocities,
            orientations=oriented,
            torques=oriented and forces,
            angular_velocities=oriented and velocities,
            frame_charges=self._moments is not None,
            dipoles=self._moments is not None and self._moments.has_dipoles,
            flushed=None if flushed is None else flushed * replicas,
            append=append,
        )

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        wanted = {"positions": True, "velocities": self._velocities, "forces": self._forces}
        include = [name for name, chosen in wanted.items() if chosen]
        return {"steps": steps, "periodic": False, "include": include}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Add the frames of one report; steps up to zero are equilibration."""
        if simulation.currentStep <= 0:
            return
        positions, box = frame_of(state, self._replicas, self._periodic)
        charges, dipoles = (None, None) if self._moments is None else self._moments(positions, box)
        self.file.write(
            **bead_state(state, self._replicas, self._rigid, velocities=self._velocities, forces=self._forces),
            box=None if box is None else np.broadcast_to(box, (self._replicas, 3, 3)),
            time=state.getTime()._value,
            step=simulation.currentStep,
            charges=charges,
            dipoles=dipoles,
        )

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
    """Writes step, time, energies, temperature and volume as CSV, energies summed over replicas.

    With charges there is a column more, their energy, whichever force it is in; otherwise that of the network has it.
    With oriented beads there are three more, the temperatures of translation and rotation and the sum of the angular
    momenta, see `Thermometer`.
    """

    def __init__(
        self,
        path: str | Path,
        interval: int,
        *,
        moments: BeadMoments | None = None,
        rigid: RigidBeads | None = None,
        append: bool = False,
    ) -> None:
        """`interval` in steps; `rigid` are the oriented beads of one copy, if there are any."""
        self._interval, self._moments, self._rigid = interval, moments, rigid
        self._freedom: int | None = None
        self._thermometer: Thermometer | None = None
        self._file = open(path, "a" if append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        if not append:
            charges = () if moments is None else (CHARGES_COLUMN,)
            self._writer.writerow((*COLUMNS, *charges, *(() if rigid is None else ROTATION_COLUMNS)))

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        include = ["energy"] if self._moments is None else ["energy", "positions"]
        include = include if self._rigid is None else ["energy", "positions", "velocities"]
        return {"steps": steps, "periodic": False, "include": include}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Add one row; the native priors are evaluated once more on their own, which costs next to nothing."""
        if simulation.currentStep <= 0:
            return
        potential, kinetic = state.getPotentialEnergy()._value, state.getKineticEnergy()._value
        alone = simulation.context.getState(energy=True, groups={PRIOR_GROUP})
        priors = alone.getPotentialEnergy()._value
        self._freedom = self._freedom or degrees_of_freedom(simulation.system)
        temperature = 2 * kinetic / (self._freedom * GAS_CONSTANT)
        parts: list[float] = []
        if self._rigid is not None:
            self._thermometer = self._thermometer or Thermometer.of(simulation.system, self._rigid)
            temperature, *parts = *self._thermometer(state), self._thermometer.angular_momentum(state)
        periodic = simulation.system.usesPeriodicBoundaryConditions()
        volume = state.getPeriodicBoxVolume()._value if periodic else ""
        charges = [] if self._moments is None else [self._moments.energy(simulation, *frame_of(state, 1, periodic))]
        energies = [potential - priors - sum(charges), priors, kinetic, potential + kinetic]
        values = [simulation.currentStep, state.getTime()._value, *energies, temperature, volume, *charges, *parts]
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

CHARGES_COLUMN = "electrostatics [kJ/mol]"
"""A column more where there are charges."""

ROTATION_COLUMNS = ("translation [K]", "rotation [K]", "angular momentum [amu nm^2/ps]")
"""The last columns where beads are oriented."""


class DipoleReporter:
    """Writes the dipole of the whole system, sum_i q_i r_i + mu_i [e nm], as CSV with columns step, time [ps], x, y, z.

    For infrared spectra, which need it more often than frames are kept. Positions are those of OpenMM, which are not
    put back into the box. With replicas every report adds a row for each.
    """

    def __init__(
        self,
        path: str | Path,
        interval: int,
        moments: BeadMoments,
        *,
        periodic: bool = False,
        replicas: int = 1,
        append: bool = False,
    ) -> None:
        """`interval` in steps."""
        self._interval, self._moments, self._periodic, self._replicas = interval, moments, periodic, replicas
        self._file = open(path, "a" if append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file)
        if not append:
            self._writer.writerow(("step", "time [ps]", "x [e nm]", "y [e nm]", "z [e nm]"))

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Add one row for each replica."""
        if simulation.currentStep <= 0:
            return
        time = f"{state.getTime()._value:.10g}"
        for dipole in self._moments.total(*frame_of(state, self._replicas, self._periodic)):
            self._writer.writerow([simulation.currentStep, time, *(f"{value:.10g}" for value in dipole.tolist())])

    def flush(self) -> None:
        """Write everything to disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def degrees_of_freedom(system: openmm.System) -> int:
    """Number of velocities that are free."""
    massive = sum(system.getParticleMass(i)._value > 0 for i in range(system.getNumParticles()))
    removed = 3 * any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    return 3 * massive - system.getNumConstraints() - removed
