"""The reference geometry that all oriented beads of a type share: its shape, its axes and its symmetry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cgenn.body import Body
from cgenn.mapping.definition import FrameRule
from cgenn.mapping.superposition import inertia, is_collinear, superpose
from cgenn.symmetry import point_group

_ALIKE = 0.05
"""Difference of two moments, relative to the largest, below which they count as equal: the principal axes of an average
would be left to its noise."""
_OFF = 0.005
"""Distance from an axis or plane from which on an atom counts as off it [nm]."""
_ASYMMETRY = 0.01
"""Largest distance of an atom from its place in the symmetric geometry [nm]."""
_IMAGES = 4
"""How many times that two images of an atom may be apart, for which axes along the average of few atoms are off."""
_ROUNDS = 50
_CONVERGED = 1e-7


def reference_body(
    rule: FrameRule,
    names: tuple[str, ...],
    masses: Float[np.ndarray, " atoms"],
    samples: Float[np.ndarray, "samples atoms 3"],
    purpose: str,
) -> Body:
    """The body of the average geometry.

    Args:
        rule: which axes it has, and its symmetry.
        names, masses: of its atoms [amu].
        samples: positions about the centre of mass, of several beads or frames [nm].
        purpose: the bead, for errors.

    Raises:
        ValueError: if the atoms are on a line and the symmetry is that of none, an axis cannot be told, an atom is not
            there, or the geometry does not have the symmetry.
    """
    group = point_group(rule.symmetry)
    mean = _average(samples)
    line = is_collinear(mean)
    if line and not group.continuous:
        raise ValueError(
            f"{purpose}: its atoms are on a line, so nothing tells how it is turned about it: the symmetry must be "
            f'"Cinfv" or "Dinfh", got {rule.symmetry!r}'
        )
    coordinates = mean @ _axes(rule, names, inertia(masses, mean), mean, _is_round(group.elements), purpose)
    if line:
        coordinates[:, :2] = 0.0
    if line or not group.continuous:
        coordinates = _symmetrised(coordinates, masses, group.elements, rule.symmetry, purpose)
        coordinates = _principal(masses, coordinates)
    moments = np.diag(inertia(masses, coordinates)).copy()
    if group.continuous:
        if abs(moments[0] - moments[1]) > _ALIKE * moments.max():
            raise ValueError(
                f"{purpose}: the symmetry {rule.symmetry!r} needs equal moments of inertia about x and y, got "
                f"{_listed(moments)} amu nm^2 about x, y and z"
            )
        moments[:2] = moments[:2].mean()
    entries = {
        "symmetry": rule.symmetry,
        "inertia": tuple(moments.tolist()),
        "names": names,
        "masses": tuple(masses.tolist()),
        "coordinates": tuple(map(tuple, coordinates.tolist())),
    }
    return Body.parse(entries, purpose)


def _average(samples: np.ndarray) -> Float[np.ndarray, "atoms 3"]:
    """Mean of the samples, each superposed on it."""
    mean = samples[0]
    for _ in range(_ROUNDS):
        before = mean
        mean = np.einsum("nji,naj->ai", superpose(before, samples), samples) / len(samples)
        if np.abs(mean - before).max() < _CONVERGED:
            break
    return mean


def _axes(
    rule: FrameRule, names: tuple[str, ...], tensor: np.ndarray, mean: np.ndarray, is_round: bool, purpose: str
) -> Float[np.ndarray, "3 3"]:
    """Axes x, y and z, as columns, by the rule; their signs by named atoms, or else by the first atoms off them."""
    z = _z_axis(rule, names, tensor, mean, purpose)
    x = _x_axis(rule, names, tensor, mean, z, is_round, purpose)
    if not rule.x:
        x = x * _sign(mean @ x)
    if not isinstance(rule.z, tuple):
        z = z * (_sign(mean @ z) if np.abs(mean @ z).max() > _OFF else _sign(mean @ np.cross(z, x)))
    return np.stack([x, np.cross(z, x), z], axis=1)


def _is_round(group: Float[np.ndarray, "operations 3 3"]) -> bool:
    """Whether the group makes the directions perpendicular to z equal, as a three-fold axis does."""
    return bool(np.abs(np.mean(group @ np.diag([1.0, -1.0, 0.0]) @ np.swapaxes(group, 1, 2), axis=0)).max() < 1e-6)


def _sign(coordinates: Float[np.ndarray, " atoms"]) -> float:
    """That of the first atom off zero."""
    off = np.flatnonzero(np.abs(coordinates) > _OFF)
    return 1.0 if not len(off) else float(np.sign(coordinates[off[0]]))


def _z_axis(
    rule: FrameRule, names: tuple[str, ...], tensor: np.ndarray, mean: np.ndarray, purpose: str
) -> Float[np.ndarray, " 3"]:
    moments, axes = np.linalg.eigh(tensor)
    gaps = np.diff(moments) / moments[2]
    if isinstance(rule.z, tuple):
        towards = _towards(rule.z, names, mean, purpose, "z")
        spaces = np.cumsum(np.r_[0, gaps > _ALIKE])
        parts = [(axes[:, spaces == one] @ axes[:, spaces == one].T) @ towards for one in range(spaces[-1] + 1)]
        nearest = max(parts, key=np.linalg.norm)
        return nearest / np.linalg.norm(nearest)
    number = {"smallest": 0, "middle": 1, "largest": 2, "unique": 2 if gaps[1] > gaps[0] else 0}[rule.z]
    if gaps[max(number - 1, 0) : number + 1].min() < _ALIKE:
        raise ValueError(
            f'{purpose}: `z` "{rule.z}" does not tell one axis, the moments are {_listed(moments)} amu nm^2: name '
            "atoms that the axis points to"
        )
    return axes[:, number]


def _x_axis(
    rule: FrameRule,
    names: tuple[str, ...],
    tensor: np.ndarray,
    mean: np.ndarray,
    z: np.ndarray,
    is_round: bool,
    purpose: str,
) -> Float[np.ndarray, " 3"]:
    """One of the principal axes perpendicular to z, or any direction there if their moments are equal."""
    flat = mean - np.outer(mean @ z, z)
    across = np.linalg.svd(z[None])[2][1:]
    moments, turn = np.linalg.eigh(across @ tensor @ across.T)
    axes, is_free = turn.T @ across, is_round or moments[1] - moments[0] < _ALIKE * np.trace(tensor) / 2
    off = np.flatnonzero(np.linalg.norm(flat, axis=1) > _OFF)
    if rule.x:
        towards = _towards(rule.x, names, flat, purpose, "x")
    else:
        towards = flat[off[0]] if is_free and len(off) else axes[0]
    if not is_free:
        towards = max((axis * (axis @ towards) for axis in axes), key=np.linalg.norm)
    return towards / np.linalg.norm(towards)


def _towards(
    wanted: tuple[str, ...], names: tuple[str, ...], positions: np.ndarray, purpose: str, key: str
) -> Float[np.ndarray, " 3"]:
    """Centroid of the named atoms."""
    if missing := set(wanted) - set(names):
        raise ValueError(f"{purpose}: `{key}` names the atom {min(missing)!r}, the bead has {', '.join(names)}")
    centroid = positions[np.isin(names, wanted)].mean(axis=0)
    if np.linalg.norm(centroid) < _OFF:
        raise ValueError(f"{purpose}: `{key}`: the centroid of {', '.join(wanted)} does not tell a direction")
    return centroid


def _symmetrised(
    coordinates: np.ndarray, masses: np.ndarray, group: Float[np.ndarray, "operations 3 3"], name: str, purpose: str
) -> Float[np.ndarray, "atoms 3"]:
    """Mean of the images of the geometry under all operations, its atoms relabelled as closely as can be."""
    total, farthest = np.zeros_like(coordinates), 0.0
    for operation in group:
        images = coordinates @ operation.T
        apart = cdist(coordinates, images)
        apart[np.abs(masses[:, None] - masses) > 1e-3] = 1e3
        atoms, sources = linear_sum_assignment(apart**2)
        farthest = max(farthest, apart[atoms, sources].max() / _IMAGES)
        total[atoms] += images[sources]
    symmetric = total / len(group)
    turned = coordinates @ superpose(coordinates, symmetric[None])[0].T
    if (worst := max(farthest, np.linalg.norm(turned - symmetric, axis=1).max())) > _ASYMMETRY:
        raise ValueError(
            f"{purpose}: the geometry does not have the symmetry {name!r} about its axes x and z: atoms are up to "
            f"{worst:.3f} nm from their places; tell the axes by `z` and `x`, or declare another symmetry"
        )
    return np.where(np.abs(symmetric) < 1e-12, 0.0, symmetric)


def _principal(masses: np.ndarray, coordinates: np.ndarray) -> Float[np.ndarray, "atoms 3"]:
    """Turned to the closest axes in which the inertia is diagonal to rounding."""
    tensor = inertia(masses, coordinates)
    if np.abs(tensor - np.diag(np.diag(tensor))).max() < 1e-12 * np.trace(tensor):
        return coordinates
    return coordinates @ closest_axes(np.linalg.eigh(tensor)[1][None], np.eye(3)[None])[0]


def closest_axes(
    axes: Float[np.ndarray, "groups 3 3"], target: Float[np.ndarray, "groups 3 3"]
) -> Float[np.ndarray, "groups 3 3"]:
    """The columns of `axes` in the order and with the signs that bring them closest to the rotations `target`."""
    overlaps = np.swapaxes(axes, 1, 2) @ target
    orders = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    scores = np.abs(overlaps[:, orders, np.arange(3)]).sum(axis=2)
    order = orders[np.argmax(scores, axis=1)]
    sorted_ = np.take_along_axis(axes, order[:, None, :], axis=2)
    signs = np.sign(np.sum(sorted_ * target, axis=1))
    result = sorted_ * np.where(signs == 0, 1.0, signs)[:, None, :]
    result[:, :, 2] *= np.linalg.det(result)[:, None]
    return result


def _listed(moments: np.ndarray) -> str:
    return ", ".join(f"{moment:.4g}" for moment in moments)
