"""Products of equivariant features, channel by channel.

Features are tensors of shape (nodes, components, channels): the components are those of `Irreps` that hold each irrep
once, one after the other, and every component has the same number of channels, last in memory. The coupling
coefficients and the selection rules are e3nn's.
"""

from __future__ import annotations

import torch
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.nn.constant import Constant
from cgenn.nn.convolution import Path, convolve


def coupling_paths(first: o3.Irreps, second: o3.Irreps, out: o3.Irreps) -> list[tuple[int, int, int]]:
    """Every allowed (first, second, out), as positions in the three lists of irreps."""
    return [
        (i, j, k)
        for i, (_, left) in enumerate(first)
        for j, (_, right) in enumerate(second)
        for k, (_, target) in enumerate(out)
        if target in left * right
    ]


def _coupling(first: o3.Irrep, second: o3.Irrep, out: o3.Irrep, fan_in: int) -> Tensor:
    """The Wigner 3j symbol in float64, scaled so that `fan_in` such products add up to unit variance per component."""
    return o3.wigner_3j(first.l, second.l, out.l, dtype=torch.float64) * (out.dim / fan_in) ** 0.5


class EdgeProduct(nn.Module):
    """Features of the neighbours times spherical harmonics, each path weighted by channel: an equivariant convolution.

    A[b, k, c] = sum over edges e to b and paths p of w[e, p, c] sum_ij C^p_ijk x[sender(e), i, c] Y[e, j]
    (Thomas et al. 2018)

    C^p is sqrt(2 l_out + 1) times the Wigner 3j symbol, so that each component of a path has unit variance. `coupling`
    holds it for all paths, one after the other: harmonic, component of the message, component of the features.
    """

    def __init__(self, features: o3.Irreps, harmonics: o3.Irreps, out: o3.Irreps) -> None:
        super().__init__()
        self.features, self.out = features, out
        self.paths = coupling_paths(features, harmonics, out)
        columns = sum(features[i].ir.dim for i, _, _ in self.paths)
        coupling = torch.zeros(harmonics.dim, out.dim, columns, dtype=torch.float64)
        fan_in = [sum(1 for path in self.paths if path[2] == k) for k in range(len(out))]
        self.terms: list[Path] = []
        at = 0
        for i, j, k in self.paths:
            left, right, target = features[i].ir, harmonics[j].ir, out[k].ir
            block = _coupling(left, right, target, fan_in[k])
            source, harmonic, message = features.slices()[i], harmonics.slices()[j], out.slices()[k]
            coupling[harmonic, message, at : at + left.dim] = block.permute(1, 2, 0)
            at += left.dim
            first = (source.start, harmonic.start, message.start)
            terms = [
                (first[0] + a, first[1] + b, first[2] + c, float(block[a, b, c]))
                for a, b, c in block.nonzero().tolist()
            ]
            self.terms.append(Path(source, message, right.l == 0, terms))
        self.coupling = Constant(coupling)

    def forward(
        self,
        features: Float[Tensor, "beads components channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        hidden: Float[Tensor, "edges hidden"],
        weights: Float[Tensor, "hidden paths_channels"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
    ) -> Float[Tensor, "beads out channels"]:
        """The weights of an edge are w = `hidden` `weights`; the harmonic of degree zero has to be constant."""
        return convolve(features, harmonics, hidden, weights, self.terms, receivers, senders)


class NodeProduct(nn.Module):
    """Learnt product of two features of the same node: one weight per path and channel.

    A product of what a node gathered with itself is a three-body term, and in SO(3) the cross product of two vectors
    is one of its paths: this is what lets a two-layer network tell mirror images apart (Drautz 2019; Batatia et al.
    2022, eq. 10, at correlation two).
    """

    terms: Tensor

    def __init__(self, first: o3.Irreps, second: o3.Irreps, out: o3.Irreps, channels: int) -> None:
        super().__init__()
        paths = coupling_paths(first, second, out)
        fan_in = [sum(1 for path in paths if path[2] == k) for k in range(len(out))]
        coupling = torch.zeros(len(paths), first.dim, second.dim, out.dim, dtype=torch.float64)
        for number, (i, j, k) in enumerate(paths):
            block = _coupling(first[i].ir, second[j].ir, out[k].ir, fan_in[k])
            coupling[number, first.slices()[i], second.slices()[j], out.slices()[k]] = block
        nonzero = coupling.nonzero()
        self.values = Constant(coupling[tuple(nonzero.T)])
        self.register_buffer("terms", nonzero.T.contiguous(), persistent=False)
        self.out = out.dim
        self.weight = nn.Parameter(torch.randn(len(paths), channels))

    def forward(
        self, first: Float[Tensor, "nodes first channels"], second: Float[Tensor, "nodes second channels"]
    ) -> Float[Tensor, "nodes out channels"]:
        path, i, j, k = self.terms
        weight = self.values()[:, None] * self.weight[path]
        products = first.index_select(1, i) * second.index_select(1, j) * weight
        return products.new_zeros(len(products), self.out, products.shape[2]).index_add(1, k, products)
