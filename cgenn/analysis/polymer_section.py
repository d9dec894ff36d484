"""Chains of the model against those of the reference, as part of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.molecules import MoleculeKind, is_lipid, molecule_kinds, molecule_tree, whole
from cgenn.analysis.orientation import nematic_order
from cgenn.analysis.polymers import (
    bond_correlations,
    end_to_end_distance,
    form_factor,
    persistence_length,
    radius_of_gyration,
)
from cgenn.analysis.sections import Part, Picture, Section
from cgenn.analysis.statistics import BlockAverages
from cgenn.topology import BeadTopology

_SHORTEST = 6
"""Beads of the backbone of what is called a chain."""
_SEPARATIONS = 60
_WAVES = 32
_DISTANCES = 2e6
"""Distances within chains behind a form factor; of more, some frames of every block."""
_KINDS = 3
"""Kinds of chains in one report: those with the most beads."""
_TEXT = (
    "Root mean square radius of gyration and end-to-end distance of the backbone; persistence length as the projection "
    "of the end-to-end vector on the first and last bond (Flory), smaller in short chains. Below, the mean cosine and "
    "P2 of two bonds of a chain, s bonds apart, and the form factor of single chains."
)


@dataclass(frozen=True, eq=False)
class _Chains:
    """What was measured of one kind of chains in one ensemble: columns Rg^2, R^2, l_p, order, cosines, P2."""

    averages: BlockAverages
    separations: int
    k: Float[np.ndarray, " k"]
    form: BlockAverages

    def curves(self) -> list[Curve]:
        """Cosine and P2 against the separation, and the form factor."""
        error, result = self.averages.error, []
        for start in (4, 4 + self.separations):
            part = slice(start, start + self.separations)
            there = None if error is None else error[part]
            result.append(Curve(np.arange(self.separations, dtype=float), self.averages.mean[part], there))
        return [*result, Curve(self.k, self.form.mean, self.form.error)]


def polymer_part(topology: BeadTopology, reference: Ensemble, model: Ensemble) -> Part:
    """Chains of six or more beads along their backbone; nothing if there are none."""
    kinds = [kind for kind in molecule_kinds(topology) if len(kind.backbone) >= _SHORTEST]
    kinds = sorted((kind for kind in kinds if kind.has_ends and not is_lipid(topology, kind)), key=_size)[:_KINDS]
    headline, entries, pictures, tables = {}, [], [], []
    labels = (reference.label, model.label)
    for number, kind in enumerate(kinds, start=1):
        k = _wavenumbers(topology, kind, reference)
        sides = [_measure(topology, kind, ensemble, k) for ensemble in (reference, model)]
        numbers = _numbers(kind, sides[0], sides[1])
        curves = [dict(zip(labels, pair, strict=True)) for pair in zip(*(side.curves() for side in sides), strict=True)]
        panels = [
            Panel("separation s (bonds)", "mean cosine", curves[0], level=0.0),
            Panel("separation s (bonds)", r"$P_2$", curves[1], level=0.0),
            Panel("k (1/nm)", "form factor P(k)", curves[2], log="xy"),
        ]
        pictures.append(Picture(f"chains_{number}", curves_figure(panels), f"{kind.name}."))
        tables.append(compared_table(numbers, labels))
        entries.append({"chains": kind.name, **{entry.key: entry.to_dict() for entry in numbers}})
        if number == 1:
            headline = {entry.key: entry.number(labels) for entry in numbers[:3]}
    if not kinds:
        return Part()
    return Part(headline, {"polymers": entries}, (Section("Chains", _TEXT, tuple(pictures), tuple(tables)),))


def _size(kind: MoleculeKind) -> int:
    return -kind.beads.size


def _numbers(kind: MoleculeKind, reference: _Chains, model: _Chains) -> list[Compared]:
    both = (reference.averages, model.averages)
    entries = [
        Compared("radius_of_gyration", "Radius of gyration", "nm", *(side.root(0) for side in both)),
        Compared("end_to_end_distance", "End-to-end distance", "nm", *(side.root(1) for side in both)),
        Compared("persistence_length", "Persistence length", "nm", *(side.estimate(2) for side in both)),
    ]
    if len(kind.beads) > 1:
        entries.append(Compared("bond_order", "Nematic order of bonds", "", *(side.estimate(3) for side in both)))
    return entries


def _wavenumbers(topology: BeadTopology, kind: MoleculeKind, reference: Ensemble) -> Float[np.ndarray, " k"]:
    """From half the inverse of the size of chains to that of a bond, as the first frame of the reference has them."""
    chunk = next(reference.chunks(frames=np.arange(reference.n_frames) == 0))
    chains = whole(chunk, molecule_tree(topology))[:, kind.beads]
    bond = np.linalg.norm(np.diff(chains[..., kind.backbone, :], axis=-2), axis=-1).mean()
    return np.geomspace(0.5 / radius_of_gyration(chains).mean(), 2.0 * np.pi / bond, _WAVES)


def _measure(topology: BeadTopology, kind: MoleculeKind, ensemble: Ensemble, k: Float[np.ndarray, " k"]) -> _Chains:
    tree, masses, size = molecule_tree(topology), topology.masses[kind.beads[0]], kind.beads.shape[1]
    separations = min(len(kind.backbone) - 1, _SEPARATIONS)
    averages = BlockAverages.empty(ensemble.n_blocks, 4 + 2 * separations)
    form = BlockAverages.empty(ensemble.n_blocks, len(k))
    stride = max(1, int(ensemble.n_frames * len(kind.beads) * size**2 / 2 / _DISTANCES))
    done = 0
    for chunk in ensemble.chunks():
        chains = whole(chunk, tree)[:, kind.beads]
        backbone = chains[..., kind.backbone, :]
        bonds = np.diff(backbone, axis=-2)
        axes = bonds / np.linalg.norm(bonds, axis=-1, keepdims=True)
        scalars = [
            np.square(radius_of_gyration(chains, masses)).mean(axis=1),
            np.square(end_to_end_distance(backbone)).mean(axis=1),
            persistence_length(backbone).mean(axis=1),
            nematic_order(axes.reshape(len(axes), -1, 3)),
        ]
        correlations = [values.mean(axis=1) for values in bond_correlations(backbone, separations)]
        averages.add(np.column_stack([*scalars, *correlations]), chunk.blocks)
        for frame in np.flatnonzero((done + np.arange(len(chains))) % stride == 0):
            form.add(form_factor(chains[frame], k)[None], chunk.blocks[frame : frame + 1])
        done += len(chains)
    return _Chains(averages, separations, k, form)
