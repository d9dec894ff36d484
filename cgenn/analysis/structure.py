"""Internal coordinates: distances, angles and dihedrals, vectorised over frames, with or without a periodic cell."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float, Int

_SHIFTS = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))


def heights(box: Float[np.ndarray, "*frames 3 3"]) -> Float[np.ndarray, "*frames 3"]:
    """Distances between opposite faces of a cell whose box vectors are the rows of `box` [nm]."""
    return 1.0 / np.linalg.norm(np.linalg.inv(box), axis=-2)


def minimum_image(
    vectors: Float[np.ndarray, "frames n 3"], box: Float[np.ndarray, "frames 3 3"]
) -> Float[np.ndarray, "frames n 3"]:
    """The shortest periodic image of each vector [nm], for any cell in reduced form (as OpenMM and GROMACS use).

    Rounding the fractional coordinates is exact below half the shortest height of the cell, as s_i = d . n_i / h_i;
    what is left longer than that is compared with its 26 neighbour images.
    """
    wrapped = vectors - np.rint(vectors @ np.linalg.inv(box)) @ box
    limit = 0.5 * heights(box).min(axis=-1)
    frame, row = np.nonzero(np.einsum("fnx,fnx->fn", wrapped, wrapped) > limit[:, None] ** 2)
    if len(frame):
        images = wrapped[frame, row][:, None] + np.einsum("sa,nax->nsx", _SHIFTS, box[frame])
        shortest = np.einsum("nsx,nsx->ns", images, images).argmin(axis=1)
        wrapped[frame, row] = images[np.arange(len(frame)), shortest]
    return wrapped


def displacements(
    positions: Float[np.ndarray, "frames beads 3"],
    pairs: Int[np.ndarray, "n 2"],
    box: Float[np.ndarray, "frames 3 3"] | None = None,
) -> Float[np.ndarray, "frames n 3"]:
    """r_j - r_i [nm] for each pair (i, j); the nearest image if a box is given."""
    vectors = positions[:, pairs[:, 1]] - positions[:, pairs[:, 0]]
    return vectors if box is None else minimum_image(vectors, box)


def distances(
    positions: Float[np.ndarray, "frames beads 3"],
    pairs: Int[np.ndarray, "n 2"],
    box: Float[np.ndarray, "frames 3 3"] | None = None,
) -> Float[np.ndarray, "frames n"]:
    """|r_j - r_i| [nm] for each pair (i, j)."""
    return np.linalg.norm(displacements(positions, pairs, box), axis=-1)


def angles(
    positions: Float[np.ndarray, "frames beads 3"],
    triples: Int[np.ndarray, "n 3"],
    box: Float[np.ndarray, "frames 3 3"] | None = None,
) -> Float[np.ndarray, "frames n"]:
    """Angle at the middle bead of each triple (i, j, k), 0 ... pi [rad]: atan2(|u x v|, u . v)."""
    u = displacements(positions, triples[:, [1, 0]], box)
    v = displacements(positions, triples[:, [1, 2]], box)
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), np.einsum("fnx,fnx->fn", u, v))


def dihedrals(
    positions: Float[np.ndarray, "frames beads 3"],
    quadruples: Int[np.ndarray, "n 4"],
    box: Float[np.ndarray, "frames 3 3"] | None = None,
) -> Float[np.ndarray, "frames n"]:
    """Dihedral i-j-k-l, -pi ... pi [rad], with the IUPAC sign: trans is pi, clockwise seen along j->k is positive.

    atan2(|b2| b1 . (b2 x b3), (b1 x b2) . (b2 x b3)) with b1 = r_j - r_i, b2 = r_k - r_j, b3 = r_l - r_k
    (Blondel and Karplus 1996).
    """
    b1 = displacements(positions, quadruples[:, [0, 1]], box)
    b2 = displacements(positions, quadruples[:, [1, 2]], box)
    b3 = displacements(positions, quadruples[:, [2, 3]], box)
    normal = np.cross(b2, b3)
    sine = np.linalg.norm(b2, axis=-1) * np.einsum("fnx,fnx->fn", b1, normal)
    return np.arctan2(sine, np.einsum("fnx,fnx->fn", np.cross(b1, b2), normal))
