"""Point groups of bodies: the rotations and reflections that leave a bead as it is."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_DEGREE = 6
"""Highest degree of harmonics that is ever used; infinite groups are replaced by finite ones with the same up to it."""
_LARGEST = 12


class PointGroup(NamedTuple):
    """A point group, its main axis along z.

    Attributes:
        elements: orthogonal matrices in the frame of the body, shape (order, 3, 3); those of a finite subgroup with the
            same invariants up to `degree` where the group is infinite.
        degree: lowest degree up to which the invariant harmonics tell every orientation of the body from those that
            the group makes the same; 6 where it would be higher.
        axial: whether the body is an axial vector along z, which time reversal turns round.
        continuous: whether any turn about z is an element.
    """

    elements: Float[np.ndarray, "order 3 3"]
    degree: int
    axial: bool
    continuous: bool


def point_group(name: str) -> PointGroup:
    """The group of a Schoenflies symbol: C1, Cs, Ci, Cn, Cnv, Cnh, Sn, Dn, Dnh, Dnd, Cinfv, Dinfh, Cinfh.

    z is the main axis, or the normal of the mirror plane of Cs. A mirror plane of Cnv contains x; x is a two-fold axis
    of Dn, Dnh and Dnd. Cinfh stands for an axial vector such as a spin.

    Raises:
        ValueError: if the symbol is not one of these.
    """
    match = re.fullmatch(r"C([si])|([CDS])(inf|[1-9][0-9]*)([vhd]?)", name)
    order = None if match is None or match[1] else _DEGREE + 2 if match[3] == "inf" else int(match[3])
    known = match is not None and (order is None or _exists(match, order))
    if match is None or not known:
        raise ValueError(
            f"unknown point group {name!r}, expected C1, Cs, Ci, C2 to C{_LARGEST}, Cnv, Cnh, S4, S6, ..., D2 to "
            f"D{_LARGEST}, Dnh, Dnd, Cinfv, Dinfh or Cinfh"
        )
    elements = _closure(_generators(match, order))
    return PointGroup(elements, _lowest_degree(match, order), name == "Cinfh", "inf" in name)


def _exists(match: re.Match[str], order: int) -> bool:
    family, suffix = match[2], match[4]
    if match[3] == "inf":
        return family + suffix in {"Cv", "Ch", "Dh"}
    if family == "S":
        return not suffix and order % 2 == 0 and 4 <= order <= _LARGEST
    if family == "D":
        return suffix != "v" and 2 <= order <= _LARGEST
    return suffix != "d" and (not suffix or order >= 2) and 1 <= order <= _LARGEST


def _lowest_degree(match: re.Match[str], order: int | None) -> int:
    """Harmonics of degree l with an n-fold axis have l >= n; reflections that also turn leave the next one."""
    family, suffix = match[2], match[4]
    if order is None:
        return 1 if match[1] == "s" else 2
    if match[3] == "inf":
        return 2
    fold = order // 2 + 1 if family == "S" else order + (suffix == "d")
    return min(fold if order == 1 else max(fold, 2), _DEGREE)


def _generators(match: re.Match[str], order: int | None) -> list[np.ndarray]:
    flat, plane, half_turn = np.diag([1.0, 1.0, -1.0]), np.diag([1.0, -1.0, 1.0]), np.diag([1.0, -1.0, -1.0])
    if order is None:
        return [flat if match[1] == "s" else -np.eye(3)]
    family, suffix = match[2], match[4]
    if family == "S":
        return [_turn(order) @ flat]
    more = {"": [], "v": [plane], "h": [flat], "d": [_turn(2 * order) @ flat]}[suffix]
    return [_turn(order), *([half_turn] if family == "D" else []), *more]


def _turn(order: int) -> Float[np.ndarray, "3 3"]:
    """By a part of a full turn about z."""
    cosine, sine = np.cos(2 * np.pi / order), np.sin(2 * np.pi / order)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _closure(generators: list[np.ndarray]) -> Float[np.ndarray, "order 3 3"]:
    """All products of the generators."""
    elements = [np.eye(3)]
    for element in elements:
        for generator in generators:
            product = element @ generator
            if not any(np.abs(product - other).max() < 1e-6 for other in elements):
                elements.append(product)
    return np.stack(elements)
