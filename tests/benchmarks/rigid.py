"""Energy of oriented beads without a thermostat, for long time steps: `python -m tests.benchmarks.rigid`.

27 beads of 72 amu with dipoles that exert torques on each other, 15 ps from one state at 300 K, Reference platform.
"""

from __future__ import annotations

import torch  # isort: skip
import numpy as np
import openmm

from cgenn.units import thermal_energy
from tests.simulation.test_mechanics import BODIES, PAIRS, simulation, total_energies

BEADS, SAMPLES, INTERVAL = 27, 150, 0.1


def main() -> None:
    """Print the error of the total energy and its drift."""
    torch.set_default_dtype(torch.float64)
    for name in BODIES:
        run, _, rigid, _ = simulation(name, PAIRS[name], BEADS, openmm.LangevinMiddleIntegrator(300, 5.0, 0.002))
        run.minimizeEnergy(maxIterations=100)
        run.context.setVelocitiesToTemperature(300, 2)
        run.step(1000)
        state = run.context.getState(positions=True, velocities=True)
        unit = (3 * BEADS + rigid.rotations) * thermal_energy(300.0)
        for timestep in (0.005, 0.01, 0.02, 0.03):
            free, *_ = simulation(name, PAIRS[name], BEADS, openmm.VerletIntegrator(timestep))
            free.context.setPositions(state.getPositions())
            free.context.setVelocities(state.getVelocities())
            steps = round(INTERVAL / timestep)
            energies = total_energies(free, SAMPLES, steps)
            times = steps * timestep / 1000 * np.arange(SAMPLES)
            line, covariance = np.polyfit(times, energies, 1, cov=True)
            error = (energies - np.polyval(line, times)).std()
            drift = f"{line[0] / unit:.1e} +- {covariance[0, 0] ** 0.5 / unit:.1e} kT/ns per degree of freedom"
            print(f"{name}, {1000 * timestep:.0f} fs: error {error:.4f} kJ/mol, drift {drift}")


if __name__ == "__main__":
    main()
