"""The network of a potential, compiled: the same outputs from the same weights, for simulation."""

from __future__ import annotations

import threading
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.compiled.layer import Layer, LayerConstants
from cgenn.nn.network import BeadOutputs, EquivariantNetwork


_KEPT = 4


def refusal(network: EquivariantNetwork) -> str | None:
    """Why a network cannot be compiled, or None if it can."""
    if network.frames is not None:
        return "its energy depends on orientations"
    if network.embedding.weight.device.type != "cpu":
        return "kernels for GPUs have not been tried"
    return None


class Workspace:
    """The layers of a network for some beads."""

    def __init__(self, constants: list[LayerConstants], types: Int[Tensor, " beads"], dtype: torch.dtype) -> None:
        beads, device = len(types), types.device
        self.energies = torch.zeros(beads, dtype=dtype, device=device)
        self.slopes = torch.zeros_like(self.energies)
        self.scalars = torch.zeros(beads, constants[0].channels, dtype=dtype, device=device)
        self.layers: list[Layer] = []
        kinds, before = types.to(torch.int32), None
        for each in constants:
            features = self.scalars if before is None else before.gated
            before = Layer(each, kinds, before, features, self.energies, self.slopes)
            self.layers.append(before)
        self.version = 0
        self.rows = torch.arange(beads + 1, device=device)
        self.edges: dict[int, Tensor] = {}

    def forward(self, vectors: Tensor, receivers: Tensor, senders: Tensor, scalars: Tensor) -> None:
        """Energies of the beads and features of the last layer."""
        self.version += 1
        first = torch.searchsorted(receivers, self.rows).to(torch.int32)
        self.edges = {0: first, 1: senders.to(torch.int32), 2: vectors.detach().contiguous()}
        self.scalars[:, : scalars.shape[1]] = scalars
        self.energies.zero_()
        for layer in self.layers:
            layer.forward(self.edges)

    def backward(self, energies: Tensor, features: Tensor | None) -> Tensor:
        """Derivatives by the vectors, from those by energies and features of the last layer."""
        self.slopes.copy_(energies)
        last = self.layers[-1].by_gated
        if features is None:
            last.zero_()
        else:
            last.copy_(features)
        vectors = self.edges[2]
        blocks = self.layers[0].constants.channels // self.layers[0].constants.lanes
        by_vectors = vectors.new_zeros(len(vectors), blocks, 3)
        for layer in reversed(self.layers):
            layer.backward(self.edges, by_vectors)
        return by_vectors.sum(1) if blocks > 1 else by_vectors.squeeze(1)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, receivers: Tensor, senders: Tensor, scalars: Tensor, space: Workspace) -> Any:
        space.forward(vectors, receivers, senders, scalars)
        ctx.given, ctx.version = (vectors.detach(), receivers, senders, scalars, space), space.version
        ctx.set_materialize_grads(False)
        return space.energies.clone(), space.layers[-1].gated.clone()

    @staticmethod
    def backward(ctx: Any, energies: Tensor | None, features: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph; once_differentiable does not notice where slopes are constant
            raise NotImplementedError("a compiled network has no second derivatives")
        vectors, receivers, senders, scalars, space = ctx.given
        if space.version != ctx.version:  # something else was computed in between
            space.forward(vectors, receivers, senders, scalars)
        space.version += 1  # what forward kept is used up
        energies = torch.zeros_like(space.energies) if energies is None else energies
        return space.backward(energies, features), None, None, None, None


class CompiledNetwork(nn.Module):
    """Energies, charges and dipoles as an `EquivariantNetwork` says them, for constant weights.

    Edges have to be sorted by receiver, and each pair there in both directions. The derivative by the vector of an edge
    is that of the message the other way, with the opposite sign: for positions and strain it is the same. Vectors of the
    length of the cutoff or more add nothing.

    Raises:
        ValueError: if it cannot be compiled, see `refusal`.
    """

    def __init__(self, network: EquivariantNetwork) -> None:
        super().__init__()
        if reason := refusal(network):
            raise ValueError(f"this network cannot be compiled: {reason}")
        weight = network.embedding.weight
        self.network = network
        self.dtype = weight.dtype
        with torch.inference_mode(False):  # in which the tables would have no slopes
            self.constants = [
                LayerConstants(layer, readout, weight.dtype, weight.device)
                for layer, readout in zip(network.layers, network.readouts, strict=True)
            ]
        self._local = threading.local()

    @property
    def embedding(self) -> nn.Embedding:
        """Of the types."""
        return self.network.embedding

    def forward(
        self,
        vectors: Float[Tensor, "edges 3"],
        types: Int[Tensor, " beads"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        inputs: Float[Tensor, "beads features"] | None = None,
        orientations: Float[Tensor, "beads 3 3"] | None = None,
    ) -> BeadOutputs:
        """See `EquivariantNetwork.forward`."""
        network = self.network
        with torch.no_grad():
            scalars = network.embedding(types)
            if network.feature_embedding is not None:
                scalars = scalars + network.feature_embedding(inputs)
        energies, features = _Run.apply(vectors, receivers, senders, scalars, self._space(types))
        features = features[:, : network.embedding.weight.shape[1]]
        scalars, vectors = features[: len(types)], features[len(types) :]
        charges = weights = dipoles = None
        if network.charge_readout is not None:
            charges, weights = network.charge_readout(scalars)
        if network.dipole_readout is not None:
            dipoles = network.dipole_readout(scalars, vectors.unflatten(0, (-1, 3)))
        return BeadOutputs(energies, charges, weights, dipoles)

    def _space(self, types: Int[Tensor, " beads"]) -> Workspace:
        """The workspace for these beads: each thread keeps its last ones."""
        spaces: list[tuple[Tensor, Workspace]] = self._local.__dict__.setdefault("spaces", [])
        for known, space in spaces:
            if known.shape == types.shape and torch.equal(known, types):
                return space
        with torch.inference_mode(False), torch.no_grad():
            spaces.insert(0, (types.clone(), Workspace(self.constants, types, self.dtype)))
        del spaces[_KEPT:]
        return spaces[0][1]
