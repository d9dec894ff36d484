"""A lipid bilayer of the model against that of the reference, as part of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.membranes import (
    area_per_lipid,
    bilayer_centre,
    bond_order,
    density_profile,
    from_centre,
    in_place,
    is_level,
    leaflets,
    thickness,
)
from cgenn.analysis.molecules import MoleculeKind, is_lipid, molecule_kinds, molecule_tree, whole
from cgenn.analysis.sections import Part, Picture, Section
from cgenn.analysis.statistics import BlockAverages
from cgenn.topology import BeadTopology
from cgenn.units import AMU_PER_NM3

_FEWEST = 8
"""Lipids below which nothing is called a bilayer."""
_IN_PLACE = 0.9
"""Share of the lipids of the reference that stand as in a bilayer, for it to be called one."""
_BINS = 60
_TEXT = (
    "Lipids belong to the leaflet that they point to; those whose head is on that side of the middle are in place, and "
    "a bilayer that falls apart has fewer of them. Thickness is the distance of the mean z of the heads ({heads}) of "
    "both leaflets, the area that of the box per lipid of a leaflet, order the P2 of bonds of the tails along the "
    "normal, z."
)


@dataclass(frozen=True, eq=False)
class _Lipids:
    """Places of beads: heads (lipids,), ends of tails (lipids, tails) averaged, bonds of tails (bonds, 2)."""

    heads: Int[np.ndarray, " lipids"]
    ends: tuple[Int[np.ndarray, " tails"], ...]
    bonds: Int[np.ndarray, "bonds 2"]
    groups: dict[str, Bool[np.ndarray, " beads"]]

    def end_heights(self, z: Float[np.ndarray, "frames beads"]) -> Float[np.ndarray, "frames lipids"]:
        """Mean z of the ends of the tails of each lipid."""
        return np.stack([z[:, ends].mean(axis=1) for ends in self.ends], axis=1)


def membrane_part(topology: BeadTopology, reference: Ensemble, model: Ensemble) -> Part:
    """A bilayer across z; nothing without lipids, a box with z as an axis, or a bilayer in the reference."""
    kinds = [kind for kind in molecule_kinds(topology) if is_lipid(topology, kind)]
    sides = (reference, model)
    if sum(len(kind.beads) for kind in kinds) < _FEWEST or any(side.box is None for side in sides):
        return Part()
    if not all(is_level(np.asarray(side.box, dtype=float)) for side in sides):
        return Part()
    lipids, labels = _lipids(topology, kinds), (reference.label, model.label)
    lowest = min(float(np.asarray(side.box)[:, 2, 2].min()) for side in sides)
    edges = np.linspace(-lowest / 2, lowest / 2, _BINS + 1)
    found = [_measure(topology, lipids, side, edges) for side in sides]
    if not found[0].mean[0] >= _IN_PLACE:
        return Part()
    kinds_of_numbers = (
        ("in_place", "Lipids in place", ""),
        ("area_per_lipid", "Area per lipid", "nm^2"),
        ("thickness", "Thickness, head to head", "nm"),
        ("tail_order", "Order of the tails, P2", ""),
    )
    numbers = [
        Compared(key, label, unit, *(side.estimate(column) for side in found))
        for column, (key, label, unit) in enumerate(kinds_of_numbers)
        if all(np.isfinite(side.mean[column]) for side in found)
    ]
    text = _TEXT.format(heads=", ".join(sorted({topology.names[bead] for bead in lipids.heads})))
    picture = Picture("bilayer", _figure(found, list(lipids.groups), edges, labels), "Density across the bilayer.")
    section = Section("Bilayer", text, (picture,), (compared_table(numbers, labels),))
    headline = {entry.key: entry.number(labels) for entry in numbers}
    return Part(headline, {"bilayer": {entry.key: entry.to_dict() for entry in numbers}}, (section,))


def _figure(found: list[BlockAverages], groups: list[str], edges: np.ndarray, labels: tuple[str, str]) -> bytes:
    z, panels = 0.5 * (edges[1:] + edges[:-1]), []
    for number, name in enumerate(groups):
        part = slice(4 + number * _BINS, 4 + (number + 1) * _BINS)
        curves = {}
        for label, side in zip(labels, found, strict=True):
            error = None if side.error is None else AMU_PER_NM3 * side.error[part]
            curves[label] = Curve(z, AMU_PER_NM3 * side.mean[part], error)
        panels.append(Panel("z (nm)", f"{name} (g/cm³)", curves))
    return curves_figure(panels)


def _measure(topology: BeadTopology, lipids: _Lipids, side: Ensemble, edges: np.ndarray) -> BlockAverages:
    """Columns: in place, area, thickness, order, and the density of each group in slices."""
    tree = molecule_tree(topology)
    result = BlockAverages.empty(side.n_blocks, 4 + len(lipids.groups) * _BINS)
    for chunk in side.chunks():
        assert chunk.box is not None
        positions, height = whole(chunk, tree), chunk.box[:, 2, 2]
        ends = lipids.end_heights(positions[..., 2])
        centre = bilayer_centre(ends, height)
        pointing = leaflets(positions[:, lipids.heads, 2], ends)
        heads = from_centre(positions[:, lipids.heads, 2], centre, height)
        area = area_per_lipid(chunk.box, len(lipids.heads))
        order = bond_order(positions[:, lipids.bonds[:, 1]] - positions[:, lipids.bonds[:, 0]]).mean(axis=1)
        z, across = from_centre(positions[..., 2], centre, height), area * len(lipids.heads) / 2
        chosen = lipids.groups.values()
        profiles = [density_profile(z[:, group], topology.masses[group], across, edges) for group in chosen]
        scalars = (in_place(heads, pointing), area, thickness(heads, pointing), order)
        result.add(np.column_stack([*scalars, *profiles]), chunk.blocks)
    return result


def _lipids(topology: BeadTopology, kinds: list[MoleculeKind]) -> _Lipids:
    heads, ends, bonds = [], [], []
    groups = {name: np.zeros(len(topology), dtype=bool) for name in ("heads", "tails", "rest of the lipids")}
    for kind in kinds:
        head = _head(topology, kind)
        kind_ends = tail_ends(kind, head)
        kind_bonds = tail_bonds(kind, head, kind_ends)
        for beads in kind.beads:
            heads.append(int(beads[head]))
            ends.append(beads[kind_ends])
            bonds.append(beads[kind_bonds])
        groups["rest of the lipids"][kind.beads] = True
        groups["tails"][kind.beads[:, np.unique(kind_bonds[:, 1])]] = True
        groups["heads"][kind.beads[:, head]] = True
    groups["tails"] &= ~groups["heads"]
    groups["rest of the lipids"] &= ~groups["heads"] & ~groups["tails"]
    groups["other molecules"] = ~np.any(list(groups.values()), axis=0)
    groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
    return _Lipids(np.array(heads), tuple(ends), np.concatenate(bonds), groups)


def _head(topology: BeadTopology, kind: MoleculeKind) -> int:
    """The bead named as the phosphate is (P, PO4, PHO ...), else the first of the molecule."""
    names = [topology.names[bead] for bead in kind.beads[0]]
    return next((place for place, name in enumerate(names) if name.startswith("P")), 0)


def tail_ends(kind: MoleculeKind, head: int) -> Int[np.ndarray, " tails"]:
    """Beads with one bond, at least half as many bonds away from the head as the farthest one."""
    degrees = np.bincount(kind.bonds.ravel(), minlength=kind.beads.shape[1])
    steps = kind.paths(head)[0]
    return np.flatnonzero((degrees == 1) & (steps >= 0.5 * steps.max()) & (steps > 0))


def tail_bonds(kind: MoleculeKind, head: int, ends: Int[np.ndarray, " tails"]) -> Int[np.ndarray, "bonds 2"]:
    """Bonds from the ends of the tails up to where they join each other or the head, the outer bead second."""
    degrees, before = np.bincount(kind.bonds.ravel()), kind.paths(head)[1].tolist()
    rows = []
    for bead in ends.tolist():
        rows.append((before[bead], bead))
        while rows[-1][0] != head and degrees[rows[-1][0]] == 2:
            rows.append((before[rows[-1][0]], rows[-1][0]))
    return np.unique(np.array(rows, dtype=np.int64), axis=0)
