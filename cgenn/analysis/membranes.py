"""Bilayers of lipids: leaflets, area per lipid, thickness, order of the tails, density profile.

The normal is z. Heads and tail ends are arrays of the z of one bead each, or its position, of every lipid, molecules
whole; nothing has to be centred, and the bilayer may lie across the boundary.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def leaflets(
    heads: Float[np.ndarray, "frames lipids"], ends: Float[np.ndarray, "frames lipids"]
) -> Int[np.ndarray, "frames lipids"]:
    """+1 for lipids whose head is above their tails, -1 for the others: local, so that undulations do not matter.

    Args:
        heads: z of the heads [nm].
        ends: mean z of the ends of the tails of the same molecule [nm].
    """
    return np.where(heads > ends, 1, -1)


def bilayer_centre(
    ends: Float[np.ndarray, "frames lipids"], height: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, " frames"]:
    """z of the middle of the bilayer [nm]: the mean of the tail ends on the circle that a periodic box is.

    Args:
        ends: z of the ends of the tails [nm].
        height: of the box along z [nm].
    """
    angles = 2.0 * np.pi * ends / height[:, None]
    return np.angle(np.exp(1j * angles).mean(axis=1)) / (2.0 * np.pi) * height


def from_centre(
    z: Float[np.ndarray, "frames n"], centre: Float[np.ndarray, " frames"], height: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames n"]:
    """z about the middle of the bilayer, the nearest image [nm]."""
    left = z - centre[:, None]
    return left - np.rint(left / height[:, None]) * height[:, None]


def in_place(
    heads: Float[np.ndarray, "frames lipids"], sides: Int[np.ndarray, "frames lipids"]
) -> Float[np.ndarray, " frames"]:
    """Share of the lipids whose head is on the side of the middle to which they point: 1 in a bilayer, 1/2 in a mess.

    Args:
        heads: z about the middle [nm].
        sides: see `leaflets`.
    """
    return (np.sign(heads) == sides).mean(axis=1)


def area_per_lipid(box: Float[np.ndarray, "frames 3 3"], lipids: int) -> Float[np.ndarray, " frames"]:
    """Area of the box across z, twice, over the number of lipids in both leaflets [nm^2].

    Raises:
        ValueError: if there is no lipid, or the box is tilted against z.
    """
    if lipids < 1:
        raise ValueError(f"`lipids` must be at least 1, got {lipids}")
    if not is_level(box):
        raise ValueError("the area per lipid needs a box with two vectors across z and one along it")
    return 2.0 * np.abs(np.linalg.det(box[:, :2, :2])) / lipids


def is_level(box: Float[np.ndarray, "frames 3 3"]) -> bool:
    """Whether two box vectors lie across z and the third along it."""
    return bool(np.abs(box[:, :2, 2]).max() < 1e-6 and np.abs(box[:, 2, :2]).max() < 1e-6)


def thickness(
    heads: Float[np.ndarray, "frames lipids"], sides: Int[np.ndarray, "frames lipids"]
) -> Float[np.ndarray, " frames"]:
    """Mean z of the heads of the upper leaflet less that of the lower one [nm]; NaN where one is empty.

    Args:
        heads: z about the middle [nm]; those of phosphates give the distance of the peaks of their density.
        sides: see `leaflets`.
    """
    upper, lower = (sides > 0).sum(axis=1), (sides < 0).sum(axis=1)
    both = (upper > 0) & (lower > 0)
    means = [
        np.where(sides * sign > 0, heads, 0.0).sum(axis=1) / np.maximum(n, 1) for sign, n in ((1, upper), (-1, lower))
    ]
    return np.where(both, means[0] - means[1], np.nan)


def bond_order(vectors: Float[np.ndarray, "frames bonds 3"]) -> Float[np.ndarray, "frames bonds"]:
    """P2 = (3 cos^2 - 1) / 2 of the angle between a bond and the normal: 1 along it, -1/2 across, 0 without order."""
    cosine = vectors[..., 2] / np.linalg.norm(vectors, axis=-1)
    return 1.5 * np.square(cosine) - 0.5


def density_profile(
    z: Float[np.ndarray, "frames n"],
    masses: Float[np.ndarray, " n"],
    area: Float[np.ndarray, " frames"],
    edges: Float[np.ndarray, " edges"],
) -> Float[np.ndarray, "frames bins"]:
    """Mass per volume of slices across z in each frame [amu/nm^3].

    Args:
        z: about the middle of the bilayer [nm].
        masses: [amu].
        area: of the box across z, both leaflets share it [nm^2].
        edges: of the slices, equally wide [nm].
    """
    bins = len(edges) - 1
    column = np.floor((z - edges[0]) / (edges[-1] - edges[0]) * bins).astype(np.int64)
    frame, bead = np.nonzero((column >= 0) & (column < bins))
    flat = frame * bins + column[frame, bead]
    sums = np.bincount(flat, masses[bead], len(z) * bins).reshape(len(z), bins)
    return sums / (area[:, None] * np.diff(edges))
