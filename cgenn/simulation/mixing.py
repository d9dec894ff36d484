"""A force field's System in which the learned force takes over some of the particles.

What the force field says of these particles among themselves goes; what it says of them and the others stays. Charges
are counted once:

- A model without long-range electrostatics: pairs of the chosen particles are excluded in the force field's
  NonbondedForce. Under PME this removes the nearest images; farther images still act with the force field's charges.
- A model with it: the energy that the force field's PME gives to the chosen particles alone is subtracted, so that
  nothing of it remains, and the model's own is added.

Chosen particles and the others always interact by the charges of the force field.
"""

from __future__ import annotations

import itertools
import logging
from xml.etree import ElementTree

import openmm

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

_LONG_RANGE = (openmm.NonbondedForce.PME, openmm.NonbondedForce.LJPME, openmm.NonbondedForce.Ewald)
_WITHOUT_CUTOFF = (openmm.NonbondedForce.NoCutoff, *_LONG_RANGE)

_log = logging.getLogger(__name__)


def without_terms_among(
    system: openmm.System, placement: Placement, *, long_range: bool = False, keep_constraints: bool = False
) -> openmm.System:
    """A copy of a System without the interactions and constraints between particles of `placement`.

    A bonded term is dropped if all its particles are chosen. See the module's text for charges; `long_range` says that
    the model has electrostatics of its own.

    Raises:
        ValueError: if a force cannot be split, or the model has long-range electrostatics and the force field cuts its
            own off.
    """
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    for force in root.findall("./Forces/Force"):
        kind = force.attrib["type"]
        if kind in _BONDED:
            _drop_terms(force, set(placement.particles))
        elif kind not in _KEPT and kind not in ("NonbondedForce", "CustomNonbondedForce"):
            raise ValueError(
                f"the System holds a {kind}, of which cgenn does not know how to leave out the terms among chosen "
                "particles: make it without this force, or add the force afterwards"
            )
    result = openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))
    for force in result.getForces():
        if isinstance(force, openmm.NonbondedForce):
            if long_range:
                _check_method(force)
            _exclude(force, placement)
        elif isinstance(force, openmm.CustomNonbondedForce):
            _exclude_custom(force, placement)
    if long_range:
        for force in [force for force in result.getForces() if isinstance(force, openmm.NonbondedForce)]:
            _subtract_charges(result, force, placement)
    if not keep_constraints:
        _drop_constraints(result, set(placement.particles))
    return result


def _drop_terms(force: ElementTree.Element, chosen: set[int]) -> None:
    """Drop the terms whose particles, attributes p1, p2, ... or a1, ..., b1, ..., are all chosen."""
    for terms in [element for tag in ("Bonds", "Angles", "Torsions") for element in force.findall(tag)]:
        for term in list(terms):
            particles = {int(value) for name, value in term.attrib.items() if name[0] in "pab" and name[1:].isdigit()}
            if particles <= chosen:
                terms.remove(term)


def _exclude(force: openmm.NonbondedForce, placement: Placement) -> None:
    chosen = set(placement.particles)
    for i, j in itertools.combinations(placement.particles, 2):
        force.addException(i, j, 0.0, 1.0, 0.0, True)
    for offset in range(force.getNumExceptionParameterOffsets()):
        name, exception, *_ = force.getExceptionParameterOffset(offset)
        if set(force.getExceptionParameters(exception)[:2]) <= chosen:
            force.setExceptionParameterOffset(offset, name, exception, 0.0, 0.0, 0.0)
    force.setExceptionsUsePeriodicBoundaryConditions(placement.periodic)  # chosen particles may be of many molecules


def _exclude_custom(force: openmm.CustomNonbondedForce, placement: Placement) -> None:
    known = {frozenset(force.getExclusionParticles(number)) for number in range(force.getNumExclusions())}
    for i, j in itertools.combinations(placement.particles, 2):
        if frozenset((i, j)) not in known:
            force.addExclusion(i, j)


def _check_method(force: openmm.NonbondedForce) -> None:
    charged = any(force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles()))
    if charged and force.getNonbondedMethod() not in _WITHOUT_CUTOFF:
        raise ValueError(
            f"the model has long-range electrostatics (PME), but the {force.getName()} of the System cuts charges off "
            f"at {force.getCutoffDistance()._value:g} nm: make the System with PME, or without a cutoff in open space"
        )


def _subtract_charges(system: openmm.System, force: openmm.NonbondedForce, placement: Placement) -> None:
    """Add minus the energy that the force's PME gives to the charges of the chosen particles alone."""
    if force.getNonbondedMethod() not in _LONG_RANGE:
        return
    if any(force.getParticleParameterOffset(i)[2] for i in range(force.getNumParticleParameterOffsets())):
        raise ValueError(
            f"the charges of {force.getName()} depend on a global parameter: this cannot be mixed with PME"
        )
    alone = openmm.NonbondedForce()
    ewald = force.getNonbondedMethod() == openmm.NonbondedForce.Ewald
    alone.setNonbondedMethod(openmm.NonbondedForce.Ewald if ewald else openmm.NonbondedForce.PME)
    alone.setCutoffDistance(force.getCutoffDistance())
    alone.setEwaldErrorTolerance(force.getEwaldErrorTolerance())
    alone.setPMEParameters(*force.getPMEParameters())
    alone.setExceptionsUsePeriodicBoundaryConditions(True)
    chosen = set(placement.particles)
    for particle in range(system.getNumParticles()):
        charge = force.getParticleParameters(particle)[0] if particle in chosen else 0.0
        alone.addParticle(charge, 1.0, 0.0)
    for i, j in itertools.combinations(placement.particles, 2):
        alone.addException(i, j, 0.0, 1.0, 0.0)
    removed = openmm.CustomCVForce("-alone")
    removed.addCollectiveVariable("alone", alone)
    removed.setName("charges of the force field among the beads")
    removed.setForceGroup(force.getForceGroup())
    system.addForce(removed)


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
