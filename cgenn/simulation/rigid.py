"""Oriented beads as rigid groups of point masses, which OpenMM integrates as they are: no integrator of its own.

A body of mass M whose second moments S = sum_a m_a r_a r_a^T = tr(I)/2 - I have principal values S1 >= S2 >= S3 is
replaced by point masses of the same mass, centre and inertia: two of them if it is linear (S2 = 0), three of equal mass
if it is planar (S3 = 0), else four of equal mass, r_i = sqrt(S/M) (+-1, +-1, +-1). All distances between them are
constraints. Three form a triangle with two equal sides and equal masses, which SETTLE solves; the others are for CCMA.

In a System every bead is a particle at its centre. If the bead is oriented, this particle has no mass: it is a virtual
site, and the point masses, its sites, come after it. Forces between bead centres act as they do on other beads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import openmm
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from cgenn.body import Body, rotation_matrices
from cgenn.config import Config
from cgenn.simulation.site_map import SiteMap
from cgenn.topology import BeadTopology

FLAT = 1e-4
"""Below this part of the largest second moment another one counts as zero."""

CONSTRAINT_TOLERANCE = 1e-6
"""Of the distances between sites, relative: what the energy is conserved with at long time steps."""

ROUNDED = 1e-5
"""Relative difference of masses that are the same."""

AXIAL = ("Cinfv", "Dinfh", "Cinfh")
"""Point groups of bodies that look the same however they are turned about z."""


class RigidKind(Config):
    """The sites of all beads of one type.

    Attributes:
        masses: of the sites [amu].
        coordinates: in the frame of the body, about its centre of mass [nm].
    """

    masses: tuple[float, ...]
    coordinates: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, body: Body, mass: float, name: str = "") -> RigidKind:
        """Of beads of type `name` and `mass` [amu].

        Raises:
            ValueError: if the body is linear, but its symmetry or its axis is not that of a linear one.
        """
        inertia = np.array(body.inertia)
        spread = np.maximum(inertia.sum() / 2 - inertia, 0.0)
        order = np.argsort(-spread, kind="stable")
        longest, second, third = spread[order]
        lengths = np.sqrt(spread[order] / mass)
        if second < FLAT * longest:
            if body.symmetry not in AXIAL or order[0] != 2:
                raise ValueError(
                    f"bead type {name!r}: a body with the moments {body.inertia} amu nm^2 is linear, which its "
                    f"symmetry {body.symmetry!r} does not allow: expected {' or '.join(AXIAL)} and a moment of zero "
                    "about z"
                )
            sites = lengths[0] * np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
        elif third < FLAT * longest:
            base, half = lengths[0] / np.sqrt(2), lengths[1] * np.sqrt(1.5)
            sites = np.array([[2 * base, 0.0, 0.0], [-base, half, 0.0], [-base, -half, 0.0]])
        else:
            sites = lengths * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
        turned = np.zeros_like(sites)
        turned[:, order] = sites
        return cls(masses=(mass / len(sites),) * len(sites), coordinates=tuple(map(tuple, turned.tolist())))

    @property
    def constraints(self) -> list[tuple[int, int, float]]:
        """Pairs of sites and their distance [nm]; equal sides of a triangle are equal to the last bit."""
        points = np.array(self.coordinates)
        pairs = combinations(range(len(points)), 2)
        return [(i, j, float(np.linalg.norm(points[i] - points[j]))) for i, j in pairs]


@dataclass(frozen=True, eq=False)
class RigidBeads:
    """Which beads of one copy of a system are oriented, and what their sites are.

    Attributes:
        kinds: the different kinds of oriented beads.
        beads: which kind each bead is of, -1 for those without an orientation.
    """

    kinds: tuple[RigidKind, ...]
    beads: tuple[int, ...]

    @classmethod
    def of(cls, topology: BeadTopology) -> RigidBeads | None:
        """Of the beads of a topology; None if none of them has an orientation.

        Raises:
            ValueError: if beads of one type differ in mass, or a linear body is not declared as such.
        """
        if not topology.oriented.any():
            return None
        names = [name for name in dict.fromkeys(topology.types) if name in topology.bodies]
        masses: dict[str, float] = {}
        for bead, (name, mass) in enumerate(zip(topology.types, topology.masses.tolist(), strict=True)):
            if name in topology.bodies and abs(masses.setdefault(name, mass) - mass) > ROUNDED * mass:
                raise ValueError(
                    f"bead {bead} has a mass of {mass} amu, others of its type {name!r} of {masses[name]} amu: "
                    "oriented beads of one type must have one mass"
                )
        kinds = tuple(RigidKind.of(topology.bodies[name], masses[name], name) for name in names)
        number = {name: kind for kind, name in enumerate(names)}
        return cls(kinds=kinds, beads=tuple(number.get(name, -1) for name in topology.types))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {"kinds": [kind.model_dump() for kind in self.kinds], "beads": list(self.beads)}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> RigidBeads:
        """The inverse of `to_dict`."""
        kinds = tuple(RigidKind.parse(kind, "an oriented bead") for kind in entries["kinds"])
        return cls(kinds, tuple(entries["beads"]))

    # ---- particles

    @cached_property
    def counts(self) -> Int[np.ndarray, " beads"]:
        """Sites of each bead."""
        sizes = np.array([*(len(kind.masses) for kind in self.kinds), 0])
        return sizes[list(self.beads)]

    @property
    def n_particles(self) -> int:
        """Particles of one copy."""
        return len(self.beads) + int(self.counts.sum())

    @cached_property
    def centers(self) -> Int[np.ndarray, " beads"]:
        """The particle at the centre of each bead."""
        return np.cumsum(1 + self.counts) - 1 - self.counts

    def sites(self, bead: int) -> range:
        """The particles that are the sites of a bead."""
        center = int(self.centers[bead])
        return range(center + 1, center + 1 + int(self.counts[bead]))

    @property
    def rotations(self) -> int:
        """Degrees of freedom of rotation of one copy: three of each oriented bead, two of a linear one."""
        return sum(2 if size == 2 else 3 for size in self.counts if size)

    def bead_masses(self, system: openmm.System) -> Float[np.ndarray, " beads"]:
        """Masses of the beads of one copy in a System [amu]."""
        particles = [[int(self.centers[bead]), *self.sites(bead)] for bead in range(len(self.beads))]
        return np.array([sum(system.getParticleMass(i)._value for i in chosen) for chosen in particles])

    def add_to(self, system: openmm.System, masses: Float[np.ndarray, " beads"]) -> None:
        """Add the particles of one copy with their constraints and virtual sites; `masses` of the beads [amu]."""
        first = system.getNumParticles()
        for _ in range(self.n_particles):
            system.addParticle(0.0)
        self.prepare(system, masses, first)

    def prepare(self, system: openmm.System, masses: Float[np.ndarray, " beads"], first: int = 0) -> None:
        """The same with particles that are there already, from `first` on."""
        for kind, center, mass in zip(self.beads, (first + self.centers).tolist(), masses.tolist(), strict=True):
            if kind < 0:
                system.setParticleMass(center, mass)
                continue
            model = self.kinds[kind]
            sites = list(range(center + 1, center + 1 + len(model.masses)))
            for site, share in zip(sites, model.masses, strict=True):
                system.setParticleMass(site, share)
            system.setParticleMass(center, 0.0)
            system.setVirtualSite(center, _center_of(sites))
            for i, j, distance in model.constraints:
                system.addConstraint(sites[i], sites[j], distance)

    # ---- frames

    @cached_property
    def map(self) -> SiteMap:
        """The map between sites and beads on the CPU."""
        return self.map_on(torch.device("cpu"))

    def map_on(self, device: torch.device) -> SiteMap:
        """The map between sites and beads on a device."""
        kinds = [(np.array(kind.masses), np.array(kind.coordinates)) for kind in self.kinds]
        return SiteMap(kinds, np.array(self.beads), self.centers, device)

    def to_sites(
        self, positions: Float[np.ndarray, "*frames beads 3"], orientations: Float[np.ndarray, "*frames beads 4"]
    ) -> Float[np.ndarray, "*frames particles 3"]:
        """All particles [nm] of beads at these positions, with these unit quaternions (w, x, y, z)."""
        matrices = rotation_matrices(np.asarray(orientations, dtype=float))
        return self.map.to_sites(torch.tensor(positions, dtype=torch.float64), torch.from_numpy(matrices)).numpy()

    def to_beads(
        self, particles: Float[np.ndarray, "*frames particles 3"]
    ) -> tuple[Float[np.ndarray, "*frames beads 3"], Float[np.ndarray, "*frames beads 4"]]:
        """Positions [nm] and unit quaternions (w, x, y, z) of the beads; w is not negative."""
        positions, matrices = self.map.to_beads(torch.tensor(particles, dtype=torch.float64))
        return positions.numpy(), as_quaternions(matrices.numpy())


def with_bodies(topology: BeadTopology, bodies: Mapping[str, Body]) -> BeadTopology:
    """The same beads, oriented where the energy depends on it: where their type is in `bodies`, those of a potential.

    Raises:
        ValueError: if the topology has another body for such a type, so that its orientations mean something else.
    """
    chosen = {name: body for name, body in bodies.items() if name in topology.types}
    for name, body in chosen.items():
        if not topology.bodies.get(name, body).is_like(body):
            raise ValueError(
                f"the body of bead type {name!r} has other atoms or axes in the topology than in the model: its "
                "orientations must be those of the mapping that the model was trained with"
            )
    return topology.with_bodies(bodies)


def as_quaternions(orientations: Float[np.ndarray, "*frames beads 3 3"]) -> Float[np.ndarray, "*frames beads 4"]:
    """Unit quaternions (w, x, y, z) with w >= 0, from matrices with the axes as columns."""
    flat = Rotation.from_matrix(orientations.reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    return flat.reshape(*orientations.shape[:-2], 4)


def _center_of(sites: list[int]) -> openmm.VirtualSite:
    """The mean of sites of equal mass."""
    if len(sites) == 2:
        return openmm.TwoParticleAverageSite(*sites, 0.5, 0.5)
    if len(sites) == 3:
        return openmm.ThreeParticleAverageSite(*sites, 1 / 3, 1 / 3, 1 - 2 / 3)
    x, y = [1.0, -1.0, 0.0, 0.0], [1.0, 0.0, -1.0, 0.0]
    return openmm.LocalCoordinatesSite(sites, [0.25] * 4, x, y, openmm.Vec3(0, 0, 0))
