"""One layer of the network from kernels, forwards and backwards.

Features are stored bead by bead: components of all degrees, each a row of channels. These are padded with zeros to
whole vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.compiled import message_source, node_source, product_source
from cgenn.compiled.bodies import Bodies
from cgenn.compiled.ladder import couplings
from cgenn.compiled.launch import Launch, Step, kernel, lanes, padded
from cgenn.compiled.mixing_source import AT_ONCE, mixing
from cgenn.compiled.perceptron import AROUND, Perceptron, WeightedMessages
from cgenn.compiled.radial import radial_table
from cgenn.compiled.vector_source import in_vectors
from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN, Dense
from cgenn.nn.layers import InteractionLayer, IrrepsLinear
from cgenn.nn.network import BodyFeatures

CHUNK = 128
"""Beads at a time: what is computed of them stays in the cache."""
THIRD = 3**-0.5
"""A layer is the sum of three parts."""
_MOST_IN_LOOPS = 9
"""Components of messages: those of lmax 3 would take two minutes to compile, in vectors of C++ ten seconds."""


class Both(NamedTuple):
    """Weights, forwards and backwards."""

    there: Tensor
    back: Tensor


class LayerConstants:
    """Weights and kernels of a layer; what the first one starts from does not depend on where beads are.

    Unless it has orientations in it; then it counts as one of the others.
    """

    def __init__(
        self,
        layer: InteractionLayer,
        readout: nn.Sequential,
        frames: BodyFeatures | None,
        first: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        product = layer.product
        self.channels = padded(layer.channels)
        self.lanes = lanes(self.channels)
        self.inputs, self.gathered, self.out = product.features.dim, product.out.dim, layer.out
        self.kept, self.cutoff = layer.kept, layer.radial.cutoff
        terms = couplings(product.coupling.exact, product.paths, product.features, product.out)
        self.perceptron, given = None, frames is not None
        self.first = first = first and product.features.dim == 1
        if frames is None:
            radial = copy.deepcopy(layer.radial).to("cpu", torch.float64)
            self.table = self._stored(radial_table(radial, terms, layer.channels), dtype, device)
        else:
            self.table = torch.zeros(1, 1, self.channels, dtype=dtype, device=device)
            self.perceptron = Perceptron(layer.radial, terms, layer.channels, frames, dtype, device, receiving=first)
        self.knots = float(len(self.table))
        self.room = CHUNK * self.channels * (2 * self.gathered + 2 * self.out + round(self.out**0.5) + 1)

        def stored(*parts: Tensor) -> Tensor:
            return torch.cat([self._stored(part, dtype, device) for part in parts], dim=-1)

        def degrees(parts: Sequence[Tensor]) -> Both:
            weights = torch.stack([stored(part) for part in parts])
            return Both(weights, weights.transpose(1, 2).contiguous())

        self.receiver, self.skip = stored(layer.scale * layer.receiver.weight), stored(THIRD * layer.skip.weight)
        self.before = degrees(_matrices(layer.before))
        self.linear, self.after = (
            degrees([THIRD * part for part in _matrices(linear)]) for linear in (layer.linear, layer.after)
        )
        sides = [[stored(part) for part in _matrices(side)] for side in (layer.left, layer.right)]
        pairs = torch.stack([torch.cat(both, dim=1) for both in zip(*sides, strict=True)])
        self.pairs = Both(pairs, pairs.transpose(1, 2).contiguous())
        self.weights = stored(layer.square.weight)
        gates = layer.gate.gates
        self.gates: Both | None = None
        self.bias = torch.zeros(1, self.channels, dtype=dtype, device=device)
        if gates is not None:
            weights, bias = _split(gates, layer.channels)
            joined = stored(*weights)
            self.gates, self.bias = Both(joined, joined.T.contiguous()), torch.stack([stored(part) for part in bias])
        hidden, last = readout[0], readout[2]
        assert isinstance(hidden, Dense)
        assert isinstance(last, Dense)
        assert hidden.bias is not None
        self.hidden, self.hidden_bias = degrees([_padded_rows(hidden.scale * hidden.weight)]), stored(hidden.bias)
        self.energy = stored(SILU_GAIN * last.scale * last.weight[:, 0])

        path, i, j, k = layer.square.terms.tolist()
        values = layer.square.values.exact.tolist()
        square = product_source.term_lists(list(zip(path, i, j, k, values, strict=True)))
        self.square, self.unsquare = ((places.to(device), each.to(device, dtype)) for places, each in square)
        blocks, sizes = self.channels // self.lanes, (self.inputs, self.gathered)
        ranks = list(range(round(self.out**0.5)))
        way = {"features": not first, "given": given, "receiving": given and first}
        texts = {
            "forward": message_source.forward(terms, *sizes, blocks, given=given),
            "backward": message_source.backward(terms, *sizes, blocks, **way),
            "product": product_source.forward(self.gathered, self.out, dtype, self.lanes),
            "product_backward": product_source.backward(self.gathered, self.out, dtype, self.lanes),
            "gate": node_source.gate(ranks, SILU_GAIN, SIGMOID_GAIN),
            "gate_backward": node_source.gate_backward(ranks, SILU_GAIN, SIGMOID_GAIN),
            "readout": node_source.READOUT,
            "mixing": mixing(),
            "mixing_onto": mixing(onto=True),
            "mixing_kept": mixing(kept=True),
            "mixing_scaled": mixing(scaled=True),
            "mixing_onto_scaled": mixing(onto=True, scaled=True),
        }
        if self.gathered > _MOST_IN_LOOPS:
            texts |= {name: in_vectors(texts[name], dtype, self.lanes) for name in ("forward", "backward")}
        self.kernels = {name: kernel(text, dtype, self.lanes) for name, text in texts.items()}

    def _stored(self, values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """With channels of zeros in the last dimension."""
        missing = self.channels - values.shape[-1]
        return nn.functional.pad(values.detach(), (0, missing)).to(device, dtype).contiguous()


class Layer:
    """A layer for a number of beads.

    Of each bead only what it sends, gets and gives to the next layer is kept, and what its energy depends on; all else
    is computed for some beads at a time, and again for the derivatives. The derivative by `features`, `sent`, `got` and
    `gated` takes the place of what is no longer needed.
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
        to = [self.got, new(1, blocks, 3), *([] if c.first else [self.sent]), *given, *([c.table] if given else [])]
        self.ungather = Launch(c.kernels["backward"], beads, blocks, [*edges, *to], features.device)
        self.weighted = None
        if c.perceptron is not None:
            self.weighted = WeightedMessages(self.gather, self.ungather, c.perceptron, bodies, receiving=c.first)

    def sending(self) -> list[Step]:
        """From `features` to `sent`."""
        return [self._mix(Rows(self.features), self.constants.before.there, Rows(self.sent))]

    def unsending(self) -> list[Step]:
        """From the derivatives by `sent` and by what was mixed to those by `features`."""
        kept: list[Tensor | float] = [self.types, self.constants.skip, self.gated, self.gated.shape[1]]
        back = self.constants.before.back
        return [self._mix(Rows(self.sent), back, Rows(self.features), "kept", [*kept, self._kept])]

    def nodes(self, room: Tensor) -> list[Step]:
        """From `got` to `gated`, and the energy of the beads."""
        c, rooms = self.constants, Rooms(self.constants, room)
        gated = Rows(self.gated)
        return [
            *self._mixed(rooms),
            self._step("gate", rooms.mixed.values, rooms.gates.values, c.bias, self.gated),
            self._mix(gated, c.hidden.there, rooms.hidden),
            self._step("readout", rooms.hidden.values[:, 0], c.hidden_bias, c.energy, self.energies, wide=1),
            self._mix(rooms.hidden, c.hidden.back, Rows(self.reads.unsqueeze(1))),
        ]

    def unnodes(self, room: Tensor) -> list[Step]:
        """From the derivatives by `gated` to those by `got`, before they were scaled."""
        c, rooms = self.constants, Rooms(self.constants, room)
        gated, got, scale = Rows(self.gated), Rows(self.got), [self.types, c.receiver]
        mixed, gates, products, pairs = (
            each.values for each in (rooms.mixed, rooms.gates, rooms.products, rooms.pairs)
        )
        steps = self._mixed(rooms)
        steps.append(self._step("gate_backward", mixed, gates, c.bias, self.reads, self.slopes, self.gated))
        if c.gates is not None:
            steps.append(self._mix(rooms.joined, c.gates.back.unsqueeze(0), gated, "onto"))
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

    @property
    def _kept(self) -> int:
        return round(self.constants.kept**0.5)

    def _mixed(self, rooms: Rooms) -> list[Step]:
        """From `got` to what is gated, and the gates."""
        c, got = self.constants, Rows(self.got)
        kept: list[Tensor | float] = [self.types, c.skip, self.features, self.features.shape[1], self._kept]
        steps = [
            self._mix(got, c.pairs.there, rooms.pairs),
            self._step("product", *c.square, c.weights, rooms.pairs.values, rooms.products.values),
            self._mix(got, c.linear.there, rooms.mixed, "kept", kept),
            self._mix(rooms.products, c.after.there, rooms.mixed, "onto"),
        ]
        if c.gates is not None:
            steps.append(self._mix(rooms.mixed, c.gates.there.unsqueeze(0), rooms.joined))
        return steps

    def _step(self, name: str, *arguments: Tensor | float, wide: int | None = None) -> Step:
        blocks = self.constants.channels // self.constants.lanes
        return Step(self.constants.kernels[name], blocks if wide is None else wide, arguments)

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


