"""What the orientation of a bead adds to the features of the network, with the symmetry of its body by construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.nn.constant import Constant
from cgenn.nn.harmonics import SphericalHarmonics

_BESIDE_SITES = 2
"""Highest degree of the tensors of a body with sites, which tell the rest better."""
_COUPLED = 2
"""Highest degree of two bodies, and of the direction of the edge between them, that are coupled."""


class BodySymmetry(NamedTuple):
    """What the network has to know of the body of a type of beads.

    Attributes:
        elements: orthogonal matrices of its point group, those of a large enough finite subgroup if it is infinite.
        degree: highest degree of the tensors that tell its orientation.
        axial: whether it is an axial vector along z, which time reversal turns round; the energy does not change when
            all such vectors are turned round.
        continuous: whether the group is infinite.
        sites: where points that interact with those of other bodies start from, in the unit of the cutoff.
    """

    elements: Float[np.ndarray, "order 3 3"]
    degree: int
    axial: bool = False
    continuous: bool = False
    sites: Float[np.ndarray, "sites 3"] | Sequence[Sequence[float]] = ()


class Kind(NamedTuple):
    """Tensors of one degree that time reversal leaves as they are or (`odd`) turns round."""

    degree: int
    odd: bool


def sphere(points: int) -> Float[Tensor, "points 3"]:
    """Directions spread over the sphere on a Fibonacci spiral."""
    number = torch.arange(points, dtype=torch.float64)
    z = 1 - (2 * number + 1) / points
    angle = math.pi * (3 - math.sqrt(5)) * number
    ring = (1 - z.square()).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=1)


def harmonics(directions: Float[Tensor, "*points 3"], degree: int) -> Float[Tensor, "*points components"]:
    """Y_l of unit vectors, |Y_l|^2 = 2 l + 1, in float64."""
    return o3.spherical_harmonics(degree, directions.to(torch.float64), normalize=False, normalization="component")


def invariants(elements: Float[np.ndarray, "order 3 3"], degree: int) -> Float[Tensor, "invariants components"]:
    """A basis of the combinations of Y_l that all elements of a group leave unchanged, each of square 2 l + 1.

    The mean of Y_l(g p) over the elements g is invariant for any point p, and such means span all invariants.
    """
    points = sphere(4 * degree + 7)
    turned = torch.einsum("gij,pj->gpi", torch.as_tensor(elements, dtype=torch.float64), points)
    basis: list[Tensor] = []
    for candidate in harmonics(turned, degree).mean(0):
        rest = candidate - sum((candidate @ known * known for known in basis), torch.zeros_like(candidate))
        rest = rest - sum((rest @ known * known for known in basis), torch.zeros_like(candidate))
        if rest.norm() > 0.05:
            basis.append(rest / rest.norm())
    return math.sqrt(2 * degree + 1) * torch.stack(basis) if basis else torch.zeros(0, 2 * degree + 1)


def body_tensors(body: BodySymmetry | None) -> dict[Kind, Float[Tensor, "tensors components"]]:
    """Tensors in the frame of a body that its symmetry leaves unchanged, by degree; none of degree zero."""
    if body is None:
        return {}
    highest = min(body.degree, _BESIDE_SITES) if len(body.sites) else body.degree
    found = {Kind(degree, False): invariants(body.elements, degree) for degree in range(1, highest + 1)}
    if body.axial:
        found[Kind(1, True)] = harmonics(torch.tensor([[0.0, 0.0, 1.0]]), 1)
    return {kind: tensors for kind, tensors in found.items() if len(tensors)}


class BodyTensors(nn.Module):
    """F^l = D^l(Q) c^l of each bead: the invariant tensors of its body, turned with it.

    With fixed directions p_a and weights such that c^l = sum_a w_a Y_l(p_a), F^l = sum_a w_a Y_l(Q p_a): polynomials of
    the elements of Q. Of a kind that a body has not, or fewer of, the tensors are zero.
    """

    def __init__(self, bodies: Sequence[BodySymmetry | None]) -> None:
        super().__init__()
        found = [body_tensors(body) for body in bodies]
        self.kinds = sorted({kind for tensors in found for kind in tensors})
        degree = max((kind.degree for kind in self.kinds), default=0)
        points = sphere(2 * (2 * degree + 1))
        self.harmonics = SphericalHarmonics(degree)
        self.directions = Constant(points)
        self.weights = nn.ModuleList()
        for kind in self.kinds:
            count = max(len(tensors.get(kind, ())) for tensors in found)
            padded = torch.zeros(len(bodies), count, 2 * kind.degree + 1, dtype=torch.float64)
            for number, tensors in enumerate(found):
                if kind in tensors:
                    padded[number, : len(tensors[kind])] = tensors[kind]
            self.weights.append(Constant(padded @ torch.linalg.pinv(harmonics(points, kind.degree))))

    @property
    def counts(self) -> list[int]:
        """Number of tensors of each kind."""
        return [weights().shape[1] for weights in self.weights]

    def forward(self, orientations: Float[Tensor, "beads 3 3"], types: Int[Tensor, " beads"]) -> list[Tensor]:
        """The tensors of every kind, shape (beads, tensors, components)."""
        directions = torch.einsum("bij,pj->bpi", orientations, self.directions()).flatten(0, 1)
        values = self.harmonics(directions, torch.ones_like(directions[:, 0])).unflatten(0, (len(orientations), -1))
        return [
            weights()[types] @ values[:, :, kind.degree**2 : (kind.degree + 1) ** 2]
            for kind, weights in zip(self.kinds, self.weights, strict=True)
        ]


class TensorEmbedding(nn.Module):
    """Features of degree one to `lmax` of a bead made from its tensors: sum_n w_type(i),n,c F_i,n."""

    def __init__(self, kinds: Sequence[Kind], counts: Sequence[int], lmax: int, n_types: int, channels: int) -> None:
        super().__init__()
        self.chosen = [number for number, kind in enumerate(kinds) if not kind.odd and kind.degree <= lmax]
        self.degrees = [kinds[number].degree for number in self.chosen]
        self.weights = nn.ParameterList(torch.randn(n_types, counts[number], channels) for number in self.chosen)
        self.lmax = max(self.degrees, default=0)

    def forward(
        self, tensors: Sequence[Tensor], types: Int[Tensor, " beads"], scalars: Float[Tensor, "beads channels"]
    ) -> Float[Tensor, "beads components channels"]:
        """The scalars, followed by the tensors; what no body has in between is zero."""
        made = {
            degree: torch.einsum("bni,bnc->bic", tensors[number], weight[types] * weight.shape[1] ** -0.5)
            for number, degree, weight in zip(self.chosen, self.degrees, self.weights, strict=True)
        }
        blocks = [scalars.unsqueeze(1)]
        for degree in range(1, self.lmax + 1):
            blocks.append(made.get(degree, scalars.new_zeros(len(scalars), 2 * degree + 1, scalars.shape[1])))
        return torch.cat(blocks, dim=1)


class EdgeInvariants(nn.Module):
    """Scalars that tell how the bodies at both ends of an edge lie, of about unit variance.

    F_i^l . Y_l(u) and F_j^l . Y_l(u), F_i^l . F_j^l, and of the lowest degrees F_i^l1 x F_j^l2 . Y_l3(u) with the
    Wigner 3j symbol, u the direction of the edge. Only those that a reflection leaves unchanged.
    """

    def __init__(self, kinds: Sequence[Kind], counts: Sequence[int]) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.singles = [number for number, kind in enumerate(kinds) if not kind.odd]
        self.triples = [
            (first, second, third)
            for first, one in enumerate(kinds)
            for second, other in enumerate(kinds)
            for third in range(1, _COUPLED + 1)
            if one.odd == other.odd
            and max(one.degree, other.degree) <= _COUPLED
            and abs(one.degree - other.degree) <= third <= one.degree + other.degree
            and (one.degree + other.degree + third) % 2 == 0
        ]
        self.couplings = nn.ModuleList()
        for first, second, third in self.triples:
            one, other = kinds[first].degree, kinds[second].degree
            self.couplings.append(Constant(o3.wigner_3j(one, other, third, dtype=torch.float64)))
        self.degree = max([kind.degree for kind in kinds] + [third for *_, third in self.triples], default=0)
        self.outputs = sum(2 * counts[number] for number in self.singles) + sum(count**2 for count in counts)
        self.outputs += sum(counts[first] * counts[second] for first, second, _ in self.triples)

    def forward(
        self,
        tensors: Sequence[Tensor],
        harmonics: Float[Tensor, "edges harmonics"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
    ) -> Float[Tensor, "edges invariants"]:
        here = [part.index_select(0, receivers).unsqueeze(2) for part in tensors]
        there = [part.index_select(0, senders).unsqueeze(1) for part in tensors]
        scalars = []
        for number, kind in enumerate(self.kinds):
            scale = (2 * kind.degree + 1) ** -0.5
            scalars.append(scale * (here[number] * there[number]).sum(3).flatten(1))
            if number in self.singles:
                direction = scale * harmonics[:, None, None, kind.degree**2 : (kind.degree + 1) ** 2]
                scalars += [(end[number] * direction).sum(3).flatten(1) for end in (here, there)]
        for (first, second, third), coupling in zip(self.triples, self.couplings, strict=True):
            direction = harmonics[:, None, None, third**2 : (third + 1) ** 2]
            pairs = here[first].unsqueeze(4) * there[second].unsqueeze(3)
            scalars.append((pairs.flatten(3) @ coupling().flatten(0, 1) * direction).sum(3).flatten(1))
        return torch.cat(scalars, dim=1)
