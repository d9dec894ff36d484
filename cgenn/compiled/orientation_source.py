"""The Warp source of what orientations add to the radial functions: tensors of the bodies, and the first layer of the
perceptron on the invariants of the edges (see `invariant_source`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from e3nn import o3

from cgenn.compiled.edge_source import AT, ENVELOPE, ENVELOPE_SLOPE, OVER_ALL_EDGES, OVER_EDGES, SLOPES, VALUES, counted
from cgenn.compiled.ladder import step
from cgenn.compiled.radial import DEGREE
from cgenn.nn.orientation import Kind

_UNIT = ("u0", "u1", "u2")
"""Components of the direction of an edge, or another one."""

_TENSORS = """\
def turned_tensors(
    begin: wp.int32,
    types: wp.array(dtype=wp.int32),
    orientations: wp.array2d(dtype=Vector),
    points: wp.array(dtype=Vector),
    weights: wp.array3d(dtype=Real),
    tensors: wp.array2d(dtype=Real),
) -> None:
    row, single = wp.tid()
    bead = begin + row
    kind = types[bead]
"""

_HEADER = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    shapes: wp.array(dtype=Shape),
    offsets: wp.array(dtype=wp.int32),
    base: wp.int32,
    hidden: wp.array2d(dtype=Lanes),
    slopes: wp.array2d(dtype=Lanes),
    shares: wp.array(dtype=Real),
    cutoff: Real,
    knots: Real,
    table: wp.array3d(dtype=Lanes),
{arguments}) -> None:
    row, single = wp.tid()
    bead = begin + row
"""

_ACTIVATED = """\
    for at in range(offsets[bead] - base, offsets[bead + 1] - base):
        for block in range(hidden.shape[1]):
            silu(at, block, hidden, slopes)
"""
"""After all edges of a bead: on each of them, the next one would wait for it."""
_COEFFICIENTS = [f"table[knot + {k}, 0, block]" for k in range(DEGREE + 1)]
_DIFFERENCES = [f"({other} - {one})" for one, other in pairwise(_COEFFICIENTS)]
_ON_EDGE = AT + "        share3 = share * share * share\n"


@dataclass(frozen=True)
class Tensors:
    """Where the tensors of a bead are stored: kind after kind, tensor after tensor.

    Attributes:
        kinds, counts: what they are, and how many of each.
    """

    kinds: Sequence[Kind]
    counts: Sequence[int]

    @property
    def size(self) -> int:
        """Numbers of a bead."""
        return sum(count * (2 * kind.degree + 1) for kind, count in zip(self.kinds, self.counts, strict=True))

    def start(self, number: int, tensor: int = 0) -> int:
        """Where a tensor of a kind begins."""
        before = Tensors(self.kinds[:number], self.counts[:number]).size
        return before + tensor * (2 * self.kinds[number].degree + 1)

    def each(self) -> list[tuple[int, int]]:
        """The kind and the beginning of each tensor."""
        return [(number, self.start(number, n)) for number, count in enumerate(self.counts) for n in range(count)]


def turned_tensors(tensors: Tensors) -> str:
    """sum_a w_a Y_l(Q p_a) of each tensor; the weights are those of the type."""
    text = _TENSORS + "".join(f"    s{c} = Real(0.0)\n" for c in range(tensors.size))
    text += "    for number in range(points.shape[0]):\n        p = points[number]\n"
    text += "".join(f"        {axis} = wp.dot(orientations[bead, {k}], p)\n" for k, axis in enumerate(_UNIT))
    text += "".join(f"        {line}\n" for line in harmonics(max((kind.degree for kind in tensors.kinds), default=0)))
    for place, (number, start) in enumerate(tensors.each()):
        degree = tensors.kinds[number].degree
        text += f"        w{place} = weights[kind, number, {place}]\n"
        for c in range(2 * degree + 1):
            text += f"        s{start + c} += w{place} * Y{degree**2 + c}\n"
    return text + "".join(f"    tensors[bead, {c}] = s{c}\n" for c in range(tensors.size))


