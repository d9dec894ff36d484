"""Messages whose radial functions depend on how the bodies at both ends of an edge lie, some beads at a time.

The perceptron on distance and invariants is computed with matrix products, where the functions of the distance in its
first layer come from a table. For the derivatives it is computed again, except in the last layer of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.compiled import activation_source, orientation_source
from cgenn.compiled.ladder import Coupling, weights_of_paths
from cgenn.compiled.launch import CHUNK, Launch, Steps, cuts, has_wide_registers, in_threads, kernel, lanes, padded
from cgenn.compiled.radial import intervals_of, radial_table
from cgenn.nn.dense import SILU_GAIN, Dense
from cgenn.nn.radial import BASIS_SCALE, RadialNetwork

if TYPE_CHECKING:
    from cgenn.compiled.bodies import Bodies

_AT_ONCE = 4 * 2**20
"""Bytes of what each thread keeps of edges at a time."""
_TYPICAL = 32
"""Edges of a bead."""
_TABLE, AROUND, _ROWS = 6, 9, 11
"""Numbers of arguments of the kernels of messages: radial functions, derivatives by vectors, and rows of a thread."""


class Perceptron:
    """Weights and kernels of a radial network with invariants; its width is padded with zeros to whole vectors."""

    def __init__(
        self,
        radial: RadialNetwork,
        terms: Sequence[Coupling],
        channels: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        one, two, three = (layer for layer in radial.perceptron if isinstance(layer, Dense))
        assert one.bias is not None
        assert two.bias is not None
        self.cutoff, self.functions, self.channels = radial.cutoff, len(terms), padded(channels, device)
        self.width = padded(len(two.weight), device)
        self.lanes = lanes(self.width, device)

        def stored(values: Tensor, *widths: int) -> Tensor:
            sides = [
                side for width, has in zip(widths[::-1], values.shape[::-1], strict=False) for side in (0, width - has)
            ]
            return nn.functional.pad(values.detach().double(), sides).to(device, dtype).contiguous()

        basis = len(radial.basis.roots.exact)
        layer: Any = _FirstLayer(radial, one, basis)
        first = radial_table(layer, [Coupling(0, 0, 0, False, ((0, 1.0),))], len(one.bias))
        self.table = stored(first, self.width)
        self.knots = float(intervals_of(self.table))
        mixing = one.scale * one.weight[basis:]
        self.mixing = stored(mixing, padded(len(mixing), device), self.width)
        self.second = stored(two.scale * SILU_GAIN * two.weight, self.width, self.width)
        self.bias = stored(two.bias, self.width)
        last = (three.scale * SILU_GAIN * three.weight).double().cpu().unflatten(1, (-1, channels))
        last = torch.einsum("np,kpc->knc", weights_of_paths(terms, last.shape[1]), last)
        self.last = stored(last, self.width, self.functions, self.channels).flatten(1)
        texts = self._texts(len(mixing), dtype, 4 if has_wide_registers(device) else 1)
        self.kernels = {name: kernel(text, dtype, self.lanes) for name, text in texts.items()}

    def _texts(self, invariants: int, dtype: torch.dtype, chains: int) -> dict[str, str]:
        """The sources of the kernels."""
        silu = activation_source.silu(dtype, self.lanes)
        return {
            "hidden": orientation_source.hidden(invariants, chains) + silu,
            "backward": orientation_source.hidden_backward(),
            "activate": activation_source.forward(dtype, self.lanes),
            "activate_backward": activation_source.BACKWARD,
        }

    @property
    def beads(self) -> int:
        """Beads of a thread at a time: some whole chunks, if they are many."""
        numbers = 5 * self.width + self.functions * self.channels
        beads = _AT_ONCE // (_TYPICAL * numbers * self.table.element_size())
        return beads - beads % CHUNK if beads > CHUNK else max(1, beads)


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


class EdgeRooms:
    """Room for what is computed of edges: the same memory again and again."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self.kind: dict[str, Any] = {"dtype": dtype, "device": device}

    def room(self, name: str, rows: int, *shape: int) -> Tensor:
        """For at least so many rows, not initialised; the same tensor as long as it is large enough."""
        key = name, shape
        if key not in self.kept or len(self.kept[key]) < rows:
            self.kept[key] = torch.empty(rows + rows // 4, *shape, **self.kind)
        return self.kept[key]


class _Chunk(NamedTuple):
    """Some beads, and their edges."""

    start: int
    stop: int
    base: int
    edges: int


class WeightedMessages:
    """The messages that beads get in one layer and their derivatives, for some beads at a time.

    Radial functions are computed again for the derivatives, unless these follow at once, see `there_and_back`.

    Args:
        forward, backward: launches of the kernels of messages for radial functions that are `given`.
        bodies: the tensors of the beads, and room for derivatives.
        features: whether there are derivatives by features, in rows of its own for each thread.
    """

    def __init__(
        self, forward: Launch, backward: Launch, perceptron: Perceptron, bodies: Bodies, *, features: bool
    ) -> None:
        self.gather, self.ungather, self.perceptron, self.bodies = forward, backward, perceptron, bodies
        p, tensors = perceptron, bodies.tensors
        nobody, nothing = forward.kept[0], tensors.new_zeros(1, 4)
        wide, single = tensors.new_zeros(1, p.width), tensors.new_zeros(1)
        edges: list[Tensor | float] = [nobody, nobody, nobody, nothing, bodies.offsets, 0, wide, wide, single]
        arguments = [*edges, p.cutoff, p.knots, p.table]
        beads, device = len(tensors), tensors.device
        self.hidden = Launch(p.kernels["hidden"], beads, 1, [*arguments, p.mixing, wide], device)
        self.unhidden = Launch(p.kernels["backward"], beads, 1, [*arguments, tensors.new_zeros(1, 1, 3)], device)
        rows: list[Tensor | float] = [bodies.offsets, 0, wide, wide, single, wide]
        self.activate = Launch(p.kernels["activate"], beads, 1, rows, device)
        self.unactivate = Launch(p.kernels["activate_backward"], beads, 1, [*rows, single], device)
        self.end = len(backward.kept) - 1
        if features:
            backward.give_each(_ROWS, [number * beads for number in range(len(backward.parts))])

    def forward(self, edges: Mapping[int, Tensor]) -> None:
        """Sums of the messages that the beads get; first, last, senders and shapes of the edges."""
        for chunk in self._begin(edges):
            self._weigh(chunk)
            self._gather(chunk)

    def backward(self, edges: Mapping[int, Tensor], by_vectors: Float[Tensor, "edges blocks 3"]) -> None:
        """Derivatives by features, by vectors and by turns of the beads, added to what is there."""
        for chunk in self._begin(edges, by_vectors):
            self._weigh(chunk)
            self._ungather(chunk)

    def there_and_back(
        self, edges: Mapping[int, Tensor], by_vectors: Float[Tensor, "edges blocks 3"], nodes: Sequence[Steps]
    ) -> None:
        """The messages and their derivatives; `nodes` are what is done for the beads of each thread in between."""
        for chunk in self._begin(edges, by_vectors):
            self._weigh(chunk)
            self._gather(chunk)
            for steps, (start, stop) in zip(nodes, pairwise(cuts(chunk.start, chunk.stop, len(nodes))), strict=True):
                steps.over(start, stop)
            in_threads(nodes)
            self._ungather(chunk)

    def _begin(self, edges: Mapping[int, Tensor], by_vectors: Tensor | None = None) -> list[_Chunk]:
        """The chunks, after all kernels were given what is the same for each of them."""
        starts, p, room = self.bodies.offsets, self.perceptron, self.bodies.rooms.room
        beads = len(starts) - 1
        bounds = [*range(0, beads, p.beads * len(self.gather.parts)), beads]
        parts = zip(pairwise(bounds), pairwise(starts[bounds].tolist()), strict=True)
        chunks = [_Chunk(start, stop, first, last - first) for (start, stop), (first, last) in parts]
        most = max((chunk.edges for chunk in chunks), default=0)
        self.first, self.first_slopes, self.second, self.second_slopes, self.third = (
            room(name, most, p.width) for name in ("first", "first_slopes", "second", "second_slopes", "third")
        )
        shares, by_shares = room("shares", most), room("by_shares", most)
        self.weights = room("weights", most, p.functions, p.channels)
        self.hidden.give({**edges, 6: self.first, 7: self.first_slopes, 8: shares, 13: self.bodies.invariants})
        rows = {2: self.second, 3: self.second_slopes, 4: shares, 5: self.third}
        self.activate.give(rows)
        self.gather.give({**edges, _TABLE: self.weights})
        if by_vectors is not None:
            self.ungather.give({**edges, _TABLE: self.weights, AROUND: by_vectors, self.end: self.weights})
            self.unactivate.give({**rows, 6: by_shares})
            self.unhidden.give({**edges, 6: self.first, 8: by_shares, 12: by_vectors})
        return chunks

    def _weigh(self, chunk: _Chunk) -> None:
        """The radial functions of the edges of some beads."""
        p, count = self.perceptron, chunk.edges
        self._launch(self.hidden, 5, chunk)
        torch.addmm(p.bias, self.first[:count], p.second, out=self.second[:count])
        self._launch(self.activate, 1, chunk)
        torch.mm(self.third[:count], p.last, out=self.weights[:count].flatten(1))

    def _gather(self, chunk: _Chunk) -> None:
        """The messages, from the radial functions."""
        self._launch(self.gather, len(self.gather.kept) - 1, chunk)

    def _ungather(self, chunk: _Chunk) -> None:
        """Back from the derivatives by messages; those by what is computed of edges take its place."""
        p, (_, _, base, count) = self.perceptron, chunk
        self._launch(self.ungather, self.end - 1, chunk)
        torch.mm(self.weights[:count].flatten(1), p.last.T, out=self.third[:count])
        self._launch(self.unactivate, 1, chunk)
        torch.mm(self.third[:count], p.second.T, out=self.first[:count]).mul_(self.first_slopes[:count])
        self.bodies.by_invariants[base : base + count].addmm_(self.first[:count], p.mixing.T)
        self._launch(self.unhidden, 5, chunk)

    @staticmethod
    def _launch(launch: Launch, base: int, chunk: _Chunk) -> None:
        launch.give({base: chunk.base})
        launch.over(chunk.start, chunk.stop)
        launch()
