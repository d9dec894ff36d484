"""Bond orders and formal charges from what is bonded to what: with all hydrogens there is little choice."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from rdkit import Chem

_VALENCES = {
    "H": 1, "B": 3, "C": 4, "N": 3, "O": 2, "F": 1, "Si": 4, "P": 3, "S": 2, "Cl": 1, "Se": 2, "Br": 1, "I": 1,
}  # fmt: skip
_IONS = {
    "Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "Zn": 2,
    "F": -1, "Cl": -1, "Br": -1, "I": -1,
}  # fmt: skip
_WANTS = {"C": 4.0, "Si": 4.0, "P": 4.0, "S": 3.0, "N": 2.0}
"""How much an element wants its valences filled: what is left becomes a charge, on oxygen rather than carbon."""
_ANIONS = {"N", "O", "S", "Se", "P"}


def import_rdkit(purpose: str) -> ModuleType:
    """RDKit's `Chem`, which is needed for `purpose`.

    Raises:
        ImportError: if it is not installed; names the extra that brings it.
    """
    try:
        from rdkit import Chem
    except ImportError:
        raise ImportError(f"{purpose} needs RDKit: pip install 'cgenn[chemistry]'") from None
    return Chem


def assign_bond_orders(elements: Sequence[str], bonds: Int[np.ndarray, "bonds 2"], names: Sequence[str]) -> Chem.Mol:
    """A molecule of RDKit with orders and charges such that every valence is filled.

    The valences that the bonds leave open are paired by matchings of greatest weight in the graph of the atoms that
    have some: each matching raises the order of its bonds by one. What stays open is a negative charge on O, S or N;
    beside it, or on carbon beside nitrogen, a positive one on nitrogen (nitro groups, guanidinium, imidazolium).

    Args:
        elements: symbols. names: of the atoms, for errors.

    Raises:
        ValueError: if a valence cannot be filled, as where hydrogens are missing.
        ImportError: without RDKit.
    """
    chem = import_rdkit("telling bond orders")
    around: list[list[int]] = [[] for _ in elements]
    for i, j in bonds.tolist():
        around[i].append(j)
        around[j].append(i)
    open_, charges = _open_valences(elements, around, names)
    orders = _pair(elements, bonds, open_)
    if any(order > 1 and elements[i] == elements[j] == "C" for (i, j), order in orders.items()) and (
        "H" not in elements
    ):
        raise ValueError(f"{names[0]}: bond orders cannot be told without hydrogens, and its molecule has none")
    _charge(elements, around, orders, open_, charges)
    if any(open_):
        wrong = int(np.argmax(open_))
        raise ValueError(
            f"{names[wrong]}: {elements[wrong]} with {len(around[wrong])} neighbours leaves {open_[wrong]} valences "
            "open: bond orders are told from the bonds, which need all hydrogens"
        )
    molecule = chem.RWMol()
    for element, charge in zip(elements, charges, strict=True):
        atom = chem.Atom(element)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for (i, j), order in orders.items():
        molecule.AddBond(i, j, chem.BondType.values[order])
    try:
        chem.SanitizeMol(molecule)
    except ValueError as error:
        raise ValueError(f"the molecule of {names[0]}: {' '.join(str(error).split())}") from None
    return molecule.GetMol()


def _open_valences(
    elements: Sequence[str], around: list[list[int]], names: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Valences that single bonds leave open, and the charges of atoms with more bonds than valences."""
    open_, charges = [], []
    for element, neighbours, name in zip(elements, around, names, strict=True):
        degree = len(neighbours)
        if degree == 0 or element not in _VALENCES:
            open_.append(0)
            charges.append(_IONS.get(element, 0) if degree == 0 else 0)
            continue
        oxo = any(elements[other] in ("O", "S") and len(around[other]) == 1 for other in neighbours)
        valence = _valence(element, degree, oxo)
        excess = max(0, degree - valence)
        if excess > 1 or (excess and element not in ("N", "O", "B", "P", "S")):
            raise ValueError(f"{name}: {element} has {degree} bonds, expected at most {valence}")
        open_.append(max(0, valence - degree))
        charges.append(-excess if element == "B" or degree > 5 else excess)
    return open_, charges


def _valence(element: str, degree: int, oxo: bool) -> int:
    """Bonds that an atom has, by order; more than usual for P, S and halogens that have oxygen."""
    if element == "P" and (degree > 4 or (degree == 4 and oxo)):
        return 5
    if element in ("S", "Se") and degree > 2:
        return 6 if degree > 3 else 4 if oxo else 2
    if element in ("Cl", "Br", "I") and degree > 1:
        return 2 * degree - 1
    return _VALENCES[element]


def _pair(elements: Sequence[str], bonds: np.ndarray, open_: list[int]) -> dict[tuple[int, int], int]:
    """Orders of the bonds; takes what it pairs from `open_`."""
    import networkx

    orders = {(i, j): 1 for i, j in bonds.tolist()}
    wants = [_WANTS.get(element, 1.0) for element in elements]
    while True:
        graph = networkx.Graph()
        for i, j in orders:
            if open_[i] and open_[j]:
                graph.add_edge(i, j, weight=wants[i] + wants[j])
        if not graph:
            return orders
        for part in networkx.connected_components(graph):
            for first, second in networkx.max_weight_matching(graph.subgraph(part), maxcardinality=True):
                orders[min(first, second), max(first, second)] += 1
                open_[first] -= 1
                open_[second] -= 1


def _charge(
    elements: Sequence[str],
    around: list[list[int]],
    orders: dict[tuple[int, int], int],
    open_: list[int],
    charges: list[int],
) -> None:
    """Turn open valences into charges where chemistry has them."""
    for atom in np.flatnonzero(open_).tolist():
        nitrogens = [
            other
            for other in around[atom]
            if elements[other] == "N" and not charges[other] and len(around[other]) == 3 and not open_[other]
        ]
        nitro = elements[atom] == "O" and any(
            sum(open_[other] > 0 and elements[other] == "O" for other in around[n]) > 1 for n in nitrogens
        )
        if nitrogens and (nitro or elements[atom] == "C"):
            nitrogen = nitrogens[0]
            orders[min(atom, nitrogen), max(atom, nitrogen)] += 1
            charges[nitrogen] += 1
            open_[atom] -= 1
    for atom, left in enumerate(open_):
        if left and elements[atom] in _ANIONS:
            charges[atom] -= left
            open_[atom] = 0
