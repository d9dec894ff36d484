"""Products of features with spherical harmonics as steps from degree to degree along the direction of the edge.

Features x of degree l, contracted l - k times with the direction u, are a tensor of degree k <= l; multiplied by u, it
comes back to any higher degree. Every equivariant map from degree l to degree n that depends on u alone is

    sum over k up to min(l, n) of W_k up^(n - k) down^(l - k) x,

and, where no reflection has to be respected, the same with a turn about u in between: as many terms as there are paths
through harmonics of all degrees, but each step has only a few products, and everything is a polynomial in u. This file
holds the numbers of the steps and which W there are; no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor

Term = tuple[int, int, int, float]
"""(component before, component of u, component after, coefficient) of a step."""
_ZERO = 1e-9


@dataclass(frozen=True)
class Coupling:
    """One radial function: degree of the features, of the message and in between, with or without a turn there.

    Attributes:
        weights: how much of each path it holds, by the number of the path.
    """

    source: int
    target: int
    rank: int
    turned: bool
    weights: tuple[tuple[int, float], ...]


def couplings(
    coupling: Float[Tensor, "harmonics out columns"],
    paths: Sequence[tuple[int, int, int]],
    features: o3.Irreps,
    out: o3.Irreps,
) -> list[Coupling]:
    """The radial functions of a product of features and harmonics.

    Args:
        coupling: coefficients of harmonic, component of the message, and column: the components of the features, path
            after path.
        paths: (features, harmonics, out) of each path, as positions among the irreps.
    """
    along = torch.einsum("h,hkc->kc", _pole(len(coupling)), coupling.double())
    found: dict[tuple[int, int, int, bool], list[tuple[int, float]]] = {}
    column = 0
    for number, (i, _, k) in enumerate(paths):
        left, target = features[i].ir.l, out[k].ir.l
        block = along[out.slices()[k], column : column + 2 * left + 1]
        column += 2 * left + 1
        for (rank, turned), weight in _expansion(block, left, target).items():
            found.setdefault((left, target, rank, turned), []).append((number, weight))
    return [Coupling(*key, tuple(weights)) for key, weights in sorted(found.items())]


def weights_of_paths(terms: Sequence[Coupling], paths: int) -> Float[Tensor, "functions paths"]:
    """How much of each path each radial function holds."""
    weights = torch.zeros(len(terms), paths, dtype=torch.float64)
    for number, term in enumerate(terms):
        for path, weight in term.weights:
            weights[number, path] = weight
    return weights


@cache
def step(before: int, after: int) -> list[Term]:
    """From degree to degree, down by one, up by one, or turned; the largest coefficient is one."""
    symbol = o3.wigner_3j(before, 1, after, dtype=torch.float64)
    symbol = symbol / symbol.flatten()[symbol.abs().argmax()]
    places = (symbol.abs() > _ZERO).nonzero().tolist()
    return [(a, b, k, float(symbol[a, b, k])) for a, b, k in places]


def _pole(harmonics: int) -> Float[Tensor, " harmonics"]:
    """Y_l along y, all degrees."""
    pole = torch.zeros(harmonics, dtype=torch.float64)
    for degree in range(round(harmonics**0.5)):
        pole[degree * degree + degree] = (2 * degree + 1) ** 0.5
    return pole


def _expansion(block: Float[Tensor, "target source"], source: int, target: int) -> dict[tuple[int, bool], float]:
    """The weights of (rank, turned) that make up an equivariant map, given for an edge along y."""
    kinds = [(rank, False) for rank in range(min(source, target) + 1)]
    kinds += [(rank, True) for rank in range(1, min(source, target) + 1)]
    basis = torch.stack([_along(source, target, *kind).flatten() for kind in kinds], dim=1)
    weights = torch.linalg.lstsq(basis, block.flatten()[:, None]).solution.squeeze(1)
    assert torch.allclose(basis @ weights, block.flatten(), atol=1e-9)
    # rounded: the last bits of a solution depend on where in memory it was found, those of a simulation must not
    found = {kind: round(float(weight), 13) for kind, weight in zip(kinds, weights, strict=True)}
    return {kind: weight for kind, weight in found.items() if abs(weight) > _ZERO}


@cache
def _along(source: int, target: int, rank: int, turned: bool) -> Float[Tensor, "target source"]:
    """The map from degree to degree through a rank, for an edge along y."""
    degrees = [*range(source, rank - 1, -1), *([rank] if turned else []), *range(rank + 1, target + 1)]
    start = torch.eye(2 * source + 1, dtype=torch.float64)
    return reduce(lambda found, pair: _matrix(*pair) @ found, pairwise(degrees), start)


def _matrix(before: int, after: int) -> Float[Tensor, "after before"]:
    """A step along y."""
    matrix = torch.zeros(2 * after + 1, 2 * before + 1, dtype=torch.float64)
    for a, b, k, value in step(before, after):
        if b == 1:
            matrix[k, a] += value
    return matrix