class Rooms:
    """Where what is computed for the beads of a chunk lies."""

    def __init__(self, constants: LayerConstants, room: Float[Tensor, " numbers"]) -> None:
        c, width = constants, constants.channels
        gates = len(c.bias)
        shapes = [(c.gathered, 2 * width), (c.out, width), (c.out, width), (gates, width), (1, width)]
        starts = [0, *accumulate(CHUNK * size * wide for size, wide in shapes)]
        parts = [
            Rows(room[start:end].view(CHUNK, *shape), apart=True)
            for start, end, shape in zip(starts, starts[1:], shapes, strict=False)
        ]
        self.pairs, self.products, self.mixed, self.gates, self.hidden = parts
        self.joined = Rows(self.gates.values.view(CHUNK, 1, gates * width), apart=True)


def _matrices(linear: IrrepsLinear) -> list[Tensor]:
    return [_padded_rows(matrix) for matrix in linear.scale * linear.weight]


def _split(gates: Dense, channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the gates, irrep after irrep."""
    assert gates.bias is not None
    weights = [_padded_rows(part) for part in (gates.scale * gates.weight).split(channels, dim=1)]
    return weights, list(gates.bias.split(channels))


def _padded_rows(matrix: Tensor) -> Tensor:
    return nn.functional.pad(matrix.detach(), (0, 0, 0, padded(len(matrix)) - len(matrix)))
