"""Diffusion of molecules of the model against those of the reference, as part of a report."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.dynamics import Diffusion, diffusion, unwrapped
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.molecules import MoleculeKind, molecule_kinds, molecule_tree, whole
from cgenn.analysis.page import format_value
from cgenn.analysis.sections import Number, Part, Picture, Section
from cgenn.analysis.statistics import Estimate
from cgenn.mapping.linear import LinearMap
from cgenn.topology import BeadTopology

_KINDS = 4
_CENTRES = 4_000_000
"""Molecules times frames followed in one ensemble; of more molecules, a random choice."""
_FEWEST_FRAMES = 32
_STRAIGHT = 0.1
"""How far the exponent of the mean square displacement may be from 1 in what is called diffusion."""


def dynamics_part(topology: BeadTopology, reference: Ensemble, model: Ensemble) -> Part:
    """Mean square displacements in a periodic system; nothing without a box or times, or with too few frames."""
    sides = (reference, model)
    if any(side.box is None or side.interval is None or _longest(side) < _FEWEST_FRAMES for side in sides):
        return Part()
    labels = (reference.label, model.label)
    kinds = sorted(molecule_kinds(topology), key=lambda kind: -len(kind.beads))[:_KINDS]
    found = [(kind.name, tuple(_diffusion(topology, kind, side) for side in sides)) for kind in kinds]
    entries = [
        Compared(name, name, "nm^2/ps", *(Estimate(each.coefficient, each.coefficient_error) for each in pair))
        for name, pair in found
    ]
    scaling = entries[0].ratio
    headline, text = {}, _warnings(found, labels)
    if entries[0].reference.value > 0 and entries[0].model.value > 0:
        label = "Diffusion, model over atoms"
        note = f"time runs so many times faster in the model, {entries[0].label}"
        headline["time_scaling"] = Number(scaling.value, label, "", scaling.error, note)
        text = (
            f"Molecules of the model move {format_value(*scaling)} times as fast as those of the atoms: that is the "
            "dynamics of the model with its thermostat, which lacks the friction of the atoms that are gone. Structure "
            "does not depend on it; every time taken from the model does.\n\n" + text
        )
    panels = [
        Panel("time (ps)", "mean square displacement (nm²)", dict(zip(labels, map(_curve, pair), strict=True)), "xy")
        for _, pair in found
    ]
    names = ", ".join(name for name, _ in found)
    caption = f"Mean square displacement of the centres of {names}; lines are fitted to its second half."
    picture = Picture("displacement", curves_figure(panels), caption)
    numbers = [
        {"molecules": name, **entry.to_dict(), "reference_fit": _fit(pair[0]), "model_fit": _fit(pair[1])}
        for entry, (name, pair) in zip(entries, found, strict=True)
    ]
    table = compared_table(entries, labels)
    return Part(headline, {"diffusion": numbers}, (Section("Dynamics", text, (picture,), (table,)),))


def _longest(side: Ensemble) -> int:
    return max(len(piece) for piece in side.pieces)


def _curve(found: Diffusion) -> Curve:
    return Curve(found.time, found.displacement, found.displacement_error)


def _fit(found: Diffusion) -> dict[str, object]:
    return {"window_ps": list(found.window), "exponent": found.exponent}


def _warnings(found: list[tuple[str, tuple[Diffusion, ...]]], labels: tuple[str, str]) -> str:
    """The windows of the fits, and where motion is not diffusive in them."""
    first = found[0][1]
    windows = [
        f"{each.window[0]:.3g} to {each.window[1]:.3g} ps ({name})" for name, each in zip(labels, first, strict=True)
    ]
    text = (
        f"Diffusion coefficients are fitted from {' and '.join(windows)}, and not corrected for the size of the box "
        "(Yeh and Hummer). 1 nm²/ps is 1e-6 m²/s."
    )
    for name, pair in found:
        for label, each in zip(labels, pair, strict=True):
            if abs(each.exponent - 1.0) > _STRAIGHT:
                text += (
                    f" {name}, {label}: not diffusive yet, displacements grow as the power {each.exponent:.2f} of "
                    "time, and D depends on the length of the trajectory."
                )
    return text


def _diffusion(topology: BeadTopology, kind: MoleculeKind, side: Ensemble) -> Diffusion:
    most = max(1, _CENTRES // side.n_frames)
    chosen = kind.beads
    if len(chosen) > most:
        chosen = chosen[np.sort(np.random.default_rng(0).choice(len(chosen), most, replace=False))]
    centres, boxes = _centres(topology, chosen, side), np.asarray(side.box, dtype=float)
    assert side.interval is not None
    return diffusion([unwrapped(centres[piece], boxes[piece]) for piece in side.pieces], side.interval)


def _centres(
    topology: BeadTopology, beads: Int[np.ndarray, "molecules size"], side: Ensemble
) -> Float[np.ndarray, "frames molecules 3"]:
    """Centres of mass of whole molecules."""
    masses = topology.masses[beads]
    weights = (masses / masses.sum(axis=1, keepdims=True)).ravel()
    rows = np.repeat(np.arange(len(beads)), beads.shape[1])
    average = LinearMap(csr_array((weights, (rows, beads.ravel())), shape=(len(beads), len(topology))))
    tree = molecule_tree(topology)
    return np.concatenate([average(whole(chunk, tree)) for chunk in side.chunks()])
