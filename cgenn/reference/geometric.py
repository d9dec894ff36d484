"""Lennard-Jones with geometric means as OpenMM's own kernel: the energy of a lookup table, several times faster."""

from __future__ import annotations

import numpy as np
import openmm
from jaxtyping import Float

_TABLE = "acoef(type1, type2)/r^12 - bcoef(type1, type2)/r^6"
_REPULSION, _ATTRACTION = 10.0, 0.005
"""Distances [nm] so long and so short that of a Lennard-Jones term one part alone is left between atoms."""


def use_native_lennard_jones(system: openmm.System) -> None:
    """Replace the table of a `LennardJonesForce` by two `NonbondedForce`s where its pairs are geometric means.

    With A_ij = (A_ii A_jj)^1/2 and B_ij likewise, A_ij / r^12 is a Lennard-Jones term of one very long sigma for all
    atoms, and -B_ij / r^6 one of a very short sigma: then the arithmetic mean of equal sigmas is what OPLS asks for,
    and the other part of each term is below 1e-8 of what it is added to, between 0.1 and 2 nm. Charges and r^-6 go
    into the `NonbondedForce` that is there, r^-12 into another. Anything else is left as it is.
    """
    forces = list(system.getForces())
    tables = [index for index, force in enumerate(forces) if _is_table(force)]
    charges = [force for force in forces if isinstance(force, openmm.NonbondedForce)]
    if len(tables) != 1 or len(charges) != 1 or not _is_idle(charges[0]):
        return
    table, attraction = forces[tables[0]], charges[0]
    a, b = (_of_atoms(table, index) for index in (0, 1))
    if a is None or b is None:
        return
    repulsion = openmm.NonbondedForce()
    repulsion.setName("Repulsion")
    repulsion.setNonbondedMethod(table.getNonbondedMethod())
    for force in (repulsion, attraction):
        force.setCutoffDistance(table.getCutoffDistance())
        force.setUseSwitchingFunction(table.getUseSwitchingFunction())
        force.setSwitchingDistance(table.getSwitchingDistance())
        force.setUseDispersionCorrection(table.getUseLongRangeCorrection())
    for atom, (hard, soft) in enumerate(zip(a, b, strict=True)):
        charge, _, _ = attraction.getParticleParameters(atom)
        repulsion.addParticle(0.0, _REPULSION, hard / (4.0 * _REPULSION**12))
        attraction.setParticleParameters(atom, charge, _ATTRACTION, soft / (4.0 * _ATTRACTION**6))
    for index in range(table.getNumExclusions()):
        repulsion.addException(*table.getExclusionParticles(index), 0.0, 1.0, 0.0)
    system.removeForce(tables[0])
    system.addForce(repulsion)


def _is_table(force: openmm.Force) -> bool:
    return (
        isinstance(force, openmm.CustomNonbondedForce)
        and force.getEnergyFunction().rstrip(";") == _TABLE
        and force.getNonbondedMethod() != openmm.CustomNonbondedForce.NoCutoff
        and force.getNumInteractionGroups() == 0
    )


def _is_idle(force: openmm.NonbondedForce) -> bool:
    """Whether it sums charges only."""
    return all(force.getParticleParameters(atom)[2]._value == 0.0 for atom in range(force.getNumParticles()))


def _of_atoms(table: openmm.CustomNonbondedForce, index: int) -> Float[np.ndarray, " atoms"] | None:
    """The coefficient of each atom with one of its kind; None if those of unlike atoms are not geometric means."""
    columns, rows, values = table.getTabulatedFunction(index).getFunctionParameters()
    pairs = np.array(values).reshape(rows, columns)
    own = np.diag(pairs)
    if not np.allclose(pairs, np.sqrt(np.outer(own, own)), rtol=1e-6, atol=0.0):
        return None
    types = [int(table.getParticleParameters(atom)[0]) for atom in range(table.getNumParticles())]
    return own[types]
