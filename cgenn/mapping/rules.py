"""From the rules of a definition to the atoms and weights of each bead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from cgenn.mapping.atoms import AtomTopology, by_group
from cgenn.mapping.definition import BeadRule, MappingDefinition
from cgenn.mapping.molecules import Kind, find_kinds
from cgenn.mapping.smarts import find_matches, merge_runs
from cgenn.mapping.templates import find_templates


@dataclass(frozen=True, eq=False)
class Bead:
    """Atoms that make up a bead.

    Attributes:
        rule: index of its rule in the definition.
        atoms: that it is made of, and their weights, which sum to one.
        owned: atoms whose mass, charge and bonds it takes over.
    """

    rule: int
    atoms: np.ndarray
    weights: np.ndarray
    owned: np.ndarray


def make_beads(definition: MappingDefinition, atoms: AtomTopology, inside: np.ndarray) -> tuple[list[Bead], list[Kind]]:
    """All beads of the atoms `inside`, residue by residue, and the molecules in which a SMARTS was looked for.

    Raises:
        ValueError: if a selection, pattern or template cannot be understood or has no atoms, weights do not fit, or a
            bead is in pieces.
        ImportError: if there is a SMARTS and no RDKit.
    """
    kinds: list[Kind] = []
    if any(rule.smarts for rule in definition.beads):
        kinds = find_kinds(atoms, np.flatnonzero(_matched(definition, atoms, inside)))
    beads = [
        bead for number in range(len(definition.beads)) for bead in _beads(definition, number, atoms, inside, kinds)
    ]
    beads.sort(key=lambda bead: (atoms.residue_index[bead.atoms[0]], bead.rule))
    if not beads:
        raise ValueError("the mapping makes no bead of these atoms")
    return beads, kinds


def selection_mask(atoms: AtomTopology, selection: str, purpose: str) -> np.ndarray:
    """Which atoms a selection has.

    Raises:
        ValueError: if it cannot be understood or has none.
    """
    mask = np.zeros(len(atoms), dtype=bool)
    mask[atoms.select(selection, purpose)] = True
    if not mask.any():
        raise ValueError(f"{purpose}: the selection {selection!r} matches no atom")
    return mask


def _matched(definition: MappingDefinition, atoms: AtomTopology, inside: np.ndarray) -> np.ndarray:
    """Atoms in which a SMARTS is looked for."""
    mask = np.zeros(len(atoms), dtype=bool)
    for rule in definition.beads:
        if rule.smarts is not None:
            mask[atoms.select(rule.select, f"bead {rule.name!r}")] = True
    return mask & inside


def _beads(
    definition: MappingDefinition, number: int, atoms: AtomTopology, inside: np.ndarray, kinds: list[Kind]
) -> Iterator[Bead]:
    """All beads of one rule."""
    rule = definition.beads[number]
    purpose = f"bead {rule.name!r}"
    chosen = np.zeros(len(atoms), dtype=bool)
    chosen[atoms.select(rule.select, purpose)] = True
    chosen &= inside
    if not chosen.any():
        if not rule.optional:
            raise ValueError(f"{purpose}: the selection {rule.select!r} matches no atom")
        return
    if rule.smarts is not None:
        yield from _matches(rule, number, atoms, chosen, kinds)
    elif rule.atoms is not None:
        yield from _templates(rule, number, atoms, chosen)
    else:
        yield from _selected(rule, number, atoms, chosen, inside)


def _selected(
    rule: BeadRule, number: int, atoms: AtomTopology, chosen: np.ndarray, inside: np.ndarray
) -> Iterator[Bead]:
    """One bead per residue or molecule that has some of the atoms chosen, or of all of them."""
    owned = chosen if rule.owns is None else chosen | (inside & selection_mask(atoms, rule.owns, f"bead {rule.name!r}"))
    if rule.per == "selection":
        groups = np.zeros(len(atoms), dtype=np.int64)
    else:
        groups = atoms.residue_index if rule.per == "residue" else atoms.molecules
    owned_by_group = by_group(np.flatnonzero(owned), groups)
    for group, members in by_group(np.flatnonzero(chosen), groups).items():
        names = [atoms.topology.atom(int(atom)).name for atom in members] if isinstance(rule.weights, dict) else []
        yield Bead(number, members, _weights(rule, members, names, atoms), owned_by_group[group])


def _matches(rule: BeadRule, number: int, atoms: AtomTopology, chosen: np.ndarray, kinds: list[Kind]) -> Iterator[Bead]:
    """One bead per match of the SMARTS, or per run of matches."""
    purpose = f"bead {rule.name!r}"
    matches = find_matches(str(rule.smarts), kinds, chosen, purpose)
    if not matches and not rule.optional:
        raise ValueError(f"{purpose}: the SMARTS {rule.smarts!r} matches nothing")
    for match in matches if rule.merge == 1 else merge_runs(matches, rule.merge, atoms, purpose):
        yield _named(rule, number, match.atoms, [str(one) for one in match.numbers], atoms)


def _templates(rule: BeadRule, number: int, atoms: AtomTopology, chosen: np.ndarray) -> Iterator[Bead]:
    """One bead per residue that has a template."""
    tables = rule.atoms or {}
    found = list(find_templates(tables, atoms, chosen, f"bead {rule.name!r}"))
    if not found and not rule.optional:
        raise ValueError(f"bead {rule.name!r}: no residue has a template, which are for {', '.join(tables)}")
    for named in found:
        yield _named(rule, number, named, [atoms.topology.atom(atom).name for atom in named.tolist()], atoms)


def _named(rule: BeadRule, number: int, named: np.ndarray, keys: list[str], atoms: AtomTopology) -> Bead:
    """A bead of the atoms named and the hydrogens on them."""
    order = np.argsort(named)
    named, keys = named[order], [keys[place] for place in order.tolist()]
    members = np.unique(atoms.companions[named].indices)
    pieces, labels = connected_components(atoms.adjacency[members][:, members], directed=False)
    if rule.connected and pieces > 1:
        first, second = atoms.describe(members[0]), atoms.describe(members[labels != labels[0]][0])
        raise ValueError(
            f"bead {rule.name!r}: its atoms are in {pieces} pieces that no bond joins, {first} is in one and {second} "
            "in another; if this is meant, say `connected = false`"
        )
    if rule.weights in ("mass", "uniform"):
        return Bead(number, members, _weights(rule, members, [], atoms), members)
    return Bead(number, named, _weights(rule, named, keys, atoms), members)


def _weights(rule: BeadRule, members: np.ndarray, keys: list[str], atoms: AtomTopology) -> np.ndarray:
    """Weights of the atoms, which sum to one; `keys` are what the rule may call them."""
    purpose = f"bead {rule.name!r} of {atoms.topology.atom(int(members[0])).residue}"
    if rule.weights == "single" and len(members) != 1:
        found = ", ".join(atoms.describe(atom) for atom in members[:5])
        raise ValueError(f'{purpose}: `weights` "single" expects one atom, the selection has {len(members)}: {found}')
    if isinstance(rule.weights, dict):
        if missing := [key for key in keys if key not in rule.weights]:
            raise ValueError(f"{purpose}: `weights` has no entry for atom {missing[0]!r}")
        values = np.array([rule.weights[key] for key in keys])
    else:
        values = atoms.masses[members] if rule.weights == "mass" else (atoms.masses[members] > 0).astype(float)
    if not values.sum() > 0:
        what = "mass" if rule.weights == "mass" else "weight"
        raise ValueError(f"{purpose}: its {len(members)} atoms have no {what}")
    return values / values.sum()
