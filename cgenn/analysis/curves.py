"""Curves of the reference and of the model, side by side in panels, as one PNG image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cgenn.analysis.figures import plain, styles, to_png

_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Curve:
    """y(x); a band shows its standard error."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    error: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Attributes:
        x: what it is against, with the unit.
        y: what is drawn.
        curves: by label, the reference first.
        log: axes that are logarithmic.
        level: a thin horizontal line there.
    """

    x: str
    y: str
    curves: Mapping[str, Curve]
    log: Literal["", "x", "y", "xy"] = ""
    level: float | None = None


def curves_figure(panels: Sequence[Panel]) -> bytes:
    """Panels in rows of three, with one legend."""
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width = 3.9 * columns if columns > 1 else 5.6
    figure = Figure(figsize=(width, 3.0 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=10)
    return to_png(figure)


def _draw(axis: Axes, panel: Panel) -> None:
    if panel.level is not None:
        axis.axhline(panel.level, color="#c9ccd0", linewidth=0.8, zorder=0)
    for (label, curve), style in zip(panel.curves.items(), styles(panel.curves), strict=False):
        shown = np.isfinite(curve.y)
        if "x" in panel.log:
            shown &= curve.x > 0
        if "y" in panel.log:
            shown &= curve.y > 0
        x, y = curve.x[shown], curve.y[shown]
        axis.plot(x, y, label=label, marker="o" if len(x) < 3 else "", markersize=3.5, **style)
        if curve.error is not None:
            low, high = y - curve.error[shown], y + curve.error[shown]
            low = np.maximum(low, 1e-3 * y) if "y" in panel.log else low
            axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
    if "x" in panel.log:
        axis.set_xscale("log")
    if "y" in panel.log:
        axis.set_yscale("log")
    axis.set_xlabel(panel.x, fontsize=9)
    axis.set_ylabel(panel.y, fontsize=9)
    plain(axis)
