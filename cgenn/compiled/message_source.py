"""The Warp source of the kernels over edges of one layer, written from its irreps: messages and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence

from cgenn.compiled.edge_source import SLOPES, EdgeLoop, beginning, over_edges, place
from cgenn.compiled.ladder import Coupling, step

_HEADER = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    cutoff: Real,
    knots: Real,
    table: wp.array(dtype=Lanes),
    features: wp.array(dtype=Lanes),
{arguments}) -> None:
    row, block = wp.tid()
    bead = begin + row
"""

_RECEIVER = """\
    types: wp.array(dtype=wp.int32),
    receiver: wp.array2d(dtype=Lanes),
"""

_OFFSETS = "    offsets: wp.array(dtype=wp.int32),\n"


def forward(terms: Sequence[Coupling], inputs: int, outputs: int, blocks: int, *, given: bool = False) -> str:
    """T sum over the edges of a bead of W(r, u) x, x the features of the sender and T the factor of its type.

    With `given` radial functions the table holds their values on each edge; those of a bead begin at its offset.
    """
    loop = EdgeLoop(terms, blocks, given)
    loop.load("features", inputs, "f", loop.sources)
    loop.descend()
    for number in range(len(terms)):
        loop.radial(number)
    for target in loop.targets:
        ranks = loop.ranks(target=target)
        for rank in range(min(ranks), target + 1):
            name = f"z{target}_{rank}" if rank < target else f"sum{target}"
            loop.mix(name, target, rank)
            if rank > min(ranks):
                loop.climb(name, f"z{target}_{rank - 1}", step(rank - 1, rank))
    arguments = _RECEIVER + "    messages: wp.array(dtype=Lanes),\n" + (_OFFSETS if given else "")
    text = _HEADER.format(name="forward", arguments=arguments)
    text += "".join(f"    {_sum(k)} = Lanes()\n" for k in range(outputs))
    text += over_edges() + loop.text
    text += "    scale = receiver[types[bead], block]\n" + beginning("bead", outputs, blocks, " " * 4)
    lines = [f"put(messages, {place('bead', k, blocks)}, wp.cw_mul(scale, {_sum(k)}))" for k in range(outputs)]
    return text + "".join(f"    {line}\n" for line in lines)


def backward(
    terms: Sequence[Coupling],
    inputs: int,
    outputs: int,
    blocks: int,
    *,
    features: bool,
    given: bool = False,
    receiving: bool = False,
) -> str:
    """Derivatives by the features, if they are wanted, and by the vectors, which are added to what is there.

    A bead is the sender here: for the message to a neighbour the edge is seen from the other end. Every step of the
    message is taken back: v is the derivative by f, h that by the turned f, and g that by z. The derivatives by radial
    functions that are `given` come instead of those by the distance. With `receiving` a bead is the receiver.
    """
    loop = EdgeLoop(terms, blocks, given)
    ends = [("features", inputs, "f", loop.sources), ("slopes", outputs, "g", loop.targets)]
    (mine, size, own, degrees), theirs = ends[::-1] if receiving else ends
    loop.load(*theirs)
    loop.descend()
    _by_terms(loop)
    _by_targets(loop)
    _by_sources(loop, features)
    _by_vectors(loop, receiving)
    arguments = "    slopes: wp.array(dtype=Lanes),\n    by_vectors: wp.array2d(dtype=Vector),\n"
    if features:
        arguments += "    by_features: wp.array(dtype=Lanes),\n"
    if given:
        arguments += _OFFSETS + "    by_weights: wp.array(dtype=Lanes),\n"
    text = _HEADER.format(name="backward", arguments=arguments)
    text += "    ones = Lanes(Real(1.0))\n"
    wanted = [k for k in range(inputs) if features and _degree(k) in loop.sources]
    kept = [k for degree in degrees for k in range(degree**2, (degree + 1) ** 2)]
    text += beginning("bead", size, blocks, " " * 4)
    text += "".join(f"    {own}{_degree(k)}_{_name(k)} = vector({mine}, {place('bead', k, blocks)})\n" for k in kept)
    text += "".join(f"    {_sum(k)} = Lanes()\n" for k in wanted)
    text += over_edges("" if receiving else "-") + SLOPES + loop.text
    return text + "".join(f"    put(by_features, {place('bead', k, blocks)}, {_sum(k)})\n" for k in wanted)


