"""One layer of the network from kernels, forwards and backwards.

Features are stored bead by bead: components of all degrees, each a row of channels. These are padded with zeros to
whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.compiled.bodies import Bodies
from cgenn.compiled.edges import Edges
from cgenn.compiled.launch import Launch, Step, Steps, in_threads
from cgenn.compiled.layer_constants import LayerConstants
from cgenn.compiled.mixing_source import AT_ONCE
from cgenn.compiled.perceptron import AROUND, WeightedMessages


class Layer:
    """A layer for a number of beads.

    Of each bead what it sends, gets and gives to the next layer is kept, what that was before the gates, and what its
    energy depends on; all else is computed for some beads at a time, and again for the derivatives. Those by what is no
    longer needed, `features`, `sent`, `got` and `gated`, take its place; those by `sent` have their own where beads add
    to others. `reads` holds those of the energies by the scalars of `gated`.
    """

    def __init__(
        self,
        constants: LayerConstants,
        types: Int[Tensor, " beads"],
        features: Float[Tensor, "beads inputs channels"],
        energies: Float[Tensor, " beads"],
        slopes: Float[Tensor, " beads"],
        parts: int,
        by_sent: Float[Tensor, "rows inputs channels"] | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self.constants = c = constants
        beads, width, new = len(types), c.channels, features.new_zeros
        self.types, self.features, self.energies, self.slopes = types, features, energies, slopes
        spare = parts if c.both else 0  # rows behind those of the beads, see `pairs.Pairs`
        self.beads = beads
        self.sent, self.got = new(beads, c.inputs, width), new(beads + spare, c.gathered, width)
        self.by_sent = self.sent if by_sent is None else by_sent
        self.mixed, self.gates = new(beads, c.out, width), new(beads, len(c.bias), width)
        self.gated, self.reads = new(beads, c.out, width), new(beads, width)
        blocks = 1 if c.inside else width // c.lanes
        nobody = torch.zeros(1, dtype=torch.int32, device=features.device)
        nothing = new(1, 4)
        edges: list[Tensor | float] = [nobody, nobody, nobody, nothing, c.cutoff, c.knots, c.table, self.sent]
        given: list[Tensor | float] = [] if bodies is None else [bodies.offsets, 0]
        targets = [nobody] if c.both else []
        to: list[Tensor | float] = [types, c.receiver, self.got, *given, *targets]
        self.gather = Launch(c.kernels["forward"], beads, blocks, [*edges, *to], features.device, parts)
        to = [self.got, new(1, c.columns, 3)]
        to += [] if c.first else [self.by_sent, *([0] if given else [])]
        to += [*given, *([c.table] if given else []), *targets]
        self.ungather = Launch(c.kernels["backward"], beads, blocks, [*edges, *to], features.device, parts)
        self.weighted = None
        if c.perceptron is not None:
            assert bodies is not None
            self.weighted = WeightedMessages(self.gather, self.ungather, c.perceptron, bodies, features=not c.first)

    def sending(self) -> list[Step]:
        """From `features` to `sent`."""
        return [self._mix(Rows(self.features), self.constants.before.there, Rows(self.sent))]

    def unsending(self) -> list[Step]:
        """From the derivatives by `sent` and by what was mixed to those by `features`."""
        c = self.constants
        kept: list[Tensor | float] = [self.types, c.skip, self.gated, self.gated.shape[1], c.kept_degrees]
        return [self._mix(Rows(self.by_sent), c.before.back, Rows(self.features), "kept", kept)]

    def nodes(self, room: Tensor) -> list[Step]:
        """From `got` to `gated`, and the energy of the beads."""
        c, rooms = self.constants, ChunkRooms(self.constants, room)
        got, mixed, gated = Rows(self.got), Rows(self.mixed), Rows(self.gated)
        kept: list[Tensor | float] = [self.types, c.skip, self.features, self.features.shape[1], c.kept_degrees]
        gates = [] if c.gates is None else [self._mix(mixed, c.gates.there, self._joined)]
        return [
            self._mix(got, c.pairs.there, rooms.pairs),
            self._step("product", *c.square, c.weights, rooms.pairs.values, rooms.products.values),
            self._mix(got, c.linear.there, mixed, "kept", kept),
            self._mix(rooms.products, c.after.there, mixed, "onto"),
            *gates,
            self._step("gate", self.mixed, self.gates, c.bias, self.gated),
            self._mix(gated, c.hidden.there, rooms.hidden),
            self._step("readout", rooms.hidden.values[:, 0], c.hidden_bias, c.energy, self.energies, blocks=1),
            self._mix(rooms.hidden, c.hidden.back, Rows(self.reads.unsqueeze(1))),
        ]

    def unnodes(self, room: Tensor, *, follows: bool = False) -> list[Step]:
        """From the derivatives by `gated` to those by `got`, before they were scaled.

        Args:
            room: for what is computed of some beads.
            follows: whether there is still what `nodes` computed of the same beads, of the last layer.
        """
        c, rooms = self.constants, ChunkRooms(self.constants, room)
        gated, got, scale = Rows(self.gated), Rows(self.got), [self.types, c.receiver]
        gates = [] if c.gates is None else [self._mix(self._joined, c.gates.back, gated, "onto")]
        return [
            *([] if follows else [self._mix(got, c.pairs.there, rooms.pairs)]),
            self._step(
                "gate_turning" if follows else "gate_backward",
                self.mixed,
                self.gates,
                c.bias,
                self.reads,
                self.slopes,
                self.gated,
            ),
            *gates,
            self._mix(gated, c.after.back, rooms.products),
            self._step("product_backward", *c.unsquare, c.weights, rooms.pairs.values, rooms.products.values),
            self._mix(rooms.pairs, c.pairs.back, got, "scaled", scale),
            self._mix(gated, c.linear.back, got, "onto_scaled", scale),
        ]

    def forward(self, edges: Edges) -> None:
        """From `sent` to `got`."""
        if self.weighted is not None:
            self._zero(self.constants.inside, self.got)
            self.weighted.forward(edges.shaped)
        else:
            self._over(self.gather, edges, {}, self.got)

    def backward(self, edges: Edges, by_vectors: Tensor) -> None:
        """From the derivatives by `got` to those by `sent`, and onto those by the vectors."""
        if self.weighted is not None:
            self._zero(not self.constants.first, self.by_sent)
            self.weighted.backward(edges.shaped, by_vectors)
            self._add_up()
        else:
            self._over(self.ungather, edges, {AROUND: by_vectors}, None if self.constants.first else self.by_sent)

    def there_and_back(self, edges: Edges, by_vectors: Tensor, nodes: Sequence[Steps]) -> None:
        """`forward` and `backward`, with what is done for the beads in between."""
        if self.weighted is not None:
            self._zero(self.constants.inside, self.got)
            self._zero(not self.constants.first, self.by_sent)
            self.weighted.there_and_back(edges.shaped, by_vectors, nodes)
            self._add_up()
        else:
            self.forward(edges)
            in_threads(nodes)
            self.backward(edges, by_vectors)

    @staticmethod
    def _zero(added_to: bool, values: Tensor) -> None:
        if added_to:
            values.zero_()

    def _add_up(self) -> None:
        """What each thread added to the derivatives by `sent`."""
        if not self.constants.first:
            first, *others = self.by_sent.split(self.beads)
            for other in others:
                first += other

    def _over(self, launch: Launch, edges: Edges, others: dict[int, Tensor], sums: Tensor | None) -> None:
        """Go over the edges; where a bead adds to the sums of another one, these begin with zero."""
        launch.give({**edges.shaped, **others})
        if self.constants.both:
            launch.give({len(launch.kept) - 1: edges.targets})
            if sums is not None:
                sums.zero_()
        launch()

    @property
    def _joined(self) -> Rows:
        """The gates of all irreps side by side."""
        return Rows(self.gates.flatten(1).unsqueeze(1))

    def _step(self, name: str, *arguments: Tensor | float, blocks: int | None = None) -> Step:
        c = self.constants
        return Step(c.kernels[name], c.channels // c.lanes if blocks is None else blocks, arguments)

    def _mix(
        self,
        values: Rows,
        weights: Float[Tensor, "degrees channels out"],
        out: Rows,
        kind: str = "",
        others: Sequence[Tensor | float] = (),
    ) -> Step:
        """See `mixing_source.mixing`."""
        blocks = out.values.shape[2] // self.constants.mixing_lanes
        arguments: list[Tensor | float] = [
            len(weights),
            blocks,
            values.values,
            values.values.shape[1],
            int(values.apart),
        ]
        arguments += [weights.shape[1], weights, out.values, out.values.shape[1], int(out.apart), *others]
        name = f"mixing_{kind}" if kind else "mixing"
        return Step(self.constants.kernels[name], blocks, arguments, AT_ONCE)


class Rows(NamedTuple):
    """Features of the beads, or of those of a chunk."""

    values: Float[Tensor, "beads components channels"]
    apart: bool = False


class ChunkRooms:
    """Where what is computed for the beads of a chunk lies: as many as there is room for."""

    def __init__(self, constants: LayerConstants, room: Float[Tensor, "beads numbers"]) -> None:
        shapes, beads, room = self.shapes(constants), len(room), room.flatten()
        starts = accumulate((beads * size * wide for size, wide in shapes), initial=0)
        self.pairs, self.products, self.hidden = (
            Rows(room[start:end].view(beads, *shape), apart=True)
            for (start, end), shape in zip(pairwise(starts), shapes, strict=True)
        )

    @staticmethod
    def shapes(constants: LayerConstants) -> list[tuple[int, int]]:
        """Of a bead: components, and how many numbers each."""
        c, width = constants, constants.channels
        return [(c.gathered, 2 * width), (c.out, width), (1, width)]

    @classmethod
    def size(cls, constants: LayerConstants) -> int:
        """How many numbers there are of a bead."""
        return sum(size * wide for size, wide in cls.shapes(constants))
