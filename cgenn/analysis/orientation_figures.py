"""Figures of orientation: radial distribution and orientational correlation of the reference and of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cgenn.analysis.figures import plain, styles, to_png
from cgenn.analysis.orientation import OrientationalCorrelation
from cgenn.analysis.radial import RadialDistributions


def orientation_figure(
    radial: Mapping[str, RadialDistributions], correlations: Mapping[str, OrientationalCorrelation], row: int = 0
) -> bytes:
    """g(r) on the left and <P2(cos)>(r) on the right; bands show one standard error.

    Args:
        radial: by their labels: the reference first, then the models.
        correlations: the same for those that have orientations.
        row: of the radial distributions to draw.

    Raises:
        ValueError: if there is nothing to draw, or a label of the correlations is not one of the distributions.
    """
    looks = dict(zip(radial, styles(radial), strict=False))
    if missing := [label for label in correlations if label not in looks]:
        raise ValueError(f"correlations must have labels of the distributions, {', '.join(looks)}, got {missing[0]!r}")
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, entry in radial.items():
        error = None if entry.error is None else entry.error[row]
        _curve(left, label, entry.r, entry.g[row], error, looks[label])
    for label, found in correlations.items():
        _curve(right, label, found.r, found.p2, found.error, looks[label])
    for axis, level, name in ((left, 1.0, "g(r)"), (right, 0.0, r"$\langle P_2(\cos\theta)\rangle(r)$")):
        axis.axhline(level, color="#c9ccd0", linewidth=0.8, zorder=0)
        axis.set_xlabel("r (nm)", fontsize=9)
        axis.set_ylabel(name, fontsize=9)
        axis.set_xlim(0.0, max(float(entry.edges[-1]) for entry in radial.values()))
        plain(axis)
    left.set_ylim(bottom=0.0)
    right.set_ylim(-0.5, 1.0)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=10)
    return to_png(figure)


def _curve(
    axis: Axes,
    label: str,
    r: Float[np.ndarray, " bins"],
    values: Float[np.ndarray, " bins"],
    error: Float[np.ndarray, " bins"] | None,
    look: dict[str, Any],
) -> None:
    axis.plot(r, values, label=label, **look)
    if error is not None:
        axis.fill_between(r, values - error, values + error, color=look["color"], alpha=0.2, linewidth=0)
