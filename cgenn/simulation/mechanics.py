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
from cgenn.simulation.rigid import RigidBeads, RigidKind, as_quaternions
from cgenn.topology import BeadTopology
from cgenn.units import GAS_CONSTANT, thermal_energy

WIDE_TURN, HOPELESS_TURN = 0.15, 0.3
"""Turns in a time step, dt sqrt(kT / I), that a run warns of and that it refuses [rad].

Seen with water as one bead, I = 0.0061 amu nm^2, and 216 molecules of TIP3P at 300 K: at 5 fs (0.10) nothing; at 8 fs
(0.16) without a thermostat 13 % too hot within 10 ps; at 9 fs (0.18) NaN within 5 ps; from 10 fs (0.20) on NaN within
0.2 ps. Of 400 free bodies in 500 steps with a thermostat some that need four sites fail at 0.2, three sites at 0.25,
two at 0.3: the fastest of many turns several times as far, and the constraints then have no solution.
"""


def check_turns(topology: BeadTopology, timestep: float, temperature: float) -> str | None:
    """What is to be said of the lightest axis of all oriented beads, if it turns far in a time step [ps]; else None.

    Raises:
        ValueError: saying the same, if it turns so far that the constraints cannot be solved.
    """
    axes = []
    for name, body in topology.bodies.items():
        kind = RigidKind.of(body, float(topology.masses[topology.types.index(name)]), name)
        turning = body.inertia[: 2 if len(kind.masses) == 2 else 3]  # nothing turns a linear one about itself
        axes += [(moment, "xyz"[axis], name) for axis, moment in enumerate(turning)]
    if not axes:
        return None
    moment, axis, name = min(axes)
    rate = (thermal_energy(temperature) / moment) ** 0.5
    if (turn := timestep * rate) <= WIDE_TURN:
        return None
    said = (
        f"a time step of {timestep:g} ps is too long for bead type {name!r}: its moment of inertia about {axis} is "
        f"{moment:.4g} amu nm^2, so at {temperature:g} K it turns by {turn:.2g} rad in a step. Use at most "
        f"{WIDE_TURN / rate:.2g} ps"
    )
    if turn > HOPELESS_TURN:
        raise ValueError(said)
    return said


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
