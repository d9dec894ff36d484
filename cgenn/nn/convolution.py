"""What beads gather from their neighbours, with derivatives of first and second order.

With g the derivative by the gathered messages, all follows from

    L = sum over edges e (from s to r), paths p and components of w_epc C^p_ijk Y_ej x_sic g_rkc,   w = h W,

which is linear in each of w, Y, x and g: derivatives of first order are L with one of them left out, those of second
order sums of L with one left out and another replaced by its change. Left to autograd, each of these steps would write
tensors of edges, paths and channels, some hundred times larger than all else. Here edges are worked on in parts that
stay in the cache of a processor, what belongs to them is computed again where it is needed, and each component is a
matrix of edges and channels that operations run through from end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

_AT_ONCE, _ON_DEVICE = 1 << 15, 1 << 23
"""Edges times channels that are worked on together, on a processor and elsewhere."""


class Path(NamedTuple):
    """Where the components of a path are in features and messages, and its coefficients that are not zero.

    Attributes:
        constant: whether the harmonic is that of degree zero: by it there are no derivatives.
        terms: (component of the features, of the harmonics, of the message, coefficient).
    """

    source: slice
    target: slice
    constant: bool
    terms: list[tuple[int, int, int, float]]


def convolve(
    features: Float[Tensor, "beads components channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    hidden: Float[Tensor, "edges hidden"],
    weights: Float[Tensor, "hidden paths_channels"],
    paths: Sequence[Path],
    receivers: Int[Tensor, " edges"],
    senders: Int[Tensor, " edges"],
) -> Float[Tensor, "beads out channels"]:
    """The sum over the edges to each bead of w_epc C^p_ijk Y_ej x_sic; differentiable twice."""
    matrices = weights.unflatten(1, (len(paths), -1)).transpose(0, 1)
    by_component = features.transpose(0, 1).contiguous()
    return _Gather.apply(by_component, harmonics, hidden, matrices, _Edges(paths, receivers, senders)).transpose(0, 1)


class _Edges(NamedTuple):
    """The ends of all edges or of some."""

    paths: Sequence[Path]
    receivers: Tensor
    senders: Tensor

    @property
    def out(self) -> int:
        """Number of components of the messages."""
        return max(path.target.stop for path in self.paths)

    def parts(self, channels: int) -> Iterator[tuple[slice, _Edges]]:
        """Some edges at a time, and where they are."""
        edges, most = len(self.receivers), _AT_ONCE if self.receivers.device.type == "cpu" else _ON_DEVICE
        step = max(most // channels, 1)
        for start in range(0, edges, step):
            part = slice(start, min(start + step, edges))
            yield part, self._replace(receivers=self.receivers[part], senders=self.senders[part])


def _take(
    values: Float[Tensor, "components beads channels"], ends: Tensor
) -> Float[Tensor, "components ends channels"]:
    """Of the bead at each end."""
    found = values.flatten(0, 1).index_select(0, _rows(values, ends))
    return found.view(len(values), len(ends), values.shape[2])


def _put(values: Tensor, to: Float[Tensor, "components beads channels"], ends: Tensor) -> None:
    """Add to the bead at each end."""
    to.flatten(0, 1).index_add_(0, _rows(to, ends), values.flatten(0, 1))


def _rows(values: Tensor, ends: Tensor) -> Tensor:
    first = torch.arange(0, values.shape[0] * values.shape[1], values.shape[1], device=ends.device)
    return (first[:, None] + ends).flatten()


def _spread(harmonics: Float[Tensor, "edges harmonics"], channels: int) -> tuple[Tensor, ...]:
    """The same for all channels, a matrix for each harmonic."""
    return harmonics.T.unsqueeze(2).expand(-1, -1, channels).contiguous().unbind(0)


def _messages(path: Path, x: Tensor, y: Sequence[Tensor], to: Tensor) -> None:
    """Add C Y x of a path to the messages."""
    parts, into = x.unbind(0), to.unbind(0)
    for i, j, k, value in path.terms:
        into[k].addcmul_(parts[i - path.source.start], y[j], value=value)


def _by_features(path: Path, g: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """C g Y of a path, shape (components of the features, edges, channels)."""
    found = g[0].new_zeros(path.source.stop - path.source.start, *g[0].shape)
    into = found.unbind(0)
    for i, j, k, value in path.terms:
        into[i - path.source.start].addcmul_(g[k], y[j], value=value)
    return found


def _by_harmonics(path: Path, g: Sequence[Tensor], x: Tensor, to: Sequence[Tensor]) -> None:
    """Add C g x of a path to the derivatives by the harmonics."""
    parts = x.unbind(0)
    for i, j, k, value in path.terms if not path.constant else ():
        to[j].addcmul_(g[k], parts[i - path.source.start], value=value)


class _Gather(torch.autograd.Function):
    """dL/dg."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, h: Tensor, matrices: Tensor, edges: _Edges) -> Tensor:
        ctx.save_for_backward(x, y, h, matrices)
        ctx.edges, channels = edges, x.shape[2]
        gathered = x.new_zeros(edges.out, x.shape[1], channels)
        for part, ends in edges.parts(channels):
            there, spread = _take(x, ends.senders), _spread(y[part], channels)
            message = x.new_zeros(edges.out, len(ends.senders), channels)
            for path, matrix in zip(edges.paths, matrices, strict=True):
                _messages(path, there[path.source] * (h[part] @ matrix), spread, message)
            _put(message, gathered, ends.receivers)
        return gathered

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return *_Slopes.apply(g.contiguous(), *ctx.saved_tensors, ctx.edges), None


