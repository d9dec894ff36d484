"""One layer of the network from kernels and matrix products, forwards and backwards.

Features of n beads are stored degree by degree, those of degree l as n times 2 l + 1 rows of channels: each degree is
one matrix, whose product with its weights mixes channels. Channels are padded with zeros to whole vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.compiled import node_source, product_source, source
from cgenn.compiled.bodies import Bodies
from cgenn.compiled.ladder import couplings
from cgenn.compiled.launch import Launch, kernel, lanes, padded
from cgenn.compiled.perceptron import Perceptron, WeightedMessages
from cgenn.compiled.radial import radial_table
from cgenn.compiled.vector_source import in_vectors
from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN, Dense
from cgenn.nn.layers import InteractionLayer, IrrepsLinear
from cgenn.nn.network import BodyFeatures

_MOST_IN_LOOPS = 9
"""Components of messages: those of lmax 3 would take two minutes to compile, in vectors of C++ ten seconds."""


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

        def stored(*parts: Tensor) -> Tensor:
            return torch.cat([self._stored(part, dtype, device) for part in parts], dim=-1)

        self.receiver, self.skip = stored(layer.scale * layer.receiver.weight), stored(layer.skip.weight)
        self.before, self.linear, self.after = (
            [stored(part) for part in _matrices(linear)] for linear in (layer.before, layer.linear, layer.after)
        )
        self.pairs = [stored(*parts) for parts in zip(_matrices(layer.left), _matrices(layer.right), strict=True)]
        self.weights = stored(layer.square.weight)
        gates = layer.gate.gates
        self.gates = None if gates is None else [stored(*part) for part in _split(gates, layer.channels)]
        hidden, last = readout[0], readout[2]
        assert isinstance(hidden, Dense)
        assert isinstance(last, Dense)
        assert hidden.bias is not None
        self.hidden = [stored(_padded_rows(hidden.scale * hidden.weight)), stored(hidden.bias)]
        self.energy = stored(SILU_GAIN * last.scale * last.weight[:, 0])

        path, i, j, k = layer.square.terms.tolist()
        values = layer.square.values.exact.tolist()
        square = product_source.term_lists(list(zip(path, i, j, k, values, strict=True)))
        self.square, self.unsquare = ((places.to(device), each.to(device, dtype)) for places, each in square)
        degrees = list(range(round(self.out**0.5)))
        texts = {
            "forward": source.forward(terms, self.gathered, given=given),
            "backward": source.backward(terms, self.inputs, features=not first, given=given, receiving=given and first),
            "product": product_source.forward(self.gathered, self.out, dtype, self.lanes),
            "product_backward": product_source.backward(self.gathered, self.out, dtype, self.lanes),
            "mix": node_source.mix(degrees, self.kept),
            "unmix": node_source.unmix(degrees, self.kept),
            "gate": node_source.gate(degrees, SILU_GAIN, SIGMOID_GAIN),
            "gate_backward": node_source.gate_backward(degrees, SILU_GAIN, SIGMOID_GAIN),
            "readout": node_source.READOUT,
            "readout_backward": node_source.READOUT_BACKWARD,
            "scale": node_source.scale(self.gathered),
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

    What it computed forwards stays until it is asked for derivatives; the derivative by `features`, `sent`, `got`,
    `pairs`, `products` and `gated` takes the place of what is no longer needed.
    """

    def __init__(
        self,
        constants: LayerConstants,
        types: Int[Tensor, " beads"],
        before: Layer | None,
        features: Tensor,
        energies: Tensor,
        slopes: Tensor,
        bodies: Bodies | None = None,
    ) -> None:
        self.constants = c = constants
        beads, width, new = len(types), c.channels, features.new_zeros
        self.features, self.first = features, c.first
        self.beads = beads
        self.sent, self.got = new(c.inputs * beads, width), new(c.gathered * beads, width)
        self.pairs = new(c.gathered * beads, 2 * width)
        self.products, self.mixed, self.gated = (new(c.out * beads, width) for _ in range(3))
        gates = max(round(c.out**0.5) - 1, 1)
        self.gates, self.hidden = new(beads, gates * width), new(beads, width)
        blocks = width // c.lanes

        def launch(name: str, *arguments: Tensor | float, wide: int = blocks) -> Launch:
            return Launch(c.kernels[name], beads, wide, arguments, features.device)

        nobody = torch.zeros(1, dtype=torch.int32, device=features.device)
        nothing = new(1, 3)
        edges: list[Tensor | float] = [nobody, nobody, nobody, nothing, c.cutoff, c.knots, c.table, beads, self.sent]
        given = [] if c.perceptron is None else [nobody]
        self.gather = launch("forward", *edges, types, c.receiver, self.got, *given)
        back_to = [self.got, new(1, blocks, 3), *([] if self.first else [self.sent])]
        self.ungather = launch("backward", *edges, *back_to, *given, *([c.table] if given else []))
        self.weighted = None
        if c.perceptron is not None:
            self.weighted = WeightedMessages(self.gather, self.ungather, c.perceptron, bodies, receiving=c.first)
        self.multiply = launch("product", beads, *c.square, c.weights, self.pairs, self.products)
        self.unmultiply = launch("product_backward", beads, *c.unsquare, c.weights, self.pairs, self.products)
        self.mix = launch("mix", beads, types, features, c.skip, self.mixed)
        self.unmix = launch("unmix", beads, types, c.skip, self.gated, features)
        self.gate = launch("gate", beads, self.mixed, self.gates, self.gated)
        self.ungate = launch("gate_backward", beads, self.mixed, self.gates, self.gated, self.gates)
        self.read = launch("readout", self.hidden, c.energy, energies, wide=1)
        self.unread = launch("readout_backward", self.hidden, c.energy, slopes, self.hidden)
        self.scale = launch("scale", beads, types, c.receiver, self.got)

        def back(weights: Sequence[Tensor]) -> list[Tensor]:
            return [weight.T for weight in weights]

        by_scalars = self.gated[:beads]
        self.before = Mixing(features, c.before, self.sent, beads)
        self.pair = Mixing(self.got, c.pairs, self.pairs, beads)
        self.pass_on = Mixing(self.got, c.linear, self.mixed, beads)
        self.after = Mixing(self.products, c.after, self.mixed, beads, onto=c.out)
        self.unhidden = Mixing(self.hidden, back(c.hidden[:1]), by_scalars, beads, onto=1)
        self.unafter = Mixing(self.gated, back(c.after), self.products, beads)
        self.unpair = Mixing(self.pairs, back(c.pairs), self.got, beads)
        self.unpass = Mixing(self.gated, back(c.linear), self.got, beads, onto=c.out)
        self.unbefore = Mixing(self.sent, back(c.before), self.features, beads, onto=c.kept)
        if c.gates is not None:
            self.ungates = Mixing(self.gates, back(c.gates[:1]), by_scalars, beads, onto=1)

    def forward(self, edges: dict[int, Tensor]) -> None:
        """From `features` to `gated`, and the energy of the beads."""
        c = self.constants
        self.before()
        if self.weighted is not None:
            self.weighted.forward(edges)
        else:
            self.gather.give(edges)
            self.gather()
        self.pair()
        self.multiply()
        self.pass_on()
        self.after()
        self.mix()
        if c.gates is not None:
            torch.addmm(c.gates[1], self.mixed[: self.beads], c.gates[0], out=self.gates)
        self.gate()
        torch.addmm(c.hidden[1], self.gated[: self.beads], c.hidden[0], out=self.hidden)
        self.read()

    def backward(self, edges: dict[int, Tensor], by_vectors: Tensor) -> None:
        """From the derivatives by `gated` to those by `features`, and onto those by the vectors."""
        self.unread()
        self.unhidden()
        self.ungate()
        if self.constants.gates is not None:
            self.ungates()
        self.unmix()
        self.unafter()
        self.unmultiply()
        self.unpair()
        self.unpass()
        self.scale()
        if self.weighted is not None:
            self.weighted.backward(edges, by_vectors)
        else:
            self.ungather.give({**edges, 10: by_vectors})
            self.ungather()
        if not self.first:
            self.unbefore()


