"""Bead types from chemistry: place in the chain, size, tacticity; and whether beads of a type are of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.rules import Bead


def bead_types(
    definition: MappingDefinition,
    beads: Sequence[Bead],
    bonds: Int[np.ndarray, "bonds 2"],
    atoms: AtomTopology,
    stereo: dict[int, str] | None,
) -> list[str]:
    """The type of each bead.

    Args:
        bonds: of the beads.
        stereo: labels of stereocentres; None if they are not known.

    Raises:
        ValueError: if a type needs labels that are not known, or beads by SMARTS that differ in their formula or, not
            being declared, in their stereocentres would share a type.
    """
    rules = [definition.beads[bead.rule] for bead in beads]
    positions = _positions(np.array([rule.side for rule in rules]), bonds)
    hands = [_handedness(bead, stereo or {}) for bead in beads]
    types = []
    for bead, rule, position, hand in zip(beads, rules, positions, hands, strict=True):
        if "{tacticity}" in rule.type and stereo is None:
            raise ValueError(f"bead {rule.name!r}: its type has {{tacticity}}, which needs positions of the atoms")
        types.append(
            rule.type.format(
                residue=atoms.topology.atom(int(bead.atoms[0])).residue.name,
                name=rule.name,
                position=position,
                heavy=np.count_nonzero(~np.isin(atoms.elements[bead.owned], ("", "H"))),
                tacticity=hand or "achiral",
            )
        )
    by_smarts: dict[str, list[int]] = {}
    for number, (name, rule) in enumerate(zip(types, rules, strict=True)):
        if rule.smarts is not None:
            by_smarts.setdefault(name, []).append(number)
    for name, numbers in by_smarts.items():
        _check_formula(name, [beads[number] for number in numbers], atoms)
        if not any(rules[number].mixed_stereo for number in numbers):
            _check_stereo(name, [(beads[number], hands[number]) for number in numbers], atoms)
    return [definition.types.get(name, name) for name in types]


def _positions(side: np.ndarray, bonds: np.ndarray) -> list[str]:
    """Place of each bead in its chain, by its neighbours there; a side group has that of what it hangs on."""
    around: list[list[int]] = [[] for _ in side]
    for i, j in bonds.tolist():
        around[i].append(j)
        around[j].append(i)
    in_chain = [sum(not side[other] for other in others) for others in around]
    names = [("single", "end", "middle")[count] if count < 3 else "branch" for count in in_chain]
    return [names[_anchor(bead, side, around)] for bead in range(len(side))]


def _anchor(bead: int, side: np.ndarray, around: list[list[int]]) -> int:
    """The nearest bead that is no side group."""
    seen, front = {bead}, [bead]
    while front:
        if found := [other for other in front if not side[other]]:
            return found[0]
        front = [other for here in front for other in around[here] if other not in seen]
        seen |= set(front)
    return bead


def _handedness(bead: Bead, stereo: dict[int, str]) -> str:
    return "-".join(stereo[atom] for atom in np.sort(bead.owned).tolist() if atom in stereo)


def _check_formula(name: str, beads: list[Bead], atoms: AtomTopology) -> None:
    formulas: dict[str, Bead] = {}
    for bead in beads:
        formulas.setdefault(atoms.formula(bead.owned), bead)
    if len(formulas) > 1:
        first, second = list(formulas)[:2]
        where = [atoms.describe(formulas[one].atoms[0]) for one in (first, second)]
        raise ValueError(
            f"bead type {name!r} would stand for {first}, at {where[0]}, and for {second}, at {where[1]}: give them "
            "different types, for instance by {position} or {heavy} in `type`"
        )


def seen_stereo(
    definition: MappingDefinition, beads: Sequence[Bead], types: Sequence[str], stereo: dict[int, str] | None
) -> dict[str, list[str]]:
    """What each type of beads by SMARTS stands for, R, S, or m and r diads, unless it is declared as mixed."""
    found: dict[str, set[str]] = {}
    for bead, name in zip(beads, types, strict=True):
        rule = definition.beads[bead.rule]
        if stereo and rule.smarts is not None and not rule.mixed_stereo:
            found.setdefault(name, set()).update(hand_codes(_handedness(bead, stereo)))
    return {name: sorted(codes) for name, codes in found.items() if codes}


def hand_codes(labels: Iterable[str]) -> list[str]:
    """R and S of all centres of a bead in one, or which diads there are."""
    letters = "".join(labels)
    codes = "".join(letter for letter in letters if letter in "RS")
    return [codes] if codes else sorted(set(letters) & {"m", "r"})


def _check_stereo(name: str, beads: list[tuple[Bead, str]], atoms: AtomTopology) -> None:
    seen: dict[str, Bead] = {}
    for bead, hand in beads:
        for one in hand_codes(hand):
            seen.setdefault(one, bead)
    hands, diads = [one for one in seen if one not in "mr"], [one for one in seen if one in "mr"]
    for found, said in ((hands, "handedness"), (diads, "tacticity")):
        if len(found) > 1:
            where = " and ".join(f"{one} at {atoms.describe(seen[one].atoms[0])}" for one in found[:2])
            raise ValueError(
                f"bead type {name!r} has stereocentres of different {said}: {where}; put {{tacticity}} into its "
                "`type`, or declare `mixed_stereo = true`"
            )
