"""Groups of atoms by SMARTS: one bead per match, or per run of matches along a chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.bond_orders import import_rdkit
from cgenn.mapping.molecules import Kind

if TYPE_CHECKING:
    from rdkit import Chem


@dataclass(frozen=True, eq=False)
class Match:
    """Where a pattern was found.

    Attributes:
        atoms: that it names, or those with a map number if it has some, shape (atoms,).
        numbers: map number of each, zero without, shape (atoms,).
    """

    atoms: Int[np.ndarray, " atoms"]
    numbers: Int[np.ndarray, " atoms"]


def find_matches(smarts: str, kinds: list[Kind], chosen: Bool[np.ndarray, " atoms"], purpose: str) -> list[Match]:
    """All matches whose atoms are `chosen`, in the order of their first atoms.

    Raises:
        ValueError: if the SMARTS cannot be understood; begins with `purpose`.
    """
    pattern, numbers, kept = _parse(smarts, purpose)
    matches = []
    for kind in kinds:
        limit = 10 * kind.molecule.GetNumAtoms() + 1000
        found = kind.molecule.GetSubstructMatches(pattern, uniquify=False, maxMatches=20 * limit)
        distinct = {tuple(sorted(row[place] for place in kept)): row for row in reversed(found)}
        for row in distinct.values():
            for copy in kind.members:
                atoms = copy[[row[place] for place in kept]]
                if chosen[atoms].all():
                    matches.append(Match(atoms, numbers))
    return sorted(matches, key=lambda match: int(match.atoms.min()))


def _parse(smarts: str, purpose: str) -> tuple[Chem.Mol, np.ndarray, list[int]]:
    """The pattern, and the map numbers and places of the atoms that make the bead."""
    chem = import_rdkit(f"{purpose}: `smarts`")
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        pattern = chem.MolFromSmarts(smarts)
    if pattern is None or pattern.GetNumAtoms() == 0:
        raise ValueError(f"{purpose}: cannot understand the SMARTS {smarts!r}")
    maps = [atom.GetAtomMapNum() for atom in pattern.GetAtoms()]
    kept = [place for place, number in enumerate(maps) if number] or list(range(len(maps)))
    return pattern, np.array([maps[place] for place in kept]), kept


def merge_runs(matches: list[Match], size: int, atoms: AtomTopology, purpose: str) -> Iterator[Match]:
    """Join `size` matches that follow one another along a chain; the ends of the chain take what is left over.

    A chain of n matches becomes round(n / size) groups, of `size` each but for the first and the last.

    Raises:
        ValueError: if matches overlap or a chain branches; begins with `purpose`.
    """
    owner = {}
    for number, match in enumerate(matches):
        for atom in match.atoms.tolist():
            if atom in owner:
                raise ValueError(
                    f"{purpose}: matches that are merged must not overlap, two have {atoms.describe(atom)}"
                )
            owner[atom] = number
    around: list[list[int]] = [[] for _ in matches]
    for i, j in atoms.bonds.tolist():
        first, second = owner.get(i), owner.get(j)
        if first is not None and second is not None and first != second:
            around[first].append(second)
            around[second].append(first)
    if branched := [number for number, others in enumerate(around) if len(set(others)) > 2]:
        where = atoms.describe(matches[branched[0]].atoms[0])
        raise ValueError(f"{purpose}: `merge` joins matches along a chain, and at {where} the chain branches")
    for chain in _chains(around):
        for part in np.split(np.array(chain), _cuts(len(chain), size)):
            group = [matches[number] for number in part.tolist()]
            yield Match(np.concatenate([m.atoms for m in group]), np.concatenate([m.numbers for m in group]))


def _chains(around: list[list[int]]) -> Iterator[list[int]]:
    """Matches in the order of their chains: from the end that comes first, or from anywhere in a ring."""
    seen: set[int] = set()
    ends = [number for number, others in enumerate(around) if len(set(others)) < 2]
    for start in (*ends, *range(len(around))):
        chain, here = [], start
        while here not in seen:
            seen.add(here)
            chain.append(here)
            here = next((other for other in around[here] if other not in seen), here)
        if chain:
            yield chain


def _cuts(length: int, size: int) -> list[int]:
    """Where to cut a chain: what is over or missing is shared between the first and the last group."""
    groups = max(1, (2 * length + size) // (2 * size))
    over = length - groups * size
    first = size + over // 2 if groups > 1 else length
    return [first + size * number for number in range(groups - 1)]