class _Slopes(torch.autograd.Function):
    """dL/dx, dL/dY, dL/dh and dL/dW."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, y: Tensor, h: Tensor, matrices: Tensor, edges: _Edges
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, y, h, matrices)
        ctx.edges, channels = edges, x.shape[2]
        by_x, by_y, by_h, by_matrices = (torch.zeros_like(given) for given in (x, y, h, matrices))
        for part, ends in edges.parts(channels):
            here, there = _take(g, ends.receivers).unbind(0), _take(x, ends.senders)
            spread = _spread(y[part], channels)
            by_there, by_spread = torch.zeros_like(there), here[0].new_zeros(len(spread), *here[0].shape)
            for path, matrix, by_matrix in zip(edges.paths, matrices, by_matrices, strict=True):
                known, weights = there[path.source], h[part] @ matrix
                slopes = _by_features(path, here, spread)
                by_there[path.source].addcmul_(slopes, weights)
                _by_harmonics(path, here, known * weights, by_spread.unbind(0))
                by_weights = slopes.mul_(known).sum(0)
                by_h[part].addmm_(by_weights, matrix.T)
                by_matrix.addmm_(h[part].T, by_weights)
            by_y[part] = by_spread.sum(2).T
            _put(by_there, by_x, ends.senders)
        return by_x, by_y, by_h, by_matrices

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *changes: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives of the sum of all slopes times their changes."""
        g, *given = ctx.saved_tensors
        edges, (x, y, h, matrices), channels = ctx.edges, given, g.shape[2]
        dx, dy, dh, dm = (
            torch.zeros_like(part) if change is None else change.contiguous()
            for part, change in zip(given, changes, strict=True)
        )
        moving, mixing = changes[0] is not None, changes[3] is not None
        by_g, by_x, by_y, by_h, by_matrices = (torch.zeros_like(part) for part in (g, *given))
        for part, ends in edges.parts(channels):
            here, there = _take(g, ends.receivers).unbind(0), _take(x, ends.senders)
            dthere = _take(dx, ends.senders) if moving else None
            spread, dspread = _spread(y[part], channels), _spread(dy[part], channels)
            message = g.new_zeros(len(g), *here[0].shape)
            by_there, by_spread = torch.zeros_like(there), here[0].new_zeros(len(spread), *here[0].shape)
            for path, matrix, dmatrix, by_matrix in zip(edges.paths, matrices, dm, by_matrices, strict=True):
                known, weights, dweights = there[path.source], h[part] @ matrix, dh[part] @ matrix
                if mixing:
                    dweights.addmm_(h[part], dmatrix)
                product = known * dweights
                slopes = _by_features(path, here, spread)
                by_there[path.source].addcmul_(slopes, dweights)
                by_dweights = (slopes * known).sum(0)
                by_weights = torch.zeros_like(by_dweights)
                if dthere is not None:
                    product.addcmul_(dthere[path.source], weights)
                    by_weights = slopes.mul_(dthere[path.source]).sum(0)
                _messages(path, product, spread, message)
                _by_harmonics(path, here, product, by_spread.unbind(0))
                if not path.constant:
                    slopes = _by_features(path, here, dspread)
                    by_there[path.source].addcmul_(slopes, weights)
                    by_weights += slopes.mul_(known).sum(0)
                    _messages(path, torch.mul(known, weights, out=slopes), dspread, message)
                by_h[part].addmm_(by_weights, matrix.T)
                by_matrix.addmm_(h[part].T, by_weights).addmm_(dh[part].T, by_dweights)
                if mixing:
                    by_h[part].addmm_(by_dweights, dmatrix.T)
            by_y[part] = by_spread.sum(2).T
            _put(message, by_g, ends.receivers)
            _put(by_there, by_x, ends.senders)
        return by_g, by_x, by_y, by_h, by_matrices, None
