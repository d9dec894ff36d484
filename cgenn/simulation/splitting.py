"""A force field's System in two parts: what acts wholly among chosen particles, and everything else."""

from __future__ import annotations

import copy
import itertools
import logging
from xml.etree import ElementTree

import openmm

from cgenn.simulation.bonded import apart
from cgenn.simulation.placement import Placement

_BONDED = {
    "CMAPTorsionForce", "CustomAngleForce", "CustomBondForce", "CustomCompoundBondForce", "CustomTorsionForce",
    "HarmonicAngleForce", "HarmonicBondForce", "PeriodicTorsionForce", "RBTorsionForce",
}  # fmt: skip
"""Forces that are lists of terms, each of which names its particles."""

_KEPT = {
    "AndersenThermostat", "CMMotionRemover", "CustomCVForce", "CustomCentroidBondForce", "CustomExternalForce",
    "CustomVolumeForce", "MonteCarloAnisotropicBarostat", "MonteCarloBarostat", "MonteCarloFlexibleBarostat",
    "MonteCarloMembraneBarostat", "OrientationRestraintForce", "PythonForce", "RGForce", "RMSDForce",
}  # fmt: skip
"""Forces that are no part of a force field: restraints, thermostats, what the user added."""

_NONBONDED = {"NonbondedForce", "CustomNonbondedForce"}
_LONG_RANGE = (openmm.NonbondedForce.PME, openmm.NonbondedForce.LJPME, openmm.NonbondedForce.Ewald)
_WITHOUT_CUTOFF = (openmm.NonbondedForce.NoCutoff, *_LONG_RANGE)

_log = logging.getLogger(__name__)


def without_terms_among(
    system: openmm.System, placement: Placement, *, keep_constraints: bool = False
) -> openmm.System:
    """A copy of a System without the interactions and constraints between particles of `placement`.

    A bonded term is dropped if all its particles are chosen. Under PME the nearest images of chosen particles no longer
    interact; farther images do, see `charges_among`.

    Raises:
        ValueError: if a force cannot be split.
    """
    result = _with_bonded_terms(system, placement, among=False)
    for force in result.getForces():
        if isinstance(force, openmm.NonbondedForce):
            _exclude(force, placement)
        elif isinstance(force, openmm.CustomNonbondedForce):
            _exclude_custom(force, placement)
    if not keep_constraints:
        _drop_constraints(result, set(placement.particles))
    return result


def terms_among(system: openmm.System, placement: Placement) -> tuple[list[openmm.Force], list[openmm.Force]]:
    """The difference between a System and `without_terms_among`: forces to add, and forces to subtract.

    Raises:
        ValueError: if a force cannot be split.
    """
    inner = _with_bonded_terms(system, placement, among=True)  # keeps its forces alive
    bonded, added, subtracted = [], [], []
    for force in map(copy.deepcopy, inner.getForces()):
        if isinstance(force, openmm.NonbondedForce):
            _blank_others(force, placement)
            added.append(force)
            subtracted.append(copy.deepcopy(force))
            _exclude(subtracted[-1], placement)
        elif isinstance(force, openmm.CustomNonbondedForce):
            if force.getNumInteractionGroups():
                raise ValueError(f"{force.getName()} has interaction groups: it cannot be switched off by a parameter")
            force.setUseLongRangeCorrection(False)
            force.addInteractionGroup(placement.particles, placement.particles)
            added.append(force)
        elif type(force).__name__ in _BONDED:
            bonded.append(force)
    return bonded + ([apart(*added)] if added else []), [apart(*subtracted)] if subtracted else []


def charges_among(system: openmm.System, placement: Placement) -> list[openmm.NonbondedForce]:
    """What is left of the charges of chosen particles in `without_terms_among`: a force to subtract for each PME.

    Raises:
        ValueError: if charges are cut off, or depend on a parameter.
    """
    forces = [force for force in system.getForces() if isinstance(force, openmm.NonbondedForce)]
    for force in forces:
        charged = any(force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles()))
        if charged and force.getNonbondedMethod() not in _WITHOUT_CUTOFF:
            raise ValueError(
                f"the model has long-range electrostatics (PME), but the {force.getName()} of the System cuts charges "
                f"off at {force.getCutoffDistance()._value:g} nm: make the System with PME, or without a cutoff in "
                "open space"
            )
    return [_alone(force, placement) for force in forces if force.getNonbondedMethod() in _LONG_RANGE]


