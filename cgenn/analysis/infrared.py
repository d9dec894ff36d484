"""The total dipole over time: its autocorrelation and the infrared spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cgenn.analysis.ensemble import independent_blocks
from cgenn.units import COULOMB, thermal_energy

LIGHT = 299792.458
"""Speed of light [nm/ps]."""

_PER_CM = 1e7
"""1/nm in 1/cm."""
_REACH = 4.0
"""Widths of the window beyond which nothing of the autocorrelation is left."""


@dataclass(frozen=True, eq=False)
class InfraredSpectrum:
    """Absorption against wavenumber.

    Attributes:
        wavenumber: f/c, shape (n,) [1/cm].
        absorption: absorption coefficient times refractive index, shape (n,) [1/cm].
        error: its standard error from the blocks, shape (n,), or None with fewer than two.
        resolution: full width at half maximum of a sharp line [1/cm].
    """

    wavenumber: Float[np.ndarray, " n"]
    absorption: Float[np.ndarray, " n"]
    error: Float[np.ndarray, " n"] | None
    resolution: float


def dipole_autocorrelation(
    total: Float[np.ndarray, "frames 3"], lags: int | None = None, *, blocks: Int[np.ndarray, " frames"] | None = None
) -> Float[np.ndarray, " lags"]:
    """<dM(0) . dM(t)> / <dM^2> with dM = M - <M>, for the first `lags` times between frames, by FFT.

    Args:
        total: dipole of the system [e nm], frames at equal times.
        lags: a quarter of the longest piece if None.
        blocks: which independent piece each frame belongs to; pairs of frames of different ones are left out.

    Raises:
        ValueError: if no piece has that many frames, or the dipole never changes.
    """
    index = np.zeros(len(total), dtype=np.int64) if blocks is None else np.asarray(blocks)
    centred = np.asarray(total, dtype=float) - np.mean(total, axis=0)
    pieces = [centred[index == label] for label in np.unique(index)]
    longest = max(len(piece) for piece in pieces)
    lags = max(1, longest // 4) if lags is None else lags
    if not 1 <= lags <= longest:
        raise ValueError(f"`lags` must lie between 1 and the {longest} frames of the longest piece, got {lags}")
    summed = np.sum([lagged_products(piece, lags) for piece in pieces], axis=0)
    pairs = np.sum([np.maximum(len(piece) - np.arange(lags), 0) for piece in pieces], axis=0)
    if not summed[0] > 0:
        raise ValueError("the total dipole is the same in all frames: it has no autocorrelation")
    return summed / pairs / (summed[0] / pairs[0])


def infrared_spectrum(
    total: Float[np.ndarray, "frames 3"],
    interval: float,
    volume: float | Float[np.ndarray, " frames"],
    temperature: float,
    *,
    resolution: float = 10.0,
    blocks: Int[np.ndarray, " frames"] | None = None,
) -> InfraredSpectrum:
    """Infrared absorption of classical nuclei with the harmonic quantum correction.

    alpha(w) n(w) = w^2 / (6 eps_0 c V kT) integral <dM(0) . dM(t)> exp(-i w t) dt: the golden-rule expression
    pi w (1 - exp(-b hbar w)) / (3 eps_0 hbar c V) I(w) with I the classical line shape times the harmonic correction
    b hbar w / (1 - exp(-b hbar w)) (Ramirez et al., J. Chem. Phys. 121, 3973, 2004). Lines are Gaussians: the
    autocorrelation is multiplied by exp(-t^2 / 2 s^2), s = 2 sqrt(2 ln 2) / (2 pi c resolution).

    Args:
        total: dipole of the system [e nm], frames at equal times.
        interval: time between frames [ps].
        volume: of the system [nm^3]; its mean is taken.
        temperature: [K].
        resolution: full width at half maximum of a sharp line [1/cm].
        blocks: which independent piece each frame belongs to; pairs of frames of different ones are left out.

    Raises:
        ValueError: if an argument is not positive, or no piece is long enough for the resolution.
    """
    for name, value in {"interval": interval, "volume": np.min(volume), "resolution": resolution}.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}")
    width = np.sqrt(8.0 * np.log(2.0)) / (2.0 * np.pi * LIGHT * resolution / _PER_CM)
    lags = int(np.ceil(_REACH * width / interval)) + 1
    index = _pieces(len(total), blocks, lags, interval, resolution)
    centred = np.asarray(total, dtype=float) - np.mean(total, axis=0)
    window = np.exp(-0.5 * (np.arange(lags) * interval / width) ** 2)
    length = 1 << int(np.ceil(np.log2(max(2 * lags, 6.0 * _PER_CM / (LIGHT * interval * resolution)))))
    frequency = np.fft.rfftfreq(length, interval)
    factor = 4.0 * np.pi * COULOMB / (6.0 * LIGHT * float(np.mean(volume)) * thermal_energy(temperature))
    spectra, frames = [], []
    for label in np.unique(index):
        piece = centred[index == label]
        correlation = window * lagged_products(piece, lags) / (len(piece) - np.arange(lags))
        integral = interval * (2.0 * np.fft.rfft(correlation, length).real - correlation[0])
        spectra.append(_PER_CM * factor * (2.0 * np.pi * frequency) ** 2 * integral)
        frames.append(len(piece))
    mean = np.average(spectra, axis=0, weights=frames)
    error = np.std(spectra, axis=0, ddof=1) / np.sqrt(len(spectra)) if len(spectra) > 1 else None
    return InfraredSpectrum(frequency / LIGHT * _PER_CM, mean, error, resolution)


def _pieces(
    n_frames: int, blocks: Int[np.ndarray, " frames"] | None, lags: int, interval: float, resolution: float
) -> Int[np.ndarray, " frames"]:
    """Piece of each frame: as many as the errors like, but none shorter than the autocorrelation."""
    index = np.zeros(n_frames, dtype=np.int64) if blocks is None else np.asarray(blocks)
    for pieces in (independent_blocks(index), index):
        if np.unique(pieces, return_counts=True)[1].min() > lags:
            return pieces
    shortest = np.unique(index, return_counts=True)[1].min()
    raise ValueError(
        f"a resolution of {resolution:g} /cm needs pieces of more than {lags * interval:.3g} ps, the shortest has "
        f"{shortest * interval:.3g} ps"
    )


def lagged_products(series: Float[np.ndarray, "frames n"], lags: int) -> Float[np.ndarray, " lags"]:
    """sum_t x(t) . x(t + lag), zero-padded so that the ends do not meet."""
    transform = np.fft.rfft(series, 2 * len(series), axis=0)
    products = np.fft.irfft((np.abs(transform) ** 2).sum(axis=1), 2 * len(series))[: min(lags, len(series))]
    return np.pad(products, (0, lags - len(products)))
