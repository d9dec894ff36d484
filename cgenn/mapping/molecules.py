"""The molecules among the atoms, those that are alike taken together, as RDKit sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from cgenn.mapping.atoms import AtomTopology, by_group
from cgenn.mapping.bond_orders import assign_bond_orders

if TYPE_CHECKING:
    from rdkit import Chem


@dataclass(frozen=True, eq=False)
class Kind:
    """All molecules of the same elements, bonded alike, in the same order.

    Attributes:
        molecule: with bond orders; virtual sites are left out.
        members: its atoms in the topology, for each copy, shape (copies, atoms).
    """

    molecule: Chem.Mol
    members: Int[np.ndarray, "copies atoms"]


def find_kinds(atoms: AtomTopology, wanted: Int[np.ndarray, " chosen"]) -> list[Kind]:
    """The kinds of molecules that have one of the atoms `wanted`.

    Raises:
        ValueError: if bond orders of one cannot be told; names the atom.
        ImportError: without RDKit.
    """
    real = atoms.elements != ""
    labels = atoms.molecules
    members = by_group(np.flatnonzero(real), labels)
    bonds = _split_bonds(atoms, real)
    groups: dict[tuple[tuple[str, ...], bytes], list[int]] = {}
    for label in np.unique(labels[wanted]).tolist():
        if label in members:
            local = np.searchsorted(members[label], bonds.get(label, np.empty((0, 2), dtype=np.int64)))
            groups.setdefault((tuple(atoms.elements[members[label]].tolist()), local.tobytes()), []).append(label)
    kinds = []
    for (elements, key), copies in groups.items():
        first = members[copies[0]]
        names = [atoms.describe(atom) for atom in first]
        molecule = assign_bond_orders(elements, np.frombuffer(key, dtype=np.int64).reshape(-1, 2), names)
        kinds.append(Kind(molecule, np.stack([members[label] for label in copies])))
    return kinds


def _split_bonds(atoms: AtomTopology, real: np.ndarray) -> dict[int, np.ndarray]:
    bonds = atoms.bonds[real[atoms.bonds].all(axis=1)]
    if not len(bonds):
        return {}
    return {label: bonds[rows] for label, rows in by_group(np.arange(len(bonds)), atoms.molecules[bonds[:, 0]]).items()}
