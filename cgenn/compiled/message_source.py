"""The Warp source of the kernels over edges of one layer, written from its irreps: messages and their derivatives.

Where `both` messages along an edge are computed together, each pair of beads is there once: radial functions are the
same both ways. What belongs to the other bead is added to what its row, which comes later, begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cgenn.compiled.edge_source import (
    AT,
    FROM_BEAD,
    SLOPES,
    TO_BEAD,
    VALUES,
    EdgeLoop,
    beginning,
    degree_of,
    name_of,
    place,
)
from cgenn.compiled.ladder import Coupling, step

_HEADER = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    shapes: wp.array(dtype=Shape),
    cutoff: Real,
    knots: Real,
    table: wp.array(dtype=Lanes),
    features: wp.array(dtype=Lanes),
{arguments}) -> None:
    row, {block} = wp.tid()
    bead = begin + row
"""

_RECEIVER = """\
    types: wp.array(dtype=wp.int32),
    receiver: wp.array2d(dtype=Lanes),
    messages: wp.array(dtype=Lanes),
"""

OFFSETS = "    offsets: wp.array(dtype=wp.int32),\n    base: wp.int32,\n"
TARGETS = "    targets: wp.array(dtype=wp.int32),\n"
ADDED = "        to = targets[edge]\n"
_ROWS = "    rows: wp.int32,\n"
_TO = {TO_BEAD: "sum", FROM_BEAD: "back"}
"""What the messages of both sides are called."""


def forward_header(more: str = "", inside: bool = False) -> str:
    """The beginning of a kernel of messages."""
    return _HEADER.format(name="forward", arguments=_RECEIVER + more, block="single" if inside else "block")


def backward_header(more: str = "", inside: bool = False) -> str:
    """The beginning of a kernel of derivatives."""
    arguments = "    slopes: wp.array(dtype=Lanes),\n    by_vectors: wp.array2d(dtype=Vector),\n" + more
    text = _HEADER.format(name="backward", arguments=arguments, block="single" if inside else "block")
    return text + "    ones = Lanes(Real(1.0))\n"


def forward(
    terms: Sequence[Coupling], inputs: int, outputs: int, blocks: int, *, given: bool = False, both: bool = False
) -> str:
    """T sum over the edges of a bead of W(r, u) x, x the features of the sender and T the factor of its type.

    With `given` radial functions the table holds their values on each edge; those of a bead begin at its offset.
    """
    loop = EdgeLoop(terms, blocks, (TO_BEAD, FROM_BEAD) if both else (TO_BEAD,), given)
    for _ in loop.each_side():
        take(loop, "features", loop.sources, inputs)
        loop.descend()
        loop.turn()
    for number, term in enumerate(terms):
        loop.radial(number)
        for side in loop.each_side():
            here = loop.name("z", term.target, term.rank)
            loop.mix(number, here if term.rank < term.target else f"{_TO[side]}{term.target}")
    for side in loop.each_side():
        for target in loop.targets:
            for rank in range(min(loop.ranks(target=target)) + 1, target + 1):
                name = loop.name("z", target, rank) if rank < target else f"{_TO[side]}{target}"
                loop.climb(name, loop.name("z", target, rank - 1), step(rank - 1, rank))
    if both:
        loop.text += ADDED
        add_to(loop, "to", "messages", outputs, [(k, f"{_TO[FROM_BEAD]}{name_of(k)}") for k in range(outputs)])
    sums = [_sum(k) for k in range(outputs)]
    before = AT if given else VALUES + fetch_next({"features": inputs, "messages": outputs}, blocks) * both
    text = forward_header(OFFSETS * given + TARGETS * both)
    return text + loop.written(before, sums, ending(outputs, blocks, there=both))


def ending(outputs: int, blocks: int, *, there: bool, sums: bool = True) -> str:
    """What a bead got, what is `there` and its `sums`, times the factor of its type."""
    text = "    scale = receiver[types[bead], block]\n" + beginning("bead", outputs, blocks, " " * 4)
    for k in range(outputs):
        at = place("bead", k, blocks)
        parts = [f"vector(messages, {at})"] * there + [_sum(k)] * sums
        text += f"    put(messages, {at}, wp.cw_mul(scale, {' + '.join(parts)}))\n"
    return text


