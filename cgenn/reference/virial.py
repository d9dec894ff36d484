"""The virial of atoms from energies: right for any force field, its corrections beyond a cutoff included."""

from __future__ import annotations

import numpy as np
import openmm
import openmm.app.internal.unitcell
from jaxtyping import Float, Int
from openmm import unit

from cgenn.mapping.virial import molecule_centres

_STRAIN = 1e-3
"""Relative displacement of molecules: so long that the jumps of the energy of many pairs at the cutoff average out, and
single precision is enough; so short that the third derivative does not matter."""
_COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Strains x_a += e x_b that keep a box reduced."""


class VirialReader:
    """dE/de of all terms of the force field, without what constraints do, by a strain e of positions and box.

    With the box, molecules are moved as a whole, which no bond feels: central differences give what the strain of their
    centres costs, as a Monte Carlo barostat sees it. Strain within them is told by the forces:

        dE/de_ab = dE/de_ab (molecules) - sum_i F_i,a (x_i,b - X_b), X the centre of the molecule of atom i
    """

    def __init__(self, system: openmm.System, platform: openmm.Platform):
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        self._owner: Int[np.ndarray, " atoms"] = np.empty(system.getNumParticles(), dtype=np.int64)
        for number, members in enumerate(self._context.getMolecules()):
            self._owner[list(members)] = number

    def read(
        self,
        positions: Float[np.ndarray, "atoms 3"],
        box: Float[np.ndarray, "3 3"],
        forces: Float[np.ndarray, "atoms 3"],
    ) -> Float[np.ndarray, "3 3"]:
        """Symmetric [kJ/mol]; positions with whole molecules [nm], forces [kJ/mol/nm]."""
        centres = molecule_centres(positions, self._owner)
        virial = np.zeros((3, 3))
        for a, b in _COMPONENTS:
            energies = []
            for strain in (-_STRAIN, _STRAIN):
                moved, cell = positions.copy(), box.copy()
                moved[:, a] += strain * centres[:, b]
                cell[:, a] += strain * box[:, b]
                energies.append(self._energy(moved, cell))
            inside = np.sum(forces[:, a] * (positions - centres)[:, b])
            virial[a, b] = virial[b, a] = (energies[1] - energies[0]) / (2 * _STRAIN) - inside
        return virial

    def _energy(self, positions: np.ndarray, box: np.ndarray) -> float:
        reduced = openmm.app.internal.unitcell.reducePeriodicBoxVectors([openmm.Vec3(*row) for row in box.tolist()])
        self._context.setPeriodicBoxVectors(*reduced)
        self._context.setPositions(positions)
        return self._context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
