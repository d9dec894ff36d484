"""Constant charges as OpenMM's own forces, and the parameter that scales all charges of a potential.

In a box there is a NonbondedForce with PME; in open space pairs are listed, or summed up by a CustomNonbondedForce.
They are in group `ELECTROSTATICS_GROUP`, have names that begin with "electrostatics", and know the global parameter
`lambda_electrostatics`, 1 by default: charges are multiplied by it, and their energy by its square. Charges that the
network predicts are part of the learned force, which knows the same parameter.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Collection

import numpy as np
import openmm
from jaxtyping import Float

from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig, group_index, group_totals
from cgenn.potential.potential import Potential
from cgenn.simulation.bonded import EXPLICIT_PAIRS, add_beads, apart
from cgenn.simulation.force import LAMBDA
from cgenn.simulation.placement import Placement
from cgenn.topology import BeadTopology
from cgenn.units import COULOMB

ELECTROSTATICS_GROUP = 2
"""Force group of constant charges; the learned force is in group 0, the priors are in group 1."""

SHRINKING = 0.9
"""The cutoff leaves room for a box that shrinks by this factor."""

UNUSUAL = 0.5
"""A total of predicted charges this far from that of the bead types is told [e]."""

WHOLE = 0.05
"""A total of constant charges this far from a whole number, or from that of the topology, is told [e]."""

_log = logging.getLogger(__name__)


def type_charges(potential: Potential, topology: BeadTopology) -> Float[np.ndarray, " beads"]:
    """The charge that a potential gives to the type of each bead [e]."""
    return np.array(potential.config.type_charges)[potential.type_indices(topology).numpy()]


def charge_forces(
    charges: Float[np.ndarray, " beads"],
    topology: BeadTopology,
    placement: Placement,
    config: ElectrostaticsConfig,
    box: Float[np.ndarray, "3 3"] | None = None,
) -> list[openmm.Force]:
    """The Coulomb energy of constant charges [e] on the beads of a topology; `box` [nm] is that of the start.

    E = sum_{i<j} q_i q_j erf(r / 2 sigma) / (4 pi epsilon_0 r) over all images, without the pairs that the
    configuration excludes; sigma is its `smearing`, and 1/r stands there without it. A net charge in a box has a
    uniform background, which is said aloud.

    Raises:
        ValueError: if the box is too small for the cutoff, or a slab is asked for, which OpenMM does not know.
    """
    if config.slab:
        raise ValueError("OpenMM's own forces know no slab: the learned force has to sum up the charges")
    if not charges.any():
        return []
    excluded = set(map(tuple, topology.bonded_pairs(config.excluded_bonds).tolist()))
    near = set(map(tuple, topology.excluded_pairs.tolist()))
    forces: list[openmm.Force] = []
    if placement.periodic:
        if box is None:
            raise ValueError("`box` is missing: charges in a periodic System need it")
        announce_background(float(charges.sum()))
        forces += _pme(charges, topology, placement, config, box)
        forces += _smeared_background(float(charges.sum()), config.smearing)
        forces += _pairs(charges, sorted(near - excluded), placement, config.smearing)
    elif len(topology) <= EXPLICIT_PAIRS:
        every = set(itertools.combinations(range(len(topology)), 2))
        forces += _pairs(charges, sorted(every - excluded), placement, config.smearing)
    else:
        forces += _open(charges, topology, placement, config.smearing)
        forces += _pairs(charges, sorted(near - excluded), placement, config.smearing)
    for force in forces:
        force.setForceGroup(ELECTROSTATICS_GROUP)
    return forces


def native_cutoff(box: Float[np.ndarray, "3 3"], beads: int, config: ElectrostaticsConfig) -> float:
    """Cutoff in real space [nm] of PME in OpenMM, which wants at most half the width of the box.

    Three times the distance between beads, (V/N)^(1/3), unless the configuration says otherwise.

    Raises:
        ValueError: if the box is too small for it, or for the smearing.
    """
    width = float(np.diag(box).min())
    smeared = 2 * config.smearing * math.sqrt(-math.log(config.accuracy))
    if config.cutoff is not None:
        if 2 * config.cutoff > width:
            raise ValueError(
                f"the cutoff of the electrostatics is {config.cutoff:.3f} nm, but the box is {width:.3f} nm wide and "
                "OpenMM needs at least twice the cutoff: use a larger box or a shorter cutoff"
            )
        cutoff = config.cutoff
    else:
        spacing = float(np.prod(np.diag(box)) / beads) ** (1 / 3)
        cutoff = min(max(3 * spacing, smeared), 0.5 * SHRINKING * width)
    if smeared > cutoff:
        raise ValueError(
            f"charges smeared over {config.smearing:.3f} nm need a cutoff of {smeared:.3f} nm for an accuracy of "
            f"{config.accuracy:g}, but it is {cutoff:.3f} nm in a box {width:.3f} nm wide"
        )
    return cutoff


def electrostatics_derivative(context: openmm.Context, groups: Collection[int] | None = None) -> float:
    """dE/d lambda [kJ/mol] at the present value of `lambda_electrostatics`, of all or some force groups.

    The energy is E_0 + lambda^2 E_1, so that the derivative is 2 lambda (E(1) - E(0)): two evaluations. Parameter and
    positions are afterwards what they were.

    Raises:
        ValueError: if the Context has no such parameter.
    """
    if LAMBDA not in context.getParameters():
        raise ValueError(f"the Context has no parameter {LAMBDA!r}: its potential has no electrostatics")
    present = context.getParameter(LAMBDA)
    energies = []
    try:
        for value in (1.0, 0.0):
            context.setParameter(LAMBDA, value)
            state = context.getState(energy=True, **({} if groups is None else {"groups": set(groups)}))
            energies.append(state.getPotentialEnergy()._value)
    finally:
        context.setParameter(LAMBDA, present)
    return 2 * present * (energies[0] - energies[1])


def constant_charges_energy(context: openmm.Context) -> float:
    """Energy of constant charges with each other in the present state [kJ/mol], whatever force group they are in.

    Where other forces are in their groups, or they are part of another force, it is what depends on
    `lambda_electrostatics`: E = E_0 + lambda^2 E_1, two evaluations.
    """
    if LAMBDA not in context.getParameters():
        return 0.0  # all beads are neutral
    system = context.getSystem()
    forces = [(force.getName().startswith("electrostatics"), force.getForceGroup()) for force in system.getForces()]
    groups, others = ({group for ours, group in forces if ours is wanted} for wanted in (True, False))
    if groups and not groups & others:
        return context.getState(energy=True, groups=groups).getPotentialEnergy()._value
    return 0.5 * context.getParameter(LAMBDA) * electrostatics_derivative(context, groups or None)


def announce_background(total: float) -> None:
    """Say aloud that a net charge [e] in a box comes with a uniform background."""
    if abs(total) > 1e-6:
        _log.warning(
            "the charges add up to %+.6g e in a periodic box: a uniform background of the opposite charge is assumed",
            total,
        )


def announce_totals(potential: Potential, topology: BeadTopology) -> None:
    """Say aloud where charges do not add up to what they should.

    Predicted ones add up to those of the topology: where that is very different from those of the bead types, such as
    for single ions of a topology that was made without charges, each of which would have the charge zero. Constant ones
    add up to those of the bead types: where the topology has charges and knows better.
    """
    config = potential.config.electrostatics
    if config is None:
        return
    predicted = config.charges == "predicted"
    groups = config.groups if predicted else "molecule"
    index = group_index(topology, groups)
    usual, wanted = (group_totals(charges, index) for charges in (type_charges(potential, topology), topology.charges))
    worst = int(np.abs(usual - wanted).argmax())
    apart, place = abs(usual[worst] - wanted[worst]), (groups, worst, int(np.argmax(index == worst)))
    if not predicted:
        if topology.charges.any() and apart > WHOLE:
            _log.warning(
                "the charges of %s %d, which begins with bead %d, add up to %+.3g e in the topology, but the constant "
                "charges of its bead types, which are used, to %+.3g e: predict charges to keep totals",
                *place, wanted[worst], usual[worst],
            )  # fmt: skip
    elif apart > max(UNUSUAL, 0.1 * abs(usual[worst])):
        _log.warning(
            "the charges of %s %d, which begins with bead %d, add up to %+.3g e in the topology, but those of its bead "
            "types in the training data to %+.3g e: does the topology have its charges?",
            *place, wanted[worst], usual[worst],
        )  # fmt: skip


def announce_type_means(config: PotentialConfig, beads: BeadTopology) -> None:
    """Say aloud where mean charges of bead types, taken for want of better ones, leave a group with part of a charge.

    Only for a potential that reads the charges of the beads, or lets its own add up to theirs.
    """
    predicted = config.electrostatics is not None and config.electrostatics.charges == "predicted"
    if not predicted and "charge" not in config.bead_features:
        return
    groups = "molecule" if config.electrostatics is None else config.electrostatics.groups
    index = group_index(beads, groups)
    totals = group_totals(beads.charges, index)
    broken = np.flatnonzero(np.abs(totals - totals.round()) > WHOLE)
    if len(broken):
        first = int(broken[0])
        _log.warning(
            "the mean charges of bead types add up to %+.3g e, not to a whole number, in %s %d, which begins with bead "
            "%d (%d such): pass the charges of the beads as `charges` [e]",
            totals[first], groups, first, int(np.argmax(index == first)), len(broken),
        )  # fmt: skip


def _pme(
    charges: np.ndarray, topology: BeadTopology, placement: Placement, config: ElectrostaticsConfig, box: np.ndarray
) -> list[openmm.Force]:
    """Without the pairs up to three bonds apart: OpenMM wants all nonbonded forces to exclude the same pairs."""
    cutoff = native_cutoff(box, placement.n_bodies, config)
    force = openmm.NonbondedForce()
    force.setName("electrostatics")
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(cutoff)
    force.setEwaldErrorTolerance(config.accuracy)
    force.setExceptionsUsePeriodicBoundaryConditions(True)
    force.addGlobalParameter(LAMBDA, 1.0)
    for _ in range(placement.n_particles):
        force.addParticle(0.0, 1.0, 0.0)
    for copy in placement.copies:
        for particle, charge in zip(copy, charges.tolist(), strict=True):
            force.addParticleParameterOffset(LAMBDA, particle, charge, 0.0, 0.0)
        for i, j in topology.excluded_pairs.tolist():
            force.addException(copy[i], copy[j], 0.0, 1.0, 0.0)
    forces = [force]
    if config.smearing:
        smeared = _between(charges, topology, placement, f"-erfc(r/{2 * config.smearing!r})/r")
        smeared.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        smeared.setCutoffDistance(cutoff)
        smeared.setName("electrostatics (smearing)")
        forces.append(smeared)
    return [apart(*forces)] if placement.shared else forces


def _smeared_background(total: float, smearing: float) -> list[openmm.Force]:
    """2 pi sigma^2 Q^2 / V: the background of smeared charges [e], less that of point charges in OpenMM's PME."""
    strength = 2 * math.pi * COULOMB * (smearing * total) ** 2
    if strength < 1e-10:
        return []
    force = openmm.CustomVolumeForce(f"{LAMBDA}^2*{strength!r}/v")
    force.addGlobalParameter(LAMBDA, 1.0)
    force.setName("electrostatics (background)")
    return [force]