def backward(
    terms: Sequence[Coupling],
    inputs: int,
    outputs: int,
    blocks: int,
    *,
    features: bool,
    given: bool = False,
    both: bool = False,
) -> str:
    """Derivatives by the features, if they are wanted, and by the vectors, which are added to what is there.

    A bead is the sender, or both; where radial functions are `given` it is the receiver, what belongs to the features
    of the sender is added to a row that this thread alone has, `rows` further down, and derivatives by the radial
    functions come instead of those by the distance. Every step of the message is taken back: v is the derivative by f,
    h that by the turned f, and g that by z.
    """
    sides = (TO_BEAD, FROM_BEAD) if both else (TO_BEAD,) if given else (FROM_BEAD,)
    loop = EdgeLoop(terms, blocks, sides, given)
    wanted = [k for k in range(inputs) if features and degree_of(k) in loop.sources]
    for _ in loop.each_side():
        take(loop, "features", loop.sources, inputs)
        take(loop, "slopes", loop.targets, outputs)
        loop.descend()
        loop.turn()
        descend_slopes(loop)
    for number in range(len(terms)):
        loop.radial(number, slope=True)
        for _ in loop.each_side():
            _by_term(loop, number)
        by_radial(loop, number, f"p{number}")
    for _ in loop.each_side():
        _by_targets(loop)
        _by_sources(loop)
        _add_or_sum(loop, inputs, wanted)
    by_vectors(loop, both=both)
    own, end = wanted if FROM_BEAD in sides else [], ""
    if own:
        end = beginning("bead", inputs, blocks, " " * 4)
        for k in own:
            at = place("bead", k, blocks)
            end += f"    put(by_features, {at}, {f'vector(by_features, {at}) + ' * both}{_sum(k)})\n"
    header = backward_header(more_of_backward(features=features, given=given, both=both))
    sizes = {"features": inputs, "slopes": outputs} | ({"by_features": inputs} if features else {})
    before = AT if given else SLOPES + fetch_next(sizes, blocks) * both
    return header + loop.written(before, [_sum(k) for k in own], end)


def more_of_backward(*, features: bool, given: bool, both: bool) -> str:
    """Arguments that depend on what is wanted."""
    more = ("    by_features: wp.array(dtype=Lanes),\n" + _ROWS * given) * features
    return more + (OFFSETS + "    by_weights: wp.array(dtype=Lanes),\n") * given + TARGETS * both


def _add_or_sum(loop: EdgeLoop, inputs: int, wanted: Sequence[int]) -> None:
    """What derivatives by the features of a side belong to: another bead, or that of the row."""
    if wanted and loop.side == TO_BEAD:
        loop.text += other_row(given=loop.given)
        add_to(loop, "to", "by_features", inputs, [(k, f"v{degree_of(k)}_{name_of(k)}") for k in wanted])
    elif wanted:
        for k in wanted:
            loop.add(_sum(k), f"vb{degree_of(k)}_{name_of(k)}")


def other_row(*, given: bool) -> str:
    """A line that says where derivatives by the features of the other bead are added."""
    return "        to = rows + other\n" if given else ADDED


def add_to(loop: EdgeLoop, bead: str, array: str, size: int, values: Sequence[tuple[int, str]]) -> None:
    """Add to some of the components that an array has of a bead."""
    loop.text += beginning(bead, size, loop.blocks, " " * 8)
    for k, value in values:
        at = place(bead, k, loop.blocks)
        loop.line(f"put({array}, {at}, vector({array}, {at}) + {value})")


def by_radial(loop: EdgeLoop, number: int, slope: str) -> None:
    """The derivative by the place among the knots, from that by a radial function."""
    if loop.given:
        loop.line(f"put(by_weights, {place('knot', number, loop.blocks)}, {slope})")
    else:
        loop.add("radial", f"wp.cw_mul(d{number}, {slope})")


def by_vectors(loop: EdgeLoop, *, both: bool) -> None:
    """The derivative by the vector, along it and across, from those by the distance and by the direction.

    A pair that both of its beads have in their rows, because another thread works on one of them, counts twice.
    """
    lines = ["along = " + ("Real(0.0)" if loop.given else f"per_length * wp.dot({loop.total('radial')}, ones)")]
    for b in range(3):
        known = f"turn{b}" in loop.known
        lines.append(f"s{b} = " + (f"wp.dot({loop.total(f'turn{b}')}, ones)" if known else "Real(0.0)"))
    lines.append("along -= (u0 * s0 + u1 * s1 + u2 * s2) * inverse")
    if both:
        lines.append("part = wp.where(targets[edge] == other, Real(1.0), Real(0.5))")
        lines.append("along = part * along")
        lines.append("across = part * inverse")
    slope, block = "across" if both else "inverse", "0" if loop.inside else "block"
    parts = [f"u{b} * along + s{b} * {slope}" for b in range(3)]
    lines.append(f"by_vectors[edge, {block}] += Vector({', '.join(parts)})")
    loop.after += "".join(f"        {line}\n" for line in lines)


