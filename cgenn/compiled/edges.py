"""The edges of a neighbour list that are shorter than the cutoff, from positions and back to forces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.compiled.edge_source import SHAPE
from cgenn.compiled.launch import Launch, kernel
from cgenn.compiled.pairs import Order, Pairs

_NEAR = """\
def near(
    begin: wp.int32,
    positions: wp.array(dtype=Vector),
    cells: wp.array2d(dtype=Vector),
    batch: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
    listed: wp.array(dtype=wp.int32),
    shifts: wp.array(dtype=Vector),
    cutoff: Real,
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    stored: wp.array(dtype=wp.int32),
    targets: wp.array(dtype=wp.int32),
) -> None:
    row, single = wp.tid()
    bead = begin + row
    here = positions[bead]
    a = cells[batch[bead], 0]
    b = cells[batch[bead], 1]
    c = cells[batch[bead], 2]
    at = first[bead]
    for edge in range(first[bead], first[bead + 1]):
        other = listed[edge]
        s = shifts[edge]
        r = positions[other] - here
        if wp.dot(s, s) > Real(0.0):  # apart, because the compiler may otherwise change the order and lose digits
            r = r + (s[0] * a + s[1] * b + s[2] * c)
        senders[at] = other  # overwritten by the next one, if this one is too far; a branch would be slower
        vectors[at] = r
        targets[at] = stored[edge]
        at += wp.where(wp.dot(r, r) < cutoff * cutoff, 1, 0)
    last[bead] = at
"""

_SHAPE = f"""\
def shape(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    cutoff: Real,
    shapes: wp.array(dtype=Shape),
) -> None:
    row, single = wp.tid()
    bead = begin + row
    for edge in range(first[bead], last[bead]):
        r = vectors[edge]
{SHAPE}\
"""

_COLLECT = """\
def collect(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    by_vectors: wp.array2d(dtype=Vector),
    by_positions: wp.array(dtype=Vector),
) -> None:
    row, block = wp.tid()
    bead = begin + row
    total = Vector()
    for edge in range(first[bead], last[bead]):
        slope = by_vectors[edge, block]
        total += slope
        wp.atomic_add(by_positions, senders[edge], slope)
    wp.atomic_sub(by_positions, bead, total)