def hidden(outputs: int, chains: int) -> str:
    """The first layer of the perceptron on each edge of a bead, its slopes, and the share that the cutoff leaves.

    Products with the invariants are added up in some `chains`, which do not wait for each other.

    Edges beyond the cutoff have a share of zero, and with it whatever is computed of them further on.

    To be followed by the source of `silu`.
    """
    more = "    mixing: wp.array2d(dtype=Lanes),\n    invariants: wp.array2d(dtype=Real),\n"
    text = _HEADER.format(name="hidden", arguments=more) + OVER_ALL_EDGES + VALUES + _ON_EDGE
    text += "        share6 = share3 * share3\n"
    text += f"        shares[at] = wp.where(shape[3] < Real(1.0), {ENVELOPE}, Real(0.0))\n"
    text += "        for block in range(hidden.shape[1]):\n"
    text += "".join(f"            value{part} = Lanes()\n" for part in range(chains))
    text += f"            value = {counted('piece', _COEFFICIENTS, 0)}\n"
    products = [f"invariants[base + at, {m}] * mixing[{m}, block]" for m in range(outputs)]
    for part in range(chains):
        text += "".join(f"            value{part} += {product}\n" for product in products[part::chains])
    text += "            value += " + " + ".join(f"value{part}" for part in range(chains)) + "\n"
    return text + "            hidden[at, block] = value\n" + _ACTIVATED


def hidden_backward() -> str:
    """The part of the derivatives by the vectors that is due to the distance, added to what is there.

    `hidden` and `shares` hold the derivatives by them, those by what is hidden before its activation.
    """
    text = _HEADER.format(name="hidden_backward", arguments="    by_vectors: wp.array2d(dtype=Vector),\n")
    text += OVER_EDGES + SLOPES + _ON_EDGE
    text += "        gap = Real(1.0) - share\n"
    text += f"        along = {ENVELOPE_SLOPE} / cutoff * shares[at]\n"
    text += "        for block in range(hidden.shape[1]):\n"
    text += f"            rise = {counted('rise', _DIFFERENCES)}\n"
    text += "            along += per_length * wp.dot(hidden[at, block], rise)\n"
    return text + "        by_vectors[edge, 0] += along * Vector(u0, u1, u2)\n"


def harmonics(degree: int) -> list[str]:
    """Lines that make Y1, Y2, ... of a unit vector, |Y_l|^2 = 2 l + 1."""
    lines = [f"Y{k + 1} = Real({3**0.5!r}) * {axis}" for k, axis in enumerate(_UNIT) if degree]
    for here in range(2, degree + 1):
        below, start, terms = (here - 1) ** 2, here**2, step(here - 1, here)
        middle = next(value for a, b, k, value in terms if (a, b, k) == (here - 1, 1, here))  # all there is along y
        scale = ((2 * here + 1) / (2 * here - 1) / 3) ** 0.5 / middle
        for row in range(2 * here + 1):
            parts = [f"Real({scale * v!r}) * Y{below + a} * Y{1 + b}" for a, b, k, v in terms if k == row]
            lines.append(f"Y{start + row} = " + " + ".join(parts))
    return lines


@cache
def generator(degree: int, axis: int) -> list[tuple[int, int, float]]:
    """(a, b, J_ab) that are not zero: turned by a small angle w about an axis, x becomes x + w J x."""
    rough = o3.so3_generators(degree)[axis]
    found = [(k, a, value) for a, b, k, value in step(degree, degree) if b == axis] if degree else []
    size = sum(value**2 for _, _, value in found)
    if not found:
        return []
    scale = (degree * (degree + 1) * (2 * degree + 1) / 3 / size) ** 0.5
    k, a, value = found[0]
    sign = 1.0 if value * float(rough[k, a]) > 0 else -1.0
    return [(k, a, sign * scale * value) for k, a, value in found]
