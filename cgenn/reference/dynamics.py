"""Langevin dynamics of an all-atom system: equilibration, and production with every frame looked at."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import openmm
from openmm import unit

from cgenn.reference.records import record_type
from cgenn.reference.settings import RunSettings
from cgenn.reference.virial import VirialReader
from cgenn.units import GAS_CONSTANT

_VOLUME_SAMPLES = 100
_KJ = unit.kilojoule_per_mole


@dataclass(frozen=True)
class Seeds:
    """Random seeds of one replica, none of them zero, which for OpenMM means "choose one"."""

    integrator: int
    velocities: int
    barostat: int

    @classmethod
    def of(cls, seed: int, replica: int) -> Seeds:
        """Independent for each replica."""
        words = np.random.SeedSequence([seed, replica]).generate_state(3)
        return cls(*(int(word % (2**31 - 1)) + 1 for word in words))


def make_context(system: openmm.System, settings: RunSettings, seeds: Seeds) -> openmm.Context:
    """A Context with a LangevinMiddle integrator (Zhang et al. 2019, doi 10.1021/acs.jpca.9b02771)."""
    integrator = openmm.LangevinMiddleIntegrator(settings.temperature, settings.friction, settings.timestep)
    integrator.setRandomNumberSeed(seeds.integrator)
    integrator.setConstraintTolerance(1e-6)
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName(settings.platform))


def equilibrate(
    system: openmm.System, positions: np.ndarray, settings: RunSettings, seeds: Seeds, minimization: int | None = None
) -> openmm.State:
    """Minimise, in so many iterations at most, then run for the equilibration time.

    With a pressure, but no barostat in the System, once at this pressure and once more at a fixed box: the sampled one
    whose volume is closest to the mean of the second half at constant pressure.

    Raises:
        FloatingPointError: if it diverges.
    """
    steps = max(1, round(settings.equilibration / settings.timestep))
    state: openmm.State | None = None
    if settings.pressure is not None and not any(map(_is_barostat, system.getForces())):
        barostatted = copy.deepcopy(system)
        add_barostat(barostatted, settings, seeds)
        context = make_context(barostatted, settings, seeds)
        _start(context, positions, settings, seeds, minimization)
        advance(context, steps // 2)
        state = _mean_volume(context, steps - steps // 2)
        del context
    context = make_context(system, settings, seeds)
    if state is None:
        _start(context, positions, settings, seeds, minimization)
    else:
        context.setState(state)
    advance(context, steps)
    return context.getState(positions=True, velocities=True)


def add_barostat(system: openmm.System, settings: RunSettings, seeds: Seeds, *, membrane: bool = False) -> None:
    """Keep the pressure of the settings constant from now on; of a membrane across z that along z, without tension."""
    if membrane:
        barostat = openmm.MonteCarloMembraneBarostat(
            settings.pressure, 0.0, settings.temperature,
            openmm.MonteCarloMembraneBarostat.XYIsotropic, openmm.MonteCarloMembraneBarostat.ZFree,
        )  # fmt: skip
    else:
        barostat = openmm.MonteCarloBarostat(settings.pressure, settings.temperature)
    barostat.setRandomNumberSeed(seeds.barostat)
    system.addForce(barostat)


def _is_barostat(force: openmm.Force) -> bool:
    return isinstance(force, openmm.MonteCarloBarostat | openmm.MonteCarloMembraneBarostat)


def _start(
    context: openmm.Context, positions: np.ndarray, settings: RunSettings, seeds: Seeds, minimization: int | None
) -> None:
    context.setPositions(positions)
    context.computeVirtualSites()
    if minimization != 0:  # which OpenMM takes for no limit
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=minimization or 0)
    context.setVelocitiesToTemperature(settings.temperature, seeds.velocities)


def _mean_volume(context: openmm.Context, steps: int) -> openmm.State:
    states = []
    for _ in range(_VOLUME_SAMPLES):
        advance(context, max(1, steps // _VOLUME_SAMPLES))
        states.append(context.getState(positions=True, velocities=True))
    volumes = np.array([state.getPeriodicBoxVolume().value_in_unit(unit.nanometer**3) for state in states])
    return states[int(np.argmin(np.abs(volumes - volumes.mean())))]


def advance(context: openmm.Context, steps: int) -> None:
    """Take `steps` time steps.

    Raises:
        FloatingPointError: if positions are no longer finite; names the step, an atom and the energy of each force.
    """
    before = context.getState(positions=True)
    try:
        _step(context.getIntegrator(), steps)
        after = context.getState(positions=True).getPositions(asNumpy=True)._value
        atom = _first_bad(after)
    except openmm.OpenMMException as error:
        if "NaN" not in str(error):
            raise
        after = context.getState(positions=True).getPositions(asNumpy=True)._value
        atom = _first_bad(after) or 0
    if atom is not None:
        raise FloatingPointError(_diagnosis(context, before, atom))


def _step(integrator: openmm.Integrator, steps: int) -> None:
    """In pieces of about 0.1 s, between which Python can react to Ctrl-C."""
    piece = 10
    while steps > 0:
        start = perf_counter()
        integrator.step(min(piece, steps))
        steps -= piece
        if perf_counter() - start < 0.1:
            piece *= 2


def _first_bad(positions: np.ndarray) -> int | None:
    bad = ~np.isfinite(positions).all(axis=1)
    return int(np.argmax(bad)) if bad.any() else None


def _diagnosis(context: openmm.Context, before: openmm.State, atom: int) -> str:
    first, last = before.getStepCount(), context.getStepCount()
    context.setPositions(before.getPositions())
    energies = energy_terms(context)
    terms = ", ".join(f"{name} {energy:.6g}" for name, energy in energies.items())
    return (
        f"the run diverged between steps {first} and {last}: atom {atom} has a position that is not finite; energies "
        f"[kJ/mol] at step {first}: {terms}. A shorter `timestep` or a longer `equilibration` may help"
    )


def energy_terms(context: openmm.Context) -> dict[str, float]:
    """Energy of each force of the System by its name [kJ/mol]; each must have a force group of its own."""
    return {
        force.getName(): context.getState(energy=True, groups={force.getForceGroup()})
        .getPotentialEnergy()
        .value_in_unit(_KJ)
        for force in context.getSystem().getForces()
        if not isinstance(force, openmm.CMMotionRemover | openmm.MonteCarloBarostat)
    }


class FrameReader:
    """Reads frames off a Context as records (`records.record_type`).

    Forces are those of all terms of the force field on each atom, before constraints act: what force matching with a
    map that respects the constraints needs. Virtual sites have none: theirs is already on the atoms that carry them.
    """

    def __init__(self, system: openmm.System, periodic: bool, virials: bool = False):
        particles = range(system.getNumParticles())
        massive = sum(system.getParticleMass(i).value_in_unit(unit.dalton) > 0 for i in particles)
        self._type = record_type(len(particles))
        self._sites = np.flatnonzero([system.isVirtualSite(i) for i in particles])
        self._periodic, self._virials = periodic, virials
        self._virial: VirialReader | None = None
        momentum = 3 * any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
        self._freedom = 3 * massive - system.getNumConstraints() - momentum

    def read(self, context: openmm.Context) -> np.ndarray:
        """The present frame, molecules made whole and those of a periodic system moved into the box."""
        state = context.getState(positions=True, forces=True, energy=True, enforcePeriodicBox=self._periodic)
        record = np.zeros((), self._type)
        record["step"] = state.getStepCount()
        record["time"] = state.getTime().value_in_unit(unit.picosecond)
        record["potential"] = state.getPotentialEnergy().value_in_unit(_KJ)
        kinetic = state.getKineticEnergy().value_in_unit(_KJ)
        record["temperature"] = 2 * kinetic / (self._freedom * GAS_CONSTANT)
        record["positions"] = state.getPositions(asNumpy=True)._value
        record["forces"] = state.getForces(asNumpy=True)._value
        record["forces"][self._sites] = 0.0
        if self._periodic:
            record["box"] = state.getPeriodicBoxVectors(asNumpy=True)._value
        if self._virials:
            self._virial = self._virial or VirialReader(context.getSystem(), context.getPlatform())
            positions, forces = (np.array(record[key], dtype=float) for key in ("positions", "forces"))
            record["virial"] = self._virial.read(positions, record["box"], forces)
        return record
