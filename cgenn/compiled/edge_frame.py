"""Messages in the frame of their edge, where tensor products become sparse.

In a frame whose y axis is the edge, only the middle component of each spherical harmonic is not zero, and a coupled
component m of a message depends on the components m and -m of the features alone (Passaro and Zitnick 2023). So

    m = D^T W(r) D x,   D the rotation into that frame, W a few radial functions,

for any degree, and all paths between two degrees with the same order share one radial function of each kind. This file
holds the numbers: which functions there are, and D and its generators as polynomials; no kernel.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor

Polynomial = dict[tuple[tuple[int, int], tuple[int, int]], float]
"""sum of coefficient * D_(l-1)[first] * D_1[second]."""
_ZERO = 1e-9


@dataclass(frozen=True)
class Coupling:
    """One radial function in the frame of the edge: message component += sign * W(r) * feature component.

    Attributes:
        terms: (component of the message, component of the features, sign), as positions among all components.
        weights: how much of each path it holds, by the number of the path.
    """

    terms: tuple[tuple[int, int, int], ...]
    weights: tuple[tuple[int, float], ...]


def couplings(
    coupling: Float[Tensor, "harmonics out columns"], paths, features: o3.Irreps, out: o3.Irreps
) -> list[Coupling]:
    """The radial functions of a product of features and harmonics.

    Args:
        coupling: coefficients of harmonic, component of the message, and column: the components of the features, path
            after path.
        paths: (features, harmonics, out) of each path, as positions among the irreps.
    """
    pole = torch.zeros(len(coupling), dtype=torch.float64)
    for degree in range(round(len(coupling) ** 0.5)):
        pole[degree * degree + degree] = (2 * degree + 1) ** 0.5
    along = torch.einsum("h,hkc->kc", pole, coupling.double())
    found: dict[tuple[tuple[int, int, int], ...], dict[int, float]] = defaultdict(dict)
    column = 0
    for number, (i, _, k) in enumerate(paths):
        left, target = features[i].ir.l, out[k].ir.l
        block = along[out.slices()[k], column : column + 2 * left + 1]
        column += 2 * left + 1
        first, last = features.slices()[i].start + left, out.slices()[k].start + target
        for m in range(min(left, target) + 1):
            same, crossed = float(block[target + m, left + m]), float(block[target - m, left + m])
            even = ((last + m, first + m, 1),) + (((last - m, first - m, 1),) if m else ())
            odd = ((last - m, first + m, 1), (last + m, first - m, -1))
            if abs(same) > _ZERO:
                found[even][number] = same
            if m and abs(crossed) > _ZERO:
                found[odd][number] = crossed
    return [Coupling(terms, tuple(weights.items())) for terms, weights in found.items()]


@cache
def raising(degree: int) -> Float[Tensor, "below 3 here"]:
    """The isometry from degree l - 1 times degree one onto degree l: C_ijk with sum_ij C_ijk C_ijk' = 1 for k = k'."""
    return o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64) * (2 * degree + 1) ** 0.5


@cache
def rotation(degree: int, row: int, column: int) -> Polynomial:
    """D_l[row, column] for l > 1 from elements of D_(l-1) and D_1.

    D_l[K, K'] = sum C_ijK C_i'j'K' D_(l-1)[i, i'] D_1[j, j']; in the middle row or column one term of the sum
    over (i, j) or (i', j') is enough, because all are proportional to each other.
    """
    lift = raising(degree)
    pairs = [(i, j, float(lift[i, j, row])) for i, j in _nonzero(lift[:, :, row])]
    columns = [(i, j, float(lift[i, j, column])) for i, j in _nonzero(lift[:, :, column])]
    middle = [(degree - 1, 1, 1.0 / float(lift[degree - 1, 1, degree]))]
    if row == degree:
        pairs = middle
    elif column == degree:
        columns = middle
    terms: Polynomial = defaultdict(float)
    for (i, j, one), (i_, j_, other) in product(pairs, columns):
        first, second = (i, i_), (j, j_)
        if degree == 2 and second < first:  # both are elements of D_1
            first, second = second, first
        terms[first, second] += one * other
    return {key: value for key, value in terms.items() if abs(value) > _ZERO}


@cache
def generator(degree: int, axis: int) -> list[tuple[int, int, float]]:
    """(a, b, J_ab) that are not zero: turned by a small angle w about an axis, x becomes x + w J x."""
    return [(a, b, float(_generator(degree, axis)[a, b])) for a, b in _nonzero(_generator(degree, axis))]


@cache
def _generator(degree: int, axis: int) -> Tensor:
    if degree == 0:
        return torch.zeros(1, 1, dtype=torch.float64)
    if degree == 1:
        turn = torch.zeros(3, 3, dtype=torch.float64)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn[other, one], turn[one, other] = 1.0, -1.0
        return turn
    lift = raising(degree)
    below, first = _generator(degree - 1, axis), _generator(1, axis)
    turned = torch.einsum("ai,ijk->ajk", below, lift) + torch.einsum("bj,ijk->ibk", first, lift)
    return torch.einsum("ijk,ijl->kl", lift, turned)


def _nonzero(matrix: Tensor) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in (matrix.abs() > _ZERO).nonzero()]
