"""Orientations, torques and angular velocities of beads that stand for groups of atoms."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.mapping.definition import FrameRule
from cgenn.mapping.joints import find_joints
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.reference import closest_axes, reference_body
from cgenn.mapping.rigidity import Rigidity
from cgenn.mapping.superposition import check_told, continuous, inertia, is_collinear, superpose, turn_axis
from cgenn.topology import BeadTopology

_SAMPLES = 5000
"""Most conformations that a reference geometry is the average of."""
_DISTINCT = 0.05
"""Least difference of moments, relative to the largest, for principal axes of each frame: bonds vibrate."""
_TRIANGLE = 0.05
"""Least sine of the angle at the first of the three atoms of a frame."""


@dataclass(frozen=True, eq=False)
class OrientedType:
    """All beads of a type that has an orientation.

    Attributes:
        name: the type.
        rule: how its frame is told.
        body: its reference geometry.
        beads: shape (beads,).
        atoms: of each of them, shape (beads, atoms).
    """

    name: str
    rule: FrameRule
    body: Body
    beads: Int[np.ndarray, " beads"]
    atoms: Int[np.ndarray, "beads atoms"]


@dataclass(frozen=True, eq=False)
class MappedFrames:
    """What the atoms say of the oriented beads in some frames.

    Attributes:
        orientations: unit quaternions (w, x, y, z), (1, 0, 0, 0) for beads without, shape (frames, beads, 4).
        torques: tau = sum_a (r_a - R) x f_a about the centre of mass, zero for beads without an orientation, shape
            (frames, beads, 3) [kJ/mol]; None without forces.
        angular_velocities: I^-1 sum_a m_a (r_a - R) x v_a with the inertia of the frame, zero for beads without an
            orientation, shape (frames, beads, 3) [1/ps]; None without velocities.
        inertia: sum_a m_a (r^2 - r r^T), r = r_a - R, in space, by type, shape (frames, beads of the type, 3, 3)
            [amu nm^2].
        rigidity: how far the atoms are from the reference geometry, by type.
    """

    orientations: Float[np.ndarray, "frames beads 4"]
    torques: Float[np.ndarray, "frames beads 3"] | None
    angular_velocities: Float[np.ndarray, "frames beads 3"] | None
    inertia: dict[str, Float[np.ndarray, "frames beads 3 3"]]
    rigidity: dict[str, Rigidity]


@dataclass(frozen=True, eq=False)
class FrameMap:
    """From the positions, forces and velocities of atoms to the frames of oriented beads.

    Attributes:
        mapping: of the atoms to beads.
        types: those of the beads that have an orientation.
    """

    mapping: Mapping
    types: tuple[OrientedType, ...]

    @classmethod
    def build(
        cls,
        mapping: Mapping,
        positions: Float[np.ndarray, "frames atoms 3"],
        bodies: MappingType[str, Body] | None = None,
    ) -> FrameMap:
        """Find the reference geometry of each oriented type.

        Args:
            positions: some frames with whole molecules, whose average is the reference [nm].
            bodies: reference geometries known already, by type, for instance those of another dataset.

        Raises:
            ValueError: if beads of one type differ in their atoms, an axis or a symmetry cannot be told, or a body
                given is missing or of other atoms.
        """
        types = []
        for name, (rule, beads, atoms) in _groups(mapping).items():
            names, masses = _names(mapping, atoms[0]), mapping.atoms.masses[atoms[0]]
            purpose = f"bead type {name!r}"
            if bodies is not None:
                if name not in bodies:
                    raise ValueError(f"{purpose}: not among the bodies given, which are {', '.join(bodies) or 'none'}")
                body = bodies[name]
                _check_body(body, rule, names, masses, purpose)
            else:
                chosen = positions[:, atoms].reshape(-1, *atoms.shape[1:], 3)
                chosen = chosen[:: max(1, -(-len(chosen) // _SAMPLES))].astype(float)
                body = reference_body(rule, names, masses, _centred(masses, chosen)[0], purpose)
            types.append(OrientedType(name, rule, body, beads, atoms))
            _check_kind(types[-1])
        return cls(mapping, tuple(types))

    @property
    def topology(self) -> BeadTopology:
        """The beads, with their bodies and the atoms of these that are bonded to other beads."""
        bodies = {one.name: one.body for one in self.types}
        joints = find_joints(self.mapping, [(one.beads, one.atoms) for one in self.types])
        return replace(self.mapping.topology, bodies=bodies, joints=joints)

    def __call__(
        self,
        positions: Float[np.ndarray, "frames atoms 3"],
        forces: Float[np.ndarray, "frames atoms 3"] | None = None,
        velocities: Float[np.ndarray, "frames atoms 3"] | None = None,
        before: Float[np.ndarray, "beads 4"] | None = None,
        *,
        first: int = 0,
        stride: int = 1,
    ) -> MappedFrames:
        """Map frames that follow one another.

        Args:
            positions: with whole molecules [nm].
            forces: [kJ/mol/nm], velocities: [nm/ps].
            before: orientations in the frame before the first one; the signs of the quaternions go on from there, and
                so do the frames of atoms on a line.
            first: number of the first of the frames, and
            stride: how many lie between two of them, for errors.

        Raises:
            ValueError: if atoms do not tell how a bead is turned, being in one point or on a line; names the frame and
                the bead.
        """
        shape = (len(positions), len(self.mapping.topology))
        orientations = np.tile([1.0, 0.0, 0.0, 0.0], (*shape, 1))
        torques = None if forces is None else np.zeros((*shape, 3))
        turning = None if velocities is None else np.zeros((*shape, 3))
        tensors, rigidity = {}, {}
        for one in self.types:
            masses = np.array(one.body.masses)
            centred, _ = _centred(masses, positions[:, one.atoms].astype(float))
            name = partial(_place, one, first, stride)
            matrices, fitted = _orient(one, centred, None if before is None else before[one.beads], name)
            orientations[:, one.beads] = Rotation.from_matrix(matrices).as_quat(scalar_first=True)
            if torques is not None and forces is not None:
                torques[:, one.beads] = np.cross(centred, forces[:, one.atoms]).sum(axis=2)
            tensors[one.name] = tensor = inertia(masses, centred)
            if turning is not None and velocities is not None:
                turning[:, one.beads] = _angular_velocity(masses, tensor, centred, velocities[:, one.atoms])
            ideal = np.einsum("fnij,aj->fnai", fitted, np.array(one.body.coordinates))
            rigidity[one.name] = Rigidity.of(centred - ideal, tensor, matrices)
        return MappedFrames(continuous(orientations, before), torques, turning, tensors, rigidity)

    def rigidity(self, found: dict[str, Rigidity]) -> dict[str, Any]:
        """How rigid the groups of atoms are, by type; fit for JSON. See `Rigidity.report`."""
        return {one.name: found[one.name].report(one.body) for one in self.types}


def _groups(mapping: Mapping) -> dict[str, tuple[FrameRule, np.ndarray, np.ndarray]]:
    """The rule, beads and atoms of each type that has an orientation."""
    groups = {}
    types = np.array(mapping.topology.types)
    members = np.split(mapping.matrix.indices, mapping.matrix.indptr[1:-1])
    for name in dict.fromkeys(types[mapping.oriented].tolist()):
        beads = np.flatnonzero(types == name)
        rules = {mapping.definition.beads[rule].frame for rule in mapping.rules[beads].tolist()}
        rule = mapping.definition.beads[mapping.rules[beads[0]]].frame
        if rule is None or len(rules) > 1:
            raise ValueError(f"bead type {name!r}: beads of one type must all have the same `frame`")
        atoms = [np.sort(members[bead]) for bead in beads.tolist()]
        names = [_names(mapping, one) for one in atoms]
        for bead, found in zip(beads.tolist(), names, strict=True):
            if found != names[0]:
                raise ValueError(
                    f"bead type {name!r}: oriented beads of one type must have the same atoms in the same order, bead "
                    f"{beads[0]} has {', '.join(names[0])}, bead {bead} has {', '.join(found)}"
                )
        groups[name] = (rule, beads, np.stack(atoms))
    return groups


def _names(mapping: Mapping, atoms: Int[np.ndarray, " atoms"]) -> tuple[str, ...]:
    return tuple(mapping.atoms.topology.atom(atom).name for atom in atoms.tolist())


def _place(one: OrientedType, first: int, stride: int, group: int) -> str:
    """Frame and bead of one of the groups of atoms of some frames."""
    frame, bead = divmod(group, len(one.beads))
    return f"frame {(first + frame) * stride}, bead {one.beads[bead]} (type {one.name!r})"


def _check_kind(one: OrientedType) -> None:
    """Whether the rule can tell a frame of the reference geometry."""
    if one.rule.kind == "atoms":
        chosen = _chosen(one)
        _triads(np.array(one.body.coordinates)[None, chosen], one, lambda _: f"bead type {one.name!r}")
    moments = np.sort(one.body.inertia)
    if one.rule.kind == "principal" and np.diff(moments).min() < _DISTINCT * moments[2]:
        raise ValueError(
            f'bead type {one.name!r}: `kind` "principal" needs three different moments of inertia, got '
            f'{", ".join(f"{moment:.4g}" for moment in moments)} amu nm^2: use "superposition"'
        )


def _check_body(body: Body, rule: FrameRule, names: tuple[str, ...], masses: np.ndarray, purpose: str) -> None:
    if body.names != names or not np.allclose(body.masses, masses, rtol=1e-4) or body.symmetry != rule.symmetry:
        raise ValueError(
            f"{purpose}: the body given has the symmetry {body.symmetry!r} and the atoms {', '.join(body.names)}, the "
            f"mapping {rule.symmetry!r} and {', '.join(names)}, or their masses differ"
        )


def _centred(
    masses: Float[np.ndarray, " atoms"], positions: Float[np.ndarray, "*groups atoms 3"]
) -> tuple[Float[np.ndarray, "*groups atoms 3"], Float[np.ndarray, "*groups 3"]]:
    """Positions about the centre of mass, and where that is."""
    centre = np.einsum("a,...ai->...i", masses / masses.sum(), positions)
    return positions - centre[..., None, :], centre


def _orient(
    one: OrientedType,
    centred: Float[np.ndarray, "frames beads atoms 3"],
    before: Float[np.ndarray, "beads 4"] | None,
    name: Callable[[int], str],
) -> tuple[Float[np.ndarray, "frames beads 3 3"], Float[np.ndarray, "frames beads 3 3"]]:
    """Orientations by the rule, and those by superposition."""
    reference, masses = np.array(one.body.coordinates), np.array(one.body.masses)
    if is_collinear(reference):
        start = np.tile(np.eye(3), (len(one.beads), 1, 1))
        if before is not None:
            start = Rotation.from_quat(before, scalar_first=True).as_matrix()
        lines = np.einsum("a,fnai->fni", reference[:, 2], centred)
        check_told(np.linalg.norm(lines, axis=-1).ravel(), reference, name)
        carried = _carried(lines, start)
        return carried, carried
    flat = centred.reshape(-1, *centred.shape[2:])
    fitted = superpose(reference, flat, None if one.rule.kind == "atoms" else name)
    if one.rule.kind == "superposition":
        result = fitted
    elif one.rule.kind == "principal":
        result = closest_axes(np.linalg.eigh(inertia(masses, flat))[1], fitted)
    else:
        chosen = _chosen(one)
        still = _triads(reference[None, chosen], one, name)
        result = _triads(flat[:, chosen], one, name) @ still.transpose(0, 2, 1)
    return result.reshape(*centred.shape[:2], 3, 3), fitted.reshape(*centred.shape[:2], 3, 3)


def _carried(lines: Float[np.ndarray, "frames beads 3"], start: np.ndarray) -> Float[np.ndarray, "frames beads 3 3"]:
    """Frames whose z axis follows a line, with the shortest turn from each frame to the next."""
    result = np.empty((*lines.shape, 3))
    for frame, line in enumerate(lines):
        start = turn_axis(start, line / np.linalg.norm(line, axis=-1, keepdims=True))
        result[frame] = start
    return result


def _chosen(one: OrientedType) -> list[int]:
    """Places of the three atoms that the rule names."""
    for name in one.rule.atoms:
        if one.body.names.count(name) != 1:
            raise ValueError(
                f"bead type {one.name!r}: `frame.atoms` names {name!r}, expected one of the atoms "
                f"{', '.join(one.body.names)}"
            )
    return [one.body.names.index(name) for name in one.rule.atoms]


def _triads(
    corners: Float[np.ndarray, "groups 3 3"], one: OrientedType, name: Callable[[int], str]
) -> Float[np.ndarray, "groups 3 3"]:
    """Axes along the line from the first to the second atom, in the plane of the three, and perpendicular to it."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(first, second)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    straight = np.linalg.norm(normal, axis=1) <= _TRIANGLE * lengths
    if straight.any():
        raise ValueError(f"{name(int(straight.argmax()))}: `frame.atoms` {', '.join(one.rule.atoms)} are on a line")
    x, z = (axis / np.linalg.norm(axis, axis=1, keepdims=True) for axis in (first, normal))
    return np.stack([x, np.cross(z, x), z], axis=2)


def _angular_velocity(
    masses: np.ndarray,
    tensor: Float[np.ndarray, "frames beads 3 3"],
    centred: Float[np.ndarray, "frames beads atoms 3"],
    velocities: Float[np.ndarray, "frames beads atoms 3"],
) -> Float[np.ndarray, "frames beads 3"]:
    """I^-1 L; the part along the line of atoms on a line is zero."""
    momentum = np.einsum("a,fnai->fni", masses, np.cross(centred, velocities))
    inverse = np.linalg.pinv(tensor, rcond=1e-6, hermitian=True)
    return np.einsum("fnij,fnj->fni", inverse, momentum)
