"""The Warp source of what kernels do on each edge: where it points, and steps from degree to degree along it.

Everything that depends on the irreps is unrolled: each component of features and messages is a variable of its own, a
vector over `lanes` channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cgenn.compiled.ladder import Coupling, Term, step
from cgenn.compiled.radial import DEGREE, NEAR, PIECES, RISES, STEPS


def spline(name: str, polynomials: Float[np.ndarray, "pieces powers"], start: int) -> str:
    """Lines that give the variables of a name, numbered from `start` on, their values at t."""
    lines = []
    for number, numbers in enumerate(polynomials.tolist(), start=start):
        *less, most = (f"Real({value!r})" for value in numbers)
        lines.append(f"        {name}{number} = " + " + t * (".join([*less, most]) + ")" * len(less) + "\n")
    return "".join(lines)


SHAPE = f"""\
        distance = wp.length(r)
        inverse = Real(1.0) / distance
        share = distance / cutoff
        place = Real({1 + NEAR!r}) * share / (share + Real({NEAR!r}))
        shapes[edge] = Shape(r[0] * inverse, r[1] * inverse, r[2] * inverse, place)
"""
"""What all layers need of an edge r: its direction, and its place s among the knots (`radial.NEAR`), from 0 to 1 at the
cutoff and beyond one further away."""

_TAKEN = f"""\
        other = senders[edge]
        u0 = shape[0]
        u1 = shape[1]
        u2 = shape[2]
        knot = wp.clamp(wp.int32(place), 0, wp.int32(knots) - 1)  # what is not a number is somewhere in the table, too
        t = place - Real(knot)
        rest = Real({1 + NEAR!r}) - shape[3]
        share = Real({NEAR!r}) * shape[3] / rest
        inverse = Real(1.0) / (share * cutoff)
