"""How beads are turned with respect to each other: correlation over distance and time, nematic order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import vesin
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.infrared import lagged_products
from cgenn.analysis.radial import RadialDistributions, chosen_frames, default_range
from cgenn.analysis.structure import heights


class Orientations(Protocol):
    """Unit vectors (frames, beads, 3) or unit quaternions (frames, beads, 4), in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, frames: Any, /) -> Any: ...


class Deviation(NamedTuple):
    """How far a function is from that of the reference.

    Attributes:
        value: of what was found; NaN if there is nothing to compare with.
        floor: what the standard errors of the two would make of no difference at all; NaN if one is not known.
    """

    value: float
    floor: float


@dataclass(frozen=True, eq=False)
class OrientationalCorrelation:
    """<P2(cos)>(r): the mean of (3 (u_i . u_j)^2 - 1) / 2 over pairs of beads at a distance r.

    1 where axes are parallel or opposite, -1/2 where they are at right angles, 0 where they know nothing of each other.

    Attributes:
        edges: bin edges [nm], shape (bins + 1,).
        counts: pairs found in each bin, shape (blocks, bins).
        sums: of P2 over them, shape (blocks, bins).
    """

    edges: Float[np.ndarray, " edges"]
    counts: Float[np.ndarray, "blocks bins"]
    sums: Float[np.ndarray, "blocks bins"]

    @property
    def r(self) -> Float[np.ndarray, " bins"]:
        """Bin centres [nm]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def p2(self) -> Float[np.ndarray, " bins"]:
        """The mean of each bin; NaN where there is no pair."""
        found = self.counts.sum(axis=0)
        return np.where(found > 0, self.sums.sum(axis=0) / np.maximum(found, 1), np.nan)

    @property
    def error(self) -> Float[np.ndarray, " bins"]:
        """Standard error of the mean of each bin from the blocks; NaN with fewer than two that have pairs."""
        used = (self.counts > 0).sum(axis=0)
        weights = self.counts / np.maximum(self.counts.sum(axis=0), 1)
        scatter = (self.sums / np.maximum(self.counts, 1) - self.p2) ** 2
        variance = used / np.maximum(used - 1, 1) * np.sum(weights**2 * scatter, axis=0)
        return np.where(used > 1, np.sqrt(variance), np.nan)

    @property
    def density(self) -> Float[np.ndarray, " bins"]:
        """Pairs per volume of a shell [1/nm^3], proportional to g(r)."""
        return self.counts.sum(axis=0) / (4.0 / 3.0 * np.pi * np.diff(self.edges**3))


def body_axes(
    orientations: Float[np.ndarray, "... 4"], axis: Sequence[float] = (0.0, 0.0, 1.0)
) -> Float[np.ndarray, "... 3"]:
    """Direction in space of an axis of the frames, by default z, that of the main symmetry.

    Args:
        orientations: unit quaternions (w, x, y, z).
        axis: a unit vector of the frame.
    """
    quaternions = np.asarray(orientations, dtype=float)
    turned = Rotation.from_quat(quaternions.reshape(-1, 4), scalar_first=True).apply(np.asarray(axis, dtype=float))
    return turned.reshape(*quaternions.shape[:-1], 3)


def orientational_correlation(
    ensemble: Ensemble,
    orientations: Orientations,
    *,
    r_max: float | None = None,
    bins: int = 100,
    beads: Int[np.ndarray, " chosen"] | None = None,
) -> OrientationalCorrelation:
    """<P2(cos)>(r) between the axes of beads, in any cell.

    Args:
        ensemble: positions and box; of many frames of many beads, a random choice of frames is looked at.
        orientations: unit axes, shape (frames, beads, 3), or unit quaternions (w, x, y, z), (frames, beads, 4), whose
            z axes are taken.
        r_max: at most half the shortest height of the cell in any frame [nm]; `radial.default_range` if None.
        bins: number of bins.
        beads: those that have an orientation; all if None.

    Raises:
        ValueError: if there is no box, shapes do not fit, or `r_max` reaches beyond half the cell.
    """
    if ensemble.box is None:
        raise ValueError(f"{ensemble.label}: a correlation over distance needs a box in every frame, got none")
    shape, expected = tuple(orientations.shape), (ensemble.n_frames, ensemble.n_beads)
    if len(shape) != 3 or shape[:2] != expected or shape[2] not in (3, 4):
        wanted = f"({expected[0]}, {expected[1]}, 3) or ({expected[0]}, {expected[1]}, 4)"
        raise ValueError(f"{ensemble.label}: orientations must have the shape {wanted}, got {shape}")
    half = float(heights(np.asarray(ensemble.box, dtype=float)).min()) / 2
    r_max = default_range([ensemble]) if r_max is None else r_max
    if not 0 < r_max <= half * (1 + 1e-6):
        allowed = f"between 0 and half the shortest height of the cell, {half:.4g} nm"
        raise ValueError(f"`r_max` must lie {allowed}, got {r_max} nm")
    chosen = np.arange(ensemble.n_beads) if beads is None else np.asarray(beads)
    counts, sums = _collect(ensemble, orientations, r_max, bins, chosen)
    return OrientationalCorrelation(np.linspace(0.0, r_max, bins + 1), counts, sums)


def _collect(
    ensemble: Ensemble, orientations: Orientations, r_max: float, bins: int, beads: Int[np.ndarray, " chosen"]
) -> tuple[Float[np.ndarray, "blocks bins"], Float[np.ndarray, "blocks bins"]]:
    counts, sums = (np.zeros((ensemble.n_blocks, bins)) for _ in range(2))
    finder = vesin.NeighborList(cutoff=r_max, full_list=False)
    mask = chosen_frames(ensemble, r_max)
    frames, done = np.arange(ensemble.n_frames) if mask is None else np.flatnonzero(mask), 0
    for chunk in ensemble.chunks(frames=mask):
        assert chunk.box is not None
        part = frames[done : done + len(chunk.positions)]
        axes, done = _axes(orientations, part)[:, beads], done + len(part)
        for positions, box, block, u in zip(chunk.positions[:, beads], chunk.box, chunk.blocks, axes, strict=True):
            i, j, distance = finder.compute(positions, box, True, "ijd")
            cosine = np.einsum("px,px->p", u[i], u[j])
            column = np.minimum((distance * (bins / r_max)).astype(np.int64), bins - 1)
            counts[block] += np.bincount(column, minlength=bins)
            sums[block] += np.bincount(column, 1.5 * cosine**2 - 0.5, minlength=bins)
    return counts, sums


def _axes(orientations: Orientations, frames: Int[np.ndarray, " part"]) -> Float[np.ndarray, "part beads 3"]:
    values = np.asarray(orientations[frames], dtype=float)
    return body_axes(values) if values.shape[-1] == 4 else values


def nematic_order(axes: Float[np.ndarray, "frames beads 3"]) -> Float[np.ndarray, " frames"]:
    """Order parameter S of each frame: the largest eigenvalue of <(3 u u - 1) / 2> (de Gennes and Prost 1993).

    1 where all axes are parallel; of n axes without order about 0.8 / sqrt(n), not 0.
    """
    u = np.asarray(axes, dtype=float)
    tensor = 1.5 * np.einsum("fbx,fby->fxy", u, u) / u.shape[1] - 0.5 * np.eye(3)
    return np.linalg.eigvalsh(tensor)[:, -1]


def orientational_autocorrelation(
    axes: Float[np.ndarray, "frames beads 3"],
    lags: int | None = None,
    *,
    blocks: Int[np.ndarray, " frames"] | None = None,
) -> Float[np.ndarray, " lags"]:
    """C_2(t) = <P2(u(0) . u(t))> over beads and times, by FFT: 1 at first, 0 once a bead has forgotten its axis.

    Args:
        axes: unit vectors, frames at equal times.
        lags: how many times between frames; a quarter of the longest piece if None.
        blocks: which independent piece each frame belongs to; pairs of frames of different ones are left out.

    Raises:
        ValueError: if no piece has that many frames.
    """
    u = np.asarray(axes, dtype=float)
    index = np.zeros(len(u), dtype=np.int64) if blocks is None else np.asarray(blocks)
    sizes = np.unique(index, return_counts=True)[1]
    lags = max(1, int(sizes.max()) // 4) if lags is None else lags
    if not 1 <= lags <= sizes.max():
        raise ValueError(f"`lags` must lie between 1 and the {sizes.max()} frames of the longest piece, got {lags}")
    summed = np.zeros(lags)
    for bead in range(u.shape[1]):
        tensor = u[:, bead, :, None] * u[:, bead, None, :] - np.eye(3) / 3.0
        pieces = (tensor.reshape(-1, 9)[index == label] for label in np.unique(index))
        summed += np.sum([lagged_products(piece, lags) for piece in pieces], axis=0)
    pairs = np.maximum(sizes[:, None] - np.arange(lags), 0).sum(axis=0) * u.shape[1]
    return 1.5 * summed / pairs


def rdf_deviation(model: RadialDistributions, reference: RadialDistributions, row: int = 0) -> Deviation:
    """Integral of |g - g_ref| over r, divided by that of g_ref, up to the last bin.

    Raises:
        ValueError: if the bins differ.
    """
    errors = None if model.error is None or reference.error is None else (model.error[row], reference.error[row])
    weights = np.ones(len(reference.r))
    return _deviation(model.edges, reference.edges, model.g[row], reference.g[row], weights, errors)


def p2_deviation(model: OrientationalCorrelation, reference: OrientationalCorrelation) -> Deviation:
    """Integral of g_ref |P2 - P2_ref| over r, divided by that of g_ref |P2_ref|, where both have pairs.

    The weight g_ref keeps the few pairs at the shortest distances, whose P2 is uncertain, from deciding.

    Raises:
        ValueError: if the bins differ.
    """
    return _deviation(
        model.edges, reference.edges, model.p2, reference.p2, reference.density, (model.error, reference.error)
    )


def _deviation(
    edges: Float[np.ndarray, " edges"],
    reference_edges: Float[np.ndarray, " edges"],
    values: Float[np.ndarray, " bins"],
    reference: Float[np.ndarray, " bins"],
    weights: Float[np.ndarray, " bins"],
    errors: tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]] | None,
) -> Deviation:
    if edges.shape != reference_edges.shape or not np.allclose(edges, reference_edges):
        raise ValueError(
            f"the same bins are needed, got {len(edges) - 1} up to {edges[-1]:.4g} nm and {len(reference_edges) - 1} "
            f"up to {reference_edges[-1]:.4g} nm: give both the same `r_max` and `bins`"
        )
    both = np.isfinite(values) & np.isfinite(reference)
    weight = np.where(both, weights, 0.0)
    size = float(np.sum(weight * np.abs(np.where(both, reference, 0.0))))
    if not size:
        return Deviation(float("nan"), float("nan"))
    value = float(np.sum(weight * np.abs(np.where(both, values - reference, 0.0)))) / size
    if errors is None:
        return Deviation(value, float("nan"))
    scatter = np.sqrt(2.0 / np.pi) * np.hypot(*errors)
    known = np.isfinite(scatter) & both
    return Deviation(value, float(np.sum(weight[known] * scatter[known])) / size if known.any() else float("nan"))
