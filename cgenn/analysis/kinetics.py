"""Slow coordinates of a molecule by TICA, and the timescales of what happens along them; needs deeptime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float


def has_deeptime() -> bool:
    """Whether deeptime is installed."""
    return find_spec("deeptime") is not None


@dataclass(frozen=True, eq=False)
class SlowCoordinates:
    """Linear combinations of features that decorrelate most slowly.

    Attributes:
        lag: frames between the two ends of the correlations that they were found from.
        timescales: of each of them [frames], slowest first, shape (dimensions,).
    """

    lag: int
    timescales: Float[np.ndarray, " dimensions"]
    _model: Any

    def __call__(self, features: Float[np.ndarray, "frames features"]) -> Float[np.ndarray, "frames dimensions"]:
        """The slow coordinates of frames, of unit variance in the data that they were found from."""
        return np.asarray(self._model.transform(np.asarray(features, dtype=float)))


def slow_coordinates(
    trajectories: Sequence[Float[np.ndarray, "frames features"]], lag: int, dimensions: int = 2
) -> SlowCoordinates:
    """Time-lagged independent components of features over independent trajectories.

    Perez-Hernandez et al., J. Chem. Phys. 139, 015102 (2013), as deeptime has them, with the reversible estimator. The
    timescale of an eigenvalue is t = -lag / ln |eigenvalue|.

    Args:
        trajectories: features in frames at equal times; those with fewer than `lag` + 2 frames are left out.
        lag: [frames].
        dimensions: how many coordinates.

    Raises:
        ImportError: if deeptime is not installed.
        ValueError: if no trajectory is longer than the lag, or a feature is not finite.
    """
    if not has_deeptime():
        raise ImportError("TICA needs deeptime: pip install 'cgenn[kinetics]'")
    from deeptime.decomposition import TICA  # slow to import, and an extra

    used = [np.asarray(part, dtype=float) for part in trajectories if len(part) >= lag + 2]
    if lag < 1 or not used:
        longest = max((len(part) for part in trajectories), default=0)
        raise ValueError(f"`lag` must lie between 1 and the {longest} frames of the longest trajectory, got {lag}")
    if not all(np.isfinite(part).all() for part in used):
        raise ValueError("features must be finite")
    model = TICA(lagtime=lag, dim=dimensions, scaling=None).fit(used, lagtime=lag).fetch_model()
    values = np.abs(np.asarray(model.singular_values, dtype=float))[:dimensions]
    values = np.clip(values, 1e-12, 1.0 - 1e-12)
    return SlowCoordinates(lag, -lag / np.log(values), model)


def implied_timescales(
    trajectories: Sequence[Float[np.ndarray, "frames features"]], lags: Sequence[int], dimensions: int = 2
) -> Float[np.ndarray, "lags dimensions"]:
    """Timescales [frames] by lag: where they no longer depend on it, the coordinates are good enough."""
    rows = [slow_coordinates(trajectories, lag, dimensions).timescales for lag in lags]
    width = min(map(len, rows))
    return np.array([row[:width] for row in rows])