def _open(charges: np.ndarray, topology: BeadTopology, placement: Placement, smearing: float) -> list[openmm.Force]:
    force = _between(charges, topology, placement, _interaction(smearing))
    force.setNonbondedMethod(openmm.CustomNonbondedForce.NoCutoff)
    force.setName("electrostatics")
    return [apart(force)]


def _between(
    charges: np.ndarray, topology: BeadTopology, placement: Placement, function: str
) -> openmm.CustomNonbondedForce:
    force = openmm.CustomNonbondedForce(f"{LAMBDA}^2*{COULOMB!r}*charge1*charge2*{function}")
    force.addGlobalParameter(LAMBDA, 1.0)
    force.addPerParticleParameter("charge")
    add_beads(force, topology, placement, charges[:, None].tolist(), [0.0])
    return force


def _pairs(
    charges: np.ndarray, pairs: list[tuple[int, int]], placement: Placement, smearing: float
) -> list[openmm.Force]:
    """Pairs one by one, nearest images."""
    force = openmm.CustomBondForce(f"{LAMBDA}^2*{COULOMB!r}*charges*{_interaction(smearing)}")
    force.setName("electrostatics (pairs)")
    force.addGlobalParameter(LAMBDA, 1.0)
    force.addPerBondParameter("charges")
    force.setUsesPeriodicBoundaryConditions(placement.periodic)
    products = [(i, j, float(charges[i] * charges[j])) for i, j in pairs if charges[i] and charges[j]]
    for copy in placement.copies:
        for i, j, product in products:
            force.addBond(copy[i], copy[j], [product])
    return [force] if products else []


def _interaction(smearing: float) -> str:
    return f"erf(r/{2 * smearing!r})/r" if smearing else "1/r"
