"""Two-dimensional distributions of dihedrals: histograms, free-energy surfaces and how far two of them are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.statistics import effective_samples, jackknife, jensen_shannon, quadrature, sampling_floor
from cgenn.analysis.structure import dihedrals
from cgenn.units import thermal_energy

Surface = tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
"""The beads of two dihedrals, for example ((0, 1, 2, 3), (1, 2, 3, 4)) for phi and psi of a backbone."""

SURFACE_BINS = 60


def dihedral_histogram(
    ensemble: Ensemble, surface: Surface, bins: int | tuple[int, int] = SURFACE_BINS
) -> Float[np.ndarray, "blocks first second"]:
    """Histograms of two dihedrals on [-pi, pi]^2, one for each block of the ensemble.

    Raises:
        ValueError: if the surface names a bead that is not there.
    """
    quadruples = np.asarray(surface, dtype=np.int64)
    if quadruples.shape != (2, 4) or quadruples.min() < 0 or quadruples.max() >= ensemble.n_beads:
        raise ValueError(f"a surface needs two dihedrals of four of the {ensemble.n_beads} beads, got {surface}")
    shape = (bins, bins) if isinstance(bins, int) else bins
    counts = np.zeros((ensemble.n_blocks, *shape))
    for chunk in ensemble.chunks():
        values = dihedrals(chunk.positions, quadruples, chunk.box)
        cell = np.floor((values + np.pi) / (2 * np.pi) * np.array(shape)).astype(np.int64)
        first, second = np.clip(cell, 0, np.array(shape) - 1).T
        np.add.at(counts, (chunk.blocks, first, second), 1.0)
    return counts


def free_energy(histogram: Real[np.ndarray, ...], temperature: float) -> np.ma.MaskedArray:
    """F = -kT ln p [kJ/mol], zero at its minimum; bins that were never visited are masked.

    Raises:
        ValueError: if the temperature [K] is not positive or the histogram is empty.
    """
    kt = thermal_energy(temperature)
    if not np.any(histogram > 0):
        raise ValueError("a free-energy surface needs a histogram with at least one count")
    surface = -kt * np.ma.log(np.ma.masked_less_equal(np.asarray(histogram, dtype=float), 0.0))
    return surface - surface.min()


def mirrored(histogram: Real[np.ndarray, "first second"]) -> Real[np.ndarray, "first second"]:
    """The histogram of the mirror image, (phi, psi) -> (-phi, -psi)."""
    return histogram[::-1, ::-1]


@dataclass(frozen=True, eq=False)
class SurfaceComparison:
    """Two dihedrals of the model against the reference.

    Attributes:
        surface: the beads of the two dihedrals.
        reference: normalised histogram, shape (first, second).
        model: normalised histogram, shape (first, second).
        js: Jensen-Shannon divergence of the two.
        js_error: its standard error, by the jackknife over blocks; None with fewer than two blocks.
        js_mirrored: divergence of the mirror image of the model from the reference.
        floor: divergence of a perfect model from this much sampling, and its spread.
        effective_samples: independent samples that the model's frames are worth.
        js_frames: divergence of the reference frames themselves from a given reference histogram, else None.
    """

    surface: Surface
    reference: Float[np.ndarray, "first second"]
    model: Float[np.ndarray, "first second"]
    js: float
    js_error: float | None
    js_mirrored: float
    floor: tuple[float, float]
    effective_samples: float
    js_frames: float | None


def compare_surfaces(
    reference: Ensemble,
    model: Ensemble,
    surface: Surface,
    histogram: Real[np.ndarray, ...] | None = None,
) -> SurfaceComparison:
    """Compare two dihedrals of a model with a reference ensemble, or with a given histogram of a longer reference.

    Args:
        reference: the frames that the model was made from.
        model: frames of the model.
        surface: the beads of the two dihedrals.
        histogram: on [-pi, pi]^2, first dihedral first; taken as exact. None uses the reference frames.

    Raises:
        ValueError: if the histogram is not two-dimensional, or is empty, negative or undefined somewhere.
    """
    if histogram is not None and np.ndim(histogram) != 2:
        raise ValueError(f"`reference_histogram` must have two dimensions, got the shape {np.shape(histogram)}")
    bins = (SURFACE_BINS, SURFACE_BINS) if histogram is None else (histogram.shape[0], histogram.shape[1])
    frames, counts = (dihedral_histogram(side, surface, bins) for side in (reference, model))
    truth = frames.sum(axis=0) if histogram is None else np.asarray(histogram, dtype=float)
    js, error = jackknife(counts, lambda total: jensen_shannon(truth, total))
    n_reference = None
    if histogram is None:
        total = counts.sum(axis=0)
        error = quadrature(error, jackknife(frames, lambda left: jensen_shannon(left, total))[1])
        n_reference = effective_samples(frames)
    n_model = effective_samples(counts)
    return SurfaceComparison(
        surface=surface,
        reference=truth / truth.sum(),
        model=counts.sum(axis=0) / counts.sum(),
        js=js,
        js_error=error,
        js_mirrored=jensen_shannon(truth, mirrored(counts.sum(axis=0))),
        floor=sampling_floor(truth, n_model, n_reference),
        effective_samples=n_model,
        js_frames=None if histogram is None else jensen_shannon(truth, frames.sum(axis=0)),
    )
