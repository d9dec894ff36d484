"""The network of a potential, compiled: the same outputs from the same weights, for simulation."""

from __future__ import annotations

import threading
from itertools import pairwise, zip_longest
from typing import Any
from weakref import ReferenceType, ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.compiled.bodies import Bodies, BodyConstants
from cgenn.compiled.edges import Edges, ListedEdges
from cgenn.compiled.launch import CHUNK, Step, Steps, bounds, has_threads, in_threads, load, on_stream
from cgenn.compiled.layer import ChunkRooms, Layer
from cgenn.compiled.layer_constants import LayerConstants
from cgenn.compiled.pairs import Order
from cgenn.graph import BeadGraph
from cgenn.nn.network import BeadOutputs, EquivariantNetwork

_KEPT = 4
"""Workspaces of a thread."""
_FEW = 256
"""Beads that are gone over in the order in which they come."""
_MOST_COMPONENTS = 25
"""Of features: those of lmax 4."""


def refusal(network: EquivariantNetwork) -> str | None:
    """Why a network cannot be compiled, or None if it can."""
    kind = network.embedding.weight.device.type
    if kind not in ("cpu", "cuda"):
        return f"there are kernels for processors and CUDA, none for {kind!r}"
    if kind == "cuda" and network.frames is not None:
        return "the kernels for orientations are for processors"
    if network.components > _MOST_COMPONENTS:
        return "messages of features of degree five and higher would take minutes to compile"
    return None


