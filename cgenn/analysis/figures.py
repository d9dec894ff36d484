"""The figures of a report, as PNG images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cgenn.analysis.conformations import SurfaceComparison, free_energy
from cgenn.analysis.distributions import Distribution
from cgenn.analysis.radial import RadialDistributions
from cgenn.units import thermal_energy

REFERENCE, MODEL, GUIDE = "#5f6670", "#0b6fb8", "#b3541e"
_COLOURS = (MODEL, GUIDE, "#3f8f4f", "#7a5195", "#8c6d1f", REFERENCE)
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": REFERENCE, "linewidth": 3.0, "alpha": 0.55},
    {"color": MODEL, "linewidth": 1.4},
    {"color": GUIDE, "linewidth": 1.4, "linestyle": (0, (4, 2))},
    {"color": "#3f8f4f", "linewidth": 1.4},
    {"color": "#7a5195", "linewidth": 1.4},
)
_HIGHEST = 30.0
"""Free energies are drawn up to this value [kJ/mol]."""
_ROWS = 4000


def surface_figure(
    comparison: SurfaceComparison, temperature: float, names: tuple[str, str], labels: tuple[str, str]
) -> bytes:
    """Free-energy surfaces of the reference and of the model side by side, and their difference.

    Args:
        comparison: the two histograms.
        temperature: [K].
        names: of the two dihedrals.
        labels: of the reference and of the model.
    """
    figure = Figure(figsize=(12.6, 4.1), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    surfaces = [free_energy(histogram, temperature) for histogram in (comparison.reference, comparison.model)]
    top = min(_HIGHEST, 5.0 * np.ceil(max(float(surface.max()) for surface in surfaces) / 5.0))
    for axis, surface, label in zip(axes, surfaces, labels, strict=False):
        image = _map(axis, surface, "viridis", (0.0, max(top, 5.0)), label[:1].upper() + label[1:])
    figure.colorbar(image, ax=axes[:2], label="free energy (kJ/mol)", pad=0.02, aspect=26, shrink=0.82)
    sampled = (comparison.reference > 0) & (comparison.model > 0)
    ratio = np.ma.masked_array(np.where(sampled, comparison.model, 1.0), ~sampled)
    difference = -thermal_energy(temperature) * np.ma.log(ratio / np.where(sampled, comparison.reference, 1.0))
    limit = 4.0 * thermal_energy(temperature)
    image = _map(axes[2], difference, "RdBu_r", (-limit, limit), "Difference, model \N{MINUS SIGN} reference")
    figure.colorbar(
        image, ax=axes[2], label="free energy difference (kJ/mol)", pad=0.02, aspect=26, shrink=0.82, extend="both"
    )
    for axis in axes:
        axis.set_xlabel(f"{names[0]} (degrees)")
    axes[0].set_ylabel(f"{names[1]} (degrees)")
    return to_png(figure)


def _map(axis: Axes, values: np.ma.MaskedArray, colours: str, limits: tuple[float, float], title: str):  # type: ignore[no-untyped-def]
    edges = [np.linspace(-180.0, 180.0, size + 1) for size in values.shape]
    image = axis.pcolormesh(*edges, values.T, cmap=colours, vmin=limits[0], vmax=limits[1], rasterized=True)
    axis.set_facecolor("#eceef0")
    axis.set_aspect("equal")
    axis.set_xticks(range(-180, 181, 90))
    axis.set_yticks(range(-180, 181, 90))
    axis.set_title(title, fontsize=11)
    return image


def distributions_figure(distributions: Sequence[Distribution], labels: tuple[str, str]) -> bytes:
    """Overlaid densities of the reference (filled) and of the model (line), one panel for each coordinate type."""
    columns = min(4, len(distributions))
    rows = -(-len(distributions) // columns)
    figure = Figure(figsize=(3.15 * columns, 2.45 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, entry in zip(axes, distributions, strict=False):
        _distribution_panel(axis, entry, labels)
    for axis in axes[len(distributions) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=10)
    return to_png(figure)


def _distribution_panel(axis: Axes, entry: Distribution, labels: tuple[str, str]) -> None:
    degrees = entry.unit == "rad"
    edges = np.degrees(entry.edges) if degrees else entry.edges
    axis.stairs(entry.density(entry.reference), edges, fill=True, color=REFERENCE, alpha=0.35, label=labels[0])
    axis.stairs(entry.density(entry.model), edges, color=MODEL, linewidth=1.5, label=labels[1])
    kind = "distance" if entry.kind == "pair" else entry.kind
    axis.set_xlabel(f"{kind} ({'degrees' if degrees else 'nm'})", fontsize=9)
    axis.set_title(_joined(entry.types), fontsize=9 if len(entry.types) < 26 else 7.5)
    axis.set_ylim(0.0, axis.get_ylim()[1] * 1.18)
    note = f"JS {entry.js:.2g} (sampling {entry.floor[0]:.2g})"
    axis.text(0.5, 0.97, note, transform=axis.transAxes, ha="center", va="top", fontsize=7.5, color="#333333")
    axis.set_xlim(edges[0], edges[-1])
    axis.set_yticks([])
    if entry.kind == "dihedral":
        axis.set_xticks(range(-180, 181, 90))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
    plain(axis)
    axis.spines["left"].set_visible(False)


def radial_figure(
    reference: RadialDistributions,
    model: RadialDistributions,
    rows: Sequence[int],
    labels: tuple[str, ...],
    control: RadialDistributions | None = None,
) -> bytes:
    """g(r) of the pairs in `rows`; a band shows one standard error of the model.

    Args:
        reference: of the same types as the model.
        model: drawn as a line over it.
        rows: of the functions to draw.
        labels: of the reference and of the model, and of the control if there is one.
        control: of another model of the same types, drawn as a broken line.
    """
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    width = 4.1 * columns if columns > 1 else 6.0
    figure = Figure(figsize=(width, 2.9 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, row in zip(axes, rows, strict=False):
        axis.axhline(1.0, color="#c9ccd0", linewidth=0.8, zorder=0)
        axis.plot(reference.r, reference.g[row], color=REFERENCE, linewidth=3.0, alpha=0.55, label=labels[0])
        axis.plot(model.r, model.g[row], color=MODEL, linewidth=1.4, label=labels[1])
        if model.error is not None:
            low, high = model.g[row] - model.error[row], model.g[row] + model.error[row]
            axis.fill_between(model.r, low, high, color=MODEL, alpha=0.2, linewidth=0)
        if control is not None:
            axis.plot(control.r, control.g[row], color=GUIDE, linewidth=1.4, linestyle=(0, (4, 2)), label=labels[2])
        axis.set_title(_joined(model.names[row]), fontsize=10)
        axis.set_xlabel("r (nm)", fontsize=9)
        axis.set_ylabel("g(r)", fontsize=9)
        axis.set_xlim(0.0, model.edges[-1])
        axis.set_ylim(bottom=0.0)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        plain(axis)
    for axis in axes[len(rows) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=10)
    return to_png(figure)


def series_figure(columns: Mapping[str, Real[np.ndarray, ...]]) -> bytes:
    """Columns against the first of them (such as the time), one panel each; names carry the units.

    Of long series every n-th row is drawn.

    Raises:
        ValueError: if there are fewer than two columns or their lengths differ.
    """
    (x_name, x), curves = _first_column(columns)
    stride = -(-len(x) // _ROWS) or 1
    figure = Figure(figsize=(8.4, 1.9 * len(curves) + 0.5), layout="constrained")
    axes = figure.subplots(len(curves), 1, squeeze=False, sharex=True).ravel()
    for axis, (name, values) in zip(axes, curves.items(), strict=True):
        axis.plot(x[::stride], values[::stride], color=MODEL, linewidth=0.9)
        axis.set_ylabel(name.replace(" (", "\n(").replace(" [", "\n["), fontsize=9)
        plain(axis)
    axes[-1].set_xlabel(x_name, fontsize=9)
    return to_png(figure)


def training_figure(
    history: Mapping[str, Float[np.ndarray, ...]],
    *,
    unit: str = "kJ²/mol²/nm²",
    noise_floor: float | None = None,
    null_model: float | None = None,
) -> bytes:
    """Force errors during training, with the noise of the force labels and the error of no model at all as lines.

    Args:
        history: columns of equal length; the first is what the curves are drawn against (epoch or step), each other
            one is a curve (such as "training" and "validation" mean square force errors); NaN entries are skipped.
        unit: of the errors, for the axis.
        noise_floor: mean square error that the exact mean force would have.
        null_model: mean square error of the prior alone or of zero forces.

    Raises:
        ValueError: if there are fewer than two columns or their lengths differ.
    """
    (x_name, x), curves = _first_column(history)
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), _COLOURS * (len(curves) // len(_COLOURS) + 1), strict=False):
        there = np.isfinite(values)
        marker = "o" if there.sum() < 30 else ""
        axis.plot(x[there], values[there], color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name)
    for value, name, style in ((null_model, "null model", (0, (5, 3))), (noise_floor, "noise floor", (0, (1, 1.5)))):
        if value is not None:
            axis.axhline(value, color="#333333", linewidth=1.1, linestyle=style, label=f"{name}, {value:.4g}")
    axis.set_xlabel(x_name)
    axis.set_ylabel(f"mean square force error ({unit})")
    if axis.get_ylim()[1] > 20 * max(axis.get_ylim()[0], 1e-12):
        axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=9)
    plain(axis)
    return to_png(figure)


def _first_column(
    columns: Mapping[str, Real[np.ndarray, ...]],
) -> tuple[tuple[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    lengths = {name: array.shape for name, array in arrays.items()}
    if len(arrays) < 2 or len(set(lengths.values())) != 1:
        raise ValueError(f"expected two or more columns of the same length, got {lengths}")
    first, *rest = arrays.items()
    return first, dict(rest)


def _joined(types: str) -> str:
    return types.replace("|", " – ")


def styles(curves: Mapping[str, object]) -> tuple[dict[str, Any], ...]:
    """Colours and lines: the first of several curves is the reference."""
    if not 1 <= len(curves) <= len(_STYLES):
        raise ValueError(f"expected 1 to {len(_STYLES)} curves, got {len(curves)}")
    return _STYLES if len(curves) > 1 else _STYLES[1:]


def plain(axis: Axes) -> None:
    """Draw an axis as those of all figures."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def to_png(figure: Figure) -> bytes:
    """The image: the same numbers give the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
