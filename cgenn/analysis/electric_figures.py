"""Figures of charges: structure factors, the dielectric constant as it converges, and infrared spectra."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cgenn.analysis.figures import plain, styles, to_png
from cgenn.analysis.infrared import InfraredSpectrum
from cgenn.analysis.structure_factor import StructureFactors


def charge_structure_figure(results: Mapping[str, StructureFactors], wavenumber: float) -> bytes:
    """S_zz(k) with its limit at small k for perfect screening: all of it, and small k on logarithmic axes.

    Args:
        results: by their labels: the reference first, then the model, then a control.
        wavenumber: k_D, whose (k / k_D)^2 is the limit; see `debye_wavenumber` [1/nm].

    Raises:
        ValueError: if there is no result, or one has no charges.
    """
    looks = styles(results)
    if missing := [label for label, result in results.items() if result.charge is None]:
        raise ValueError(f"{missing[0]}: the structure factors have no charges")
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    whole, small = figure.subplots(1, 2)
    lowest = min(float(result.k[0]) for result in results.values())
    limit = np.geomspace(lowest / 4.0, wavenumber, 50)
    for axis in (whole, small):
        for (label, result), style in zip(results.items(), looks, strict=False):
            assert result.charge is not None
            axis.plot(result.k, result.charge, label=label, **style)
            if result.charge_error is not None:
                low, high = result.charge - result.charge_error, result.charge + result.charge_error
                axis.fill_between(result.k, np.maximum(low, 1e-12), high, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(limit, (limit / wavenumber) ** 2, color="#333333", linewidth=1.1, linestyle=(0, (1, 1.5)),
                  label="perfect screening, $k^2/k_\\mathrm{D}^2$")  # fmt: skip
        axis.set_xlabel("k (1/nm)", fontsize=9)
        plain(axis)
    whole.set_ylabel(r"$S_{zz}(k)$", fontsize=9)
    whole.set_xlim(0.0, max(float(result.k[-1]) for result in results.values()))
    whole.set_ylim(0.0, 1.1 * max(result.charge.max() for result in results.values() if result.charge is not None))
    small.set(xscale="log", yscale="log", xlim=(lowest / 1.3, 6.0 * lowest))
    small.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    small.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    small.xaxis.set_minor_formatter(NullFormatter())
    _fit(small, results, 6.0 * lowest, (lowest / wavenumber) ** 2)
    handles, names = whole.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=10)
    return to_png(figure)


def _fit(axis: Axes, results: Mapping[str, StructureFactors], k_max: float, limit: float) -> None:
    """Show what lies below `k_max`, and the limit at the lowest k."""
    shown = [result.charge[result.k <= k_max] for result in results.values() if result.charge is not None]
    values = np.concatenate([*shown, [limit]])
    values = values[values > 0]
    axis.set_ylim(0.5 * values.min(), 2.0 * values.max())


def dielectric_figure(
    times: Float[np.ndarray, " frames"],
    running: Mapping[str, Float[np.ndarray, " frames"]],
    final: Mapping[str, tuple[float, float | None]] | None = None,
) -> bytes:
    """The dielectric constant of the frames up to each time, and the final value with its error as a band.

    Args:
        times: [ps].
        running: by their labels, see `running_dielectric_constant`.
        final: value and error, see `dielectric_constant`.

    Raises:
        ValueError: if there is nothing to draw, or lengths differ.
    """
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axis = figure.subplots()
    for (label, values), style in zip(running.items(), styles(running), strict=False):
        if len(values) != len(times):
            raise ValueError(f"{label}: {len(values)} values, but {len(times)} times")
        value, error = (final or {}).get(label, (None, None))
        shown = label if value is None else f"{label}, {value:.4g}" + ("" if error is None else f" ± {error:.2g}")
        axis.plot(times, values, label=shown, **style)
        if value is not None and error is not None:
            axis.axhspan(value - error, value + error, color=style["color"], alpha=0.15, linewidth=0)
    axis.set_xlabel("time (ps)", fontsize=9)
    axis.set_ylabel("static dielectric constant", fontsize=9)
    axis.legend(frameon=False, fontsize=9)
    plain(axis)
    return to_png(figure)


def infrared_figure(spectra: Mapping[str, InfraredSpectrum], highest: float | None = None) -> bytes:
    """Infrared absorption with one standard error as a band, up to the wavenumber `highest` [1/cm].

    Raises:
        ValueError: if there is nothing to draw.
    """
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axis = figure.subplots()
    for (label, spectrum), style in zip(spectra.items(), styles(spectra), strict=False):
        there = slice(None) if highest is None else spectrum.wavenumber <= highest
        x, y = spectrum.wavenumber[there], spectrum.absorption[there]
        axis.plot(x, y, label=label, **style)
        if spectrum.error is not None:
            error = spectrum.error[there]
            axis.fill_between(x, y - error, y + error, color=style["color"], alpha=0.2, linewidth=0)
    axis.set_xlabel("wavenumber (1/cm)", fontsize=9)
    axis.set_ylabel(r"$\alpha n$ (1/cm)", fontsize=9)
    axis.set_xlim(left=0.0)
    axis.set_ylim(bottom=0.0)
    axis.legend(frameon=False, fontsize=9)
    plain(axis)
    return to_png(figure)
