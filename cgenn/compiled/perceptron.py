"""Messages whose radial functions depend on how the bodies at both ends of an edge lie, some beads at a time.

The perceptron on distance and invariants is computed with matrix products, where the functions of the distance in its
first layer come from a table. For the derivatives it is computed again, for the messages that the beads send.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.compiled import activation_source, orientation_source
from cgenn.compiled.ladder import Coupling, weights_of_paths
from cgenn.compiled.launch import Launch, kernel, lanes, padded
from cgenn.compiled.radial import radial_table
from cgenn.nn.dense import SILU_GAIN, Dense
from cgenn.nn.radial import BASIS_SCALE, RadialNetwork

if TYPE_CHECKING:
    from cgenn.compiled.bodies import Bodies

_AT_ONCE = 8 * 2**20
"""Bytes of what is kept of edges at a time."""
_TYPICAL = 32
"""Edges of a bead."""
_TABLE, AROUND = 6, 9
"""Numbers of arguments of the kernels of messages: the radial functions, and derivatives by vectors."""


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
        self.knots = float(len(self.table))
        self.mixing = stored(one.scale * one.weight[basis:], self.width)
        self.second = stored(two.scale * SILU_GAIN * two.weight, self.width, self.width)
        self.bias = stored(two.bias, self.width)
        last = (three.scale * SILU_GAIN * three.weight).double().cpu().unflatten(1, (-1, channels))
        last = torch.einsum("np,kpc->knc", weights_of_paths(terms, last.shape[1]), last)
        self.last = stored(last, self.width, self.functions, self.channels).flatten(1)
        texts = self._texts(len(self.mixing), dtype)
        self.kernels = {name: kernel(text, dtype, self.lanes) for name, text in texts.items()}

    def _texts(self, invariants: int, dtype: torch.dtype) -> dict[str, str]:
        """The sources of the kernels."""
        silu = activation_source.silu(dtype, self.lanes)
        return {
            "hidden": orientation_source.hidden(invariants) + silu,
            "backward": orientation_source.hidden_backward(),
            "activate": activation_source.forward(dtype, self.lanes),
            "activate_backward": activation_source.BACKWARD,
        }

    @property
    def beads(self) -> int:
        """Beads at a time."""
        numbers = 5 * self.width + 2 * self.functions * self.channels
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


class EdgeRooms:
    """Room for what is computed of edges: the same memory again and again.

    Attributes:
        holder: what the activations of a perceptron were last computed for.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self.kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self.holder: tuple[Any, ...] | None = None

    def room(self, name: str, rows: int, *shape: int) -> Tensor:
        """For at least so many rows, not initialised; the same tensor as long as it is large enough."""
        key = name, shape
        if key not in self.kept or len(self.kept[key]) < rows:
            self.kept[key] = torch.empty(rows + rows // 4, *shape, **self.kind)
        return self.kept[key]


class WeightedMessages:
    """The messages of one layer and their derivatives, for some beads at a time.

    Where the derivatives by features are wanted, beads are the senders of the messages, and radial functions are
    computed again; else they are the receivers, and what was computed for the last beads is still there.

    Args:
        forward, backward: launches of the kernels of the messages, as many arguments as both have, and the features.
        bodies: the tensors of the beads, and room for derivatives.
        receiving: whether the beads are receivers in both.
    """

    def __init__(
        self, forward: Launch, backward: Launch, perceptron: Perceptron, bodies: Bodies, *, receiving: bool
    ) -> None:
        self.launches, self.perceptron, self.bodies, self.receiving = (forward, backward), perceptron, bodies, receiving
        p, tensors = perceptron, bodies.tensors
        nobody, nothing = forward.kept[0], tensors.new_zeros(1, 3)
        wide, single = tensors.new_zeros(1, p.width), tensors.new_zeros(1)
        edges = [nobody, nobody, nobody, nothing, bodies.offsets, wide, wide, single]
        arguments = [*edges, p.cutoff, p.knots, p.table]
        beads, device = len(tensors), tensors.device
        self.hidden = Launch(p.kernels["hidden"], beads, 1, [*arguments, p.mixing, wide], device)
        self.unhidden = Launch(p.kernels["backward"], beads, 1, [*arguments, tensors.new_zeros(1, 1, 3)], device)
        rows = [bodies.offsets, wide, wide, single, wide]
        self.activate = Launch(p.kernels["activate"], beads, 1, rows, device)
        self.unactivate = Launch(p.kernels["activate_backward"], beads, 1, [*rows, single], device)

    def forward(self, edges: dict[int, Tensor]) -> None:
        """Sums of the messages that the beads get; first, last, senders and vectors of the edges."""
        self._over_chunks(edges, None)

    def backward(self, edges: dict[int, Tensor], by_vectors: Float[Tensor, "edges blocks 3"]) -> None:
        """Derivatives by features and, added to what is there, by vectors and by turns of the beads."""
        self._over_chunks(edges, by_vectors)

    def _over_chunks(self, edges: dict[int, Tensor], by_vectors: Tensor | None) -> None:
        starts, step = self.bodies.offsets, self.perceptron.beads
        beads = len(starts) - 1
        bounds = [*range(0, beads, step), beads]
        numbers = starts[bounds].tolist()
        chunks = list(zip(bounds, bounds[1:], numbers, numbers[1:], strict=False))
        launch = self.launches[by_vectors is not None]
        launch.give(edges if by_vectors is None else {**edges, AROUND: by_vectors})
        for start, stop, first, last in chunks if by_vectors is None else chunks[::-1]:
            launch.over(start, stop)
            if first == last:  # beads without neighbours: what they get or send is zero
                launch()
                continue
            offsets = starts - first if first else starts
            weights = self._weights(edges, offsets, start, stop, first, last - first, by_vectors is not None)
            if by_vectors is None:
                launch.give({_TABLE: weights, len(launch.kept) - 1: offsets})
                launch()
            else:
                by_weights = self.bodies.rooms.room("by_weights", last - first, *weights.shape[1:])
                place = len(launch.kept) - 2
                launch.give({_TABLE: weights, place: offsets, place + 1: by_weights})
                launch()
                self._by_weights(edges, offsets, start, stop, first, by_weights[: last - first].flatten(1), by_vectors)

    def _weights(
        self, edges: dict[int, Tensor], offsets: Tensor, start: int, stop: int, begin: int, count: int, back: bool
    ) -> Tensor:
        """The radial functions of the edges of some beads; activations stay where they are."""
        p, rooms = self.perceptron, self.bodies.rooms
        names = ("first", "first_slopes", "second", "second_slopes", "damped")
        first, first_slopes, second, second_slopes, damped = (rooms.room(name, count, p.width) for name in names)
        shares, weights = rooms.room("shares", count), rooms.room("weights", count, p.functions, p.channels)
        holder = self, start, self.bodies.version, back and not self.receiving
        if rooms.holder == holder:
            return weights
        rooms.holder = holder
        invariants = self.bodies.invariants[back and not self.receiving][begin : begin + count]
        self.hidden.give({**edges, 4: offsets, 5: first, 6: first_slopes, 7: shares, 12: invariants})
        self.hidden.over(start, stop)
        self.hidden()
        torch.addmm(p.bias, first[:count], p.second, out=second[:count])
        self.activate.give({0: offsets, 1: second, 2: second_slopes, 3: shares, 4: damped})
        self.activate.over(start, stop)
        self.activate()
        torch.mm(damped[:count], p.last, out=weights[:count].flatten(1))
        return weights

    def _by_weights(
        self,
        edges: dict[int, Tensor],
        offsets: Tensor,
        start: int,
        stop: int,
        begin: int,
        by_weights: Tensor,
        by_vectors: Tensor,
    ) -> None:
        """Back through the perceptron, whose activations are used up."""
        p, rooms, count = self.perceptron, self.bodies.rooms, len(by_weights)
        rooms.holder = None
        names = ("first", "first_slopes", "second", "second_slopes", "damped")
        first, first_slopes, second, second_slopes, slopes = (rooms.room(name, count, p.width) for name in names)
        shares, by_shares = rooms.room("shares", count), rooms.room("by_shares", count)
        torch.mm(by_weights, p.last.T, out=slopes[:count])
        self.unactivate.give({0: offsets, 1: second, 2: second_slopes, 3: shares, 4: slopes, 5: by_shares})
        self.unactivate.over(start, stop)
        self.unactivate()
        torch.mm(slopes[:count], p.second.T, out=first[:count]).mul_(first_slopes[:count])
        self.bodies.by_invariants[not self.receiving][begin : begin + count].addmm_(first[:count], p.mixing.T)
        self.unhidden.give({**edges, 4: offsets, 5: first, 7: by_shares, 11: by_vectors})
        self.unhidden.over(start, stop)
        self.unhidden()