def _alone(force: openmm.NonbondedForce, placement: Placement) -> openmm.NonbondedForce:
    """The PME of the charges of the chosen particles, without their nearest images."""
    _refuse_offsets(force)
    result = openmm.NonbondedForce()
    ewald = force.getNonbondedMethod() == openmm.NonbondedForce.Ewald
    result.setNonbondedMethod(openmm.NonbondedForce.Ewald if ewald else openmm.NonbondedForce.PME)
    result.setCutoffDistance(force.getCutoffDistance())
    result.setEwaldErrorTolerance(force.getEwaldErrorTolerance())
    result.setPMEParameters(*force.getPMEParameters())
    result.setForceGroup(force.getForceGroup())
    chosen = set(placement.particles)
    for particle in range(force.getNumParticles()):
        charge = force.getParticleParameters(particle)[0] if particle in chosen else 0.0
        result.addParticle(charge, 1.0, 0.0)
    _exclude(result, placement)
    return result


def _with_bonded_terms(system: openmm.System, placement: Placement, *, among: bool) -> openmm.System:
    """A copy of a System with only those bonded terms whose particles are all chosen, or only the others."""
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    chosen = set(placement.particles)
    for force in root.findall("./Forces/Force"):
        kind = force.attrib["type"]
        if kind not in _BONDED | _KEPT | _NONBONDED:
            raise ValueError(
                f"the System holds a {kind}, of which cgenn does not know how to leave out the terms among chosen "
                "particles: make it without this force, or add the force afterwards"
            )
        if kind not in _BONDED:
            continue
        for terms in itertools.chain(*map(force.findall, ("Bonds", "Angles", "Torsions"))):
            for term in list(terms):
                if (_particles(term) <= chosen) != among:
                    terms.remove(term)
    return openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))


def _particles(term: ElementTree.Element) -> set[int]:
    """Particles of a bonded term, attributes p1, p2, ... or a1, ..., b1, ..."""
    return {int(value) for name, value in term.attrib.items() if name[0] in "pab" and name[1:].isdigit()}


def _exclude(force: openmm.NonbondedForce, placement: Placement) -> None:
    chosen = set(placement.particles)
    for i, j in itertools.combinations(placement.particles, 2):
        force.addException(i, j, 0.0, 1.0, 0.0, True)
    for offset in range(force.getNumExceptionParameterOffsets()):
        name, exception, *_ = force.getExceptionParameterOffset(offset)
        if set(force.getExceptionParameters(exception)[:2]) <= chosen:
            force.setExceptionParameterOffset(offset, name, exception, 0.0, 0.0, 0.0)
    periodic = force.usesPeriodicBoundaryConditions()  # chosen particles may be of many molecules
    force.setExceptionsUsePeriodicBoundaryConditions(periodic)


def _exclude_custom(force: openmm.CustomNonbondedForce, placement: Placement) -> None:
    known = {frozenset(force.getExclusionParticles(number)) for number in range(force.getNumExclusions())}
    for i, j in itertools.combinations(placement.particles, 2):
        if frozenset((i, j)) not in known:
            force.addExclusion(i, j)


def _blank_others(force: openmm.NonbondedForce, placement: Placement) -> None:
    """Leave only interactions among chosen particles."""
    _refuse_offsets(force)
    chosen = set(placement.particles)
    for particle in range(force.getNumParticles()):
        if particle not in chosen:
            force.setParticleParameters(particle, 0.0, 1.0, 0.0)
    for number in range(force.getNumExceptions()):
        i, j, *_ = force.getExceptionParameters(number)
        if not {i, j} <= chosen:
            force.setExceptionParameters(number, i, j, 0.0, 1.0, 0.0)
    force.setUseDispersionCorrection(False)
    force.setExceptionsUsePeriodicBoundaryConditions(force.usesPeriodicBoundaryConditions())


def _refuse_offsets(force: openmm.NonbondedForce) -> None:
    if force.getNumParticleParameterOffsets():
        raise ValueError(f"parameters of {force.getName()} depend on a global parameter: this cannot be taken apart")


def _drop_constraints(system: openmm.System, chosen: set[int]) -> None:
    inside = []
    for number in range(system.getNumConstraints()):
        i, j, _ = system.getConstraintParameters(number)
        if i in chosen and j in chosen:
            inside.append((number, f"{i}-{j}"))
    for number, _ in reversed(inside):
        system.removeConstraint(number)
    if inside:
        named = ", ".join(pair for _, pair in inside[:5]) + (", ..." if len(inside) > 5 else "")
        _log.warning("%d constraints between beads were removed (particles %s)", len(inside), named)