"""
OVER_EDGES = f"""\
    for edge in range(first[bead], last[bead]):
        shape = shapes[edge]
        if shape[3] >= Real(1.0):
            continue
        place = knots * shape[3]
{_TAKEN}\
"""
"""The loop over the edges of a bead: where on the spline one is, and its length by the cutoff, a s / (1 + a - s)."""
OVER_ALL_EDGES = f"""\
    for edge in range(first[bead], last[bead]):
        shape = shapes[edge]
        place = knots * wp.min(shape[3], Real(1.0))
{_TAKEN}\
"""
"""The same with those beyond the cutoff: on the spline they are at its end, their share is more than one."""

VALUES = spline("piece", PIECES, 0)
"""What coefficients count for in a radial function."""
_PER_LENGTH = f"        per_length = knots * Real({1 / NEAR / (1 + NEAR)!r}) * rest * rest / cutoff\n"
SLOPES = spline("up", STEPS, 1) + spline("rise", RISES, 1) + _PER_LENGTH
"""What differences count for in a radial function and in its slope, and how t changes with the distance: by the number
of knots times ds/dx = (1 + a - s)^2 / (a (1 + a)), by the cutoff."""
ENVELOPE = "Real(1.0) + share6 * (share * (Real(48.0) - Real(21.0) * share) - Real(28.0))"
ENVELOPE_SLOPE = "Real(-168.0) * share3 * share * share * gap * gap"
"""1 - 28 x^6 + 48 x^7 - 21 x^8 of x = distance / cutoff, `share` (see `nn.radial`), and -168 x^5 (1 - x)^2."""
AT = "        at = offsets[bead] - base + edge - first[bead]\n"
"""Where what is computed of an edge is stored, from the edge `base` on."""


class Side(NamedTuple):
    """One of the two messages along an edge: what its variables are called, and those of its direction."""

    tag: str
    along: str


TO_BEAD, FROM_BEAD = Side("", "u"), Side("b", "n")
"""From the other bead to that of the row, and back, where the direction has the opposite sign."""


class EdgeLoop:
    """Lines inside the loop over edges, and which variables they have given a value.

    f, t and z are tensors of (degree of the features or of the message)_(rank)_(component); f of the side at which the
    loop is at the moment. With `inside` all blocks of channels are gone through on each edge: what depends on the edge
    alone is then computed once, and vectors may be as short as a register.
    """

    def __init__(
        self,
        terms: Sequence[Coupling],
        blocks: int,
        sides: Sequence[Side] = (TO_BEAD,),
        given: bool = False,
        inside: bool = False,
    ) -> None:
        self.terms, self.blocks, self.given, self.inside = terms, blocks, given, inside
        self.own, self.after = "", ""
        self.totals: list[str] = []
        self.sides, self.side = sides, sides[0]
        self.sources = sorted({term.source for term in terms})
        self.targets = sorted({term.target for term in terms})
        self.text = beginning("at" if given else "knot", len(terms), blocks, " " * 8, "knot")
        self.known: set[str] = set()
        if FROM_BEAD in sides:
            for b in range(3):
                self.line(f"n{b} = -u{b}")

    def each_side(self) -> Iterator[Side]:
        """One after the other, for what is written in between."""
        for side in self.sides:
            self.side = side
            yield side

    def ranks(self, source: int | None = None, target: int | None = None) -> set[int]:
        """The ranks that features of a degree go down to, or messages of a degree come from."""
        return {term.rank for term in self.terms if source in (None, term.source) and target in (None, term.target)}

    def has(self, name: str) -> bool:
        """Whether a tensor has got a component."""
        return f"{name}_0" in self.known

    def line(self, text: str) -> None:
        """A line as it is."""
        self.text += f"        {text}\n"

    def name(self, kind: str, degree: int, rank: int) -> str:
        """What a tensor of this side is called."""
        return f"{kind}{self.side.tag}{degree}_{rank}"

    def total(self, name: str) -> str:
        """The name of the sum of a variable over the blocks that are gone through on an edge."""
        if not self.inside:
            return name
        self.line(f"all_{name} += {name}")
        self.totals.append(f"all_{name}")
        return f"all_{name}"

    def written(self, before: str, sums: Sequence[str], ending: str) -> str:
        """The loop with what is around it; `own` is read before it, or in each block on each edge, if `inside`.

        Args:
            before: the first lines of the loop.
            sums: variables that are summed over the edges of the bead; of each edge alone, if `inside`.
            ending: what follows the loop in each block.
        """
        before = OVER_EDGES + before
        if not self.inside:
            zeros = "".join(f"    {name} = Lanes()\n" for name in sums)
            return self.own + zeros + before + self.text + self.after + ending
        before += "".join(f"        {name} = Lanes()\n" for name in self.totals)
        text = before + "    " + self.each_block(deeper(self.own) + self.text) + self.after
        return text + (self.each_block(ending) if ending else "")

    def each_block(self, text: str) -> str:
        """A loop over the blocks of channels, around lines as they would be without it."""
        return f"    for block in range({self.blocks}):\n" + deeper(text)

    def add(self, name: str, value: str) -> None:
        """Add to a variable, or make it; those called sum are there before the loop."""
        there = name in self.known or (name.startswith("sum") and not self.inside)
        self.line(f"{name} {'+=' if there else '='} {value}")
        self.known.add(name)

    def loads(self, array: str, start: str, kind: str, degrees: Sequence[int]) -> list[str]:
        """Lines that read the components of a bead, of the highest rank."""
        return [
            f"{self.name(kind, degree, degree)}_{m} = vector({array}, {place(start, degree**2 + m, self.blocks)})"
            for degree in degrees
            for m in range(2 * degree + 1)
        ]

    def descend(self) -> None:
        """Contract the features with the direction down to the ranks that are needed."""
        for source in self.sources:
            for rank in range(source, min(self.ranks(source=source)), -1):
                self.climb(self.name("f", source, rank - 1), self.name("f", source, rank), step(rank, rank - 1))

    def turn(self, only: int | None = None) -> None:
        """Turn the features of all ranks, or of one, where that is needed."""
        for source, rank in sorted({(term.source, term.rank) for term in self.terms if term.turned}):
            if only in (None, rank):
                self.climb(self.name("t", source, rank), self.name("f", source, rank), step(rank, rank))

    def mix(self, number: int, name: str) -> None:
        """What a term adds to a message, at its rank."""
        term = self.terms[number]
        here = self.name("t" if term.turned else "f", term.source, term.rank)
        for m in range(2 * term.rank + 1):
            self.add(f"{name}_{m}", f"wp.cw_mul(w{number}, {here}_{m})")

    def climb(self, to: str, source: str, terms: Sequence[Term]) -> None:
        """A step, added to what is there."""
        for a, b, k, value in terms:
            self.add(f"{to}_{k}", f"{_scaled(value, f'{self.side.along}{b}')} * {source}_{a}")

    def climb_back(self, to: str, source: str, terms: Sequence[Term]) -> None:
        """The derivative of a step by what it starts from."""
        self.climb(to, source, [(k, b, a, value) for a, b, k, value in terms])

    def direction(self, start: str, end: str, terms: Sequence[Term]) -> None:
        """The derivative of a step by the direction of the edge: u, where that of this side may be -u."""
        sign = -1.0 if self.side == FROM_BEAD else 1.0
        for b in range(3):
            parts = [(sign * value, f"wp.cw_mul({start}_{a}, {end}_{k})") for a, along, k, value in terms if along == b]
            if parts:
                self.add(f"turn{b}", _weighted_sum(parts))

    def radial(self, number: int, *, slope: bool = False) -> None:
        """The value of a radial function, and its slope."""
        if self.given:
            self.line(f"w{number} = vector(table, {place('knot', number, self.blocks)})")
            return
        names = [f"c{number}_{k}" for k in range(DEGREE + 1)]
        for k, name in enumerate(names):
            self.line(f"{name} = vector(table, {place('knot', k * len(self.terms) + number, self.blocks)})")
        if not slope:
            self.line(f"w{number} = " + counted("piece", names, 0))
            return
        differences = [f"e{number}_{k}" for k in range(1, DEGREE + 1)]
        for name, (one, other) in zip(differences, pairwise(names), strict=True):
            self.line(f"{name} = {other} - {one}")
        self.line(f"w{number} = {names[0]} + {counted('up', differences)}")
        self.line(f"d{number} = {counted('rise', differences)}")


def beginning(bead: str, size: int, blocks: int, indent: str, name: str = "") -> str:
    """Where what is stored of a bead begins, in this block."""
    return f"{indent}{name or bead}_at = wp.int64({bead}) * wp.int64({size * blocks}) + wp.int64(block)\n"


def place(bead: str, component: int, blocks: int) -> str:
    """Where a component is stored, in arrays of beads, components and blocks of channels."""
    return f"{bead}_at + wp.int64({component * blocks})"


def degree_of(component: int) -> int:
    """The degree that a component belongs to."""
    return int(component**0.5)


def name_of(component: int) -> str:
    """Its degree and its number there."""
    degree = degree_of(component)
    return f"{degree}_{component - degree**2}"


def counted(factor: str, names: Sequence[str], start: int = 1) -> str:
    """Coefficients of a spline, or their differences, times what they count for at the place of the edge."""
    return " + ".join(f"{factor}{k} * {name}" for k, name in enumerate(names, start=start))


def deeper(text: str) -> str:
    """Lines one level deeper."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def _weighted_sum(parts: Sequence[tuple[float, str]]) -> str:
    """Each coefficient once: those that are the same up to their sign are multiplied by the sum of their terms."""
    groups: dict[float, str] = {}
    for value, text in parts:
        size = round(abs(value), 14)
        sign = " - " if value < 0 else " + " if size in groups else ""
        groups[size] = groups.get(size, "") + sign + text
    return " + ".join(_scaled(size, f"({text})") for size, text in groups.items())


def _scaled(value: float, text: str) -> str:
    if abs(abs(value) - 1.0) < 1e-14:
        return text if value > 0 else f"(-{text})"
    return f"(Real({value!r}) * {text})"
