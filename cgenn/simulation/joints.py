"""Bonded terms between atoms of oriented beads as native OpenMM forces; in torch they are in potential/prior_energy.py.

An atom of a rigid body is a fixed combination of its sites, sum_k w_k x_k + h n, with n = (x_2 - x_1) x (x_3 - x_1) for
atoms off the plane of three sites alone. So a term is an expression of the sites, and what it does to them adds up to
its force and torque on the beads: there are no particles for the atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import openmm

from cgenn.potential.linkage import Linkage
from cgenn.potential.priors import TermList
from cgenn.simulation.placement import Placement
from cgenn.simulation.rigid import RigidBeads
from cgenn.simulation.wells import wells_expression
from cgenn.topology import BeadTopology

_PLACED = 1e-9
"""How near to its place an atom must come [nm]."""

_COORDINATE = {"bond wells": "pointdistance({})", "angle wells": "pointangle({})"}
_ENERGY = {
    "bonds": ("0.5*k*(pointdistance({})-length)^2", ("length", "k")),
    "angles": ("0.5*k*(pointangle({})-angle)^2", ("angle", "k")),
    "dihedrals": ("k*(1+cos(n*pointdihedral({})-phase))", ("n", "phase", "k")),
}


@dataclass(frozen=True)
class SitePoint:
    """A point as a combination of particles.

    Attributes:
        particles: of the first copy, counted from the particle at the centre of the first bead.
        weights: of their positions; they add up to one.
        height: along the normal of three sites, times its length [1/nm]; None for a point without such a part.
    """

    particles: tuple[int, ...]
    weights: tuple[float, ...]
    height: float | None = None


def site_points(topology: BeadTopology, linkage: Linkage) -> list[SitePoint]:
    """All points of a linkage.

    Raises:
        ValueError: if an atom is off the line of a linear body.
    """
    rigid = RigidBeads.of(topology)
    if rigid is None:
        return [SitePoint((bead,), (1.0,)) for bead in range(len(topology))]
    points = [SitePoint((center,), (1.0,)) for center in rigid.centers.tolist()]
    for number, (bead, place) in enumerate(zip(linkage.beads.tolist(), linkage.coordinates, strict=True)):
        sites = np.array(rigid.kinds[rigid.beads[bead]].coordinates)
        system = np.concatenate([sites.T, np.ones((1, len(sites)))])
        weights = np.linalg.lstsq(system, np.r_[place, 1.0], rcond=None)[0]
        left, height = place - weights @ sites, None
        if len(sites) == 3 and np.linalg.norm(left) > _PLACED:
            normal = np.cross(sites[1] - sites[0], sites[2] - sites[0])
            height = float(left @ normal / (normal @ normal))
            left = left - height * normal
        if np.linalg.norm(left) > _PLACED:
            raise ValueError(
                f"{linkage.names[len(topology) + number]!r} is bonded, but {np.linalg.norm(left):.2g} nm off the line "
                f"of bead {bead}, whose body is linear: nothing tells where it is"
            )
        points.append(SitePoint(tuple(rigid.sites(bead)), tuple(weights.tolist()), height))
    return points


def joint_forces(kind: str, terms: TermList, points: list[SitePoint], placement: Placement) -> list[openmm.Force]:
    """The terms of a kind, as `prior_forces` names them; one force for those whose points are made up alike."""
    made: dict[tuple, openmm.CustomCompoundBondForce] = {}
    for row, values in zip(terms.index.tolist(), terms.parameters.tolist(), strict=True):
        chosen = [points[point] for point in row]
        particles = list(dict.fromkeys(particle for point in chosen for particle in point.particles))
        pattern = tuple((*map(particles.index, point.particles), point.height is not None) for point in chosen)
        if pattern not in made:
            made[pattern] = _force(kind, pattern, len(particles), len(values))
        first = placement.copies[0][0]
        for copy in placement.copies:
            weights = [weight for point in chosen for weight in _numbers(point)]
            made[pattern].addBond([particle + copy[0] - first for particle in particles], [*values, *weights])
    return list(made.values())


def _numbers(point: SitePoint) -> Iterator[float]:
    """The parameters that a point needs."""
    if len(point.particles) > 1:
        yield from point.weights
    if point.height is not None:
        yield point.height


def _force(kind: str, pattern: tuple, particles: int, parameters: int) -> openmm.CustomCompoundBondForce:
    several = kind in _COORDINATE
    energy, known = wells_expression(_COORDINATE[kind], parameters) if several else _ENERGY[kind]
    names: list[str] = list(known)
    coordinates: list[str] = []
    for number, (*members, lifted) in enumerate(pattern):
        weights = [f"w{number}_{place}" for place in range(len(members))] if len(members) > 1 else []
        names += [*weights, f"h{number}"] if lifted else weights
        coordinates += [_coordinate(axis, members, weights, f"h{number}" if lifted else "") for axis in "xyz"]
    force = openmm.CustomCompoundBondForce(particles, energy.format(",".join(coordinates)))
    force.setName(kind.replace(" well", ""))
    for name in names:
        force.addPerBondParameter(name)
    return force


def _coordinate(axis: str, members: list[int], weights: list[str], height: str) -> str:
    """x, y or z of a point as an expression of its particles."""
    if not weights:
        return f"{axis}{members[0] + 1}"
    total = "+".join(f"{weight}*{axis}{member + 1}" for weight, member in zip(weights, members, strict=True))
    if not height:
        return total
    u, v = {"x": ("y", "z"), "y": ("z", "x"), "z": ("x", "y")}[axis]
    one, two, three = (member + 1 for member in members)
    return f"{total}+{height}*(({u}{two}-{u}{one})*({v}{three}-{v}{one})-({v}{two}-{v}{one})*({u}{three}-{u}{one}))"
