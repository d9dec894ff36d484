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
from cgenn.compiled.launch import Launch, Step
from cgenn.compiled.layer_constants import LayerConstants
from cgenn.compiled.mixing_source import AT_ONCE
from cgenn.compiled.perceptron import AROUND, WeightedMessages


class Layer:
    """A layer for a number of beads.

    Of each bead only what it sends, gets and gives to the next layer is kept, and what its energy depends on; all else
    is computed for some beads at a time, and again for the derivatives. Those by `features`, `sent`, `got` and `gated`
    take the place of what is no longer needed; `reads` holds those of the energies by the scalars of `gated`.
    """

    def __init__(
        self,
        constants: LayerConstants,
        types: Int[Tensor, " beads"],
        features: Float[Tensor, "beads inputs channels"],
        energies: Float[Tensor, " beads"],
        slopes: Float[Tensor, " beads"],
        bodies: Bodies | None = None,
    ) -> None:
        self.constants = c = constants
        beads, width, new = len(types), c.channels, features.new_zeros
        self.types, self.features, self.energies, self.slopes = types, features, energies, slopes
        self.sent, self.got = new(beads, c.inputs, width), new(beads, c.gathered, width)
        self.gated, self.reads = new(beads, c.out, width), new(beads, width)
        blocks = width // c.lanes
        nobody = torch.zeros(1, dtype=torch.int32, device=features.device)
        nothing = new(1, 3)
        edges: list[Tensor | float] = [nobody, nobody, nobody, nothing, c.cutoff, c.knots, c.table, self.sent]
        given = [] if c.perceptron is None else [nobody]
        to = [types, c.receiver, self.got]
        self.gather = Launch(c.kernels["forward"], beads, blocks, [*edges, *to, *given], features.device)
        to = [self.got, new(1, c.columns, 3), *([] if c.first else [self.sent]), *given, *([c.table] if given else [])]
        self.ungather = Launch(c.kernels["backward"], beads, blocks, [*edges, *to], features.device)
        self.weighted = None
        if c.perceptron is not None:
            assert bodies is not None
            self.weighted = WeightedMessages(self.gather, self.ungather, c.perceptron, bodies, receiving=c.first)

    def sending(self) -> list[Step]:
        """From `features` to `sent`."""
        return [self._mix(Rows(self.features), self.constants.before.there, Rows(self.sent))]

    def unsending(self) -> list[Step]:
        """From the derivatives by `sent` and by what was mixed to those by `features`."""
        c = self.constants
        kept: list[Tensor | float] = [self.types, c.skip, self.gated, self.gated.shape[1], c.kept_degrees]
        return [self._mix(Rows(self.sent), c.before.back, Rows(self.features), "kept", kept)]

    def nodes(self, room: Tensor) -> list[Step]:
        """From `got` to `gated`, and the energy of the beads."""
        c, rooms = self.constants, ChunkRooms(self.constants, room)
        gated = Rows(self.gated)
        return [
            *self._mixed(rooms),
            self._step("gate", rooms.mixed.values, rooms.gates.values, c.bias, self.gated),
            self._mix(gated, c.hidden.there, rooms.hidden),
            self._step("readout", rooms.hidden.values[:, 0], c.hidden_bias, c.energy, self.energies, blocks=1),
            self._mix(rooms.hidden, c.hidden.back, Rows(self.reads.unsqueeze(1))),
        ]

    def unnodes(self, room: Tensor) -> list[Step]:
        """From the derivatives by `gated` to those by `got`, before they were scaled."""
        c, rooms = self.constants, ChunkRooms(self.constants, room)
        gated, got, scale = Rows(self.gated), Rows(self.got), [self.types, c.receiver]
        mixed, gates, products, pairs = (
            each.values for each in (rooms.mixed, rooms.gates, rooms.products, rooms.pairs)
        )
        steps = self._mixed(rooms)
        steps.append(self._step("gate_backward", mixed, gates, c.bias, self.reads, self.slopes, self.gated))
        if c.gates is not None:
            steps.append(self._mix(rooms.joined, c.gates.back, gated, "onto"))
        return [
            *steps,
            self._mix(gated, c.after.back, rooms.products),
            self._step("product_backward", *c.unsquare, c.weights, pairs, products),
            self._mix(rooms.pairs, c.pairs.back, got, "scaled", scale),
            self._mix(gated, c.linear.back, got, "onto_scaled", scale),
        ]

    def forward(self, edges: dict[int, Tensor]) -> None:
        """From `sent` to `got`."""
        if self.weighted is not None:
            self.weighted.forward(edges)
        else:
            self.gather.give(edges)
            self.gather()

    def backward(self, edges: dict[int, Tensor], by_vectors: Tensor) -> None:
        """From the derivatives by `got` to those by `sent`, and onto those by the vectors."""
        if self.weighted is not None:
            self.weighted.backward(edges, by_vectors)
        else:
            self.ungather.give({**edges, AROUND: by_vectors})
            self.ungather()

    def _mixed(self, rooms: ChunkRooms) -> list[Step]:
        """From `got` to what is gated, and the gates."""
        c, got = self.constants, Rows(self.got)
        kept: list[Tensor | float] = [self.types, c.skip, self.features, self.features.shape[1], c.kept_degrees]
        steps = [
            self._mix(got, c.pairs.there, rooms.pairs),
            self._step("product", *c.square, c.weights, rooms.pairs.values, rooms.products.values),
            self._mix(got, c.linear.there, rooms.mixed, "kept", kept),
            self._mix(rooms.products, c.after.there, rooms.mixed, "onto"),
        ]
        if c.gates is not None:
            steps.append(self._mix(rooms.mixed, c.gates.there, rooms.joined))
        return steps

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
        blocks = out.values.shape[2] // self.constants.lanes
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
        self.pairs, self.products, self.mixed, self.gates, self.hidden = (
            Rows(room[start:end].view(beads, *shape), apart=True)
            for (start, end), shape in zip(pairwise(starts), shapes, strict=True)
        )
        self.joined = Rows(self.gates.values.view(beads, 1, -1), apart=True)

    @staticmethod
    def shapes(constants: LayerConstants) -> list[tuple[int, int]]:
        """Of a bead: components, and how many numbers each."""
        c, width = constants, constants.channels
        return [(c.gathered, 2 * width), (c.out, width), (c.out, width), (len(c.bias), width), (1, width)]

    @classmethod
    def size(cls, constants: LayerConstants) -> int:
        """How many numbers there are of a bead."""
        return sum(size * wide for size, wide in cls.shapes(constants))
