"""The Warp source of the kernels over edges of one layer where there are few registers: rank after rank.

Messages and derivatives are those of `message_source`. What leaves a register has to be stored, and a store can cost as
much as two products with their sums (measured on Zen 3). Therefore features are read again for each sum, one message of
a pair comes after the other, and what is complete is added where it belongs at once: only radial functions and the sums
by distance and direction are kept from one message to the other.

A pair has both of its messages, unless radial functions are `given`, which are not the same both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cgenn.compiled.edge_source import AT, FROM_BEAD, SLOPES, TO_BEAD, VALUES, EdgeLoop
from cgenn.compiled.ladder import Coupling, step
from cgenn.compiled.message_source import (
    ADDED,
    OFFSETS,
    TARGETS,
    add_to,
    backward_header,
    by_radial,
    by_source,
    by_vectors,
    by_weight,
    descend_slopes,
    ending,
    fetch_next,
    forward_header,
    more_of_backward,
    other_row,
    take,
)

_TURNS = "turn0", "turn1", "turn2"


def forward(terms: Sequence[Coupling], inputs: int, outputs: int, blocks: int, *, given: bool, both: bool) -> str:
    """The messages that beads get, see `message_source.forward`."""
    loop = _loop(terms, blocks, given=given, both=both)
    sizes = {"features": inputs}
    _radial_functions(loop)
    for side in loop.each_side():
        row = ADDED if side == FROM_BEAD else ""
        _read(loop, sizes)
        loop.descend()
        for rank in range(max(loop.targets) + 1):
            _read(loop, sizes, rank)
            loop.turn(rank)
            for target in loop.targets:
                _message(loop, target, rank)
            if rank in loop.targets:
                _add(loop, row, "messages", "z", rank, outputs)
    text = forward_header(OFFSETS * given + TARGETS * both, inside=True)
    before = AT if given else VALUES + fetch_next(sizes, blocks)
    return text + loop.written(before, [], ending(outputs, blocks, there=True, sums=False))


def backward(
    terms: Sequence[Coupling],
    inputs: int,
    outputs: int,
    blocks: int,
    *,
    features: bool,
    given: bool,
    both: bool,
) -> str:
    """The derivatives by features and by vectors, see `message_source.backward`."""
    loop = _loop(terms, blocks, given=given, both=both)
    sizes = {"features": inputs, "slopes": outputs}
    _radial_functions(loop, slope=True)
    for side in loop.each_side():
        row = "" if side == FROM_BEAD else other_row(given=given)
        _read(loop, sizes)
        loop.descend()
        descend_slopes(loop)
        for rank in range(max(*loop.sources, *loop.targets) + 1):
            _read(loop, sizes, rank)
            _by_direction(loop, rank)
            _read(loop, sizes, rank)
            loop.turn(rank)
            if not given:
                _by_radial_functions(loop, rank)
            for source in loop.sources:
                _read(loop, sizes, rank)
                _by_features(loop, source, rank)
                if source == rank and features:
                    _add(loop, row, "by_features", "v", rank, inputs)
            _read(loop, sizes, rank)
            for target in loop.targets:
                if rank < target:
                    _message(loop, target, rank)
                    _settle_all(loop, loop.name("z", target, rank), rank)
            if given:  # the derivatives take the place of the radial functions
                _by_radial_functions(loop, rank)
    by_vectors(loop, both=both)
    header = backward_header(more_of_backward(features=features, given=given, both=both), inside=True)
    return header + loop.written(AT if given else SLOPES + fetch_next(sizes, blocks), [], "")


def _loop(terms: Sequence[Coupling], blocks: int, *, given: bool, both: bool) -> EdgeLoop:
    assert both != given
    return EdgeLoop(terms, blocks, (TO_BEAD, FROM_BEAD) if both else (TO_BEAD,), given, inside=True)


def _radial_functions(loop: EdgeLoop, *, slope: bool = False) -> None:
    """All of them, for both messages; what is given is read where it is needed."""
    for number in range(0 if loop.given else len(loop.terms)):
        loop.radial(number, slope=slope)
        for name in ("w", "d") if slope else ("w",):
            loop.line(f"{name}{number} = settled({name}{number})")


def _given_radial(loop: EdgeLoop, number: int) -> None:
    """One that is given."""
    if loop.given:
        loop.radial(number)


def _read(loop: EdgeLoop, sizes: Mapping[str, int], rank: int | None = None) -> None:
    """Features and slopes of all degrees, or of that of the rank; what was read before need not be kept for it."""
    loop.line("barrier()")
    for array, size in sizes.items():
        degrees = loop.sources if array == "features" else loop.targets
        take(loop, array, [degree for degree in degrees if rank in (None, degree)], size)


def _message(loop: EdgeLoop, target: int, rank: int) -> None:
    """The part of a message that has come up to a rank."""
    z = loop.name("z", target, rank)
    if min(loop.ranks(target=target)) < rank <= target:
        loop.climb(z, loop.name("z", target, rank - 1), step(rank - 1, rank))
    for number, term in enumerate(loop.terms):
        if (term.target, term.rank) == (target, rank):
            _given_radial(loop, number)
            loop.mix(number, z)


def _by_direction(loop: EdgeLoop, rank: int) -> None:
    """The derivatives by the direction of the steps between this rank and the one below."""
    for target in loop.targets:
        if min(loop.ranks(target=target)) < rank <= target:
            loop.direction(loop.name("z", target, rank - 1), loop.name("g", target, rank), step(rank - 1, rank))
    for source in loop.sources:
        if min(loop.ranks(source=source)) < rank <= source:
            loop.direction(loop.name("f", source, rank), loop.name("v", source, rank - 1), step(rank, rank - 1))
    _settle(loop, *_TURNS)


def _by_radial_functions(loop: EdgeLoop, rank: int) -> None:
    """The derivatives by the radial functions of a rank."""
    for number, term in enumerate(loop.terms):
        if term.rank == rank:
            by_radial(loop, number, by_weight(loop, number))
    _settle(loop, "radial")


def _by_features(loop: EdgeLoop, source: int, rank: int) -> None:
    """The derivatives by features of a rank."""
    f, v, h = (loop.name(kind, source, rank) for kind in "fvh")
    if min(loop.ranks(source=source)) < rank <= source:
        loop.climb_back(v, loop.name("v", source, rank - 1), step(rank, rank - 1))
    for number, term in enumerate(loop.terms):
        if (term.source, term.rank) == (source, rank):
            _given_radial(loop, number)
            by_source(loop, number)
    if loop.has(h):
        loop.climb_back(v, h, step(rank, rank))
        loop.direction(f, h, step(rank, rank))
        _settle(loop, *_TURNS)
    if rank < source:
        _settle_all(loop, v, rank)


def _add(loop: EdgeLoop, row: str, array: str, kind: str, rank: int, size: int) -> None:
    """Add what is complete to a row of an array: that of the bead, or the other one that a line tells."""
    loop.text += row
    name = loop.name(kind, rank, rank)
    values = [(rank**2 + m, f"{name}_{m}") for m in range(2 * rank + 1)]
    add_to(loop, "to" if row else "bead", array, size, values)


def _settle_all(loop: EdgeLoop, name: str, rank: int) -> None:
    """The components of a tensor."""
    _settle(loop, *(f"{name}_{m}" for m in range(2 * rank + 1)))


def _settle(loop: EdgeLoop, *names: str) -> None:
    """Have values computed here: the compiler would rather put it off, and keep what they are computed from."""
    for name in names:
        if name in loop.known:
            loop.line(f"{name} = settled({name})")
