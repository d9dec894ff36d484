"""How a group of atoms is turned against a reference geometry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

_LINE = 0.05
"""Width over length of atoms that are on a line: those of linear molecules bend by so much."""


_VAGUE = 1e-4
"""Gap between the best fit and the next, by the square of the size of the reference, that tells no orientation."""


def inertia(
    masses: Float[np.ndarray, " atoms"], positions: Float[np.ndarray, "*groups atoms 3"]
) -> Float[np.ndarray, "*groups 3 3"]:
    """Inertia of atoms about their centre of mass [amu nm^2], sum_a m_a (r^2 - r r^T), from positions about it [nm]."""
    second = np.einsum("a,...ai,...aj->...ij", masses, positions, positions)
    return np.trace(second, axis1=-2, axis2=-1)[..., None, None] * np.eye(3) - second


def is_collinear(positions: Float[np.ndarray, "atoms 3"]) -> bool:
    """Whether atoms lie on a line through the origin, or nearly so."""
    widths = np.linalg.svd(positions, compute_uv=False)
    return bool(widths[1:].max(initial=0.0) <= _LINE * widths[0])


def superpose(
    reference: Float[np.ndarray, "atoms 3"],
    positions: Float[np.ndarray, "groups atoms 3"],
    name: Callable[[int], str] | None = None,
) -> Float[np.ndarray, "groups 3 3"]:
    """Rotations Q of least sum_a |r_a - Q c_a|^2, of reference c onto positions r, both about their centres of mass.

    All atoms count the same: those that touch the neighbours are the outer, light ones. On liquid benzene the forces of
    rigid molecules put in these places are 7 % closer to the real ones than with atoms weighted by mass, the torques
    11 %. The quaternion of Q is the eigenvector of the largest eigenvalue of a matrix of products of coordinates
    (Horn 1987, doi 10.1364/JOSAA.4.000629); it is a rotation also where a reflection would fit better.

    Raises:
        ValueError: if another rotation fits a group as well, as where its atoms are in one point or on a line; begins
            with the `name` of the group. Without names any of these rotations is taken.
    """
    s = np.einsum("ai,naj->nij", reference, positions)
    turn = np.stack([s[:, 1, 2] - s[:, 2, 1], s[:, 2, 0] - s[:, 0, 2], s[:, 0, 1] - s[:, 1, 0]], axis=1)
    trace = np.trace(s, axis1=1, axis2=2)
    products = np.empty((len(s), 4, 4))
    products[:, 0, 0] = trace
    products[:, 0, 1:] = products[:, 1:, 0] = turn
    products[:, 1:, 1:] = s + s.transpose(0, 2, 1) - trace[:, None, None] * np.eye(3)
    values, vectors = np.linalg.eigh(products)
    if name is not None:
        check_told(values[:, 3] - values[:, 2], reference, name)
    return Rotation.from_quat(vectors[:, :, -1], scalar_first=True).as_matrix()


def check_told(
    gaps: Float[np.ndarray, " groups"], reference: Float[np.ndarray, "atoms 3"], name: Callable[[int], str]
) -> None:
    """Complain about the first group of atoms whose orientation is not told, by what tells it [nm^2]."""
    vague = gaps <= _VAGUE * np.square(reference).sum()
    if vague.any():
        raise ValueError(
            f"{name(int(vague.argmax()))}: its atoms do not tell how it is turned: they are in one point, or on a line "
            "where those of the reference geometry are not"
        )


def turn_axis(
    before: Float[np.ndarray, "groups 3 3"], direction: Float[np.ndarray, "groups 3"]
) -> Float[np.ndarray, "groups 3 3"]:
    """The shortest rotations that bring the third axis of `before` into new directions of unit length, after `before`.

    This carries the frame of atoms on a line on from frame to frame: they do not say how they are turned about it.
    """
    old = before[:, :, 2]
    axis, cosine = np.cross(old, direction), np.sum(old * direction, axis=1)
    sine = np.linalg.norm(axis, axis=1)
    opposite = (sine < 1e-8)[:, None]
    axis = np.where(opposite, before[:, :, 0], axis / np.maximum(sine, 1e-8)[:, None])
    return Rotation.from_rotvec(axis * np.arctan2(sine, cosine)[:, None]).as_matrix() @ before


def continuous(
    quaternions: Float[np.ndarray, "frames beads 4"], before: Float[np.ndarray, "beads 4"] | None
) -> Float[np.ndarray, "frames beads 4"]:
    """The same rotations with the signs that make each frame follow closely on the one before it.

    Args:
        before: the last frame so far; None for none, then the first has w >= 0.
    """
    first = quaternions[:1, :, 0] if before is None else np.sum(quaternions[:1] * before, axis=-1)
    steps = np.concatenate([first, np.sum(quaternions[1:] * quaternions[:-1], axis=-1)])
    return quaternions * np.cumprod(np.where(steps < 0, -1.0, 1.0), axis=0)[..., None]