class Workspace:
    """The layers of a network for some beads."""

    def __init__(
        self,
        constants: list[LayerConstants],
        types: Int[Tensor, " beads"],
        dtype: torch.dtype,
        bodies: BodyConstants | None = None,
    ) -> None:
        beads, device = len(types), types.device
        self.energies = torch.zeros(beads, dtype=dtype, device=device)
        self.slopes = torch.zeros_like(self.energies)
        inputs, width = constants[0].inputs, constants[0].channels
        self.features = torch.zeros(beads, inputs, width, dtype=dtype, device=device)
        self.bodies = None if bodies is None else Bodies(bodies, types, self.energies, self.slopes)
        self.layers: list[Layer] = []
        self.cuts = bounds(beads, device)
        parts = len(self.cuts) - 1
        both = all(each.both for each in constants)
        sent = max(0 if each.first else each.inputs for each in constants)
        rows = beads + parts if both else beads * parts
        room = self.energies.new_zeros(rows, sent, width) if both or bodies is not None else None
        self.types, self.kinds = types, types.to(torch.int32)
        self.order: Order | None = None
        kinds, features = self.kinds, self.features
        for each in constants:
            by_sent = (
                None if room is None else room.flatten()[: len(room) * each.inputs * width].view(len(room), -1, width)
            )
            self.layers.append(Layer(each, kinds, features, self.energies, self.slopes, parts, by_sent, self.bodies))
            features = self.layers[-1].gated
        self.list_cuts = self.cuts if both else None
        self._plan(max(map(ChunkRooms.size, constants)))
        self.version = 0
        self.known: tuple[list[ReferenceType[Tensor]], ListedEdges] | None = None

    def _plan(self, size: int) -> None:
        """What is done for the beads between two passes over edges, in each thread for its own beads."""
        first, last = self.layers[0], self.layers[-1]
        turning: list[Steps] = []
        forward: list[list[Steps]] = [[] for _ in range(len(self.layers) + 1)]
        backward: list[list[Steps]] = [[] for _ in range(len(self.layers) + 1)]
        device = self.features.device
        chunk = max(1, len(self.energies)) if has_threads(device) else CHUNK
        for start, end in pairwise(self.cuts):
            room = self.features.new_zeros(chunk, size)

            def steps(each: list[Step], start: int = start, end: int = end) -> Steps:
                return Steps(start, end, chunk, each, device)

            turning.append(steps(last.nodes(room) + last.unnodes(room, follows=True)))
            forward[0].append(steps(first.sending()))
            backward[0].append(steps([] if first.constants.first else first.unsending()))
            for number, (layer, then) in enumerate(zip_longest(self.layers, self.layers[1:]), start=1):
                forward[number].append(steps(layer.nodes(room) + ([] if then is None else then.sending())))
                backward[number].append(steps(([] if then is None else then.unsending()) + layer.unnodes(room)))
        self.nodes, self.unnodes = forward, backward
        self.turning = turning

    def edges(self, graph: BeadGraph, cutoff: float) -> ListedEdges:
        """The edges of a graph, which may reach beyond the cutoff; the last neighbour list is kept."""
        listed = graph.receivers, graph.senders, graph.shifts
        if self.known is None or any(one() is not other for one, other in zip(self.known[0], listed, strict=True)):
            self.known = None  # its memory is free before the next one is made
            with torch.inference_mode(False), torch.no_grad():
                batch, cells = graph.batch, graph.n_systems
                if graph.cell is None:  # one cell, which is not used, serves all
                    batch, cells = torch.zeros_like(batch), 1
                order = None
                if self.list_cuts is not None and len(batch) > _FEW:
                    order = Order.of(graph.positions, graph.cell, graph.batch)
                self.known = list(map(ref, listed)), ListedEdges(*listed, batch, cells, cutoff, self.list_cuts, order)
        return self.known[1]

    def forward(
        self,
        edges: Edges,
        scalars: Float[Tensor, "beads channels"],
        orientations: Float[Tensor, "beads 3 3"] | None = None,
    ) -> None:
        """Energies of the beads and features of the last layer."""
        self._before(edges, scalars, orientations)
        in_threads(self.nodes[-1])

    def _before(self, edges: Edges, scalars: Tensor, orientations: Tensor | None) -> None:
        """All but what is done for the beads in the last layer."""
        self._start(edges, scalars, orientations)
        for layer, nodes in zip(self.layers, self.nodes, strict=False):
            in_threads(nodes)
            layer.forward(edges)

    def _start(self, edges: Edges, scalars: Tensor, orientations: Tensor | None) -> None:
        """What the layers begin with."""
        self.version += 1
        if self.order is not edges.order:
            self.order = edges.order
            self.kinds.copy_(self.types if self.order is None else self.types[self.order.there])
        scalars = scalars if self.order is None else scalars[self.order.there]
        self.features[:, 0, : scalars.shape[1]] = scalars
        self.energies.zero_()
        if self.bodies is not None and orientations is not None:
            self.bodies.forward(edges, orientations, self.features)

    def found(self, values: Tensor) -> Tensor:
        """A copy of what was computed, in the order of the graph."""
        return values.clone() if self.order is None else values[self.order.back]

    def backward(
        self, edges: Edges, energies: Tensor | None, features: Tensor | None
    ) -> Float[Tensor, "edges blocks 3"]:
        """Derivatives by the vectors, from those by energies and features of the last layer; forward is used up."""
        for to, values in ((self.slopes, energies), (self.layers[-1].gated, features)):
            to.zero_() if values is None else to.copy_(values if self.order is None else values[self.order.there])
        self.version += 1
        by_vectors = self._start_backward(edges)
        in_threads(self.unnodes[-1])
        self.layers[-1].backward(edges, by_vectors)
        return self._after(edges, by_vectors)

    def forward_and_backward(
        self,
        edges: Edges,
        scalars: Float[Tensor, "beads channels"],
        orientations: Float[Tensor, "beads 3 3"] | None = None,
    ) -> Float[Tensor, "edges blocks 3"]:
        """Energies of the beads, and the derivatives of their sum by the vectors, without a break between both."""
        self.slopes.fill_(1.0)
        self._start(edges, scalars, orientations)
        by_vectors = self._start_backward(edges)
        *before, last = self.layers
        for layer, nodes in zip(before, self.nodes, strict=False):
            in_threads(nodes)
            layer.forward(edges)
        in_threads(self.nodes[-2])
        last.there_and_back(edges, by_vectors, self.turning)
        return self._after(edges, by_vectors)

    def _start_backward(self, edges: Edges) -> Float[Tensor, "edges blocks 3"]:
        """Derivatives by the vectors, before those of the layers are added."""
        by_vectors = edges.slopes(self.layers[0].constants.columns)
        if self.bodies is not None:
            self.bodies.start_backward(edges, by_vectors)
        return by_vectors

    def _after(self, edges: Edges, by_vectors: Tensor) -> Tensor:
        """All derivatives from those by what the last layer was sent."""
        in_threads(self.unnodes[-2])
        for layer, unnodes in zip(self.layers[-2::-1], self.unnodes[-3::-1], strict=True):
            layer.backward(edges, by_vectors)
            in_threads(unnodes)
        if self.bodies is not None:
            self.bodies.through_invariants(edges, by_vectors)
        return by_vectors

    def by_orientations(self, edges: Edges) -> Float[Tensor, "beads 3 3"] | None:
        """Derivatives by the orientations, after `backward`."""
        return None if self.bodies is None else self.bodies.finish_backward(edges, self.features)


