"""What beads do: positions, orientations, velocities, forces, torques, temperatures, angular momenta."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # isort: skip  (before openmm, see backends.py)
import numpy as np
import openmm
from jaxtyping import Float
from torch import Tensor

from cgenn.body import rotation_matrices
from cgenn.h5md import Frames
from cgenn.simulation.rigid import RigidBeads, as_quaternions
from cgenn.topology import BeadTopology
from cgenn.units import GAS_CONSTANT


def bead_state(
    state: openmm.State, replicas: int, rigid: RigidBeads | None, *, velocities: bool = False, forces: bool = False
) -> dict[str, Float[np.ndarray, "replicas beads _"]]:
    """Positions [nm] and, where asked for, velocities [nm/ps] and forces [kJ/mol/nm] of the beads in a State.

    Where beads are oriented there are also orientations, as unit quaternions (w, x, y, z), angular velocities [1/ps]
    about the axes of space, and torques [kJ/mol]. They are named as in `Frames`.

    Raises:
        ValueError: if the State is not of so many copies of the beads.
    """
    particles = _split(state.getPositions(asNumpy=True), replicas)
    moving = _split(state.getVelocities(asNumpy=True), replicas) if velocities else None
    pulled = _split(state.getForces(asNumpy=True), replicas) if forces else None
    if rigid is None:
        found = {"positions": particles, "velocities": moving, "forces": pulled}
        return {name: values.numpy() for name, values in found.items() if values is not None}
    if particles.shape[1] != rigid.n_particles:
        raise ValueError(
            f"the State must hold {replicas} copies of {rigid.n_particles} particles, those of the beads and their "
            f"sites, got {particles.numel() // 3} particles"
        )
    positions, frames = rigid.map.to_beads(particles)
    result = {"positions": positions.numpy(), "orientations": as_quaternions(frames.numpy())}
    if moving is not None:
        linear, angular, _ = rigid.map.velocities(particles, moving)
        result |= {"velocities": linear.numpy(), "angular_velocities": angular.numpy()}
    if pulled is not None:
        total, torques = rigid.map.resultants(particles, pulled)
        result |= {"forces": total.numpy(), "torques": torques.numpy()}
    return result


def angular_momenta(topology: BeadTopology, frames: Frames) -> Float[np.ndarray, "frames beads 3"]:
    """L = Q I Q^T omega of each bead about its centre and the axes of space [amu nm^2/ps].

    I is that of the bodies of the topology, Q and omega are those of the frames; zero for beads without an orientation.

    Raises:
        ValueError: if the frames have no orientations or angular velocities.
    """
    if frames.orientations is None or frames.angular_velocities is None:
        missing = "orientations" if frames.orientations is None else "angular velocities"
        raise ValueError(f'the frames hold no {missing}: simulate oriented beads with `store` = ["velocities"]')
    still = (0.0, 0.0, 0.0)
    inertia = np.array([topology.bodies[name].inertia if name in topology.bodies else still for name in topology.types])
    turned = rotation_matrices(frames.orientations.astype(float))
    return np.einsum("fbxk,bk,fbyk,fby->fbx", turned, inertia, turned, frames.angular_velocities.astype(float))


@dataclass(frozen=True, eq=False)
class Thermometer:
    """Temperatures of a System with oriented beads, from their momenta and angular momenta.

    T = (sum M V^2 + sum omega L) / (f R). OpenMM's own kinetic energy, at time steps that suit rigid beads, reads up to
    6 % high: it counts what the velocities of sites hold along constraints.

    Attributes:
        rigid: the oriented beads of one copy.
        replicas: copies.
        masses: of the beads of one copy [amu].
        free: degrees of freedom of translation and of rotation.
    """

    rigid: RigidBeads
    replicas: int
    masses: Float[Tensor, " beads"]
    free: tuple[int, int]

    @classmethod
    def of(cls, system: openmm.System, rigid: RigidBeads) -> Thermometer:
        """For a System of copies of these beads.

        Raises:
            ValueError: if it is not one.
        """
        replicas, rest = divmod(system.getNumParticles(), rigid.n_particles)
        if rest or not replicas:
            raise ValueError(
                f"the System must hold copies of {rigid.n_particles} particles, those of the beads and their sites, "
                f"got {system.getNumParticles()} particles"
            )
        removed = 3 * any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
        free = max(3 * len(rigid.beads) * replicas - removed, 1), rigid.rotations * replicas
        return cls(rigid, replicas, torch.from_numpy(rigid.bead_masses(system)), free)

    def __call__(self, state: openmm.State) -> tuple[float, float, float]:
        """Temperature of all motion, of translation and of rotation [K]; the State holds positions and velocities."""
        linear, angular, momenta = self._velocities(state)
        translation = float((self.masses[:, None] * linear.square()).sum()) / GAS_CONSTANT
        rotation = float((angular * momenta).sum()) / GAS_CONSTANT
        first, second = self.free
        return (translation + rotation) / (first + second), translation / first, rotation / second

    def angular_momentum(self, state: openmm.State) -> float:
        """Length of the sum of the angular momenta of all bodies about their own centres [amu nm^2/ps]."""
        return float(self._velocities(state)[2].sum((0, 1)).norm())

    def _velocities(self, state: openmm.State) -> tuple[Tensor, Tensor, Tensor]:
        particles = _split(state.getPositions(asNumpy=True), self.replicas)
        return self.rigid.map.velocities(particles, _split(state.getVelocities(asNumpy=True), self.replicas))


def _split(values: openmm.unit.Quantity, replicas: int) -> Tensor:
    array = np.asarray(values._value)
    if len(array) % replicas:
        raise ValueError(f"the State holds {len(array)} particles, not those of {replicas} copies of the beads")
    return torch.tensor(array).unflatten(0, (replicas, -1))
