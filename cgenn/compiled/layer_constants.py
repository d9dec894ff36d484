"""What the kernels of one layer need besides the beads: weights, tables, and the kernels themselves.

Channels are padded with zeros to whole vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.compiled import activation_source, first_source, message_source, node_source, product_source, rank_source
from cgenn.compiled.ladder import Coupling, couplings
from cgenn.compiled.launch import columns, has_wide_registers, kernel, lanes, padded
from cgenn.compiled.mixing_source import mixing
from cgenn.compiled.perceptron import Perceptron
from cgenn.compiled.radial import intervals_of, radial_table
from cgenn.compiled.vector_source import in_vectors
from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN, Dense
from cgenn.nn.layers import InteractionLayer, IrrepsLinear
from cgenn.nn.network import BodyFeatures

THIRD = 3**-0.5
"""A layer is the sum of three parts."""
_MOST_IN_LOOPS = 9
"""Components of messages whose kernels are short enough for Warp's loops, see `vector_source`: those of lmax 2."""


class Both(NamedTuple):
    """Weights, forwards and backwards."""

    there: Float[Tensor, "degrees channels out"]
    back: Float[Tensor, "degrees out channels"]

    @classmethod
    def of(cls, weights: Float[Tensor, "degrees channels out"]) -> Both:
        """Weights and their transpose."""
        return cls(weights, weights.transpose(1, 2).contiguous())


