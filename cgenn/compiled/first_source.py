"""The Warp source of the kernels over edges of the first layer, whose features are scalars: both messages at a time.

A message of degree l is W_l(r) Y_l(u) x, Y_l the harmonics that l steps up along u make of a one. The one back has the
same radial function and (-1)^l Y_l: derivatives of both are taken of their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from cgenn.compiled.edge_source import SLOPES, VALUES, EdgeLoop, beginning, degree_of, name_of, place
from cgenn.compiled.ladder import Coupling, step
from cgenn.compiled.message_source import (
    ADDED,
    TARGETS,
    add_to,
    backward_header,
    by_radial,
    by_vectors,
    ending,
    forward_header,
)


def forward(terms: Sequence[Coupling], outputs: int, blocks: int, *, inside: bool = False) -> str:
    """T sum over the edges of a bead of W(r) Y(u) x, x the scalars of the sender and T the factor of its type."""
    loop = EdgeLoop(terms, blocks, inside=inside)
    loop.text += beginning("other", 1, blocks, " " * 8)
    loop.line(f"x = vector(features, {place('other', 0, blocks)})")
    for rank in range(1, max(loop.targets) + 1):
        for a, b, k, value in step(rank - 1, rank):
            loop.add(f"y{rank}_{k}", f"Real({value!r}) * u{b}" + (f" * y{rank - 1}_{a}" if rank > 1 else ""))
    for number, term in enumerate(terms):
        loop.radial(number)
        for name, scalars in (("sum", "x"), ("back", "minus_own" if term.target % 2 else "own")):
            loop.line(f"{name}{number} = wp.cw_mul(w{number}, {scalars})")
            for m in range(2 * term.target + 1):
                along = f"y{term.target}_{m} * " if term.target else ""
                loop.add(f"{name}{term.target}_{m}", f"{along}{name}{number}")
    loop.text += ADDED
    got = [k for k in range(outputs) if degree_of(k) in loop.targets]
    add_to(loop, "to", "messages", outputs, [(k, f"back{name_of(k)}") for k in got])
    sums = [f"sum{name_of(k)}" for k in range(outputs)]
    if inside:
        add_to(loop, "bead", "messages", outputs, [(k, f"sum{name_of(k)}") for k in got])
    loop.own = beginning("bead", 1, blocks, " " * 4, "mine")
    loop.own += f"    own = vector(features, {place('mine', 0, blocks)})\n"
    loop.own += "    minus_own = -own\n"
    end = ending(outputs, blocks, there=True, sums=not inside)
    return forward_header(TARGETS, inside) + loop.written(VALUES, sums, end)


def backward(terms: Sequence[Coupling], outputs: int, blocks: int, *, inside: bool = False) -> str:
    """Derivatives by the vectors, which are added to what is there.

    c is the derivative by W Y of both messages; contracted l - 1 times with u it is that by the direction but for a
    factor of l, as Y is a polynomial of degree l, and once more that by W.
    """
    loop = EdgeLoop(terms, blocks, inside=inside)
    loop.text += beginning("other", 1, blocks, " " * 8) + beginning("other", outputs, blocks, " " * 8, "there")
    loop.line(f"x = vector(features, {place('other', 0, blocks)})")
    for number, term in enumerate(terms):
        degree = term.target
        loop.radial(number, slope=True)
        for m in range(2 * degree + 1):
            k = degree**2 + m
            back = f"wp.cw_mul(own, vector(slopes, {place('there', k, blocks)}))"
            loop.line(f"c{degree}_{degree}_{m} = wp.cw_mul(x, g{k}) {'-' if degree % 2 else '+'} {back}")
        for rank in range(degree, 0, -1):
            loop.climb_back(f"c{degree}_{rank - 1}", f"c{degree}_{rank}", step(rank - 1, rank))
        loop.line(f"p{number} = c{degree}_0_0")
        if degree:
            loop.line(f"q{number} = Real({degree}.0) * w{number}")
            for a, b, k, value in step(0, 1):
                assert a == 0
                loop.add(f"turn{b}", f"Real({value!r}) * wp.cw_mul(q{number}, c{degree}_1_{k})")
        by_radial(loop, number, f"p{number}")
    by_vectors(loop, both=True)
    loop.own = beginning("bead", 1, blocks, " " * 4, "mine") + beginning("bead", outputs, blocks, " " * 4, "got")
    loop.own += f"    own = vector(features, {place('mine', 0, blocks)})\n"
    kept = [k for k in range(outputs) if degree_of(k) in loop.targets]
    loop.own += "".join(f"    g{k} = vector(slopes, {place('got', k, blocks)})\n" for k in kept)
    return backward_header(TARGETS, inside) + loop.written(SLOPES, [], "")
