"""How fast molecules move: mean square displacement of their centres and the diffusion coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cgenn.analysis.structure import minimum_image

_GROUPS = 16
"""Groups of molecules that the error is estimated from."""
_FEWEST = 8
"""Lags below which no line is fitted."""


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Mean square displacement and diffusion coefficient.

    Attributes:
        time: shape (lags,) [ps].
        displacement: mean square displacement, shape (lags,) [nm^2].
        displacement_error: its standard error from groups of molecules, or None with fewer than two.
        coefficient: D, slope / 6 [nm^2/ps]; 1 nm^2/ps is 1e-6 m^2/s.
        coefficient_error: its standard error, by the jackknife over groups of molecules.
        window: first and last time of the fit [ps].
        exponent: d log(displacement) / d log(time) in the window: 1 where motion is diffusive.
    """

    time: Float[np.ndarray, " lags"]
    displacement: Float[np.ndarray, " lags"]
    displacement_error: Float[np.ndarray, " lags"] | None
    coefficient: float
    coefficient_error: float | None
    window: tuple[float, float]
    exponent: float


def unwrapped(
    positions: Float[np.ndarray, "frames n 3"], box: Float[np.ndarray, "frames 3 3"]
) -> Float[np.ndarray, "frames n 3"]:
    """Positions followed across the boundaries of a box, which may change [nm].

    Displacements between frames are those of the nearest images of the wrapped positions, and are added up: other ways
    make points jump when the box changes (Bullerjahn et al., J. Chem. Theory Comput. 19, 3406, 2023). None may move by
    more than half the box between two frames.
    """
    values, cells = np.asarray(positions, dtype=float), np.asarray(box, dtype=float)
    fractions = values @ np.linalg.inv(cells)
    wrapped = (fractions - np.floor(fractions)) @ cells
    result = np.empty_like(values)
    result[0] = values[0]
    result[1:] = values[0] + np.cumsum(minimum_image(np.diff(wrapped, axis=0), cells[1:]), axis=0)
    return result


def mean_square_displacement(
    positions: Float[np.ndarray, "frames n 3"], lags: int | None = None
) -> Float[np.ndarray, "lags n"]:
    """<|r(t + lag) - r(t)|^2> of each point over all t, for lag = 0, 1, 2, ... frames, by FFT [nm^2].

    sum |r(t + lag)|^2 + |r(t)|^2 - 2 r(t + lag) . r(t), the last term by FFT (Calandrini et al., Collection SFN 12,
    201, 2011).

    Args:
        positions: followed across boundaries, frames at equal times [nm].
        lags: a quarter of the frames if None.

    Raises:
        ValueError: if there are not so many frames.
    """
    frames = len(positions)
    lags = max(1, frames // 4) if lags is None else lags
    if not 1 <= lags <= frames:
        raise ValueError(f"`lags` must lie between 1 and the {frames} frames, got {lags}")
    centred = np.asarray(positions, dtype=float) - np.mean(positions, axis=0)
    transform = np.fft.rfft(centred, 2 * frames, axis=0)
    products = np.fft.irfft((np.abs(transform) ** 2).sum(axis=2), 2 * frames, axis=0)[:lags]
    squares = np.cumsum(np.square(centred).sum(axis=2), axis=0)
    before = np.concatenate([np.zeros((1, centred.shape[1])), squares])
    lag = np.arange(lags)
    sums = before[frames - lag] + squares[-1] - before[lag]  # of the starts, and of the ends
    result = np.maximum(sums - 2.0 * products, 0.0) / (frames - lag)[:, None]
    result[0] = 0.0
    return result


def diffusion(
    trajectories: Sequence[Float[np.ndarray, "frames n 3"]], interval: float, lags: int | None = None
) -> Diffusion:
    """Mean square displacement and D by a line through its second half: <|r(t) - r(0)|^2> = a + 6 D t.

    Einstein, Ann. Phys. 322, 549 (1905). The constant a takes what was lost or gained in the motion before. D of a
    periodic system is smaller than of an infinite one, by 2.837 kT / (6 pi eta L) in a cubic box of a liquid of the
    viscosity eta (Yeh and Hummer, J. Phys. Chem. B 108, 15873, 2004); that is not corrected here.

    Args:
        trajectories: positions of the same points in independent pieces, followed across boundaries [nm].
        interval: time between frames [ps].
        lags: how many times; a quarter of the longest piece if None. Pieces with fewer frames are left out.

    Raises:
        ValueError: if the interval is not positive, the longest piece has fewer than 32 frames, or a position is not
            finite.
    """
    if not interval > 0:
        raise ValueError(f"`interval` must be positive, got {interval} ps")
    longest = max((len(piece) for piece in trajectories), default=0)
    lags = longest // 4 if lags is None else lags
    if not _FEWEST <= lags <= longest:
        raise ValueError(f"a diffusion coefficient needs {4 * _FEWEST} frames in a row, got {longest}, {lags} lags")
    if not all(np.isfinite(piece).all() for piece in trajectories):
        raise ValueError("a diffusion coefficient needs positions that are finite, got NaN or infinity")
    sums, pairs = _grouped([piece for piece in trajectories if len(piece) >= lags], lags)
    time = interval * np.arange(lags)
    fitted = slice(lags // 2, lags)

    def slope(left: np.ndarray, weights: np.ndarray) -> float:
        return float(np.polyfit(time[fitted], (left / weights)[fitted], 1)[0]) / 6.0

    total, weights = sums.sum(axis=0), pairs.sum(axis=0)
    curve, error, curve_error = total / weights, None, None
    if len(sums) > 1:
        left_out = [slope(total - part, weights - pair) for part, pair in zip(sums, pairs, strict=True)]
        error = float(np.sqrt((len(sums) - 1) * np.var(left_out)))
        share = pairs / weights
        scatter = np.sum(share**2 * (sums / pairs - curve) ** 2, axis=0)
        curve_error = np.sqrt(len(sums) / (len(sums) - 1) * scatter)
    rising = curve[fitted] > 0
    exponent = np.polyfit(np.log(time[fitted][rising]), np.log(curve[fitted][rising]), 1)[0] if rising.any() else 0.0
    window = (float(time[fitted][0]), float(time[-1]))
    return Diffusion(time, curve, curve_error, slope(total, weights), error, window, float(exponent))


def _grouped(
    trajectories: Sequence[Float[np.ndarray, "frames n 3"]], lags: int
) -> tuple[Float[np.ndarray, "groups lags"], Float[np.ndarray, "groups lags"]]:
    """Sums of squared displacements and how many there are, over groups of points of the pieces."""
    columns = sum(piece.shape[1] for piece in trajectories)
    n = min(columns, _GROUPS)
    sums, pairs = np.zeros((n, lags)), np.zeros((n, lags))
    done = 0
    for piece in trajectories:
        counts = len(piece) - np.arange(lags, dtype=float)
        group = (done + np.arange(piece.shape[1])) * n // columns
        np.add.at(sums, group, mean_square_displacement(piece, lags).T * counts)
        np.add.at(pairs, group, counts)
        done += piece.shape[1]
    return sums, pairs
