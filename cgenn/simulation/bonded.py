"""The priors as native OpenMM forces; the same terms in torch are in potential/bonded.py and potential/repulsion.py.

Every force is in group `PRIOR_GROUP` and carries the name of its term: "bonds", "angles", "dihedrals", "repulsion",
"pairs", "ramp". Terms without a parameter for the topology at hand are left out. Those of atoms of oriented beads:
joints.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import openmm

from cgenn.potential.linkage import Linkage
from cgenn.potential.priors import REPULSION_RANGE, Priors, TermList
from cgenn.simulation.joints import joint_forces, site_points
from cgenn.simulation.placement import Placement
from cgenn.simulation.wells import wells_expression
from cgenn.topology import BeadTopology

PRIOR_GROUP = 1
"""Force group of the priors; the learned force is in group 0."""

EXPLICIT_PAIRS = 64
"""Up to this many beads, repulsion and ramp in open space are lists of pairs; beyond, OpenMM looks for neighbours."""

_WCA = "step(range*sigma-r)*(4*epsilon*((sigma/r)^12-(sigma/r)^6)+epsilon)"
_ROW = "type1*{0}+type2"
"""Of a table for pairs of types, which is symmetric."""
_RAMP = "step({range!r}-r)*{height!r}*(1-r/{range!r})"


def prior_forces(
    priors: Priors, topology: BeadTopology, placement: Placement, *, pairs: bool = True
) -> list[openmm.Force]:
    """The forces of all priors on the beads of a topology, with or without those of pairs."""
    terms = {
        "bonds": priors.bond_terms(topology),
        "angles": priors.angle_terms(topology),
        "bond wells": priors.bond_well_terms(topology),
        "angle wells": priors.angle_well_terms(topology),
        "dihedrals": priors.dihedral_terms(topology),
    }
    beads, joined = _parted(terms, len(topology))
    forces = [
        *_bonds(beads["bonds"], placement),
        *_angles(beads["angles"], placement),
        *_bond_wells(beads["bond wells"], placement),
        *_angle_wells(beads["angle wells"], placement),
        *_dihedrals(beads["dihedrals"], placement),
    ]
    if joined:
        points = site_points(topology, Linkage.of(topology))
        forces += [force for kind, rows in joined.items() for force in joint_forces(kind, rows, points, placement)]
    if pairs:
        forces += _pair_forces(priors, topology, placement)
    for force in forces:
        force.setForceGroup(PRIOR_GROUP)
    return forces


def _pair_forces(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    listed = (placement.shared or not placement.periodic) and len(topology) <= EXPLICIT_PAIRS
    repulsion, ramp = (_repulsion_pairs, _ramp_pairs) if listed else (_repulsion_nonbonded, _ramp_nonbonded)
    return [term for make in (repulsion, ramp, _splines) for term in make(priors, topology, placement)]


def _parted(terms: dict[str, TermList], beads: int) -> tuple[dict[str, TermList], dict[str, TermList]]:
    """Terms of beads alone, and those, if there are any, in which atoms of oriented beads take part."""
    masks = {kind: np.all(rows.index < beads, axis=1) for kind, rows in terms.items()}
    alone = {kind: TermList(rows.index[masks[kind]], rows.parameters[masks[kind]]) for kind, rows in terms.items()}
    joined = {kind: TermList(rows.index[~masks[kind]], rows.parameters[~masks[kind]]) for kind, rows in terms.items()}
    return alone, {kind: rows for kind, rows in joined.items() if len(rows.index)}


def _everywhere(terms: TermList, placement: Placement) -> Iterator[tuple[list[int], list[float]]]:
    rows, parameters = terms.index.tolist(), terms.parameters.tolist()
    for copy in placement.copies:
        for row, values in zip(rows, parameters, strict=True):
            yield [copy[bead] for bead in row], values


def _bonds(terms: TermList, placement: Placement) -> list[openmm.Force]:
    force = openmm.HarmonicBondForce()
    force.setName("bonds")
    for row, (length, k) in _everywhere(terms, placement):
        force.addBond(*row, length, k)
    return [force] if force.getNumBonds() else []


def _angles(terms: TermList, placement: Placement) -> list[openmm.Force]:
    force = openmm.HarmonicAngleForce()
    force.setName("angles")
    for row, (angle, k) in _everywhere(terms, placement):
        force.addAngle(*row, angle, k)
    return [force] if force.getNumAngles() else []


def _bond_wells(terms: TermList, placement: Placement) -> list[openmm.Force]:
    energy, names = wells_expression("r", terms.parameters.shape[1])
    force = openmm.CustomBondForce(energy)
    force.setName("bonds")
    for name in names:
        force.addPerBondParameter(name)
    for row, parameters in _everywhere(terms, placement):
        force.addBond(*row, parameters)
    return [force] if force.getNumBonds() else []


def _angle_wells(terms: TermList, placement: Placement) -> list[openmm.Force]:
    energy, names = wells_expression("theta", terms.parameters.shape[1])
    force = openmm.CustomAngleForce(energy)
    force.setName("angles")
    for name in names:
        force.addPerAngleParameter(name)
    for row, parameters in _everywhere(terms, placement):
        force.addAngle(*row, parameters)
    return [force] if force.getNumAngles() else []


def _dihedrals(terms: TermList, placement: Placement) -> list[openmm.Force]:
    force = openmm.PeriodicTorsionForce()
    force.setName("dihedrals")
    for row, (n, phase, k) in _everywhere(terms, placement):
        force.addTorsion(*row, int(n), phase, k)
    return [force] if force.getNumTorsions() else []


def pair_cutoff(priors: Priors, topology: BeadTopology) -> float:
    """Of all terms of pairs among the beads of a topology [nm], one for all as a GPU wants it; 0 if there are none."""
    sigma, _ = priors.repulsion_table(sorted(set(topology.types)))
    splines = priors.pairs if _has_splines(priors, topology) else None
    ranges = [prior.range for prior in (splines, priors.ramp) if prior]
    return max(REPULSION_RANGE * sigma.max().item(), *ranges, 0.0)


def _pairs(topology: BeadTopology) -> list[tuple[int, int]]:
    """Those of one copy that repulsion and ramp may act between."""
    excluded = set(map(tuple, topology.excluded_pairs.tolist()))
    return [pair for pair in itertools.combinations(range(len(topology)), 2) if pair not in excluded]


def _repulsion_pairs(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    kinds, number = type_numbers(topology.types)
    sigma, epsilon = priors.repulsion_table(kinds)
    pairs = [
        (i, j, [sigma[number[i], number[j]].item(), epsilon[number[i], number[j]].item()])
        for i, j in _pairs(topology)
        if sigma[number[i], number[j]] > 0
    ]
    if not pairs:
        return []
    force = openmm.CustomBondForce(_WCA.replace("range", repr(REPULSION_RANGE)))
    force.setName("repulsion")
    force.addPerBondParameter("sigma")
    force.addPerBondParameter("epsilon")
    force.setUsesPeriodicBoundaryConditions(placement.periodic)
    for copy in placement.copies:
        for i, j, parameters in pairs:
            force.addBond(copy[i], copy[j], parameters)
    return [force]


def _repulsion_nonbonded(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    kinds, number = type_numbers(topology.types)
    sigma, epsilon = priors.repulsion_table(kinds)
    if not np.any(sigma > 0):
        return []
    if placement.members:  # the sites of oriented beads are of a type that repels nothing
        sigma, epsilon = (np.pad(table, (0, 1)) for table in (sigma, epsilon))
    alike = np.unique(epsilon[sigma > 0])  # as a rule all are kT: lookups take most of the time
    known = f"epsilon={alike.item()!r}" if len(alike) == 1 else f"epsilon=epsilons({_ROW.format(len(sigma))})"
    lookup = f"; sigma=sigmas({_ROW.format(len(sigma))}); {known}"
    force = openmm.CustomNonbondedForce(_WCA.replace("range", repr(REPULSION_RANGE)) + lookup)
    force.setName("repulsion")
    force.addTabulatedFunction("sigmas", openmm.Discrete1DFunction(sigma.flatten()))
    if len(alike) > 1:
        force.addTabulatedFunction("epsilons", openmm.Discrete1DFunction(epsilon.flatten()))
    force.addPerParticleParameter("type")
    others = [len(kinds) if placement.members else 0.0]
    return [_within_cutoff(force, priors, topology, placement, [[kind] for kind in number], others)]


def _ramp_pairs(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    if priors.ramp is None:
        return []
    force = openmm.CustomBondForce(_RAMP.format(**dict(priors.ramp)))
    force.setName("ramp")
    force.setUsesPeriodicBoundaryConditions(placement.periodic)
    for copy in placement.copies:
        for i, j in _pairs(topology):
            force.addBond(copy[i], copy[j])
    return [force] if force.getNumBonds() else []


def _ramp_nonbonded(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    if priors.ramp is None:
        return []
    force = openmm.CustomNonbondedForce("bead1*bead2*" + _RAMP.format(**dict(priors.ramp)))
    force.setName("ramp")
    force.addPerParticleParameter("bead")  # the sites of oriented beads are none
    return [_within_cutoff(force, priors, topology, placement, [[1.0]] * len(topology), [0.0])]


def _has_splines(priors: Priors, topology: BeadTopology) -> bool:
    return priors.pairs is not None and bool(priors.pair_table(sorted(set(topology.types))).any())


def _splines(priors: Priors, topology: BeadTopology, placement: Placement) -> list[openmm.Force]:
    """A cubic B-spline that bends at neither end is the natural spline through its values at the knots."""
    if not _has_splines(priors, topology):
        return []
    assert priors.pairs is not None
    kinds, number = type_numbers(topology.types)
    table = priors.pair_table(kinds)
    knots = (table[..., :-2] + 4 * table[..., 1:-1] + table[..., 2:]) / 6
    if placement.members:  # the sites of oriented beads are of a type without splines
        knots = np.pad(knots, ((0, 1), (0, 1), (0, 0)))
    energy = f"step({priors.pairs.range!r}-r)*splines({_ROW.format(len(knots))},min(r,{priors.pairs.range!r}))"
    force = openmm.CustomNonbondedForce(energy)
    force.setName("pairs")
    rows = knots.reshape(len(knots) ** 2, -1)
    values = np.concatenate([rows, np.zeros((1, rows.shape[1]))])  # OpenMM wants two at least
    limits = (0.0, float(len(rows)), 0.0, priors.pairs.range)
    force.addTabulatedFunction(
        "splines", openmm.Continuous2DFunction(*values.shape, values.flatten(order="F"), *limits)
    )
    force.addPerParticleParameter("type")
    others = [len(kinds) if placement.members else 0.0]
    return [_within_cutoff(force, priors, topology, placement, [[kind] for kind in number], others)]


def _within_cutoff(
    force: openmm.CustomNonbondedForce,
    priors: Priors,
    topology: BeadTopology,
    placement: Placement,
    parameters: list[list[float]],
    others: list[float],
) -> openmm.Force:
    """A term of pairs with its beads (see `add_beads`) and the cutoff of all such terms."""
    kind = openmm.CustomNonbondedForce.CutoffPeriodic
    force.setNonbondedMethod(kind if placement.periodic else openmm.CustomNonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(pair_cutoff(priors, topology))
    add_beads(force, topology, placement, parameters, others)
    return apart(force) if placement.shared else force


def add_beads(
    force: openmm.CustomNonbondedForce,
    topology: BeadTopology,
    placement: Placement,
    parameters: list[list[float]],
    others: list[float],
) -> None:
    """Fill a nonbonded force: `parameters` of each bead, no interaction up to three bonds, copies do not interact.

    Particles that are no beads have the parameters `others`; they interact only if these say so.
    """
    values = dict(zip(placement.particles, parameters * len(placement.copies), strict=True))
    for particle in range(placement.n_particles):
        force.addParticle(values.get(particle, others))
    for copy in placement.copies:
        for i, j in topology.excluded_pairs.tolist():
            force.addExclusion(copy[i], copy[j])
        if len(copy) < placement.n_bodies:
            force.addInteractionGroup(copy, copy)


def apart(*forces: openmm.Force) -> openmm.CustomCVForce:
    """The sum of forces, evaluated on its own: its exclusions and cutoff need not be those of the System's others."""
    result = openmm.CustomCVForce("+".join(f"inner{number}" for number in range(len(forces))))
    result.setName(forces[0].getName())
    for number, force in enumerate(forces):
        result.addCollectiveVariable(f"inner{number}", force)
    return result


def type_numbers(types: Sequence[str]) -> tuple[list[str], list[int]]:
    """The different bead types, and which of them each bead has."""
    kinds = sorted(set(types))
    position = {name: index for index, name in enumerate(kinds)}
    return kinds, [position[name] for name in types]
