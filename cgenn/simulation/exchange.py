"""What replica exchange samples: frames of beads at each temperature, and how often neighbours would exchange."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm.app
from jaxtyping import Float

from cgenn.simulation.reporters import H5MDReporter
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy


class ExchangeReporter:
    """For `openmm.app.ReplicaExchangeSampler.reporters`: a bead dataset for each temperature, `state-0.h5` and so on.

    Frames belong to a temperature, not to a replica: those of one file are an ensemble, not a path. Call `close` at the
    end.
    """

    def __init__(
        self,
        folder: str | Path,
        topology: BeadTopology,
        temperatures: Sequence[float],
        *,
        interval: int = 1,
        periodic: bool = False,
    ) -> None:
        """`temperatures` [K] are those of the sampler's states, in their order; `interval` in its iterations.

        Raises:
            ValueError: if there are not at least two temperatures, one is not positive, or `interval` is below 1.
        """
        if len(temperatures) < 2:
            raise ValueError(f"replica exchange needs at least two temperatures, got {len(temperatures)}")
        if interval < 1:
            raise ValueError(f"`interval` must be at least 1, got {interval}")
        self._betas = np.array([1.0 / thermal_energy(temperature) for temperature in temperatures])
        self._interval = interval
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._files = [
            H5MDReporter(Path(folder) / f"state-{index}.h5", 1, topology, temperature=temperature, periodic=periodic)
            for index, temperature in enumerate(temperatures)
        ]
        self._energies: list[np.ndarray] = []

    def __call__(self, sampler: openmm.app.ReplicaExchangeSampler) -> None:
        """Add what one iteration gave.

        Raises:
            ValueError: if the sampler has another number of states.
        """
        if len(sampler.replicaStateIndex) != len(self._files):
            raise ValueError(
                f"the reporter has {len(self._files)} temperatures, the sampler {len(sampler.replicaStateIndex)} states"
            )
        energies = np.empty(len(self._files))
        for replica, state in enumerate(sampler.replicaStateIndex):
            energies[state] = sampler.replicaStateEnergy[replica][state]._value
            if sampler.currentIteration % self._interval == 0:
                self._files[state].report(sampler.simulation, sampler.replicaConformation[replica])
        self._energies.append(energies)

    @property
    def energies(self) -> Float[np.ndarray, "iterations temperatures"]:
        """Potential energy at each temperature after each iteration [kJ/mol]."""
        return np.array(self._energies).reshape(-1, len(self._files))

    @property
    def acceptance(self) -> Float[np.ndarray, " pairs"]:
        """Mean probability min(1, exp((b_i - b_j) (U_i - U_j))), b = 1/kT, that neighbouring temperatures exchange."""
        products = np.diff(self._betas) * np.diff(self.energies, axis=1)
        return np.exp(np.minimum(products, 0.0)).mean(axis=0)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
