"""Relaxes atoms in OpenMM with their beads held where they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import openmm
from jaxtyping import Float, Int

from cgenn.backmapping.reference import AtomReference
from cgenn.backmapping.restraints import BeadRestraints, Targets
from cgenn.backmapping.stereo import Stereocentres
from cgenn.backmapping.units import find_homes
from cgenn.body import rotation_matrices
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.frames import FrameMap
from cgenn.reference.settings import choose_platform

_BONDED = (
    openmm.HarmonicBondForce, openmm.HarmonicAngleForce, openmm.PeriodicTorsionForce, openmm.RBTorsionForce,
    openmm.CMAPTorsionForce, openmm.CustomBondForce, openmm.CustomAngleForce, openmm.CustomTorsionForce,
)  # fmt: skip
_UNUSED = (
    openmm.MonteCarloBarostat, openmm.MonteCarloAnisotropicBarostat, openmm.MonteCarloMembraneBarostat,
    openmm.MonteCarloFlexibleBarostat, openmm.CMMotionRemover, openmm.AndersenThermostat,
)  # fmt: skip
_START_BOND, _BOND = 2e5, 1e6
"""Stiffness of what constraints become at the start, and in the minimisations [kJ/mol/nm^2]."""
_SOFT, _TOUCHING = 500.0, 0.65
"""Energy of two atoms on top of each other [kJ/mol], and where it begins, as a part of the sum of their radii."""
_RADIUS = 0.15
"""Of an atom without an element [nm]."""
_START_ITERATIONS, _FIRST_ITERATIONS = 500, 300
_PULLS = 3
"""How often springs are pulled farther by what they left open."""
_PROJECTED = 1e-6
"""Relative error of the length of a constraint."""
_LOOSE = 0.05
"""Distance up to which springs may give way [nm]."""
_TIMESTEP, _FRICTION = 0.001, 5.0
"""Of the dynamics between minimisations [ps, 1/ps]."""
_HOT, _STAGES = 3.0, 10
"""Where the dynamics begins, as a multiple of the temperature, and in how many steps it cools."""


@dataclass
class Relaxation:
    """Three Contexts: bonded terms and a soft repulsion for the start, the force field with springs for constraints to
    minimise its energy, and the force field as it is for dynamics and the energy in the end.

    OpenMM's minimiser meets constraints by springs that it makes ten times as stiff again and again, each time from the
    start: with rigid water that takes longer than all else. Springs of one stiffness, followed by a projection onto
    the constraints, lead as low.

    Attributes:
        reference: the all-atom system.
        frames: from its atoms to beads.
        centres: those whose hand is kept.
        dynamics: length of restrained dynamics between the first and the last minimisation [ps].
        platform: name of the OpenMM platform; None for the fastest.
        seed: of the dynamics.
        homes: the bead whose fragment each atom is part of; -1 for those of molecules without a bead.
    """

    reference: AtomReference
    frames: FrameMap
    centres: Stereocentres
    dynamics: float
    platform: str | None = None
    seed: int = 0
    homes: Int[np.ndarray, " atoms"] = field(init=False)
    _start: _Held = field(init=False)
    _flexible: _Held = field(init=False)
    _real: _Held = field(init=False)

    def __post_init__(self) -> None:
        system, atoms = self.reference.system, self.reference.atoms
        self.homes = find_homes(self.frames.mapping)
        platform = openmm.Platform.getPlatform(choose_platform(self.platform, system.getNumParticles()))
        self._start = self._held(soft_system(system, atoms), platform)
        field_alone = _copy(system, lambda force: not isinstance(force, _UNUSED))
        self._flexible = self._held(with_springs(field_alone, _BOND), platform)
        self._real = self._held(field_alone, platform)

    def _held(self, system: openmm.System, platform: openmm.Platform) -> _Held:
        used = {force.getForceGroup() for force in system.getForces()}
        group = next((group for group in range(31, -1, -1) if group not in used), None)
        if group is None:
            raise ValueError("the System uses all 32 force groups: leave one for the springs of the beads")
        restraints = BeadRestraints(self.frames, group)
        restraints.add_to(system, self.centres)
        integrator = openmm.LangevinMiddleIntegrator(self.reference.temperature, _FRICTION, _TIMESTEP)
        integrator.setRandomNumberSeed(self.seed + 1)
        return _Held(openmm.Context(system, integrator, platform), restraints)

    def __call__(
        self,
        atoms: Float[np.ndarray, "atoms 3"],
        beads: Float[np.ndarray, "beads 3"],
        orientations: Float[np.ndarray, "beads 4"],
        box: Float[np.ndarray, "3 3"] | None,
        *,
        overlapping: bool = True,
    ) -> tuple[Float[np.ndarray, "atoms 3"], float]:
        """Relaxed positions [nm] and their potential energy without restraints [kJ/mol].

        Args:
            atoms: whole molecules, near the beads.
            beads, orientations: where these stay.
            overlapping: whether atoms may be on top of each other, so that the soft repulsion is needed first.

        Raises:
            FloatingPointError: if the energy is not finite, or springs cannot hold a bead.
        """
        targets = Targets(beads, orientations)
        if overlapping:
            self._start.place(atoms, targets, box)
            openmm.LocalEnergyMinimizer.minimize(self._start.context, 10.0, _START_ITERATIONS)
            atoms = self._start.atoms()
        self._flexible.place(atoms, targets, box)
        try:
            openmm.LocalEnergyMinimizer.minimize(self._flexible.context, 10.0, _FIRST_ITERATIONS)
            self._real.place(self._flexible.atoms(), targets, box)
            self._real.context.applyConstraints(_PROJECTED)
            self._anneal(self._real.context)
            self._flexible.move(self._real.atoms())
            self._minimize(targets)
            self._real.move(self._flexible.atoms())
            self._real.context.applyConstraints(_PROJECTED)
        except openmm.OpenMMException as error:
            raise FloatingPointError(f"the relaxation failed: {error}") from None
        self._real.move(self._settle(beads, orientations))
        energy = self._real.energy()
        if not np.isfinite(energy):
            raise FloatingPointError(f"the energy after relaxation is {energy} kJ/mol")
        return self._real.atoms(), energy

    def _anneal(self, context: openmm.Context) -> None:
        """Cool from three times the temperature of the reference down to it: molecules turn about their beads."""
        steps = round(self.dynamics / _TIMESTEP / _STAGES)
        if steps == 0:
            return
        temperatures = self.reference.temperature * np.linspace(_HOT, 1.0, _STAGES)
        context.setVelocitiesToTemperature(temperatures[0], self.seed + 1)
        for temperature in temperatures.tolist():
            context.getIntegrator().setTemperature(temperature)
            context.getIntegrator().step(steps)

    def _minimize(self, targets: Targets) -> None:
        """Where beads are bonded, pull springs farther by what they leave open, so that fragments come to lie there.

        A minimiser that is started again can throw an atom far: what is open then is more, and not kept.
        """
        held, pulled = self._flexible, targets.positions
        openmm.LocalEnergyMinimizer.minimize(held.context)
        atoms = held.atoms()
        left = self._left(atoms, targets)
        for _ in range(_PULLS if len(self.frames.topology.bonds) else 0):
            pulled = pulled + left
            held.restraints.set_targets(held.context, replace(targets, positions=pulled))
            openmm.LocalEnergyMinimizer.minimize(held.context)
            before, left = left, self._left(held.atoms(), targets)
            if not np.abs(left).max() < np.abs(before).max():
                held.move(atoms)
                return
            atoms = held.atoms()

    def _left(self, atoms: Float[np.ndarray, "atoms 3"], targets: Targets) -> Float[np.ndarray, "beads 3"]:
        """What springs leave open [nm]."""
        return targets.positions - self.frames.mapping.linear(atoms[None])[0]

    def _settle(
        self, beads: Float[np.ndarray, "beads 3"], orientations: Float[np.ndarray, "beads 4"]
    ) -> Float[np.ndarray, "atoms 3"]:
        """Move and turn each fragment as a whole by what is still open."""
        atoms = self._real.atoms()
        found = self.frames.mapping.linear(atoms[None])[0]
        apart = np.linalg.norm(beads - found, axis=1)
        if not apart.max() < _LOOSE:
            raise FloatingPointError(
                f"bead {int(np.argmax(apart))} is pulled {apart.max():.3g} nm from where it is held: "
                "are beads on top of each other, or bonds torn?"
            )
        turned = self.frames(atoms[None], before=orientations).orientations[0]
        turns = rotation_matrices(orientations) @ np.swapaxes(rotation_matrices(turned), 1, 2)
        mine = self.homes >= 0
        homes = self.homes[mine]
        atoms[mine] = beads[homes] + np.einsum("aij,aj->ai", turns[homes], atoms[mine] - found[homes])
        return atoms


@dataclass
class _Held:
    """A Context with beads held."""

    context: openmm.Context
    restraints: BeadRestraints

    def place(self, atoms: np.ndarray, targets: Targets, box: np.ndarray | None) -> None:
        if box is not None:
            self.context.setPeriodicBoxVectors(*box.tolist())
        self.move(atoms)
        self.restraints.set_targets(self.context, targets)

    def move(self, atoms: np.ndarray) -> None:
        self.context.setPositions(atoms)
        self.context.computeVirtualSites()

    def atoms(self) -> np.ndarray:
        return np.array(self.context.getState(positions=True).getPositions(asNumpy=True)._value)

    def energy(self) -> float:
        groups = set(range(32)) - {self.restraints.force_group}
        return self.context.getState(energy=True, groups=groups).getPotentialEnergy()._value


def soft_system(system: openmm.System, atoms: AtomTopology) -> openmm.System:
    """The bonded terms, constraints as springs, and a repulsion that is finite where atoms are on top of each other.

    E(r) = h (1 - r/s)^2 below s, 0.65 times the sum of the van der Waals radii, for atoms more than three bonds apart.
    """
    result = with_springs(_copy(system, lambda force: isinstance(force, _BONDED)), _START_BOND)
    repulsion = openmm.CustomNonbondedForce(f"{_SOFT}*step(s-r)*(1-r/s)^2; s={_TOUCHING}*(radius1+radius2)+1e-9")
    repulsion.addPerParticleParameter("radius")
    radii = [_RADIUS if atom.element is None else atom.element.radius for atom in atoms.topology.atoms]
    for atom, radius in enumerate(radii):
        repulsion.addParticle([radius if system.getParticleMass(atom)._value > 0 else 0.0])
    pairs = [tuple(pair) for pair in atoms.links.tolist()]
    repulsion.createExclusionsFromBonds(pairs, 3)
    periodic = system.usesPeriodicBoundaryConditions()
    method = openmm.CustomNonbondedForce.CutoffPeriodic if periodic else openmm.CustomNonbondedForce.CutoffNonPeriodic
    repulsion.setNonbondedMethod(method)
    repulsion.setCutoffDistance(_TOUCHING * 2 * max(radii))
    result.addForce(repulsion)
    return result


def with_springs(system: openmm.System, stiffness: float) -> openmm.System:
    """A copy with springs [kJ/mol/nm^2] in the place of constraints."""
    result, springs = copy.deepcopy(system), openmm.HarmonicBondForce()
    for index in range(system.getNumConstraints()):
        i, j, length = system.getConstraintParameters(index)
        springs.addBond(i, j, length, stiffness)
    while result.getNumConstraints():
        result.removeConstraint(result.getNumConstraints() - 1)
    springs.setUsesPeriodicBoundaryConditions(system.usesPeriodicBoundaryConditions())
    result.addForce(springs)
    return result


def _copy(system: openmm.System, wanted: Callable[[openmm.Force], bool]) -> openmm.System:
    """A copy with some of the forces."""
    result = copy.deepcopy(system)
    for index in reversed(range(result.getNumForces())):
        if not wanted(result.getForce(index)):
            result.removeForce(index)
    return result
