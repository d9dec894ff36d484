"""Handedness of stereocentres, as seen in a conformation, by what is near them.

In a long chain the two arms of a stereocentre are alike for as far as matters, and R and S change over in its middle.
There only the relation of neighbours counts: along the chain, a diad of centres turned the same way is meso (m), one of
centres turned opposite ways racemic (r) (IUPAC, Glossary of basic terms in polymer science, 1996).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from cgenn.mapping.bond_orders import import_rdkit
from cgenn.mapping.molecules import Kind

if TYPE_CHECKING:
    from rdkit import Chem

_RADIUS = 3
"""Bonds from a stereocentre within which its four neighbours must differ for it to be R or S."""
_APART = 10
"""Most bonds between neighbouring stereocentres of a chain."""


def label_stereocentres(kinds: list[Kind], positions: Float[np.ndarray, "atoms 3"]) -> dict[int, str]:
    """Labels of atoms: R or S; or for those with two arms alike m or r for each neighbour, such as "mm", "mr", "rr".

    Args:
        positions: with whole molecules [nm].
    """
    labels: dict[int, str] = {}
    for kind in kinds:
        chiral, alike = _centres(kind.molecule)
        fragments = {atom: _fragment(kind.molecule, atom) for atom in chiral}
        links = _links(kind.molecule, alike)
        for copy in kind.members:
            places = positions[copy].astype(float)
            for atom, (fragment, members, centre) in fragments.items():
                if code := _code(fragment, places[members], centre):
                    labels[int(copy[atom])] = code
            for atom, found in _tacticity(alike, links, places).items():
                labels[int(copy[atom])] = found
    return labels


def environments(molecule: Chem.Mol) -> list[int]:
    """A number for the surroundings of each atom, two bonds wide."""
    labels = [hash((a.GetAtomicNum(), a.GetDegree(), a.GetFormalCharge())) for a in molecule.GetAtoms()]
    for _ in range(_RADIUS - 1):
        labels = [
            hash((labels[a.GetIdx()], *sorted(
                (int(b.GetBondType()), labels[b.GetOtherAtomIdx(a.GetIdx())]) for b in a.GetBonds()
            )))
            for a in molecule.GetAtoms()
        ]  # fmt: skip
    return labels


def _centres(molecule: Chem.Mol) -> tuple[list[int], dict[int, tuple[tuple[int, int], int]]]:
    """Atoms with four different neighbours, and those with two arms alike: the arms, and the first of the others."""
    labels = environments(molecule)
    chiral, alike = [], {}
    for atom in molecule.GetAtoms():
        around = [other.GetIdx() for other in atom.GetNeighbors()]
        hydrogens = [other for other in around if molecule.GetAtomWithIdx(other).GetAtomicNum() == 1]
        if atom.GetSymbol() not in ("C", "Si") or len(around) != 4 or len(hydrogens) > 1:
            continue
        around.sort(key=lambda other: labels[other])
        ties = [(a, b) for a, b in pairwise(around) if labels[a] == labels[b]]
        if not ties:
            chiral.append(atom.GetIdx())
        elif len(ties) == 1 and not atom.IsInRing():
            alike[atom.GetIdx()] = (ties[0], next(other for other in around if other not in ties[0]))
    return chiral, alike


def _fragment(molecule: Chem.Mol, atom: int) -> tuple[Chem.Mol, list[int], int]:
    """What is near a stereocentre, its atoms in the molecule, and the place of the centre among them."""
    chem = import_rdkit("handedness")
    bonds = chem.FindAtomEnvironmentOfRadiusN(molecule, _RADIUS, atom, useHs=True, enforceSize=False)
    places: dict[int, int] = {}
    fragment = chem.PathToSubmol(molecule, bonds, atomMap=places)
    fragment.UpdatePropertyCache(strict=False)
    chem.FastFindRings(fragment)
    return fragment, sorted(places, key=lambda one: places[one]), places[atom]


def _code(fragment: Chem.Mol, positions: np.ndarray, centre: int) -> str:
    """R or S, by the rules of Cahn, Ingold and Prelog."""
    chem = import_rdkit("handedness")
    conformer = chem.Conformer(len(positions))
    conformer.SetPositions(10.0 * positions)
    fragment.RemoveAllConformers()
    fragment.AddConformer(conformer)
    chem.AssignStereochemistryFrom3D(fragment)
    atom = fragment.GetAtomWithIdx(centre)
    return atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else ""


def _links(molecule: Chem.Mol, alike: dict[int, tuple[tuple[int, int], int]]) -> list[tuple[int, int, int, int]]:
    """Neighbouring centres along a chain, each with the arm that leads to the other."""
    links = []
    for start, (arms, _) in alike.items():
        for arm in arms:
            seen, front = {start, arm}, [(arm, start)]
            for _step in range(_APART):
                if met := [(here, before) for here, before in front if here in alike]:
                    end, arrival = met[0]
                    if arrival in alike[end][0] and start < end:
                        links.append((start, arm, end, arrival))
                    break
                front = [
                    (other.GetIdx(), here)
                    for here, _ in front
                    for other in molecule.GetAtomWithIdx(here).GetNeighbors()
                    if other.GetIdx() not in seen and other.GetAtomicNum() > 1
                ]
                seen |= {here for here, _ in front}
    return links


def _tacticity(
    alike: dict[int, tuple[tuple[int, int], int]], links: list[tuple[int, int, int, int]], positions: np.ndarray
) -> dict[int, str]:
    """The relations of each centre to its neighbours, those that are meso first."""

    def hand(centre: int, back: int, forward: int) -> float:
        arms = positions[[back, forward, alike[centre][1]]] - positions[centre]
        return float(np.sign(np.linalg.det(arms)))

    relations: dict[int, list[str]] = {}
    for start, arm, end, arrival in links:
        away = next(other for other in alike[start][0] if other != arm)
        onward = next(other for other in alike[end][0] if other != arrival)
        same = hand(start, away, arm) == hand(end, arrival, onward)
        for centre in (start, end):
            relations.setdefault(centre, []).append("m" if same else "r")
    return {centre: "".join(sorted(found)) for centre, found in relations.items()}
