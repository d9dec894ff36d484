"""Messages whose radial functions depend on how the bodies at both ends of an edge lie, some beads at a time.

The perceptron on distance and invariants is computed with matrix products, where the functions of the distance in its
first layer come from a table. For the derivatives it is computed again, for the messages that the beads send.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.compiled import orientation_source
from cgenn.compiled.edge_frame import Coupling
from cgenn.compiled.launch import Launch, kernel
from cgenn.compiled.orientation_source import Tensors
from cgenn.compiled.radial import radial_table
from cgenn.nn.dense import SILU_GAIN, Dense
from cgenn.nn.network import BodyFeatures
from cgenn.nn.radial import BASIS_SCALE, RadialNetwork

_LANES = 8
_AT_ONCE = 8 * 2**20
"""Bytes of what is kept of edges at a time."""
_TYPICAL = 32
"""Edges of a bead."""
_TABLE = 6
"""Number of the argument of the messages that holds the radial functions."""


class Perceptron:
    """Weights and kernels of a radial network with invariants; its width is padded with zeros to whole vectors."""

    def __init__(
        self,
        radial: RadialNetwork,
        terms: Sequence[Coupling],
        channels: int,
        padded: int,
        frames: BodyFeatures,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        one, two, three = (layer for layer in radial.perceptron if isinstance(layer, Dense))
        assert one.bias is not None and two.bias is not None
        self.cutoff, self.functions, self.channels = radial.cutoff, len(terms), padded
        self.width = -(-len(two.weight) // _LANES) * _LANES
        self.lanes = next(lanes for lanes in (32, 16, 8) if self.width % lanes == 0)

        def stored(values: Tensor, *widths: int) -> Tensor:
            sides = [side for width, has in zip(widths[::-1], values.shape[::-1]) for side in (0, width - has)]
            return nn.functional.pad(values.detach().double(), sides).to(device, dtype).contiguous()

        basis = len(radial.basis.roots.exact)
        first = radial_table(_FirstLayer(radial, one, basis), [Coupling((), ((0, 1.0),))], len(one.bias))
        self.table = stored(_powers(first), self.width)
        self.knots = float(len(self.table))
        self.mixing = stored(one.scale * one.weight[basis:], self.width)
        self.second = stored(two.scale * SILU_GAIN * two.weight, self.width, self.width)
        self.bias = stored(two.bias, self.width)
        paths = torch.zeros(radial.outputs // channels, len(terms), dtype=torch.float64)
        for number, term in enumerate(terms):
            for path, weight in term.weights:
                paths[path, number] = weight
        last = (three.scale * SILU_GAIN * three.weight).double().cpu().unflatten(1, (-1, channels))
        last = torch.einsum("kpc,pn->knc", last, paths)
        self.last = stored(last, self.width, self.functions, padded).flatten(1)
        tensors = Tensors(frames.edges.kinds, frames.tensors.counts)
        texts = {
            "hidden": orientation_source.hidden(frames.edges, tensors, reverse=False),
            "reverse": orientation_source.hidden(frames.edges, tensors, reverse=True),
            "backward": orientation_source.hidden_backward(frames.edges, tensors),
        }
        self.kernels = {name: kernel(text, dtype, self.lanes) for name, text in texts.items()}

    @property
    def beads(self) -> int:
        """Beads at a time."""
        numbers = 4 * self.width + 2 * self.functions * self.channels
        return max(1, _AT_ONCE // (_TYPICAL * numbers * self.table.element_size()))


class _FirstLayer:
    """What the distance adds to the first layer, and its bias."""

    def __init__(self, radial: RadialNetwork, dense: Dense, basis: int) -> None:
        assert dense.bias is not None
        self.basis = copy.deepcopy(radial.basis).to("cpu", torch.float64)
        self.weight = BASIS_SCALE * dense.scale * dense.weight[:basis].detach().double().cpu()
        self.bias = dense.bias.detach().double().cpu()
        self.cutoff, self.outputs = radial.cutoff, len(self.bias)

    def __call__(self, distance: Float[Tensor, " knots"]) -> Float[Tensor, "knots outputs"]:
        return self.basis(distance) @ self.weight + self.bias


def _powers(table: Float[Tensor, "knots 2 outputs"]) -> Float[Tensor, "intervals 4 outputs"]:
    """Coefficients of powers of the place in each interval: single precision keeps the slope, as no differences remain."""
    value, slope = table[:-1].unbind(1)
    change, end = table[1:, 0] - value, table[1:, 1]
    return torch.stack([value, slope, 3 * change - 2 * slope - end, slope + end - 2 * change], dim=1)


class Rooms:
    """Room for what is computed of edges: the same memory again and again."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.kept: dict[tuple[int, str], Tensor] = {}
        self.kind = {"dtype": dtype, "device": device}

    def room(self, name: str, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
        """Not initialised."""
        key = columns, name
        if key not in self.kept or len(self.kept[key]) < rows:
            self.kept[key] = torch.empty(rows + rows // 4, columns, **self.kind)
        return self.kept[key][:rows]


class WeightedMessages:
    """The messages of one layer to or, `backward`, from its beads: it stands in for the launch of their kernel.

    Args:
        launch: of that kernel.
        bodies: the tensors of the beads, and room for derivatives (`bodies.Bodies`).
        offsets: number of the argument that says where those of a bead begin; the derivatives come next.
    """

    def __init__(
        self, launch: Launch, perceptron: Perceptron, bodies: Any, *, offsets: int, backward: bool = False
    ) -> None:
        self.launch, self.perceptron, self.bodies = launch, perceptron, bodies
        self.offsets, self.backward = offsets, backward
        self.edges: dict[int, Tensor] = {}
        p, tensors = perceptron, bodies.tensors
        nobody, nothing = launch.kept[0], tensors.new_zeros(1, 3)
        edges = [nobody, nobody, nobody, nothing, nobody, tensors.new_zeros(1, p.width), tensors.new_zeros(1)]
        rest = [p.cutoff, p.knots, p.table, p.mixing, tensors]
        arguments, beads, device = [*edges, *rest], len(tensors), tensors.device
        self.hidden = Launch(p.kernels["reverse" if backward else "hidden"], beads, 1, arguments, device)
        if backward:
            more = [bodies.turns, nothing, tensors.new_zeros(1, 1, 3)]
            self.unhidden = Launch(p.kernels["backward"], beads, 1, arguments + more, device)

    def give(self, edges: dict[int, Tensor]) -> None:
        """The edges: first, last, senders and vectors and, backwards, the derivatives by vectors."""
        self.edges = edges
        self.launch.give(edges)

    def __call__(self) -> None:
        starts = self.bodies.offsets
        beads, step = len(starts) - 1, self.perceptron.beads
        bounds = [*range(0, beads, step), beads]
        numbers = starts[bounds].tolist()
        for start, stop, first, last in zip(bounds, bounds[1:], numbers, numbers[1:], strict=False):
            if first == last:
                self._empty(start, stop)
            else:
                self._chunk(start, stop, starts - first if first else starts, last - first)

    def _empty(self, start: int, stop: int) -> None:
        """Beads without neighbours: what they get or send is zero."""
        self.launch.over(start, stop)
        self.launch()

    def _chunk(self, start: int, stop: int, offsets: Tensor, edges: int) -> None:
        p, room = self.perceptron, self.bodies.rooms.room
        first, squashed, second, damped = (room(name, edges, p.width) for name in ("first", "s1", "second", "s2"))
        shares = room("shares", edges, 1)
        around = {number: self.edges[number] for number in range(4)}
        self.hidden.give({**around, 4: offsets, 5: first, 6: shares.view(-1)})
        self.hidden.over(start, stop)
        self.hidden()
        torch.sigmoid(first, out=squashed)
        first.mul_(squashed)
        torch.addmm(p.bias, first, p.second, out=second)
        torch.sigmoid(second, out=damped)
        second.mul_(damped)
        ready = torch.mul(second, shares, out=room("ready", edges, p.width))
        weights = torch.mm(ready, p.last, out=room("weights", edges, p.last.shape[1]))
        given = {_TABLE: weights.view(edges, p.functions, p.channels), self.offsets: offsets}
        if self.backward:
            by_weights = room("by_weights", edges, p.last.shape[1])
            given[self.offsets + 1] = by_weights.view(edges, p.functions, p.channels)
        self.launch.give(given)
        self.launch.over(start, stop)
        self.launch()
        if not self.backward:
            return
        slopes = torch.mm(by_weights, p.last.T, out=ready)
        one = self.bodies.one
        torch.lerp(second, one, damped, out=damped)  # the derivative of x sigmoid(x): h + (1 - h) sigmoid(x)
        torch.lerp(first, one, squashed, out=squashed)
        by_shares = torch.sum(second.mul_(slopes), dim=1, out=room("by_shares", edges, 1).view(-1))
        slopes.mul_(damped).mul_(shares)
        by_first = torch.mm(slopes, p.second.T, out=first).mul_(squashed)
        self.unhidden.give(
            {**around, 4: offsets, 5: by_first, 6: by_shares, 13: self.bodies.there, 14: self.edges[10]}
        )
        self.unhidden.over(start, stop)
        self.unhidden()
