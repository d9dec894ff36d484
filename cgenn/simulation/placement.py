"""Which particles of an OpenMM System are the beads of a topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cgenn.simulation.rigid import RigidBeads


@dataclass(frozen=True)
class Placement:
    """The beads of one topology, once or several times, among the particles of a System.

    Attributes:
        copies: the particles of each copy, in the order of the beads; copies do not feel each other.
        n_particles: of the whole System.
        periodic: whether there is a box.
        shared: whether other forces act there: OpenMM wants all nonbonded forces of a System to exclude the same pairs.
        members: all particles that the learned force sees, in its order, where there are more than the beads: the sites
            of oriented beads come after the particle at their centre.
    """

    copies: tuple[tuple[int, ...], ...]
    n_particles: int
    periodic: bool = False
    shared: bool = False
    members: tuple[int, ...] = ()

    @classmethod
    def replicas(
        cls, beads: int, replicas: int = 1, *, periodic: bool = False, rigid: RigidBeads | None = None
    ) -> Self:
        """All particles: copies of `beads` beads, one after the other, with the sites of the oriented ones."""
        if rigid is not None:
            each, centers = rigid.n_particles, rigid.centers.tolist()
            copies = tuple(tuple(center + each * copy for center in centers) for copy in range(replicas))
            return cls(copies, each * replicas, periodic, members=tuple(range(each * replicas)))
        starts = range(0, beads * replicas, beads)
        return cls(tuple(tuple(range(start, start + beads)) for start in starts), beads * replicas, periodic)

    @classmethod
    def among(cls, particles: Sequence[int] | np.ndarray, n_particles: int, *, periodic: bool = False) -> Self:
        """One copy, its beads being `particles` of a System with other particles or other forces.

        Raises:
            ValueError: if a particle is not there or named twice, or these are not whole numbers in a row.
        """
        given = np.asarray(particles)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ValueError(
                f"`particles` must be whole numbers in a row, got shape {given.shape} of {given.dtype.name}"
            )
        chosen = tuple(int(particle) for particle in particles)
        if not chosen:
            raise ValueError("`particles` must name at least one particle, got none")
        wrong = [particle for particle in chosen if not 0 <= particle < n_particles]
        if wrong:
            raise ValueError(f"`particles` names particle {wrong[0]}, but the System has {n_particles}, counted from 0")
        if len(set(chosen)) < len(chosen):
            twice = next(particle for particle in chosen if chosen.count(particle) > 1)
            raise ValueError(f"`particles` names particle {twice} more than once")
        return cls((chosen,), n_particles, periodic, shared=True)

    @property
    def particles(self) -> tuple[int, ...]:
        """All beads, one copy after the other."""
        return tuple(particle for copy in self.copies for particle in copy)

    @property
    def n_bodies(self) -> int:
        """Particles of the System, an oriented bead with its sites being one."""
        return self.n_particles - max(len(self.members) - len(self.particles), 0)

    @property
    def subset(self) -> tuple[int, ...] | None:
        """What the learned force sees, or None where this is simply all particles in their order."""
        chosen = self.members or self.particles
        return None if chosen == tuple(range(self.n_particles)) else chosen