"""


_LANES = 8
"""Not used by these kernels."""


class Edges:
    """Where the edges of each bead are, who sends, and the vectors from receiver to sender.

    Attributes:
        first, last: the edges of bead i are those from first[i] to before last[i], shape (beads,).
        senders: shape (edges,).
        vectors: shape (edges, 3).
        shapes: what layers need of them, see `edge_source.SHAPE`, shape (edges, 4).
        targets: where what the senders get from the bead is added, see `pairs.Pairs`, shape (edges,).
    """

    def __init__(
        self, first: Tensor, last: Tensor, senders: Tensor, vectors: Tensor, targets: Tensor, cutoff: float
    ) -> None:
        self.first, self.last, self.senders, self.vectors, self.targets = first, last, senders, vectors, targets
        self.shapes = vectors.new_zeros(len(vectors), 4)
        self.arguments = {0: first, 1: last, 2: senders, 3: vectors}
        """The first ones of every kernel of bodies that goes over edges, by their number."""
        self.shaped = {**self.arguments, 3: self.shapes}
        """The first ones of the kernels of layers."""
        given: list[Tensor | float] = [first, last, vectors, cutoff, self.shapes]
        self._shape = Launch(kernel(_SHAPE, vectors.dtype, _LANES), len(first), 1, given, vectors.device)
        self._slopes: Tensor | None = None
        self.kept: Int[Tensor, " kept"]
        self.count = len(vectors)
        self.order: Order | None = None

    def slopes(self, blocks: int) -> Float[Tensor, "edges blocks 3"]:
        """Zeros, to which derivatives by the vectors are added; always the same tensor."""
        if self._slopes is None or self._slopes.shape[1] != blocks:
            self._slopes = self.vectors.new_empty(len(self.vectors), blocks, 3)
        return self._slopes.zero_()

    @classmethod
    def given(
        cls,
        vectors: Float[Tensor, "edges 3"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        beads: int,
        cutoff: float,
        cuts: Sequence[int] | None,
    ) -> Edges:
        """Vectors that are known, sorted by receiver; `cuts` as for `ListedEdges`."""
        pairs = Pairs.of(receivers, senders, beads, cuts)
        kept = vectors.detach().index_select(0, pairs.kept)
        rows = pairs.rows[:-1].contiguous(), pairs.rows[1:].contiguous()
        found = cls(*rows, pairs.senders, kept, pairs.targets, cutoff)
        found._shape()
        found.kept, found.count = pairs.kept, len(vectors)
        return found

    def slopes_of_all(self, by_vectors: Float[Tensor, "kept blocks 3"]) -> Float[Tensor, "edges 3"]:
        """Derivatives by the vectors that were given; zero by those of pairs that are there the other way round."""
        return by_vectors.new_zeros(self.count, 3).index_add_(0, self.kept, by_vectors.sum(1))


class ListedEdges(Edges):
    """Those of a neighbour list that are short enough, at any positions: each row is filled from its beginning.

    With `cuts`, where the beads of each thread begin, and the end, each pair is there once, see `pairs.Pairs`. With an
    `order` beads are in that one here; positions and derivatives by them are in the order of the list.
    """

    def __init__(
        self,
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        shifts: Float[Tensor, "edges 3"],
        batch: Int[Tensor, " beads"],
        n_systems: int,
        cutoff: float,
        cuts: Sequence[int] | None = None,
        order: Order | None = None,
    ) -> None:
        beads, device, dtype = len(batch), batch.device, shifts.dtype
        pairs = Pairs.of(receivers, senders, beads, cuts, order)
        rows, listed, shifts = pairs.rows, pairs.senders, shifts.index_select(0, pairs.kept)
        batch = batch if order is None else batch[order.there]
        ends, found = torch.zeros_like(rows[:-1]), torch.zeros_like(listed)
        super().__init__(rows[:-1], ends, found, torch.zeros_like(shifts), torch.zeros_like(listed), cutoff)
        self.order = order
        self.positions = torch.zeros(beads, 3, dtype=dtype, device=device)
        self.cells = torch.zeros(n_systems, 3, 3, dtype=dtype, device=device)
        self.by_positions = torch.zeros_like(self.positions)
        given: list[Tensor | float] = [
            self.positions,
            self.cells,
            batch.to(torch.int32),
            rows,
            listed,
            shifts.contiguous(),
            cutoff,
        ]
        filled = [self.last, self.senders, self.vectors, pairs.targets, self.targets]
        self._near = Launch(kernel(_NEAR, dtype, _LANES), beads, 1, [*given, *filled], device)
        given = [rows, self.last, self.senders, shifts.new_zeros(1, 1, 3), self.by_positions]
        self._collect = Launch(kernel(_COLLECT, dtype, _LANES), beads, 1, given, device, parts=1)

    def move(self, positions: Float[Tensor, "beads 3"], cells: Float[Tensor, "systems 3 3"] | None) -> None:
        """Find the edges at these positions."""
        self.positions.copy_(positions if self.order is None else positions[self.order.there])
        if cells is not None:
            self.cells.copy_(cells)
        self._near()
        self._shape()

    def collect(self, by_vectors: Float[Tensor, "edges blocks 3"]) -> Float[Tensor, "beads 3"]:
        """Derivatives by the positions from those by the vectors."""
        self.by_positions.zero_()
        self._collect.resize(by_vectors.shape[1])
        self._collect.give({3: by_vectors})
        self._collect()
        return self.by_positions.clone() if self.order is None else self.by_positions[self.order.back]
