"""Turns molecules of a single bead, whose orientation nothing tells, by Monte Carlo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import openmm
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from cgenn.analysis.structure import minimum_image
from cgenn.backmapping.fragments import Library
from cgenn.backmapping.units import Kind
from cgenn.units import COULOMB, GAS_CONSTANT

_CUTOFF = 1.0
"""Of the energy by which turns are chosen [nm]."""
_NEAREST = 0.1
"""Atoms that are closer count as this far apart [nm]."""
_TRIALS, _HOT, _SWEEPS = 32, 10.0, 30
"""Turns that a molecule chooses from; where the temperature begins, as a multiple of that in the end; how often each
molecule chooses."""
_LARGE = 0.2
"""Least distance of an atom from the bead [nm]: smaller molecules, such as water, are turned by dynamics as well."""


@dataclass(frozen=True, eq=False)
class Turning:
    """Orientations of large molecules of a single bead, given where the beads are.

    At liquid density, turned at random, they are stuck: dynamics does not free them while their beads are held. Here
    each in turn chooses among the orientation that it has and random ones, with Boltzmann weights, which keeps detailed
    balance, since all of them are equally likely beforehand. The temperature falls to that of the reference meanwhile.
    The energy is Lennard-Jones (Lorentz-Berthelot) and Coulomb in a conducting reaction field, up to 1 nm, of the
    parameters of the force field's `NonbondedForce`: a start for the relaxation in all of it.

    Attributes:
        molecules: atoms of each that can be turned.
        charges, sigmas, roots: of every atom [e, nm, sqrt(kJ/mol)], the last that of epsilon.
        homes: the bead that each atom goes with; -1 for none.
        temperature: [K].
    """

    molecules: list[Int[np.ndarray, " atoms"]]
    charges: Float[np.ndarray, " atoms"]
    sigmas: Float[np.ndarray, " atoms"]
    roots: Float[np.ndarray, " atoms"]
    homes: Int[np.ndarray, " atoms"]
    temperature: float

    @classmethod
    def build(
        cls, system: openmm.System, library: Library, homes: Int[np.ndarray, " atoms"], temperature: float
    ) -> Self:
        """No molecule can be turned where the System has no `NonbondedForce` with Lennard-Jones terms."""
        forces = [force for force in system.getForces() if isinstance(force, openmm.NonbondedForce)]
        parameters = np.zeros((system.getNumParticles(), 3))
        for force in forces:
            found = [force.getParticleParameters(atom) for atom in range(force.getNumParticles())]
            parameters = np.array([[value._value for value in values] for values in found])
        charges, sigmas, epsilons = parameters.T
        molecules = [atoms for kind in library.kinds if _turns(library, kind) for atoms in kind.atoms]
        return cls(molecules if epsilons.any() else [], charges, sigmas, np.sqrt(epsilons), homes, temperature)

    def __call__(
        self,
        atoms: Float[np.ndarray, "atoms 3"],
        beads: Float[np.ndarray, "beads 3"],
        box: Float[np.ndarray, "3 3"] | None,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "atoms 3"]:
        """The same atoms [nm], those of each molecule turned about its bead."""
        atoms = atoms.copy()
        around = list(self._around(atoms, beads, box))
        for temperature in self.temperature * np.geomspace(_HOT, 1.0, _SWEEPS):
            for molecule, (others, shifts) in zip(self.molecules, around, strict=True):
                bead = beads[self.homes[molecule[0]]]
                turns = Rotation.random(_TRIALS, rng=rng).as_matrix()
                turns[0] = np.eye(3)
                trials = bead + (atoms[molecule] - bead) @ np.swapaxes(turns, 1, 2)
                energies = self._energies(molecule, trials, others, atoms[others] + shifts)
                weights = np.exp((energies.min() - energies) / (GAS_CONSTANT * temperature))
                atoms[molecule] = trials[rng.choice(_TRIALS, p=weights / weights.sum())]
        return atoms

    def _around(
        self, atoms: Float[np.ndarray, "atoms 3"], beads: Float[np.ndarray, "beads 3"], box: np.ndarray | None
    ) -> Iterator[tuple[Int[np.ndarray, " others"], Float[np.ndarray, "others 3"]]]:
        """Atoms that each molecule can come near, however both are turned, and by how much an image of each is away."""
        centres = np.where(self.homes[:, None] >= 0, beads[self.homes], atoms)
        arms = np.linalg.norm(atoms - centres, axis=1)
        for molecule in self.molecules:
            apart = centres - centres[molecule[0]]
            nearest = apart if box is None else minimum_image(apart[None], box[None])[0]
            near = np.linalg.norm(nearest, axis=1) < _CUTOFF + arms + arms[molecule].max()
            near[molecule] = False
            others = np.flatnonzero(near)
            yield others, (nearest - apart)[others]

    def _energies(
        self,
        molecule: Int[np.ndarray, " own"],
        trials: Float[np.ndarray, "trials own 3"],
        others: Int[np.ndarray, " others"],
        there: Float[np.ndarray, "others 3"],
    ) -> Float[np.ndarray, " trials"]:
        """Between the atoms of a molecule, each way it may be turned, and those around it [kJ/mol]."""
        squares = np.square(trials[:, :, None] - there).sum(axis=-1)
        r = np.sqrt(np.clip(squares, _NEAREST**2, _CUTOFF**2))
        sixth = (0.5 * (self.sigmas[molecule][:, None] + self.sigmas[others]) / r) ** 6
        field = 1 / r + r**2 / (2 * _CUTOFF**3) - 1.5 / _CUTOFF
        dispersion = 4 * self.roots[molecule][:, None] * self.roots[others] * sixth * (sixth - 1)
        charges = COULOMB * self.charges[molecule][:, None] * self.charges[others]
        return ((dispersion + charges * field) * (squares < _CUTOFF**2)).sum(axis=(1, 2))


def _turns(library: Library, kind: Kind) -> bool:
    """Whether a kind has one bead, without an orientation, and an atom far from it."""
    if kind.beads.shape[1] > 1 or library.oriented[kind.beads[0, 0]]:
        return False
    arms = library.positions[0, kind.atoms] - library.points[0, kind.beads, :1, :].squeeze(2)
    return bool(np.linalg.norm(arms, axis=-1).max() > _LARGE)
