"""Slow coordinates of a protein: the free-energy surface along them and their timescales, as part of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.conformations import free_energy
from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import to_png
from cgenn.analysis.kinetics import has_deeptime, implied_timescales, slow_coordinates
from cgenn.analysis.sections import Number, Part, Picture, Section
from cgenn.analysis.statistics import Estimate, effective_samples, jackknife, jensen_shannon, quadrature, sampling_floor
from cgenn.analysis.structure import distances

_RESIDUES = 6
"""Residues below which there are hardly any distances."""
_FEATURES = 200
_FRAMES = 20_000
"""Frames of one ensemble that coordinates are found from; of more, every n-th."""
_FEWEST = 100
"""Frames of the longest trajectory below which nothing is said of slow coordinates."""
_LAG = 50
"""The lag is the longest trajectory over this."""
_GROUPS = 10
"""Groups of blocks that the error of a timescale is estimated from."""
_BINS = 40
_HIGHEST = 25.0
"""Free energies are drawn up to this value [kJ/mol]."""


@dataclass(frozen=True, eq=False)
class _Features:
    """Distances of residues in each trajectory of each copy, at equal times, and the block of each frame."""

    trajectories: list[Float[np.ndarray, "frames features"]]
    blocks: list[np.ndarray]
    interval: float

    @property
    def longest(self) -> int:
        return max(map(len, self.trajectories))


def kinetics_part(
    traces: tuple[Float[np.ndarray, "frames copies residues 3"], Float[np.ndarray, "frames copies residues 3"]],
    reference: Ensemble,
    model: Ensemble,
    temperature: float,
) -> Part:
    """Slow coordinates of the reference, and both projected on them; nothing without deeptime, times or many frames.

    Args:
        traces: of whole proteins, of the reference and of the model [nm].
        reference: which trajectory each of its frames belongs to, and when.
        model: the same.
        temperature: [K].
    """
    sides = (reference, model)
    if not has_deeptime() or any(side.interval is None for side in sides) or traces[0].shape[2] < _RESIDUES:
        return Part()
    features = [_features(values, side) for values, side in zip(traces, sides, strict=True)]
    if min(each.longest for each in features) < _FEWEST:
        return Part()
    labels = (reference.label, model.label)
    slow = slow_coordinates(features[0].trajectories, max(1, features[0].longest // _LAG))
    if len(slow.timescales) < 2:
        return Part()
    counts = _histograms([[slow(part) for part in each.trajectories] for each in features], features, sides)
    totals = [each.sum(axis=0) for each in counts]
    js, error = jackknife(counts[1], lambda total: jensen_shannon(totals[0], total))
    error = quadrature(error, jackknife(counts[0], lambda total: jensen_shannon(total, totals[1]))[1])
    floor, spread = sampling_floor(totals[0], effective_samples(counts[1]), effective_samples(counts[0]))
    lag = slow.lag * features[0].interval
    text = (
        f"The two slowest linear combinations of distances of residues (TICA, at a lag of {lag:.3g} ps), found from "
        f"{labels[0]}; both are projected on them. Divergence {js:.3g}, {floor:.3g} from sampling alone. Implied "
        "timescales are those of each of the two on its own, in its own time, in the table at a lag of a fiftieth of "
        "its trajectory. Those near the lag or longer than the trajectories are not reliable."
    )
    scales = [_timescales(each) for each in features]
    slowest = [_slowest(each) for each in features]
    entries = [
        Compared(f"timescale_{number + 1}", f"Implied timescale {number + 1}", "ps", *pair)
        for number, pair in enumerate(zip(*slowest, strict=False))
    ]
    surface = Picture("slow_coordinates", _surfaces(totals, temperature, labels), f"Free energy at {temperature:g} K.")
    times = Picture("timescales", _timescale_figure(scales, labels), "Implied timescales against the lag.")
    headline = {
        "js_slow_coordinates": Number(
            js, "Jensen-Shannon divergence of slow coordinates", "nat", error, f"{floor:.3g} from sampling alone"
        )
    }
    numbers = {
        "js": js, "js_error": error, "js_sampling_floor": floor, "js_sampling_spread": spread, "lag_ps": lag,
        **{entry.key: entry.to_dict() for entry in entries},
    }  # fmt: skip
    section = Section("Slow coordinates", text, (surface, times), (compared_table(entries, labels),))
    return Part(headline, {"slow_coordinates": numbers}, (section,))


def _features(traces: np.ndarray, side: Ensemble) -> _Features:
    pairs = np.stack(np.triu_indices(traces.shape[2], 3), axis=1)
    pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, _FEATURES).round().astype(np.int64))]
    stride = max(1, -(-side.n_frames * traces.shape[1] // _FRAMES))
    trajectories, blocks = [], []
    for piece in side.pieces:
        chosen = piece[::stride]
        for copy in range(traces.shape[1]):
            trajectories.append(distances(traces[chosen, copy], pairs))
            blocks.append(side.block_index[chosen])
    assert side.interval is not None
    return _Features(trajectories, blocks, side.interval * stride)


def _histograms(
    projected: list[list[Float[np.ndarray, "frames 2"]]], features: list[_Features], sides: Sequence[Ensemble]
) -> list[Float[np.ndarray, "blocks first second"]]:
    """Of both on the same bins, over what the reference visits; the outermost hold what lies beyond."""
    truth = np.concatenate(projected[0])
    low, high = truth.min(axis=0), truth.max(axis=0)
    pad = 0.1 * (high - low) + 1e-9
    low, width = low - pad, (high - low + 2 * pad) / _BINS
    result = []
    for parts, each, side in zip(projected, features, sides, strict=True):
        counts = np.zeros((side.n_blocks, _BINS, _BINS))
        for values, blocks in zip(parts, each.blocks, strict=True):
            first, second = np.clip(np.floor((values - low) / width).astype(np.int64), 0, _BINS - 1).T
            np.add.at(counts, (blocks, first, second), 1.0)
        result.append(counts)
    return result


def _slowest(each: _Features) -> list[Estimate]:
    """The two longest timescales [ps], of its own coordinates, with the jackknife error over groups of blocks."""
    lag = max(1, each.longest // _LAG)
    blocks = np.unique(np.concatenate(each.blocks))
    group = dict(zip(blocks.tolist(), (np.arange(len(blocks)) * _GROUPS // len(blocks)).tolist(), strict=True))

    def timescales(left_out: int | None) -> np.ndarray:
        parts = []
        for values, index in zip(each.trajectories, each.blocks, strict=True):
            kept = np.array([group[block] != left_out for block in index.tolist()])
            breaks = np.flatnonzero(np.diff(kept.astype(int))) + 1
            pieces = zip(np.split(values, breaks), np.split(kept, breaks), strict=True)
            parts += [part for part, keep in pieces if keep[0]]
        return each.interval * slow_coordinates(parts, lag).timescales

    whole = timescales(None)
    groups = sorted(set(group.values()))
    if len(groups) < 2:
        return [Estimate(float(value), None) for value in whole]
    left_out = [timescales(number) for number in groups]
    size = min(map(len, [whole, *left_out]))
    errors = np.sqrt((len(groups) - 1) * np.var([row[:size] for row in left_out], axis=0))
    return [Estimate(float(value), float(error)) for value, error in zip(whole[:size], errors, strict=True)]


def _timescales(each: _Features) -> tuple[np.ndarray, np.ndarray]:
    """Lags and timescales [ps]."""
    lags = np.unique(np.geomspace(1, max(2, each.longest // 8), 8).round().astype(int)).tolist()
    return each.interval * np.array(lags), each.interval * implied_timescales(each.trajectories, lags)


def _surfaces(totals: list[np.ndarray], temperature: float, labels: tuple[str, str]) -> bytes:
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, counts, label in zip(axes, totals, labels, strict=True):
        image = axis.pcolormesh(free_energy(counts, temperature).T, cmap="viridis", vmin=0.0, vmax=_HIGHEST)
        axis.set_facecolor("#eceef0")
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("slowest coordinate", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel("second", fontsize=9)
    figure.colorbar(image, ax=axes, label="free energy (kJ/mol)", shrink=0.85)
    return to_png(figure)


def _timescale_figure(scales: list[tuple[np.ndarray, np.ndarray]], labels: tuple[str, str]) -> bytes:
    width = min(values.shape[1] for _, values in scales)
    panels = []
    for number, name in list(enumerate(("slowest", "second")))[:width]:
        curves = {label: Curve(lags, values[:, number]) for label, (lags, values) in zip(labels, scales, strict=True)}
        panels.append(Panel("lag (ps)", f"{name} timescale (ps)", curves, log="xy"))
    return curves_figure(panels)
