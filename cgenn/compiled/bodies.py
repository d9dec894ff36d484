"""All that orientations add to a compiled network: tensors of the bodies, their sites, and derivatives by turns.

An orientation Q counts as one that is turned: with N the derivative of the energy by a turn of the bead, the derivative
by the columns q_k of Q is N x q_k / 2. It leads to the same torque as the one by each element of Q on its own.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.compiled import invariant_source, orientation_source, site_source
from cgenn.compiled.edges import Edges
from cgenn.compiled.launch import Launch, has_wide_registers, kernel, padded
from cgenn.compiled.orientation_source import Tensors, generator
from cgenn.compiled.perceptron import EdgeRooms
from cgenn.nn.network import BodyFeatures
from cgenn.nn.sites import SPACING


class BodyConstants:
    """Tensors, sites and splines of each type, and kernels."""

    def __init__(self, frames: BodyFeatures, dtype: torch.dtype, device: torch.device) -> None:
        self.kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self.tensors = Tensors(frames.tensors.kinds, frames.tensors.counts)
        self.points = frames.tensors.directions.exact.to(**self.kind)
        weights: list[Tensor] = [part.exact.to(**self.kind) for part in frames.tensors.weights]  # type: ignore[operator, misc]
        self.weights = torch.cat([part.transpose(1, 2) for part in weights], dim=2).contiguous()
        embedding = frames.embedding
        # whole vectors, else matrix products with them take three times as long
        self.invariants = padded(frames.edges.outputs, device)
        self.chosen = list(zip(embedding.chosen, embedding.degrees, strict=True))
        self.embedding = [part.detach() * part.shape[1] ** -0.5 for part in embedding.weights]
        self.generators = [_generators(degree).to(**self.kind) for _, degree in self.chosen]

        pairs = frames.sites
        count = pairs.species.shape[1]
        width = site_source.lanes(count)
        self.size = -(-count // width) * width
        missing = self.size - count
        known = torch.cat([pairs.points.detach(), pairs.points.new_zeros(1, 3)])
        in_body = torch.einsum("tsij,tsj->tis", pairs.maps(), known[pairs.species])
        self.in_body = nn.functional.pad(in_body, (0, missing)).to(**self.kind)
        table = pairs.table().detach()
        nothing = table.shape[1] - pairs.intervals
        self.starts = nn.functional.pad(pairs.first, (0, missing), value=nothing).contiguous()
        self.table = table.T.flatten().to(**self.kind)
        self.counts = (pairs.species < len(known) - 1).sum(1).to(torch.int32)
        self.oriented = pairs.oriented.to(torch.int32)
        self.cutoff, self.last = pairs.cutoff, float(pairs.intervals - 1)
        at_once = 16 if has_wide_registers(device) else 8
        given = frames.edges, self.tensors, dtype, at_once, self.invariants
        texts = {
            "tensors": orientation_source.turned_tensors(self.tensors),
            "invariants": invariant_source.invariants(*given),
            "invariants_backward": invariant_source.invariants_backward(*given),
            "share": site_source.SHARE,
            "spread": site_source.SPREAD,
            "collect": site_source.COLLECT,
        }
        self.kernels = {name: kernel(text, dtype, 8) for name, text in texts.items()}
        self.kernels["pairs"] = kernel(site_source.site_pairs(self.size, dtype), dtype, self.size)


class Bodies:
    """The bodies of some beads: what depends on orientations is kept until derivatives are asked for.

    Attributes:
        tensors: of each bead, shape (beads, numbers).
        offsets: how many edges the beads before have, shape (beads + 1,).
        invariants: those of all edges, shape (edges, invariants).
        by_invariants: derivatives by them.
        turns: derivatives by turns of the beads, shape (beads, 3).
        there: those by turns of the senders, for each edge, shape (edges, 3).
    """

    def __init__(
        self, constants: BodyConstants, types: Int[Tensor, " beads"], energies: Tensor, slopes: Tensor
    ) -> None:
        self.constants = c = constants
        beads, device, kind = len(types), types.device, c.kind
        whole = types.to(torch.int32)
        self.orientations = torch.zeros(beads, 3, 3, **kind)
        self.tensors = torch.zeros(beads, max(c.tensors.size, 1), **kind)
        self.in_body = c.in_body[types]
        self.sites = torch.zeros(beads, 3, c.size, **kind)
        self.embedding = [part[types] for part in c.embedding]
        self.oriented = c.oriented[types].to(c.kind["dtype"]).unsqueeze(1)
        self.offsets = torch.zeros(beads + 1, dtype=torch.int32, device=device)
        self.turns, self.there = torch.zeros(beads, 3, **kind), torch.zeros(1, 3, **kind)
        self.pairs = torch.zeros(1, 7, **kind)
        self.invariants = self.by_invariants = torch.zeros(1, c.invariants, **kind)
        self.rooms = EdgeRooms(c.kind["dtype"], device)

        def launch(name: str, *arguments: Tensor | float, parts: int | None = None) -> Launch:
            return Launch(c.kernels[name], beads, 1, arguments, device, parts)

        edges, vectors = [self.offsets[:1]] * 3, self.there
        self.turn = launch("tensors", whole, self.orientations, c.points, c.weights, self.tensors)
        splines: list[Tensor | float] = [c.oriented, c.counts, SPACING, c.last, c.starts, c.table]
        self.meet = launch("pairs", *edges, vectors, c.cutoff, whole, *splines, self.sites, self.pairs)
        self.share = launch("share", *edges, self.pairs, energies, parts=1)
        around = vectors.unsqueeze(1)
        given = [*edges, vectors, self.offsets, self.tensors, self.invariants]
        self.relate = launch("invariants", *given)
        self.unrelate = launch("invariants_backward", *given, self.turns, vectors, around)
        self.spread = launch("spread", *edges, vectors, self.pairs, slopes, self.turns, self.there, around)
        self.collect = launch("collect", *edges, self.there, self.turns, parts=1)

    def forward(self, edges: Edges, orientations: Float[Tensor, "beads 3 3"], features: Tensor) -> None:
        """Tensors and sites, whose energy is added to that of the beads; what is not scalar of the features."""
        self.offsets[1:] = torch.cumsum(edges.last - edges.first, 0)
        self.orientations.copy_(orientations)
        self.turn()
        self._find_invariants(edges)
        torch.bmm(self.orientations, self.in_body, out=self.sites)
        if len(self.there) != len(edges.vectors):
            self.there, self.pairs = (edges.vectors.new_empty(len(edges.vectors), width) for width in (3, 7))
        self.meet.give({**edges.arguments, 13: self.pairs})
        self.meet()
        self.share.give({**edges.arguments, 3: self.pairs})
        self.share()
        features[:, 1:].zero_()
        for (number, degree), weight in zip(self.constants.chosen, self.embedding, strict=True):
            made = _of_degree(features, degree)
            made[:, :, : weight.shape[2]] = self._tensors(number, degree).transpose(1, 2) @ weight

    def _find_invariants(self, edges: Edges) -> None:
        count = int(self.offsets[-1])
        self.invariants, self.by_invariants = (
            self.rooms.room(name, count, self.constants.invariants) for name in ("invariants", "by_invariants")
        )
        self.relate.give({**edges.arguments, 6: self.invariants})
        self.relate()

    def start_backward(self, edges: Edges, by_vectors: Float[Tensor, "edges blocks 3"]) -> None:
        """Derivatives of the energy between sites, before those of the layers are added."""
        self.turns.zero_()
        self.there.zero_()
        self.spread.give({**edges.arguments, 4: self.pairs, 7: self.there, 8: by_vectors})
        self.spread()
        self.by_invariants.zero_()

    def through_invariants(self, edges: Edges, by_vectors: Float[Tensor, "edges blocks 3"]) -> None:
        """Derivatives by turns and by vectors from those by the invariants."""
        self.unrelate.give({**edges.arguments, 6: self.by_invariants, 8: self.there, 9: by_vectors})
        self.unrelate()

    def finish_backward(self, edges: Edges, by_features: Tensor) -> Float[Tensor, "beads 3 3"]:
        """Derivatives by the orientations, from what the layers added and those by the features."""
        self.collect.give({**edges.arguments, 3: self.there})
        self.collect()
        for (number, degree), weight, turn in zip(
            self.constants.chosen, self.embedding, self.constants.generators, strict=True
        ):
            slopes = _of_degree(by_features, degree)[:, :, : weight.shape[2]]
            by_tensors = weight @ slopes.transpose(1, 2)
            self.turns += torch.einsum("bna,xac,bnc->bx", by_tensors, turn, self._tensors(number, degree))
        turns = 0.5 * self.oriented * self.turns
        return torch.linalg.cross(turns.unsqueeze(2), self.orientations, dim=1)

    def _tensors(self, number: int, degree: int) -> Float[Tensor, "beads tensors components"]:
        start, count = self.constants.tensors.start(number), self.constants.tensors.counts[number]
        size = 2 * degree + 1
        return self.tensors[:, start : start + count * size].unflatten(1, (count, size))


def _of_degree(features: Tensor, degree: int) -> Tensor:
    return features[:, degree**2 : (degree + 1) ** 2]


def _generators(degree: int) -> Float[Tensor, "3 components components"]:
    """Turned by a small angle w about an axis, x becomes x + w J x."""
    made = torch.zeros(3, 2 * degree + 1, 2 * degree + 1, dtype=torch.float64)
    for axis in range(3):
        for a, b, value in generator(degree, axis):
            made[axis, a, b] = value
    return made