def _by_terms(loop: EdgeLoop) -> None:
    """From the derivatives by messages to those by z, by the radial functions and by the features of each rank."""
    for target in loop.targets:
        for rank in range(target, min(loop.ranks(target=target)), -1):
            loop.climb_back(f"g{target}_{rank - 1}", f"g{target}_{rank}", step(rank - 1, rank))
    for number, term in enumerate(loop.terms):
        loop.radial(number, slope=True)
        here, there = f"{'t' if term.turned else 'f'}{term.source}_{term.rank}", f"g{term.target}_{term.rank}"
        to = f"{'h' if term.turned else 'v'}{term.source}_{term.rank}"
        products = [f"wp.cw_mul({there}_{m}, {here}_{m})" for m in range(2 * term.rank + 1)]
        loop.line(f"p{number} = " + " + ".join(products))
        if loop.given:
            loop.line(f"put(by_weights, {place('knot', number, loop.blocks)}, p{number})")
        else:
            loop.add("radial", f"wp.cw_mul(d{number}, p{number})")
        for m in range(2 * term.rank + 1):
            loop.add(f"{to}_{m}", f"wp.cw_mul(w{number}, {there}_{m})")


def _by_targets(loop: EdgeLoop) -> None:
    """The derivatives by the direction of the steps up to the messages."""
    for target in loop.targets:
        ranks = loop.ranks(target=target)
        for rank in range(min(ranks), target):
            name = f"z{target}_{rank}"
            loop.mix(name, target, rank)
            if rank > min(ranks):
                loop.climb(name, f"z{target}_{rank - 1}", step(rank - 1, rank))
            loop.direction(name, f"g{target}_{rank + 1}", step(rank, rank + 1))


def _by_sources(loop: EdgeLoop, features: bool) -> None:
    """The derivatives by the direction of the steps down from the features and of their turns, and by the features."""
    for source in loop.sources:
        ranks = loop.ranks(source=source)
        for rank in range(min(ranks), source + 1):
            name = f"{source}_{rank}"
            if rank > min(ranks):
                loop.climb_back(f"v{name}", f"v{source}_{rank - 1}", step(rank, rank - 1))
                loop.direction(f"f{name}", f"v{source}_{rank - 1}", step(rank, rank - 1))
            if loop.has(f"h{name}"):
                loop.climb_back(f"v{name}", f"h{name}", step(rank, rank))
                loop.direction(f"f{name}", f"h{name}", step(rank, rank))
        if features:
            for m in range(2 * source + 1):
                loop.line(f"sum{source}_{m} += v{source}_{source}_{m}")


def _by_vectors(loop: EdgeLoop, receiving: bool) -> None:
    """The derivative by the vector, along it and across, from those by the distance and by the direction."""
    loop.line("along = " + ("Real(0.0)" if loop.given else "per_length * wp.dot(radial, ones)"))
    for b in range(3):
        loop.line(f"s{b} = " + (f"wp.dot(by_u{b}, ones)" if f"by_u{b}" in loop.known else "Real(0.0)"))
    loop.line("along -= (u0 * s0 + u1 * s1 + u2 * s2) * inverse")
    parts = ", ".join(f"{'' if receiving else '-'}(u{b} * along + s{b} * inverse)" for b in range(3))
    loop.line(f"by_vectors[edge, block] += Vector({parts})")


def _degree(component: int) -> int:
    return int(component**0.5)


def _name(component: int) -> str:
    degree = _degree(component)
    return f"{degree}_{component - degree**2}"


def _sum(component: int) -> str:
    return f"sum{_name(component)}"
