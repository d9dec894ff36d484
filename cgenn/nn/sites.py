"""Points fixed in the bodies of the beads, and an energy between the points of neighbouring bodies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.nn.constant import Constant
from cgenn.nn.orientation import BodySymmetry
from cgenn.nn.radial import smooth_cutoff
from cgenn.nn.site_energy import site_energy

_SAME = 0.05
"""Images of a point closer than this are one point, in the unit of the cutoff [nm]."""
SPACING = 0.05
"""Of the knots of the splines, in the unit of the cutoff [nm]."""
_SCALE = 100.0
"""Energy of a coefficient of one; the unit of energy is that of a typical force over 0.003 nm, less than a contact."""
_WALL, _DECAY, _FIRST = 0.2, 0.03, 0.03
"""Sites repel each other before anything is learnt: a step of `_FIRST` at the first distance, more so further in."""


_POWERS = [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]
"""From four coefficients of a uniform cubic B-spline to six times those of powers of the position in the interval."""


class Orbit:
    """All images of a point under a point group: x_s = M_s p, where p stays free as far as the symmetry allows it.

    p is first moved to the mean of its images that are nearly the same point, and stays on that plane, axis or point.
    In a continuous group it is moved to the axis.
    """

    def __init__(self, point: Float[Tensor, " 3"], body: BodySymmetry) -> None:
        elements = torch.as_tensor(body.elements, dtype=torch.float64)
        if body.continuous:
            point = point * point.new_tensor([0.0, 0.0, 1.0])
        near = elements[((elements @ point - point).norm(dim=1) < _SAME)]
        self.point = near.mean(0) @ point
        stay = elements[((elements @ self.point - self.point).norm(dim=1) < 1e-6)]
        maps: list[Tensor] = []
        for element in elements:
            if all((element @ self.point - other @ self.point).norm() > 1e-6 for other in maps):
                maps.append(element @ stay.mean(0))
        self.maps = torch.stack(maps)

    def covers(self, point: Float[Tensor, " 3"]) -> bool:
        """Whether a point is nearly one of the images."""
        return bool(((self.maps @ self.point - point).norm(dim=1) < _SAME).any())


def orbits(body: BodySymmetry) -> list[Orbit]:
    """The orbits of the sites of a body, each once."""
    found: list[Orbit] = []
    for point in torch.as_tensor(body.sites, dtype=torch.float64).reshape(-1, 3):
        orbit = Orbit(point, body)
        if not any(other.covers(orbit.point) for other in found):
            found.append(orbit)
    return found


class SitePairs(nn.Module):
    """E_ij = f(r_ij) sum over the sites a of i and b of j of phi_ab(|x_a - x_b|), where i or j has an orientation.

    Sites of one orbit are alike; a bead without an orientation or without sites has one, its centre. phi is a cubic
    spline of its own for each pair of orbits, f the smooth cutoff. Where the sites are is trained too, within what
    the symmetry of the body leaves free.
    """

    species: Tensor
    oriented: Tensor
    first: Tensor

    def __init__(self, bodies: Sequence[BodySymmetry | None], cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        found = [[] if body is None else orbits(body) for body in bodies]
        kinds = [max(len(each), 1) for each in found]
        size = max(sum(len(orbit.maps) for orbit in each) or 1 for each in found)
        maps = torch.zeros(len(bodies), size, 3, 3, dtype=torch.float64)
        species = torch.full((len(bodies), size), sum(kinds))
        points = torch.zeros(sum(kinds), 3, dtype=torch.float64)
        for number, each in enumerate(found):
            first, at = sum(kinds[:number]), 0
            species[number, 0] = first
            for offset, orbit in enumerate(each):
                points[first + offset] = orbit.point
                maps[number, at : at + len(orbit.maps)] = orbit.maps
                species[number, at : at + len(orbit.maps)] = first + offset
                at += len(orbit.maps)
        self.maps = Constant(maps)
        self.points = nn.Parameter(points.to(torch.get_default_dtype()))
        self.register_buffer("species", species, persistent=False)
        self.register_buffer("oriented", torch.tensor([body is not None for body in bodies]), persistent=False)
        self._splines(sum(kinds), cutoff + 2 * float(points.norm(dim=1).max()))

    def _splines(self, kinds: int, reach: float) -> None:
        """A spline for each pair of species, and one of zeros for what is not a site; and where each begins."""
        pairs = torch.combinations(torch.arange(kinds), with_replacement=True)
        rows = torch.full((kinds + 1, kinds + 1), len(pairs))
        rows[pairs[:, 0], pairs[:, 1]] = rows[pairs[:, 1], pairs[:, 0]] = torch.arange(len(pairs))
        knots = math.ceil(reach / SPACING) + 4
        first = (knots + 1) * rows[self.species[:, None, :, None], self.species[None, :, None, :]]
        self.register_buffer("first", first.flatten(0, 1).to(torch.int32), persistent=False)
        wall = torch.exp((_WALL - SPACING * torch.arange(knots)) / _DECAY).clamp(max=1 / _FIRST)
        self.steps = nn.Parameter(_FIRST * torch.where(wall > 1e-3, wall, 0.0).repeat(len(pairs), 1))

    def sites(
        self, orientations: Float[Tensor, "beads 3 3"], types: Int[Tensor, " beads"]
    ) -> Float[Tensor, "beads sites 3"]:
        """Where the sites are, from the centre of their bead."""
        known = torch.cat([self.points, self.points.new_zeros(1, 3)])
        in_body = torch.einsum("tsij,tsj->tsi", self.maps(), known[self.species])
        return torch.einsum("bij,bsj->bsi", orientations, in_body[types])

    def forward(
        self,
        vectors: Float[Tensor, "edges 3"],
        distance: Float[Tensor, " edges"],
        types: Int[Tensor, " beads"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        orientations: Float[Tensor, "beads 3 3"],
    ) -> Float[Tensor, " beads"]:
        """Half the energy of every pair goes to each end. Every pair has to be there in both directions."""
        turned = self.oriented[types]
        once = (receivers <= senders) & (turned[receivers] | turned[senders])
        once = once.nonzero().squeeze(1)
        receivers, senders, vectors = receivers[once], senders[once], vectors[once]
        sites, distance = self.sites(orientations, types), distance[once]
        here, there = sites.index_select(0, receivers), sites.index_select(0, senders)
        first = self.first
        if len(first) > 1:
            first = first.index_select(0, types[receivers] * len(self.oriented) + types[senders])
        energy = site_energy(
            here, there + vectors.unsqueeze(1), self.table(), first, last=self.steps.shape[1], spacing=SPACING
        )
        energy = energy * smooth_cutoff(distance, self.cutoff)
        energy = torch.where(receivers == senders, 0.25, 0.5) * energy  # a bead and its own image: listed twice
        return energy.new_zeros(len(types)).index_add(0, receivers, energy).index_add(0, senders, energy)

    @property
    def intervals(self) -> int:
        """Of each spline."""
        return self.steps.shape[1] + 1

    def table(self) -> Float[Tensor, "4 intervals"]:
        """The splines as powers of the position in each interval; zero in the last, and all along for no site."""
        coefficients = _SCALE * self.steps.flip(1).cumsum(1).flip(1)
        pieces = nn.functional.pad(coefficients, (0, 4, 0, 1)).unfold(1, 4, 1).flatten(0, 1)
        return (pieces @ pieces.new_tensor(_POWERS)).T.contiguous() / 6
