"""A protein of the model against that of the reference, as part of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import to_png
from cgenn.analysis.kinetics_section import kinetics_part
from cgenn.analysis.molecules import MoleculeKind, is_protein, molecule_kinds, molecule_tree, residue_trace, whole
from cgenn.analysis.proteins import CONTACT, in_contact, native_contacts, native_pairs, rmsd, secondary_structure
from cgenn.analysis.sections import Number, Part, Picture, Section
from cgenn.analysis.statistics import BlockAverages
from cgenn.topology import BeadTopology

_HISTOGRAM = 50
_RESIDUES = 200
"""Residues of the largest protein that is looked at: maps of contacts grow as the square."""
_SECONDARY = 5
"""Residues that a secondary structure needs."""
_TEXT = (
    "{name}, by one bead for each of {residues} residues. RMSD after superposition, and the share Q of native contacts "
    "(Best, Hummer and Eaton), are those from {native}. Helices and strands follow from the beads alone (P-SEA)."
)


@dataclass(frozen=True, eq=False)
class _Protein:
    """Of one ensemble: traces of whole proteins (frames, copies, residues, 3), and what was measured on them.

    `averages` has the columns RMSD, Q, helix, strand, then helix and strand of each residue; `contacts` the pairs.
    """

    trace: Float[np.ndarray, "frames copies residues 3"]
    rmsd: Float[np.ndarray, "frames copies"]
    q: Float[np.ndarray, "frames copies"]
    averages: BlockAverages
    contacts: BlockAverages


def protein_part(
    topology: BeadTopology,
    reference: Ensemble,
    model: Ensemble,
    temperature: float,
    native: Float[np.ndarray, "beads 3"] | None = None,
) -> Part:
    """The largest kind of protein; nothing if no molecule has four amino acids.

    Args:
        topology: the beads of both.
        reference: mapped all-atom frames.
        model: frames of the model.
        temperature: [K].
        native: positions of all beads, molecules whole [nm]; the first frame of the reference if None.

    Raises:
        ValueError: if the native structure has not as many beads.
    """
    if native is not None and np.shape(native) != (len(topology), 3):
        raise ValueError(f"`native` must have the shape ({len(topology)}, 3), got {np.shape(native)}")
    kinds = [kind for kind in molecule_kinds(topology) if is_protein(topology, kind)]
    kinds = [kind for kind in kinds if len(residue_trace(topology, kind)) <= _RESIDUES]
    if not kinds:
        return Part()
    kind, labels = max(kinds, key=lambda kind: kind.beads.shape[1]), (reference.label, model.label)
    trace = residue_trace(topology, kind)
    traces = [_traces(topology, kind, trace, side) for side in (reference, model)]
    fixed = traces[0][0, 0] if native is None else np.asarray(native, dtype=float)[kind.beads[0, trace]]
    found = [_measure(values, fixed, side) for values, side in zip(traces, (reference, model), strict=True)]
    numbers = _numbers(found, len(native_pairs(fixed)) > 0, len(trace) >= _SECONDARY)
    text = _TEXT.format(
        name=kind.name,
        residues=len(trace),
        native="the first frame of the reference" if native is None else "a given structure",
    )
    pictures = [
        Picture("protein", _distributions(found, labels), "Distributions over frames."),
        Picture("contacts", _contact_figure(found, len(trace), labels), _caption(labels)),
    ]
    if len(trace) >= _SECONDARY:
        figure = _secondary_figure(found, len(trace), labels)
        pictures.append(Picture("secondary_structure", figure, "Share of frames in helices and strands."))
    section = Section("Protein", text, tuple(pictures), (compared_table(numbers, labels),))
    own = Part(
        {**{entry.key: entry.number(labels) for entry in numbers}, "contact_map": _contact_difference(found)},
        {"protein": {entry.key: entry.to_dict() for entry in numbers}},
        (section,),
    )
    slow = kinetics_part((found[0].trace, found[1].trace), reference, model, temperature)
    return Part({**own.headline, **slow.headline}, {**own.numbers, **slow.numbers}, (*own.sections, *slow.sections))


def _caption(labels: tuple[str, str]) -> str:
    return f"Share of frames in which residues are closer than {CONTACT} nm: {labels[0]} above, {labels[1]} below."


def _traces(
    topology: BeadTopology, kind: MoleculeKind, trace: np.ndarray, side: Ensemble
) -> Float[np.ndarray, "frames copies residues 3"]:
    tree = molecule_tree(topology)
    return np.concatenate([whole(chunk, tree)[:, kind.beads[:, trace]] for chunk in side.chunks()])


def _measure(traces: np.ndarray, native: Float[np.ndarray, "residues 3"], side: Ensemble) -> _Protein:
    frames, copies, n = traces.shape[:3]
    upper = np.triu_indices(n, 1)
    averages = BlockAverages.empty(side.n_blocks, 4 + 2 * n)
    contacts = BlockAverages.empty(side.n_blocks, len(upper[0]))
    deviations, shares = np.empty((frames, copies)), np.ones((frames, copies))
    some = len(native_pairs(native)) > 0
    step = max(1, 2_000_000 // n**2)
    for copy in range(copies):
        for start in range(0, frames, step):
            part = slice(start, start + step)
            values, blocks = traces[part, copy], side.block_index[part]
            deviations[part, copy] = rmsd(values, native)
            if some:
                shares[part, copy] = native_contacts(values, native)
            marks = [np.zeros((len(values), n), dtype=bool)] * 2
            if n >= _SECONDARY:
                marks = list(secondary_structure(values))
            columns = [deviations[part, copy], shares[part, copy], *(mark.mean(axis=1) for mark in marks), *marks]
            averages.add(np.column_stack(columns), blocks)
            contacts.add(in_contact(values)[:, *upper].astype(float), blocks)
    return _Protein(traces, deviations, shares, averages, contacts)


def _numbers(found: list[_Protein], contacts: bool, secondary: bool) -> list[Compared]:
    wanted = (
        (0, "rmsd", "RMSD", "nm", True),
        (1, "native_contacts", "Native contacts, Q", "", contacts),
        (2, "helix", "Residues in helices", "", secondary),
        (3, "strand", "Residues in strands", "", secondary),
    )
    return [
        Compared(key, label, unit, *(side.averages.estimate(column) for side in found))
        for column, key, label, unit, there in wanted
        if there
    ]


def _contact_difference(found: list[_Protein]) -> Number:
    maps, errors = [side.contacts.mean for side in found], [side.contacts.error for side in found]
    note = "not known what sampling alone gives"
    if errors[0] is not None and errors[1] is not None:
        note = f"{np.sqrt(np.mean(errors[0] ** 2 + errors[1] ** 2)):.2g} from sampling alone"
    value = float(np.sqrt(np.mean((maps[1] - maps[0]) ** 2)))
    return Number(value, "Root mean square difference of the contact maps", "", None, note)


def _distributions(found: list[_Protein], labels: tuple[str, str]) -> bytes:
    panels = []
    for name, series in (("RMSD (nm)", [side.rmsd for side in found]), ("Q", [side.q for side in found])):
        low, high = min(values.min() for values in series), max(values.max() for values in series)
        edges = np.linspace(low, high + 1e-9, _HISTOGRAM + 1)
        centres = 0.5 * (edges[1:] + edges[:-1])
        curves = {
            label: Curve(centres, np.histogram(values, edges, density=True)[0])
            for label, values in zip(labels, series, strict=True)
        }
        panels.append(Panel(name, "probability density", curves))
    return curves_figure(panels)


def _secondary_figure(found: list[_Protein], residues: int, labels: tuple[str, str]) -> bytes:
    panels = []
    for number, name in enumerate(("helix", "strand")):
        part = slice(4 + number * residues, 4 + (number + 1) * residues)
        curves = {}
        for label, side in zip(labels, found, strict=True):
            error = None if side.averages.error is None else side.averages.error[part]
            curves[label] = Curve(1.0 + np.arange(residues), side.averages.mean[part], error)
        panels.append(Panel("residue", f"share in a {name}", curves))
    return curves_figure(panels)


def _contact_figure(found: list[_Protein], residues: int, labels: tuple[str, str]) -> bytes:
    values = np.eye(residues)
    upper = np.triu_indices(residues, 1)
    values[upper], values.T[upper] = found[0].contacts.mean, found[1].contacts.mean
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(
        values, origin="upper", cmap="viridis", vmin=0.0, vmax=1.0, extent=(0.5, residues + 0.5, residues + 0.5, 0.5)
    )
    axis.plot([0.5, residues + 0.5], [0.5, residues + 0.5], color="#ffffff", linewidth=0.8)
    axis.set_xlabel("residue", fontsize=9)
    axis.set_ylabel("residue", fontsize=9)
    axis.set_title(f"{labels[0]} (upper) and {labels[1]} (lower)", fontsize=9)
    axis.tick_params(labelsize=8)
    figure.colorbar(image, ax=axis, label="share of frames in contact", shrink=0.85)
    return to_png(figure)
