"""How well energy is conserved without a thermostat: shows whether forces are the gradient of a smooth energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch  # isort: skip  # noqa: F401  (before openmm, see backends.py)
import numpy as np
import openmm

from cgenn.potential.potential import Potential
from cgenn.simulation.backends import Backend
from cgenn.simulation.force import Precision
from cgenn.simulation.reporters import degrees_of_freedom
from cgenn.simulation.rigid import CONSTRAINT_TOLERANCE
from cgenn.simulation.start import Start, StartSource
from cgenn.simulation.system import create_system
from cgenn.units import thermal_energy

_SAMPLES = 100


@dataclass(frozen=True)
class Drift:
    """Total energy along one run.

    Attributes:
        timestep: [ps].
        drift: slope of a straight line through the total energy, per degree of freedom [kT/ns].
        error: standard error of the slope, as if samples were independent [kT/ns].
        fluctuation: standard deviation about the line, per degree of freedom [kT].
    """

    timestep: float
    drift: float
    error: float
    fluctuation: float


def energy_drift(
    potential: Potential,
    start: StartSource,
    timesteps: Sequence[float],
    length: float,
    *,
    replicas: int = 1,
    seed: int = 0,
    backend: Backend = "auto",
    precision: Precision = "double",
    platform: str = "Reference",
) -> list[Drift]:
    """Run Verlet dynamics of `length` [ps] with each time step [ps], always from the same positions and velocities.

    Raises:
        ValueError: if the length is shorter than a hundred steps.
    """
    temperature = potential.config.temperature
    origin = Start.read(start, replicas, seed, potential.config.bodies)
    system, _ = create_system(
        potential, origin.topology, box=origin.box, replicas=replicas, backend=backend, precision=precision,
        removeCMMotion=False,
    )  # fmt: skip
    scale = thermal_energy(temperature) * degrees_of_freedom(system)
    results = []
    for timestep in timesteps:
        interval = int(length / timestep / _SAMPLES)
        if interval < 1:
            raise ValueError(f"`length` must be at least {_SAMPLES} steps of {timestep} ps, got {length} ps")
        integrator = openmm.VerletIntegrator(timestep)
        if origin.orientations is not None:
            integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatform(platform))
        context.setPositions(origin.particles.reshape(-1, 3))
        context.setVelocitiesToTemperature(temperature, seed + 1)
        energies = []
        for _ in range(_SAMPLES):
            integrator.step(interval)
            state = context.getState(energy=True)
            energies.append(state.getPotentialEnergy()._value + state.getKineticEnergy()._value)
        times = timestep * interval * np.arange(1, _SAMPLES + 1) / 1000
        line, covariance = np.polyfit(times, np.array(energies) / scale, 1, cov=True)
        rest = np.array(energies) / scale - np.polyval(line, times)
        results.append(Drift(timestep, line[0].item(), float(covariance[0, 0] ** 0.5), rest.std().item()))
    return results