class Mixing:
    """out = values times the weights of each degree that there are any for; added to the first `onto` components."""

    def __init__(
        self,
        values: Float[Tensor, "rows inputs"],
        weights: Sequence[Tensor],
        out: Float[Tensor, "rows outputs"],
        beads: int,
        onto: int = 0,
    ) -> None:
        parts = [slice(degree**2 * beads, (degree + 1) ** 2 * beads) for degree in range(len(weights))]
        products = [(values[part], weight, out[part]) for part, weight in zip(parts, weights, strict=True)]
        degrees = min(round(onto**0.5), len(weights))
        self.added, self.set = products[:degrees], products[degrees:]

    def __call__(self) -> None:
        for values, weight, out in self.added:
            out.addmm_(values, weight)
        for values, weight, out in self.set:
            torch.mm(values, weight, out=out)


def _matrices(linear: IrrepsLinear) -> list[Tensor]:
    return [_padded_rows(matrix) for matrix in linear.scale * linear.weight]


def _split(gates: Dense, channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the gates, irrep after irrep."""
    assert gates.bias is not None
    weights = [_padded_rows(part) for part in (gates.scale * gates.weight).split(channels, dim=1)]
    return weights, list(gates.bias.split(channels))


def _padded_rows(matrix: Tensor) -> Tensor:
    return nn.functional.pad(matrix.detach(), (0, 0, 0, padded(len(matrix)) - len(matrix)))