def take(loop: EdgeLoop, array: str, degrees: Sequence[int], size: int) -> None:
    """The features f of the bead that sends, or the slopes g of the one that gets the message. Those of the bead of the
    row are read once for all edges, unless blocks of channels are gone through on each of them."""
    kind, of_bead = ("f", loop.side == FROM_BEAD) if array == "features" else ("g", loop.side == TO_BEAD)
    bead = "bead" if of_bead else "other"
    start = f"{bead}_{kind}"
    lines = loop.loads(array, start, kind, degrees)
    if of_bead and not loop.inside:
        loop.own += beginning(bead, size, loop.blocks, " " * 4, start) + "".join(f"    {line}\n" for line in lines)
        return
    loop.text += beginning(bead, size, loop.blocks, " " * 8, start)
    for line in lines:
        loop.line(line)


def fetch_next(sizes: Mapping[str, int], blocks: int) -> str:
    """Begin to read what is needed of the next other bead, from arrays with so many components of each."""
    lines = ["ahead = wp.int64(senders[wp.min(edge + 1, last[bead] - 1)])"]
    for array, size in sizes.items():
        lines.append(f"fetch({array}, ahead * wp.int64({size * blocks}), {size * blocks})")
    return "".join(f"        {line}\n" for line in lines)


def descend_slopes(loop: EdgeLoop) -> None:
    """From the derivatives by messages to those by z."""
    for target in loop.targets:
        for rank in range(target, min(loop.ranks(target=target)), -1):
            loop.climb_back(loop.name("g", target, rank - 1), loop.name("g", target, rank), step(rank - 1, rank))


def _by_term(loop: EdgeLoop, number: int) -> None:
    """From the derivatives by z to those by a radial function and by the features of its rank; what it adds to z."""
    term = loop.terms[number]
    loop.add(f"p{number}", by_weight(loop, number))
    by_source(loop, number)
    if term.rank < term.target:
        loop.mix(number, loop.name("z", term.target, term.rank))


def by_weight(loop: EdgeLoop, number: int) -> str:
    """The derivative by a radial function."""
    term = loop.terms[number]
    here, there = loop.name("t" if term.turned else "f", term.source, term.rank), loop.name("g", term.target, term.rank)
    return " + ".join(f"wp.cw_mul({there}_{m}, {here}_{m})" for m in range(2 * term.rank + 1))


def by_source(loop: EdgeLoop, number: int) -> None:
    """What a term adds to the derivatives by the features of its rank, or by the turned ones."""
    term = loop.terms[number]
    to, there = loop.name("h" if term.turned else "v", term.source, term.rank), loop.name("g", term.target, term.rank)
    for m in range(2 * term.rank + 1):
        loop.add(f"{to}_{m}", f"wp.cw_mul(w{number}, {there}_{m})")


def _by_targets(loop: EdgeLoop) -> None:
    """The derivatives by the direction of the steps up to the messages."""
    for target in loop.targets:
        least = min(loop.ranks(target=target))
        for rank in range(least, target):
            name = loop.name("z", target, rank)
            if rank > least:
                loop.climb(name, loop.name("z", target, rank - 1), step(rank - 1, rank))
            loop.direction(name, loop.name("g", target, rank + 1), step(rank, rank + 1))


def _by_sources(loop: EdgeLoop) -> None:
    """The derivatives by the features, and by the direction of the steps down from them and of their turns."""
    for source in loop.sources:
        ranks = loop.ranks(source=source)
        for rank in range(min(ranks), source + 1):
            f, v, h = (loop.name(kind, source, rank) for kind in "fvh")
            if rank > min(ranks):
                below = loop.name("v", source, rank - 1)
                loop.climb_back(v, below, step(rank, rank - 1))
                loop.direction(f, below, step(rank, rank - 1))
            if loop.has(h):
                loop.climb_back(v, h, step(rank, rank))
                loop.direction(f, h, step(rank, rank))


def _sum(component: int) -> str:
    return f"sum{name_of(component)}"
