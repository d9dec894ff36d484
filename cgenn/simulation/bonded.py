"""The priors as native OpenMM forces; the same terms in torch are in potential/bonded.py and potential/repulsion.py.

Every force is in group `PRIOR_GROUP` and carries the name of its term: "bonds", "angles", "dihedrals", "repulsion".
Terms without a parameter for the topology at hand are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import openmm

from cgenn.potential.priors import REPULSION_RANGE, Priors, TermList
from cgenn.topology import BeadTopology

PRIOR_GROUP = 1
"""Force group of the priors; the learned force is in group 0."""

EXPLICIT_PAIRS = 64
"""Up to this many beads, an open system's repulsion is a list of pairs; beyond, OpenMM looks for neighbours."""

_WCA = "step(range*sigma-r)*(4*epsilon*((sigma/r)^12-(sigma/r)^6)+epsilon)"


def prior_forces(
    priors: Priors, topology: BeadTopology, *, replicas: int = 1, periodic: bool = False
) -> list[openmm.Force]:
    """The forces of all priors on `replicas` copies of a topology that do not feel each other."""
    forces = [
        *_bonds(priors.bond_terms(topology), len(topology), replicas),
        *_angles(priors.angle_terms(topology), len(topology), replicas),
        *_dihedrals(priors.dihedral_terms(topology), len(topology), replicas),
    ]
    if not periodic and len(topology) <= EXPLICIT_PAIRS:
        forces += _repulsion_pairs(priors, topology, replicas)
    else:
        forces += _repulsion_nonbonded(priors, topology, replicas, periodic)
    for force in forces:
        force.setForceGroup(PRIOR_GROUP)
    return forces


def _everywhere(terms: TermList, beads: int, replicas: int) -> Iterator[tuple[list[int], list[float]]]:
    rows, parameters = terms.index.tolist(), terms.parameters.tolist()
    for replica in range(replicas):
        for row, values in zip(rows, parameters, strict=True):
            yield [bead + replica * beads for bead in row], values


def _bonds(terms: TermList, beads: int, replicas: int) -> list[openmm.Force]:
    force = openmm.HarmonicBondForce()
    force.setName("bonds")
    for row, (length, k) in _everywhere(terms, beads, replicas):
        force.addBond(*row, length, k)
    return [force] if force.getNumBonds() else []


def _angles(terms: TermList, beads: int, replicas: int) -> list[openmm.Force]:
    force = openmm.HarmonicAngleForce()
    force.setName("angles")
    for row, (angle, k) in _everywhere(terms, beads, replicas):
        force.addAngle(*row, angle, k)
    return [force] if force.getNumAngles() else []


def _dihedrals(terms: TermList, beads: int, replicas: int) -> list[openmm.Force]:
    force = openmm.PeriodicTorsionForce()
    force.setName("dihedrals")
    for row, (n, phase, k) in _everywhere(terms, beads, replicas):
        force.addTorsion(*row, int(n), phase, k)
    return [force] if force.getNumTorsions() else []


def _repulsion_pairs(priors: Priors, topology: BeadTopology, replicas: int) -> list[openmm.Force]:
    kinds, number = _type_numbers(topology)
    sigma, epsilon = priors.repulsion_table(kinds)
    excluded = set(map(tuple, topology.excluded_pairs.tolist()))
    pairs = [
        (i, j, [sigma[number[i], number[j]].item(), epsilon[number[i], number[j]].item()])
        for i, j in itertools.combinations(range(len(topology)), 2)
        if (i, j) not in excluded and sigma[number[i], number[j]] > 0
    ]
    if not pairs:
        return []
    force = openmm.CustomBondForce(_WCA.replace("range", repr(REPULSION_RANGE)))
    force.setName("repulsion")
    force.addPerBondParameter("sigma")
    force.addPerBondParameter("epsilon")
    for replica in range(replicas):
        start = replica * len(topology)
        for i, j, parameters in pairs:
            force.addBond(start + i, start + j, parameters)
    return [force]


def _repulsion_nonbonded(priors: Priors, topology: BeadTopology, replicas: int, periodic: bool) -> list[openmm.Force]:
    kinds, number = _type_numbers(topology)
    sigma, epsilon = priors.repulsion_table(kinds)
    if not np.any(sigma > 0):
        return []
    lookup = "; sigma=sigmas(type1,type2); epsilon=epsilons(type1,type2)"
    force = openmm.CustomNonbondedForce(_WCA.replace("range", repr(REPULSION_RANGE)) + lookup)
    force.setName("repulsion")
    force.addTabulatedFunction("sigmas", openmm.Discrete2DFunction(*sigma.shape, sigma.flatten(order="F")))
    force.addTabulatedFunction("epsilons", openmm.Discrete2DFunction(*sigma.shape, epsilon.flatten(order="F")))
    force.addPerParticleParameter("type")
    kind = openmm.CustomNonbondedForce.CutoffPeriodic if periodic else openmm.CustomNonbondedForce.CutoffNonPeriodic
    force.setNonbondedMethod(kind)
    force.setCutoffDistance(REPULSION_RANGE * sigma.max().item())
    excluded = topology.excluded_pairs.tolist()
    for replica in range(replicas):
        start = replica * len(topology)
        for bead in number:
            force.addParticle([bead])
        for i, j in excluded:
            force.addExclusion(start + i, start + j)
        if replicas > 1:
            beads = range(start, start + len(topology))
            force.addInteractionGroup(beads, beads)
    return [force]


def _type_numbers(topology: BeadTopology) -> tuple[list[str], list[int]]:
    """The different bead types, and which of them each bead has."""
    kinds = sorted(set(topology.types))
    position = {name: index for index, name in enumerate(kinds)}
    return kinds, [position[name] for name in topology.types]