class _Run(torch.autograd.Function):
    """From positions, by the edges of a list, or from vectors."""

    @staticmethod
    def forward(
        ctx: Any,
        moved: Tensor,
        orientations: Tensor | None,
        cells: Tensor | None,
        edges: Edges,
        scalars: Tensor,
        space: Workspace,
    ) -> Any:
        with on_stream(moved.device):
            if isinstance(edges, ListedEdges):
                edges.move(moved, cells)
            space.forward(edges, scalars, orientations)
        ctx.given, ctx.version = (moved.detach(), orientations, cells, edges, scalars, space), space.version
        ctx.set_materialize_grads(False)
        return space.found(space.energies), space.found(space.layers[-1].gated)

    @staticmethod
    def backward(ctx: Any, energies: Tensor | None, features: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph; once_differentiable does not notice where slopes are constant
            raise NotImplementedError("a compiled network has no second derivatives")
        moved, orientations, cells, edges, scalars, space = ctx.given
        with on_stream(moved.device):
            if space.version != ctx.version:  # something else was computed in between
                if isinstance(edges, ListedEdges):
                    edges.move(moved, cells)
                space.forward(edges, scalars, orientations)
            by_vectors = space.backward(edges, energies, features)
            found = edges.collect(by_vectors) if isinstance(edges, ListedEdges) else edges.slopes_of_all(by_vectors)
            return found, space.by_orientations(edges), None, None, None, None


class CompiledNetwork(nn.Module):
    """Energies, charges and dipoles as an `EquivariantNetwork` says them, for constant weights.

    Edges have to be sorted by receiver, and each pair there in both directions. The derivative by the vector of an edge
    may hold that of the edge the other way, with the opposite sign: for positions and strain it is the same. Vectors
    of the length of the cutoff or more add nothing.

    Raises:
        ValueError: if it cannot be compiled, see `refusal`.
        RuntimeError: if Warp does not manage to compile it.
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
                LayerConstants(
                    layer,  # type: ignore[arg-type]
                    readout,  # type: ignore[arg-type]
                    network.frames,
                    weight.dtype,
                    weight.device,
                    first=number == 0,
                    last=number == len(network.layers) - 1,
                )
                for number, (layer, readout) in enumerate(zip(network.layers, network.readouts, strict=True))
            ]
            frames = network.frames
            self.bodies = None if frames is None else BodyConstants(frames, weight.dtype, weight.device)
        self._local = threading.local()
        kernels = [made for each in self.constants for made in each.kernels.values()]
        if self.bodies is not None:
            kernels += self.bodies.kernels.values()
            kernels += [made for each in self.constants if each.perceptron for made in each.perceptron.kernels.values()]
        load(kernels, weight.device)

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
        edges = Edges.given(vectors, receivers, senders, len(types), self.network.cutoff, self._space(types).list_cuts)
        return self._run(vectors, None, edges, types, inputs, orientations)

    def at(self, graph: BeadGraph) -> BeadOutputs:
        """The same for a graph, which may hold edges beyond the cutoff."""
        if graph.cell is not None and graph.cell.requires_grad:  # for a virial
            given = graph.edge_vectors(), graph.types, graph.receivers, graph.senders, graph.features
            return self(*given, orientations=graph.orientations)
        edges = self._space(graph.types).edges(graph, self.network.cutoff)
        return self._run(graph.positions, graph.cell, edges, graph.types, graph.features, graph.orientations)

    @torch.no_grad()
    def energies_and_slopes(
        self, graph: BeadGraph
    ) -> tuple[Float[Tensor, " beads"], Float[Tensor, "beads 3"], Float[Tensor, "beads 3 3"] | None]:
        """The energies of the beads, and the derivatives of their sum by positions and orientations; see `at`."""
        self.network.check_orientations(graph.orientations)
        space = self._space(graph.types)
        edges = space.edges(graph, self.network.cutoff)
        with on_stream(graph.positions.device):
            edges.move(graph.positions, graph.cell)
            by_vectors = space.forward_and_backward(
                edges, self._scalars(graph.types, graph.features), graph.orientations
            )
            return space.found(space.energies), edges.collect(by_vectors), space.by_orientations(edges)

    def _scalars(self, types: Int[Tensor, " beads"], inputs: Tensor | None) -> Float[Tensor, "beads channels"]:
        """What the network begins with."""
        scalars = self.network.embedding(types)
        return scalars if self.network.feature_embedding is None else scalars + self.network.feature_embedding(inputs)

    def _run(
        self,
        moved: Tensor,
        cells: Tensor | None,
        edges: Edges,
        types: Int[Tensor, " beads"],
        inputs: Tensor | None,
        orientations: Tensor | None,
    ) -> BeadOutputs:
        network = self.network
        network.check_orientations(orientations)
        with torch.no_grad():
            scalars = self._scalars(types, inputs)
        energies, features = _Run.apply(moved, orientations, cells, edges, scalars, self._space(types))
        features = features[:, :, : network.embedding.weight.shape[1]]
        scalars, vectors = features[:, 0], features[:, 1:]
        charges = weights = dipoles = None
        if network.charge_readout is not None:
            charges, weights = network.charge_readout(scalars)
        if network.dipole_readout is not None:
            dipoles = network.dipole_readout(scalars, vectors)
        return BeadOutputs(energies, charges, weights, dipoles)

    def _space(self, types: Int[Tensor, " beads"]) -> Workspace:
        """The workspace for these beads: each thread keeps its last ones."""
        spaces: list[tuple[Tensor, Workspace]] = self._local.__dict__.setdefault("spaces", [])
        for known, space in spaces:
            if known is types or (known.shape == types.shape and torch.equal(known, types)):
                return space
        with torch.inference_mode(False), torch.no_grad():
            spaces.insert(0, (types, Workspace(self.constants, types, self.dtype, self.bodies)))
        del spaces[_KEPT:]
        return spaces[0][1]
