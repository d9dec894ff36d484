"""A simulated model against its reference: everything measured, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from cgenn.analysis.conformations import Surface, SurfaceComparison, compare_surfaces
from cgenn.analysis.density_section import density_part
from cgenn.analysis.distributions import Distribution, check_ensembles, compare_distributions
from cgenn.analysis.dynamics_section import dynamics_part
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import distributions_figure, radial_figure, series_figure, surface_figure
from cgenn.analysis.membrane_section import membrane_part
from cgenn.analysis.polymer_section import polymer_part
from cgenn.analysis.protein_section import protein_part
from cgenn.analysis.radial import RadialDistributions, default_range, radial_distributions
from cgenn.analysis.report import Report, write_report
from cgenn.analysis.sections import Number, Picture, Section, Table, Value
from cgenn.analysis.statistics import jensen_shannon
from cgenn.analysis.structure_factor_section import structure_factor_part
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

_PANELS = 24
_RADIAL_PANELS = 12
_BACKBONE: dict[tuple[str, ...], str] = {("C", "N", "CA", "C"): "φ", ("N", "CA", "C", "N"): "ψ"}


def compare_ensembles(
    topology: BeadTopology,
    reference: Ensemble,
    model: Ensemble,
    temperature: float,
    out: str | Path,
    *,
    surface: Surface | None = None,
    reference_histogram: Real[np.ndarray, ...] | None = None,
    native: Float[np.ndarray, "beads 3"] | None = None,
    time_series: Mapping[str, Real[np.ndarray, ...]] | None = None,
    headline: Mapping[str, Number | Value] | None = None,
    sections: Sequence[Section] = (),
    provenance: Mapping[str, Any] | None = None,
    title: str = "Coarse-grained model against its reference",
) -> Report:
    """Compare a model with its reference and write the report into the folder `out`.

    Args:
        topology: the beads of both.
        reference: mapped all-atom frames.
        model: frames of the coarse-grained simulation.
        temperature: of both [K].
        out: folder.
        surface: the beads of two dihedrals; those of the topology if None and there are just two.
        reference_histogram: of these dihedrals from a longer reference, on [-pi, pi]^2; taken as exact.
        native: structure of a protein that its RMSD and contacts are measured from, positions of all beads, molecules
            whole [nm]; the first frame of the reference if None.
        time_series: columns for a figure, the first is the time; names carry the units.
        headline: the caller's numbers, put after those of this comparison.
        sections: the caller's, put after those of this comparison.
        provenance: where everything came from.
        title: of the page.

    Raises:
        ValueError: if the temperature is not positive, the ensembles do not fit the topology or each other, a position
            is not finite, or there is a reference histogram but no two dihedrals.
    """
    thermal_energy(temperature)
    check_ensembles(topology, reference, model)
    numbers: dict[str, Any] = {}
    own: dict[str, Number] = {}
    parts: list[Section] = []
    if surface is None and len(topology.dihedrals) == 2:
        surface = _surface(topology)
    if surface is None and reference_histogram is not None:
        found = len(topology.dihedrals)
        raise ValueError(
            f"`reference_histogram` needs a surface of two dihedrals, but the topology has {found}: name them"
        )
    if surface is not None:
        dihedrals = compare_surfaces(reference, model, surface, reference_histogram)
        names = [_dihedral_name(topology, beads) for beads in surface]
        own |= _surface_numbers(dihedrals, names)
        parts.append(_surface_section(dihedrals, topology, temperature, reference, model, reference_histogram))
    distributions = compare_distributions(topology, reference, model)
    if distributions:
        own |= _distribution_numbers(distributions)
        numbers["distributions"] = [entry.to_dict() for entry in distributions]
        parts.append(_distribution_section(distributions, (reference.label, model.label)))
    if reference.box is not None:
        radial, entries, section = _radial(topology, reference, model)
        own |= radial
        numbers["radial_distributions"] = entries
        parts += section
    for part in (
        density_part(topology, reference, model, temperature),
        polymer_part(topology, reference, model),
        protein_part(topology, reference, model, temperature, native),
        membrane_part(topology, reference, model),
        dynamics_part(topology, reference, model),
        structure_factor_part(topology, reference, model, temperature),
    ):
        own |= part.headline
        numbers |= part.numbers
        parts += part.sections
    if time_series:
        picture = Picture("time_series", series_figure(time_series), "The simulation over time.")
        parts.append(Section("Time series", pictures=(picture,)))
    return write_report(
        out,
        title,
        {**own, **(headline or {})},
        numbers=numbers,
        sections=[*parts, *sections],
        provenance={
            "temperature [K]": temperature,
            f"frames, {reference.label}": reference.n_frames,
            f"frames, {model.label}": model.n_frames,
            "beads": len(topology),
            **(provenance or {}),
        },
    )


def _surface(topology: BeadTopology) -> Surface:
    (a, b, c, d), (e, f, g, h) = topology.dihedrals[:2].tolist()
    return (a, b, c, d), (e, f, g, h)


def _surface_numbers(result: SurfaceComparison, names: Sequence[str]) -> dict[str, Number]:
    floor, spread = result.floor
    entries = {
        "js": Number(
            result.js,
            f"Jensen-Shannon divergence of {names[0]} and {names[1]}",
            "nat",
            result.js_error,
            f"{floor:.3g} from sampling alone; ln 2 = 0.693 if nothing overlaps",
        ),
        "js_mirrored": Number(result.js_mirrored, "the same, model mirrored", "nat", None, "the divergence above"),
        "js_sampling_floor": Number(
            floor,
            "divergence from sampling alone",
            "nat",
            spread,
            f"a perfect model with the model's {result.effective_samples:.0f} effective samples",
        ),
    }
    if result.js_frames is not None:
        entries["js_reference_frames"] = Number(
            result.js_frames, "divergence of the reference frames themselves", "nat", None, "given reference histogram"
        )
    return entries


def _surface_section(
    result: SurfaceComparison,
    topology: BeadTopology,
    temperature: float,
    reference: Ensemble,
    model: Ensemble,
    histogram: Real[np.ndarray, "first second"] | None,
) -> Section:
    names = [_dihedral_name(topology, beads) for beads in result.surface]
    source = f"{reference.n_frames} frames" if histogram is None else "a given histogram"
    bins = " x ".join(str(size) for size in result.reference.shape)
    caption = (
        f"Free energy -kT ln p at {temperature:g} K, {bins} bins. Reference: {source}; model: {model.n_frames} frames. "
        "Grey bins were never visited. The difference is drawn where both were there; red: too rare in the model."
    )
    figure = surface_figure(result, temperature, (names[0], names[1]), (reference.label, model.label))
    return Section("Free-energy surface", pictures=(Picture("free_energy", figure, caption),))


def _dihedral_name(topology: BeadTopology, beads: tuple[int, int, int, int]) -> str:
    chain = tuple(topology.names[bead].rpartition("-")[2] for bead in beads)
    return _BACKBONE.get(chain) or _BACKBONE.get(chain[::-1]) or " – ".join(chain)


def _distribution_numbers(distributions: Sequence[Distribution]) -> dict[str, Number]:
    labels = {"bond": "bonds", "angle": "angles", "dihedral": "dihedrals", "pair": "pair distances"}
    result = {}
    for kind, label in labels.items():
        chosen = [entry for entry in distributions if entry.kind == kind]
        if chosen:
            worst = max(chosen, key=lambda entry: entry.js)
            result[f"js_{label.replace(' ', '_')}"] = Number(
                float(np.mean([entry.js for entry in chosen])),
                f"mean divergence of {label} ({len(chosen)} types)",
                "nat",
                None,
                f"{np.mean([entry.floor[0] for entry in chosen]):.2g} from sampling; "
                f"worst {worst.types.replace('|', ' – ')}, {worst.js:.2g}",
            )
    return result


def _distribution_section(distributions: Sequence[Distribution], labels: tuple[str, str]) -> Section:
    shown = distributions
    caption = "Probability densities. Numbers: Jensen-Shannon divergence (natural logarithm), and from sampling alone."
    if len(distributions) > _PANELS:
        shown = _most_different(distributions)
        caption += f" {_PANELS} of {len(distributions)} types are drawn, of each kind those that differ most."
    picture = Picture("distributions", distributions_figure(shown, labels), caption)
    columns = (f"{what}, {label}" for what in ("mean", "deviation") for label in labels)
    heads = ("kind", "types", "JS", "error", "sampling", *columns, "unit")
    return Section("Distributions", pictures=(picture,), tables=(Table(heads, tuple(map(_row, distributions))),))


def _most_different(distributions: Sequence[Distribution]) -> list[Distribution]:
    """The panels of a figure: of every kind in turn the type with the largest divergence; in the given order."""
    kinds: dict[str, list[Distribution]] = {}
    for entry in sorted(distributions, key=lambda entry: -entry.js):
        kinds.setdefault(entry.kind, []).append(entry)
    turns = [entry for turn in zip_longest(*kinds.values()) for entry in turn if entry is not None]
    return sorted(turns[:_PANELS], key=distributions.index)


def _row(entry: Distribution) -> tuple[Value, ...]:
    start = (entry.kind, entry.types.replace("|", " – "), entry.js, entry.js_error, entry.floor[0])
    reference, model = entry.reference_moments, entry.model_moments
    if reference is None or model is None:
        return (*start, None, None, None, None, "")
    scale, unit = (180.0 / np.pi, "degrees") if entry.unit == "rad" else (1.0, "nm")
    means = (reference.mean * scale, model.mean * scale, reference.deviation * scale, model.deviation * scale)
    return (*start, *means, unit)


def _radial(
    topology: BeadTopology, reference: Ensemble, model: Ensemble
) -> tuple[dict[str, Number], list[dict[str, Any]], list[Section]]:
    r_max = default_range([reference, model])
    first, second = (
        radial_distributions(topology.types, side, r_max=r_max, molecules=topology.molecules)
        for side in (reference, model)
    )
    if not first.names:
        return {}, [], []
    deviation = np.sqrt(np.mean((first.g - second.g) ** 2, axis=1))
    entries = [_radial_entry(first, second, row, float(deviation[row])) for row in range(len(first.names))]
    order = np.argsort(-deviation, kind="stable")[:_RADIAL_PANELS]
    caption = f"Radial distribution functions between molecules; {first.frames.sum()} and {second.frames.sum()} frames."
    if len(entries) > _RADIAL_PANELS:
        caption += f" {_RADIAL_PANELS} of {len(entries)} pairs of types are drawn, those that differ most."
    figure = radial_figure(first, second, sorted(order.tolist()), (reference.label, model.label))
    heads = ("types", "rms difference of g", "JS", "peak (nm)", "peak, model (nm)", "height", "height, model")
    rows = tuple(
        (e["types"].replace("|", " – "), e["rms_difference"], e["js"], *e["peak"], *e["height"]) for e in entries
    )
    headline = Number(
        float(deviation.mean()),
        "rms difference of g(r)",
        "",
        None,
        f"{len(entries)} pairs of types, up to {r_max:.3g} nm",
    )
    section = Section("Radial distribution functions", "", (Picture("radial", figure, caption),), (Table(heads, rows),))
    return {"g_rms_difference": headline}, entries, [section]


def _radial_entry(
    reference: RadialDistributions, model: RadialDistributions, row: int, deviation: float
) -> dict[str, Any]:
    sides = [(side.g[row], side.counts[:, row].sum(axis=0)) for side in (reference, model)]
    js = jensen_shannon(sides[0][1], sides[1][1]) if all(counts.sum() > 0 for _, counts in sides) else None
    return {
        "types": reference.names[row],
        "rms_difference": deviation,
        "js": js,
        "peak": [float(reference.r[np.argmax(g)]) for g, _ in sides],
        "height": [float(g.max()) for g, _ in sides],
    }
