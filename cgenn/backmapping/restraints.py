"""Springs that hold beads where they are and as they are turned, and walls that keep the hand of stereocentres."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import openmm
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from cgenn.backmapping.stereo import Stereocentres
from cgenn.mapping.frames import FrameMap, OrientedType

STIFFNESS = 1e6
"""Of the springs [kJ/mol/nm^2]."""
_HAND = 1e9
"""Of the walls that turn a stereocentre back [kJ/mol/nm^6]."""
_OPEN = 0.5
"""Part of its usual volume at which the wall of a stereocentre begins."""


@dataclass
class BeadRestraints:
    """The springs of all beads in one System.

    Attributes:
        frames: from atoms to beads.
        force_group: theirs.
    """

    frames: FrameMap
    force_group: int
    _centres: openmm.CustomCentroidBondForce = field(init=False)
    _turns: list[tuple[OrientedType, openmm.CustomCompoundBondForce]] = field(init=False)

    def add_to(self, system: openmm.System, centres: Stereocentres) -> None:
        """Add all forces to a System, which must live as long as this."""
        self._centres = self._centre_force(system.usesPeriodicBoundaryConditions())
        self._turns = [(one, _turn_force(one)) for one in self.frames.types]
        for force in (self._centres, *(force for _, force in self._turns), _hand_force(centres)):
            force.setForceGroup(self.force_group)
            system.addForce(force)

    def _centre_force(self, periodic: bool) -> openmm.CustomCentroidBondForce:
        force = openmm.CustomCentroidBondForce(1, f"{STIFFNESS}/2*pointdistance(x1,y1,z1,x0,y0,z0)^2")
        for axis in ("x0", "y0", "z0"):
            force.addPerBondParameter(axis)
        matrix = self.frames.mapping.matrix
        for bead in range(matrix.shape[0]):
            part = slice(matrix.indptr[bead], matrix.indptr[bead + 1])
            force.addGroup(matrix.indices[part].tolist(), matrix.data[part].tolist())
            force.addBond([bead], [0.0, 0.0, 0.0])
        force.setUsesPeriodicBoundaryConditions(periodic)
        return force

    def set_targets(self, context: openmm.Context, targets: Targets) -> None:
        """Hold the beads of a Context there."""
        for bead, place in enumerate(targets.positions.tolist()):
            self._centres.setBondParameters(bead, [bead], place)
        self._centres.updateParametersInContext(context)
        for one, force in self._turns:
            arms = targets.arms(one).reshape(len(one.beads), -1)
            for row, atoms in enumerate(one.atoms.tolist()):
                force.setBondParameters(row, atoms, arms[row].tolist())
            force.updateParametersInContext(context)


@dataclass(frozen=True, eq=False)
class Targets:
    """What springs pull beads to.

    Attributes:
        positions: shape (beads, 3) [nm].
        orientations: unit quaternions (w, x, y, z), shape (beads, 4).
    """

    positions: Float[np.ndarray, "beads 3"]
    orientations: Float[np.ndarray, "beads 4"]

    def arms(self, one: OrientedType) -> Float[np.ndarray, "beads atoms 3"]:
        """d_a, the body turned as it should be, such that sum_a d_a x r_a is zero if the atoms are turned like it.

        A rotation Q of least square deviation of Q c_a from r_a has sum_a Q c_a x (r_a - R) = 0, with R the centre of
        mass: the sum over a of d_a = Q (c_a - m_a / M sum_b c_b) x r_a is the same. They are divided by the size of the
        body, so that the sum is a length.
        """
        body, masses = np.array(one.body.coordinates), np.array(one.body.masses)
        arms = body - np.outer(masses / masses.sum(), body.sum(axis=0))
        arms /= np.sqrt(np.square(body).sum())
        matrices = Rotation.from_quat(self.orientations[one.beads], scalar_first=True).as_matrix()
        return np.einsum("nij,aj->nai", matrices, arms)


def _turn_force(one: OrientedType) -> openmm.CustomCompoundBondForce:
    n = one.atoms.shape[1]
    parts = []
    for i, j in (("y", "z"), ("z", "x"), ("x", "y")):
        parts.append("+".join(f"d{i}{a}*{j}{a}-d{j}{a}*{i}{a}" for a in range(1, n + 1)))
    sums = "; ".join(f"t{axis}={part}" for axis, part in zip("xyz", parts, strict=True))
    force = openmm.CustomCompoundBondForce(n, f"{STIFFNESS}/2*(tx^2+ty^2+tz^2); {sums}")
    for a in range(1, n + 1):
        for axis in "xyz":
            force.addPerBondParameter(f"d{axis}{a}")
    for atoms in one.atoms.tolist():
        force.addBond(atoms, [0.0] * (3 * n))
    return force


def _hand_force(centres: Stereocentres) -> openmm.CustomCompoundBondForce:
    """Walls where the volume of a stereocentre falls below half of what it should be; nothing otherwise."""
    volume = "a0*(b1*c2-b2*c1)+a1*(b2*c0-b0*c2)+a2*(b0*c1-b1*c0)"
    named = "; ".join(
        f"{name}{axis}={letter}{k}-{letter}4"
        for k, name in enumerate("abc", start=1)
        for axis, letter in enumerate("xyz")
    )
    force = openmm.CustomCompoundBondForce(4, f"{_HAND}*max(0, {_OPEN}-v/v0)^2*v0^2; v={volume}; {named}")
    force.addPerBondParameter("v0")
    for centre, neighbours, usual in zip(
        centres.centres.tolist(), centres.neighbours.tolist(), centres.volumes.tolist(), strict=True
    ):
        force.addBond([*neighbours, centre], [usual])
    return force