class LayerConstants:
    """Weights and kernels of a layer; what the first one starts from does not depend on where beads are.

    Unless it has orientations in it; then it counts as one of the others.

    Attributes:
        both: whether the messages between two beads are computed together, of a list that has each pair once.
        inside: whether the blocks of channels are gone through on each edge, see `EdgeLoop`.
    """

    def __init__(
        self,
        layer: InteractionLayer,
        readout: nn.Sequential,
        frames: BodyFeatures | None,
        dtype: torch.dtype,
        device: torch.device,
        *,
        first: bool,
        last: bool,
    ) -> None:
        product = layer.product
        self.kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self.channels = padded(layer.channels, device)
        self.lanes = lanes(self.channels, device)
        self.inputs, self.gathered, self.out = product.features.dim, product.out.dim, layer.out
        self.kept_degrees, self.cutoff = round(layer.kept**0.5), layer.radial.cutoff
        self.first, self.last = first and self.inputs == 1, last
        self.both = frames is None and self.lanes > 1
        wide = has_wide_registers(device)
        self.mixing_lanes = self.lanes if wide else min(self.lanes, 16)
        self.inside = not wide
        self.columns = 1 if self.inside else columns(self.channels, self.lanes)
        self.edge_lanes = 8 if self.inside else self.lanes
        self.perceptron: Perceptron | None = None
        terms = couplings(product.coupling.exact, product.paths, product.features, product.out)
        if first and frames is not None:  # the other features of the beads are zero before the first layer
            terms = [term for term in terms if term.source in (0, *frames.embedding.degrees)]
        if frames is None:
            radial = copy.deepcopy(layer.radial).to("cpu", torch.float64)
            self.table = self._stored(radial_table(radial, terms, layer.channels))
            self.knots = float(intervals_of(self.table))
        else:
            self.table, self.knots = torch.zeros(1, 1, self.channels, **self.kind), 1.0
            self.perceptron = Perceptron(layer.radial, terms, layer.channels, dtype, device)
        self._take_weights(layer)
        self._take_readout(readout)
        texts = self._texts(terms)
        lengths = {"forward": self.edge_lanes, "backward": self.edge_lanes, "mixing": self.mixing_lanes}
        self.kernels = {
            name: kernel(text, dtype, lengths.get(name.split("_")[0], self.lanes)) for name, text in texts.items()
        }

    def _take_weights(self, layer: InteractionLayer) -> None:
        self.receiver = self._stored(layer.scale * layer.receiver.weight)
        self.skip = self._stored(THIRD * layer.skip.weight)
        self.before = self._both(_matrices(layer.before))
        self.linear, self.after = (
            self._both([THIRD * part for part in _matrices(linear)]) for linear in (layer.linear, layer.after)
        )
        sides = zip(_matrices(layer.left), _matrices(layer.right), strict=True)
        self.pairs = Both.of(torch.stack([self._stored(*both) for both in sides]))
        self.weights = self._stored(layer.square.weight)
        path, i, j, k = layer.square.terms.tolist()
        values = layer.square.values.exact.tolist()
        lists = product_source.term_lists(list(zip(path, i, j, k, values, strict=True)))
        self.square, self.unsquare = ((places.to(self.kind["device"]), each.to(**self.kind)) for places, each in lists)
        self.gates: Both | None = None
        self.bias = torch.zeros(1, self.channels, **self.kind)
        if (gates := layer.gate.gates) is not None:
            weights, bias = _split(gates, layer.channels)
            self.gates = Both.of(self._stored(*weights).unsqueeze(0))
            self.bias = torch.stack([self._stored(part) for part in bias])

    def _take_readout(self, readout: nn.Sequential) -> None:
        hidden, last = readout[0], readout[2]
        assert isinstance(hidden, Dense)
        assert isinstance(last, Dense)
        assert hidden.bias is not None
        self.hidden = self._both([_padded_rows(hidden.scale * hidden.weight)])
        self.hidden_bias = self._stored(hidden.bias)
        self.energy = self._stored(SILU_GAIN * last.scale * last.weight[:, 0])

    def _texts(self, terms: Sequence[Coupling]) -> dict[str, str]:
        """The sources of the kernels."""
        dtype, degrees = self.kind["dtype"], list(range(round(self.out**0.5)))
        messages = self._messages(terms, self.channels // self.edge_lanes)
        if (self.inside or self.gathered > _MOST_IN_LOOPS) and self.lanes > 1:
            messages = {name: in_vectors(text, dtype, self.edge_lanes) for name, text in messages.items()}
        gains = SILU_GAIN, SIGMOID_GAIN
        gates = {
            "gate": node_source.gate(degrees, *gains),
            "gate_backward": node_source.gate_backward(degrees, *gains),
            "readout": node_source.READOUT,
        }
        if self.last:
            gates["gate_turning"] = node_source.gate_backward(degrees, *gains, turning=True)
        if self.lanes > 1:
            gates = {name: text + activation_source.squashed(dtype, self.lanes) for name, text in gates.items()}
        kind = dtype, self.mixing_lanes
        return {
            **messages,
            **gates,
            "product": product_source.forward(self.gathered, self.out, self.square, dtype, self.lanes),
            "product_backward": product_source.backward(self.gathered, self.out, self.unsquare, dtype, self.lanes),
            "mixing": mixing(*kind),
            "mixing_onto": mixing(*kind, onto=True),
            "mixing_kept": mixing(*kind, kept=True),
            "mixing_scaled": mixing(*kind, scaled=True),
            "mixing_onto_scaled": mixing(*kind, onto=True, scaled=True),
        }

    def _messages(self, terms: Sequence[Coupling], blocks: int) -> dict[str, str]:
        """The kernels over edges."""
        if self.first and self.both:
            scalars = terms, self.gathered, blocks
            return {
                "forward": first_source.forward(*scalars, inside=self.inside),
                "backward": first_source.backward(*scalars, inside=self.inside),
            }
        sizes, given = (self.inputs, self.gathered), self.perceptron is not None
        way = {"given": given, "both": self.both}
        source = rank_source if self.inside else message_source
        return {
            "forward": source.forward(terms, *sizes, blocks, **way),
            "backward": source.backward(terms, *sizes, blocks, features=not self.first, **way),
        }

    def _both(self, parts: Sequence[Tensor]) -> Both:
        return Both.of(torch.stack([self._stored(part) for part in parts]))

    def _stored(self, *parts: Tensor) -> Tensor:
        """Side by side, each with channels of zeros in the last dimension."""
        wide = [nn.functional.pad(part.detach(), (0, self.channels - part.shape[-1])) for part in parts]
        return torch.cat(wide, dim=-1).to(**self.kind)


def _matrices(linear: IrrepsLinear) -> list[Tensor]:
    return [_padded_rows(matrix) for matrix in linear.scale * linear.weight]


def _split(gates: Dense, channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the gates, irrep after irrep."""
    assert gates.bias is not None
    weights = [_padded_rows(part) for part in (gates.scale * gates.weight).split(channels, dim=1)]
    return weights, list(gates.bias.split(channels))


def _padded_rows(matrix: Tensor) -> Tensor:
    return nn.functional.pad(matrix.detach(), (0, 0, 0, padded(len(matrix), matrix.device) - len(matrix)))
