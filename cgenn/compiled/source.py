"""The Warp source of the kernels over edges of one layer, written from its irreps.

Everything that depends on the irreps is unrolled: each component of features and messages is a variable of its own, a
vector over `lanes` channels. On a CPU that is one or two registers, on a GPU it is one channel of a thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from cgenn.compiled.ladder import Coupling, Term, step
from cgenn.compiled.radial import NEAR, POWERS

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

EDGE = """\
    for edge in range(first[bead], last[bead]):
        r = {sign}vectors[edge]
        distance = wp.length(r)
        if distance >= cutoff:
            continue
        other = senders[edge]
        inverse = Real(1.0) / distance
        u0 = r[0] * inverse
        u1 = r[1] * inverse
        u2 = r[2] * inverse
        share = distance / cutoff
        denser = Real(1.0) / (share + Real({near!r}))
        place = knots * Real({gain!r}) * share * denser
        knot = wp.min(wp.int32(place), wp.int32(knots) - 1)
        t = place - Real(knot)
"""

SLOPES = """\
        rise2 = Real(2.0) * t
        rise3 = Real(3.0) * t * t
        rise4 = Real(4.0) * t * t * t
        per_length = knots * Real({slope!r}) * denser * denser / cutoff
"""


_AT = "        at = offsets[bead] + edge - first[bead]\n"
_OFFSETS = "    offsets: wp.array(dtype=wp.int32),\n"


def forward(terms: Sequence[Coupling], inputs: int, outputs: int, blocks: int, *, given: bool = False) -> str:
    """T sum over the edges of a bead of W(r, u) x, x the features of the sender and T the factor of its type.

    With `given` radial functions the table holds their values on each edge; those of a bead begin at its offset.
    """
    body = Body(terms, blocks, given)
    body.load("features", inputs, "f", body.sources)
    body.descend()
    for number in range(len(terms)):
        body.radial(number)
    for target in body.targets:
        ranks = body.ranks(target=target)
        for rank in range(min(ranks), target + 1):
            name = f"z{target}_{rank}" if rank < target else f"sum{target}"
            body.mix(name, target, rank)
            if rank > min(ranks):
                body.climb(name, f"z{target}_{rank - 1}", step(rank - 1, rank))
    arguments = _RECEIVER + "    messages: wp.array(dtype=Lanes),\n" + (_OFFSETS if given else "")
    text = _HEADER.format(name="forward", arguments=arguments)
    text += "".join(f"    {_sum(k)} = Lanes()\n" for k in range(outputs))
    text += EDGE.format(sign="", near=NEAR, gain=1 + NEAR) + body.text
    text += "    scale = receiver[types[bead], block]\n" + _first("bead", outputs, blocks, " " * 4)
    lines = [f"put(messages, {_at('bead', k, blocks)}, wp.cw_mul(scale, {_sum(k)}))" for k in range(outputs)]
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
    body = Body(terms, blocks, given)
    ends = [("features", inputs, "f", body.sources), ("slopes", outputs, "g", body.targets)]
    (mine, size, own, degrees), theirs = ends[::-1] if receiving else ends
    body.load(*theirs)
    body.descend()
    for target in body.targets:
        for rank in range(target, min(body.ranks(target=target)), -1):
            body.climb_back(f"g{target}_{rank - 1}", f"g{target}_{rank}", step(rank - 1, rank))
    for number, term in enumerate(terms):
        body.radial(number, slope=True)
        here, there = f"{'t' if term.turned else 'f'}{term.source}_{term.rank}", f"g{term.target}_{term.rank}"
        to = f"{'h' if term.turned else 'v'}{term.source}_{term.rank}"
        products = [f"wp.cw_mul({there}_{m}, {here}_{m})" for m in range(2 * term.rank + 1)]
        body.line(f"p{number} = " + " + ".join(products))
        if given:
            body.line(f"put(by_weights, {_at('knot', number, blocks)}, p{number})")
        else:
            body.add("radial", f"wp.cw_mul(d{number}, p{number})")
        for m in range(2 * term.rank + 1):
            body.add(f"{to}_{m}", f"wp.cw_mul(w{number}, {there}_{m})")
    for target in body.targets:
        ranks = body.ranks(target=target)
        for rank in range(min(ranks), target):
            name = f"z{target}_{rank}"
            body.mix(name, target, rank)
            if rank > min(ranks):
                body.climb(name, f"z{target}_{rank - 1}", step(rank - 1, rank))
            body.direction(name, f"g{target}_{rank + 1}", step(rank, rank + 1))
    for source in body.sources:
        ranks = body.ranks(source=source)
        for rank in range(min(ranks), source + 1):
            name = f"{source}_{rank}"
            if rank > min(ranks):
                body.climb_back(f"v{name}", f"v{source}_{rank - 1}", step(rank, rank - 1))
                body.direction(f"f{name}", f"v{source}_{rank - 1}", step(rank, rank - 1))
            if body.has(f"h{name}"):
                body.climb_back(f"v{name}", f"h{name}", step(rank, rank))
                body.direction(f"f{name}", f"h{name}", step(rank, rank))
        if features:
            for m in range(2 * source + 1):
                body.line(f"sum{source}_{m} += v{source}_{source}_{m}")
    body.line("along = " + ("Real(0.0)" if given else "per_length * wp.dot(radial, ones)"))
    for b in range(3):
        body.line(f"s{b} = " + (f"wp.dot(by_u{b}, ones)" if f"by_u{b}" in body.known else "Real(0.0)"))
    body.line("along -= (u0 * s0 + u1 * s1 + u2 * s2) * inverse")
    parts = ", ".join(f"{'' if receiving else '-'}(u{b} * along + s{b} * inverse)" for b in range(3))
    body.line(f"by_vectors[edge, block] += Vector({parts})")
    arguments = "    slopes: wp.array(dtype=Lanes),\n    by_vectors: wp.array2d(dtype=Vector),\n"
    if features:
        arguments += "    by_features: wp.array(dtype=Lanes),\n"
    if given:
        arguments += _OFFSETS + "    by_weights: wp.array(dtype=Lanes),\n"
    text = _HEADER.format(name="backward", arguments=arguments)
    text += "    ones = Lanes(Real(1.0))\n"
    wanted = [k for k in range(inputs) if _degree(k) in body.sources]
    kept = [k for degree in degrees for k in range(degree**2, (degree + 1) ** 2)]
    text += _first("bead", size, blocks, " " * 4)
    text += "".join(f"    {own}{_degree(k)}_{_name(k)} = vector({mine}, {_at('bead', k, blocks)})\n" for k in kept)
    text += "".join(f"    {_sum(k)} = Lanes()\n" for k in wanted if features)
    text += (
        EDGE.format(sign="" if receiving else "-", near=NEAR, gain=1 + NEAR)
        + SLOPES.format(slope=NEAR * (1 + NEAR))
        + body.text
    )
    if features:
        text += "".join(f"    put(by_features, {_at('bead', k, blocks)}, {_sum(k)})\n" for k in wanted)
    return text


class Body:
    """Lines inside the loop over edges, and which variables they have given a value.

    f, t and z are tensors of (degree of the features or of the message)_(rank)_(component).
    """

    def __init__(self, terms: Sequence[Coupling], blocks: int, given: bool = False) -> None:
        self.terms, self.blocks, self.given = terms, blocks, given
        self.sources = sorted({term.source for term in terms})
        self.targets = sorted({term.target for term in terms})
        size = len(terms) if given else POWERS * len(terms)
        self.text = (_AT if given else "") + _first("at" if given else "knot", size, blocks, " " * 8, "knot")
        self.known: set[str] = set()

    def ranks(self, source: int | None = None, target: int | None = None) -> set[int]:
        """The ranks that features of a degree go down to, or messages of a degree come from."""
        return {term.rank for term in self.terms if source in (None, term.source) and target in (None, term.target)}

    def has(self, name: str) -> bool:
        """Whether a tensor has got a component."""
        return f"{name}_0" in self.known

    def line(self, text: str) -> None:
        """A line as it is."""
        self.text += f"        {text}\n"

    def add(self, name: str, value: str) -> None:
        """Add to a variable, or make it; those called sum are there."""
        self.line(f"{name} {'+=' if name in self.known or name.startswith('sum') else '='} {value}")
        self.known.add(name)

    def load(self, array: str, size: int, name: str, degrees: Sequence[int]) -> None:
        """The components of the other bead as they are stored, of the highest rank."""
        self.text += _first("other", size, self.blocks, " " * 8)
        for degree in degrees:
            for m in range(2 * degree + 1):
                self.line(f"{name}{degree}_{degree}_{m} = vector({array}, {_at('other', degree**2 + m, self.blocks)})")

    def descend(self) -> None:
        """Contract the features with the direction down to the ranks that are needed, and turn them."""
        for source in self.sources:
            for rank in range(source, min(self.ranks(source=source)), -1):
                self.climb(f"f{source}_{rank - 1}", f"f{source}_{rank}", step(rank, rank - 1))
            for rank in sorted({term.rank for term in self.terms if term.source == source and term.turned}):
                self.climb(f"t{source}_{rank}", f"f{source}_{rank}", step(rank, rank))

    def mix(self, name: str, target: int, rank: int) -> None:
        """The part of a message that comes in at a rank."""
        for number, term in enumerate(self.terms):
            if (term.target, term.rank) == (target, rank):
                here = f"{'t' if term.turned else 'f'}{term.source}_{rank}"
                for m in range(2 * rank + 1):
                    self.add(f"{name}_{m}", f"wp.cw_mul(w{number}, {here}_{m})")

    def climb(self, to: str, source: str, terms: Sequence[Term]) -> None:
        """A step, added to what is there."""
        for a, b, k, value in terms:
            self.add(f"{to}_{k}", f"{_scaled(value, f'u{b}')} * {source}_{a}")

    def climb_back(self, to: str, source: str, terms: Sequence[Term]) -> None:
        """The derivative of a step by what it starts from."""
        self.climb(to, source, [(k, b, a, value) for a, b, k, value in terms])

    def direction(self, start: str, end: str, terms: Sequence[Term]) -> None:
        """The derivative of a step by the direction."""
        for b in range(3):
            parts = [(value, f"wp.cw_mul({start}_{a}, {end}_{k})") for a, along, k, value in terms if along == b]
            if parts:
                self.add(f"by_u{b}", weighted_sum(parts))

    def radial(self, number: int, *, slope: bool = False) -> None:
        """The value of a radial function, and its slope."""
        if self.given:
            self.line(f"w{number} = vector(table, {_at('knot', number, self.blocks)})")
            return
        for power in range(POWERS):
            self.line(f"c{power}_{number} = vector(table, {_at('knot', POWERS * number + power, self.blocks)})")
        parts = [f"c{power}_{number}" for power in range(POWERS)]
        self.line(f"w{number} = " + " + t * (".join(parts) + ")" * (POWERS - 1))
        if slope:
            self.line(f"d{number} = {parts[1]} + " + " + ".join(f"rise{n} * {parts[n]}" for n in range(2, POWERS)))


def row(component: int, bead: str = "bead") -> str:
    """Where a component is stored, in an array of beads, components and blocks of channels."""
    return f"{bead}, {component}"


def weighted_sum(parts: Sequence[tuple[float, str]]) -> str:
    """Each coefficient once: those that are the same up to their sign are multiplied by the sum of their terms."""
    groups: dict[float, str] = {}
    for value, text in parts:
        size = round(abs(value), 14)
        sign = " - " if value < 0 else " + " if size in groups else ""
        groups[size] = groups.get(size, "") + sign + text
    return " + ".join(_scaled(size, f"({text})") for size, text in groups.items())


def _first(bead: str, size: int, blocks: int, indent: str, name: str = "") -> str:
    """Where what is stored of a bead begins, in this block."""
    return f"{indent}{name or bead}_at = wp.int64({bead}) * wp.int64({size * blocks}) + wp.int64(block)\n"


def _at(bead: str, component: int, blocks: int) -> str:
    return f"{bead}_at + wp.int64({component * blocks})"


def _degree(component: int) -> int:
    return int(component**0.5)


def _name(component: int) -> str:
    degree = _degree(component)
    return f"{degree}_{component - degree**2}"


def _sum(component: int) -> str:
    return f"sum{_name(component)}"


def _scaled(value: float, text: str) -> str:
    if abs(abs(value) - 1.0) < 1e-14:
        return text if value > 0 else f"(-{text})"
    return f"(Real({value!r}) * {text})"
