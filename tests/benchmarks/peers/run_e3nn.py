"""A straightforward NequIP-style model of e3nn's building blocks: "e3nn" as it is, "e3nn-inductor" compiled."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import e3nn
import torch
import vesin
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from tests.benchmarks.peers.measure import Calls, Graph, work

TYPES, BASIS, WIDTH = 8, 8, 64


class Convolution(nn.Module):
    """Messages from the neighbours, weighted by a perceptron of the distance, with a skip that knows the type."""

    def __init__(self, before: o3.Irreps, harmonics: o3.Irreps, after: o3.Irreps, neighbors: float) -> None:
        super().__init__()
        scalars = o3.Irreps([entry for entry in after if entry.ir.l == 0])
        vectors = o3.Irreps([entry for entry in after if entry.ir.l > 0])
        gates = o3.Irreps([(vectors.num_irreps, "0e")]) if len(vectors) else o3.Irreps([])
        silu, sigmoid = nn.functional.silu, torch.sigmoid
        self.gate = Gate(scalars, [silu], gates, [sigmoid] * len(gates), vectors)
        wanted = self.gate.irreps_in
        paths = [
            (one, other, ir)
            for one, (_, left) in enumerate(before)
            for other, (_, right) in enumerate(harmonics)
            for ir in left * right
            if ir in wanted
        ]
        paths.sort(key=lambda path: path[2])
        between = o3.Irreps([(before[one].mul, ir) for one, _, ir in paths])
        self.up = o3.Linear(before, before)
        self.product = o3.TensorProduct(
            before, harmonics, between,
            [(one, other, place, "uvu", True) for place, (one, other, _) in enumerate(paths)],
            shared_weights=False, internal_weights=False,
        )  # fmt: skip
        self.radial = FullyConnectedNet([BASIS, WIDTH, self.product.weight_numel], silu)
        self.down = o3.Linear(between.simplify(), wanted)
        self.skip = o3.FullyConnectedTensorProduct(before, f"{TYPES}x0e", wanted)
        self.scale = neighbors**-0.5

    def forward(
        self, features: Tensor, kinds: Tensor, receivers: Tensor, senders: Tensor, harmonics: Tensor, basis: Tensor
    ) -> Tensor:
        messages = self.product(self.up(features)[senders], harmonics, self.radial(basis))
        gathered = messages.new_zeros(features.shape[0], messages.shape[1]).index_add(0, receivers, messages)
        return self.gate(self.down(self.scale * gathered) + self.skip(features, kinds))


class Model(nn.Module):
    """Energy of all beads, features of natural parity."""

    def __init__(self, lmax: int, layers: int, channels: int, cutoff: float, neighbors: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        harmonics = o3.Irreps.spherical_harmonics(lmax)
        scalars, features = o3.Irreps(f"{channels}x0e"), o3.Irreps([(channels, ir) for _, ir in harmonics])
        widths = [scalars, *[features] * (layers - 1), scalars]
        self.harmonics = o3.SphericalHarmonics(harmonics, normalize=True, normalization="component")
        self.embedding = nn.Embedding(TYPES, channels)
        self.layers = nn.ModuleList(
            Convolution(widths[layer], harmonics, widths[layer + 1], neighbors) for layer in range(layers)
        )
        self.readout = o3.Linear(scalars, "0e")
        self.register_buffer("roots", math.pi * torch.arange(1, BASIS + 1))

    def forward(self, positions: Tensor, types: Tensor, receivers: Tensor, senders: Tensor, shifts: Tensor) -> Tensor:
        vectors = positions[senders] - positions[receivers] + shifts
        x = torch.linalg.vector_norm(vectors, dim=1, keepdim=True) / self.cutoff
        envelope = torch.where(x < 1, 1 + x**6 * (-28 + x * (48 - 21 * x)), torch.zeros_like(x))
        basis, harmonics = 2 * torch.sin(self.roots * x) / x * envelope, self.harmonics(vectors)
        kinds = nn.functional.one_hot(types, TYPES).to(positions.dtype)
        features = self.embedding(types)
        for layer in self.layers:
            features = layer(features, kinds, receivers, senders, harmonics, basis)
        return self.readout(features).sum()


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    compiled = chosen.model == "e3nn-inductor"
    if compiled:
        e3nn.set_optimization_defaults(jit_mode="eager")
    sizes = chosen.lmax, chosen.layers, chosen.channels
    model = Model(*sizes, typical.cutoff, typical.neighbors).to(chosen.device).eval().requires_grad_(False)

    def forces(positions: Tensor, *graph: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.detach().requires_grad_()
        energy = model(positions, *graph)
        return energy.detach(), -torch.autograd.grad(energy, positions)[0]

    if not compiled:
        return lambda graph: calls(graph, forces)
    torch._inductor.config.cpp.threads = 1
    tensors = calls(typical, forces).find()
    whole = make_fx(forces, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*tensors)
    once = torch.compile(whole, dynamic=True)
    once(*tensors)
    return lambda graph: calls(graph, once)


def calls(graph: Graph, forces: Callable[..., tuple[Tensor, Tensor]]) -> Calls:
    """Neighbours by vesin, as cgenn finds them."""
    search = vesin.NeighborList(cutoff=graph.cutoff, full_list=True, sorted=True)
    cell, device = graph.cell.double().cpu().numpy(), graph.positions.device

    def find() -> tuple[Any, ...]:
        i, j, shifts = search.compute(graph.positions.double().cpu().numpy(), cell, True, "ijS")
        receivers, senders = (torch.from_numpy(part.astype("int64")).to(device) for part in (i, j))
        moved = torch.from_numpy((shifts * graph.edge).astype("float32")).to(device)
        return graph.positions, graph.types, receivers, senders, moved

    return Calls(find, lambda found: forces(*found), lambda found: len(found[2]))


if __name__ == "__main__":
    work(build, "e3nn", "vesin")
