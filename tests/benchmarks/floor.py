"""The least time that an evaluation of the compiled network could take: its operations and its bytes at full speed.

Operations: multiplications and additions of the messages (steps from degree to degree, see `cgenn.compiled.ladder`;
those of the first layer by harmonics; radial functions once for both ways), the products of each bead and the matrix
products that mix channels; derivatives count twice as much as what they are derivatives of, but for matrix products,
whose weights are constant, as much. Bytes: what is kept of a bead is written and read once forwards and once backwards;
of an edge each layer reads the shape (`compiled.edge_source.SHAPE`) and the sender forwards and backwards and reads and
writes the derivative. Both at the rates that one thread reaches in a large matrix product and a copy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cgenn.compiled.ladder import Coupling, couplings, step
from cgenn.compiled.layer import Layer
from cgenn.nn.network import EquivariantNetwork

SIDE, COPIED = 1024, 2**26
"""Of the matrices, and numbers that are copied."""


def median(call: Callable[[], object], repeats: int = 31) -> float:
    """CPU time of a call [s], after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def operations(network: EquivariantNetwork, neighbors: float) -> float:
    """Of one bead, energy and forces."""
    total = 0.0
    for layer, readout in zip(network.layers, network.readouts, strict=True):
        product = layer.product
        terms = couplings(product.coupling.exact, product.paths, product.features, product.out)
        total += 3 * layer.channels * (neighbors * message(terms) + 3 * layer.square.terms.shape[1])
        for linear in (layer.before, layer.left, layer.right, layer.linear, layer.after):
            total += 4 * sum((2 * degree + 1) * matrix.numel() for degree, matrix in enumerate(linear.weight))
        gates = layer.gate.gates
        total += 4 * (readout[0].weight.numel() + (0 if gates is None else gates.weight.numel()))
    return total


def message(terms: Sequence[Coupling]) -> int:
    """Of one edge and channel: radial functions, features down to the ranks, mixing, and up to the messages."""
    if all(term.source == 0 for term in terms):
        return sum(4 + 1 + 2 * (2 * term.target + 1) for term in terms)
    total = sum(4 + 2 * (2 * term.rank + 1) for term in terms)
    for source in {term.source for term in terms}:
        mine = [term for term in terms if term.source == source]
        total += sum(2 * len(step(rank, rank - 1)) for rank in range(min(term.rank for term in mine) + 1, source + 1))
        total += sum(2 * len(step(rank, rank)) for rank in {term.rank for term in mine if term.turned})
    for target in {term.target for term in terms}:
        least = min(term.rank for term in terms if term.target == target)
        total += sum(2 * len(step(rank, rank + 1)) for rank in range(least, target))
    return total


def bytes_moved(layers: Sequence[Layer], beads: int, neighbors: float) -> float:
    """Of one bead, energy and forces."""
    tensors = [each for layer in layers for each in vars(layer).values() if isinstance(each, Tensor)]
    kept = sum({each.data_ptr(): each.nbytes for each in tensors if len(each) >= beads}.values())
    real = layers[0].gated.element_size()
    return 4 * kept / beads + len(layers) * neighbors * (2 * (4 * real + 4) + 6 * real)


def rates() -> tuple[float, float]:
    """Operations and bytes per second of one thread, in single precision."""
    left, right = torch.randn(2, SIDE, SIDE)
    numbers, copy = torch.ones(COPIED), torch.zeros(COPIED)
    arithmetic = 2 * SIDE**3 / median(lambda: torch.mm(left, right), 9)
    return arithmetic, 8 * COPIED / median(lambda: copy.copy_(numbers), 9)
