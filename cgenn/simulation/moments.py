"""Charges and dipoles of the beads of a simulation, whether they are constant or predicted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch  # isort: skip  (before openmm, see backends.py)
import numpy as np
import openmm
from jaxtyping import Float

from cgenn.electrostatics.slab import slab_energy, uncorrected_slab
from cgenn.potential.potential import Potential
from cgenn.simulation.electrostatics import constant_charges_energy, type_charges
from cgenn.simulation.force import LAMBDA, LearnedForce, Precision
from cgenn.topology import BeadTopology

UNCORRECTED = 2.5
"""An energy of a slab with its images that is told, kT at 300 K [kJ/mol]."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BeadMoments:
    """Charges and dipoles of `replicas` copies of some beads, without the factor `lambda_electrostatics`.

    Attributes:
        learned: the learned force of the System.
        constant: charge of each bead of one copy [e], where they are not predicted.
    """

    learned: LearnedForce
    constant: Float[np.ndarray, " beads"]

    @classmethod
    def of(cls, potential: Potential, topology: BeadTopology, learned: LearnedForce) -> BeadMoments | None:
        """Those of a System of a potential, `topology` being one copy of the beads; None without electrostatics."""
        if potential.config.electrostatics is None:
            return None
        return cls(learned, type_charges(potential, topology))

    @classmethod
    def build(
        cls,
        potential: Potential,
        topology: BeadTopology,
        *,
        replicas: int = 1,
        periodic: bool = False,
        precision: Precision = "single",
        device: str = "auto",
    ) -> BeadMoments:
        """The same for a System that was made with these settings; see `create_system`.

        Raises:
            ValueError: if the potential has no electrostatics or does not know the type of a bead.
        """
        learned = LearnedForce.build(
            potential, topology, replicas=replicas, periodic=periodic, precision=precision, device=device
        )
        result = cls.of(potential, topology, learned)
        if result is None:
            raise ValueError("this potential has no electrostatics: its beads have no charges")
        return result

    @property
    def predicted(self) -> bool:
        """Whether they change from frame to frame."""
        return self.learned.charged is not None

    @property
    def has_dipoles(self) -> bool:
        """Whether beads have dipoles of their own."""
        electrostatics = self.learned.config.electrostatics
        return electrostatics is not None and electrostatics.dipoles

    def __call__(
        self, positions: Float[np.ndarray, "replicas beads 3"], box: Float[np.ndarray, "3 3"] | None = None
    ) -> tuple[Float[np.ndarray, "replicas beads"], Float[np.ndarray, "replicas beads 3"] | None]:
        """Charges [e] and dipoles [e nm] at these positions [nm], those of all particles where beads have sites."""
        if not self.predicted:
            return np.broadcast_to(self.constant, (len(positions), len(self.constant))), None
        charges, dipoles = self.learned.moments(*_as_tensors(positions, box))
        replicas = len(positions)
        return charges.reshape(replicas, -1), None if dipoles is None else dipoles.reshape(replicas, -1, 3)

    def total(
        self, positions: Float[np.ndarray, "replicas beads 3"], box: Float[np.ndarray, "3 3"] | None = None
    ) -> Float[np.ndarray, "replicas 3"]:
        """Dipole of each copy [e nm], sum_i q_i r_i + mu_i, at positions that are not put back into the box."""
        charges, dipoles = self(positions, box)
        return np.einsum("kb,kbx->kx", charges, self._centers(positions)) + (
            0.0 if dipoles is None else dipoles.sum(axis=1)
        )

    def energy(self, simulation: Any, positions: np.ndarray, box: np.ndarray | None) -> float:
        """Energy of charges and dipoles with each other in the present state of a simulation [kJ/mol]."""
        if not self.predicted:
            return constant_charges_energy(simulation.context)
        scale = simulation.context.getParameter(LAMBDA)
        return scale**2 * self.learned.electrostatic_energy(*_as_tensors(positions, box))

    def _centers(self, positions: np.ndarray) -> np.ndarray:
        """Positions of the beads."""
        return positions if self.learned.rigid is None else positions[:, self.learned.rigid.centers]

    def announce_slab(self, positions: Float[np.ndarray, "replicas beads 3"], box: np.ndarray | None) -> None:
        """Say aloud where the beads are a slab whose dipole acts on its images along z, for want of a correction."""
        settings = self.learned.config.electrostatics
        flat, cell = _as_tensors(self._centers(positions), box)
        if settings is None or settings.slab or cell is None or (slab := uncorrected_slab(flat, cell)) is None:
            return
        charges, dipoles = (None if part is None else torch.tensor(part[0]) for part in self(positions, box))
        assert charges is not None
        batch = torch.zeros(len(charges), dtype=torch.int64)
        missing = float(slab_energy(slab, charges, dipoles, cell=cell[None], batch=batch, n_systems=1))
        if abs(missing) > UNCORRECTED:
            _log.warning(
                "the beads are a slab with vacuum along z and a dipole that acts on its images there, an energy of "
                "%.3g kJ/mol: train the potential with `electrostatics.slab`",
                -missing,
            )


def frame_of(state: openmm.State, replicas: int, periodic: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (replicas, beads, 3) and box vectors (3, 3) of a State [nm]."""
    positions = np.asarray(state.getPositions(asNumpy=True)._value).reshape(replicas, -1, 3)
    return positions, np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) if periodic else None


def _as_tensors(positions: np.ndarray, box: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    flat = torch.from_numpy(np.ascontiguousarray(positions.reshape(-1, 3)))
    return flat, None if box is None else torch.from_numpy(np.ascontiguousarray(box))
