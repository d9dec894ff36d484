"""The Warp source of the kernels over edges of one layer, written from its irreps.

Everything that depends on the irreps is unrolled: each component of features and messages is a variable of its own, a
vector over `lanes` channels. On a CPU that is one or two registers, on a GPU it is one channel of a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cgenn.compiled.edge_frame import Coupling, generator, rotation
from cgenn.compiled.radial import NEAR

LAYOUT = """\
Features of n beads are stored degree by degree, those of degree l as n times 2 l + 1 rows: each degree is one matrix, and
the components of a bead lie next to each other.
"""

_HEADER = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    cutoff: Real,
    knots: Real,
    table: wp.array3d(dtype=Lanes),
    beads: wp.int32,
    features: wp.array2d(dtype=Lanes),
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
        x = r[0] * inverse
        y = r[1] * inverse
        z = r[2] * inverse
        side = wp.where(y < Real(0.0), Real(-1.0), Real(1.0))
        tilt = -Real(1.0) / (side + y)
        both = z * x * tilt
        D1_00 = side + x * x * tilt
        D1_01 = -x
        D1_02 = both
        D1_10 = x
        D1_11 = y
        D1_12 = z
        D1_20 = side * both
        D1_21 = -side * z
        D1_22 = Real(1.0) + side * z * z * tilt
        share = distance / cutoff
        denser = Real(1.0) / (share + Real({near!r}))
        place = knots * Real({gain!r}) * share * denser
        knot = wp.min(wp.int32(place), wp.int32(knots) - 1)
        t = place - Real(knot)
        t2 = t * t
        t3 = t2 * t
        below = Real(2.0) * t3 - Real(3.0) * t2 + Real(1.0)
        rise_below = t3 - Real(2.0) * t2 + t
        above = Real(1.0) - below
        rise_above = t3 - t2
"""

SLOPES = """\
        per_length = knots * Real({slope!r}) * denser * denser / cutoff
        d_below = Real(6.0) * (t2 - t) * per_length
        d_rise_below = (Real(3.0) * t2 - Real(4.0) * t + Real(1.0)) * per_length
        d_rise_above = (Real(3.0) * t2 - Real(2.0) * t) * per_length
"""


_AT = "at = offsets[bead] + edge - first[bead]"
_OFFSETS = "    offsets: wp.array(dtype=wp.int32),\n"


def forward(terms: Sequence[Coupling], outputs: int, *, given: bool = False) -> str:
    """T sum over the edges of a bead of D^T W(r) D x, x the features of the sender and T the factor of its type.

    With `given` radial functions the table holds their values on each edge; those of a bead begin at its offset.
    """
    body = Body(given)
    body.rotations(_rows(terms, whole=False))
    used = sorted({a for term in terms for _, a, _ in term.terms})
    body.turned("f", "features[{}, block]", used, "other")
    for number, term in enumerate(terms):
        body.radial(number)
        for k, a, sign in term.terms:
            body.add(f"m{k}", _signed(sign, f"wp.cw_mul(w{number}, f{a})"))
    made = {k for term in terms for k, _, _ in term.terms}
    for k in range(outputs):
        body.turned_back(f"sum{k}", "m", k, made)
    arguments = _RECEIVER + "    messages: wp.array2d(dtype=Lanes),\n" + (_OFFSETS if given else "")
    text = _HEADER.format(name="forward", arguments=arguments)
    text += "".join(f"    sum{k} = Lanes()\n" for k in range(outputs))
    text += EDGE.format(sign="", near=NEAR, gain=1 + NEAR) + body.text
    text += "    scale = receiver[types[bead], block]\n"
    return text + "".join(f"    messages[{row(k)}, block] = wp.cw_mul(scale, sum{k})\n" for k in range(outputs))


def backward(terms: Sequence[Coupling], inputs: int, outputs: int, *, features: bool, given: bool = False) -> str:
    """Derivatives by the features, if they are wanted, and by the vectors, which are added to what is there.

    A bead is the sender here, and the receiver if no derivatives by features are wanted and the radial functions are
    `given`: for the message to a neighbour the edge is seen from the other end. With q = D W^T D G
    the derivative by the features x, G the one by the message, the angular part follows from what does not change when
    x, G and the edge turn together. The derivatives by radial functions that are given come instead of those by the
    distance.
    """
    here = given and not features
    body = Body(given)
    body.rotations(_rows(terms, whole=True))
    used = sorted({a for term in terms for _, a, _ in term.terms})
    made = sorted({k for term in terms for k, _, _ in term.terms})
    body.turned("f", *(("features[{}, block]", _whole(used), "other") if here else ("x{}", _whole(used))))
    body.turned("g", *(("x{}", _whole(made)) if here else ("slopes[{}, block]", _whole(made), "other")))
    for number, term in enumerate(terms):
        body.radial(number, slope=True)
        product = [_signed(sign, f"wp.cw_mul(g{k}, f{a})") for k, a, sign in term.terms]
        body.line(f"p{number} = " + " + ".join(product))
        if given:
            body.line(f"by_weights[at, {number}, block] = p{number}")
        else:
            body.add("radial", f"wp.cw_mul(d{number}, p{number})")
        for k, a, sign in term.terms:
            body.add(f"q{a}", _signed(sign, f"wp.cw_mul(w{number}, g{k})"))
            if k > 0:
                body.add(f"m{k}", _signed(sign, f"wp.cw_mul(w{number}, f{a})"))
    for axis in (0, 2):
        for pair, components in (("qf", used), ("mg", made)):
            one, other = pair
            for degree in range(1, _degree(components[-1]) + 1):
                start = degree * degree
                for a, b, value in generator(degree, axis):
                    if f"{one}{start + a}" in body.known and f"{other}{start + b}" in body.known:
                        factor = f"wp.cw_mul({one}{start + a}, {other}{start + b})"
                        body.add(f"turn{axis}", factor if value == 1.0 else f"Real({value!r}) * {factor}")
    if features:
        for a in _whole(used):
            body.turned_back(f"sum{a}", "q", a, set(used))
    for axis in (0, 2):
        body.line(f"torque{axis} = " + (f"wp.dot(turn{axis}, ones)" if f"turn{axis}" in body.known else "Real(0.0)"))
    body.line("along = " + ("Real(0.0)" if given else "wp.dot(radial, ones)"))
    body.line("to0 = torque2 * inverse")
    body.line("to2 = -torque0 * inverse")
    for number, name in enumerate("xyz"):
        body.line(f"by_{name} = D1_0{number} * to0 + D1_1{number} * along + D1_2{number} * to2")
    body.line("by_vectors[edge, block] += " + ("Vector(by_x, by_y, by_z)" if here else "Vector(-by_x, -by_y, -by_z)"))
    arguments = "    slopes: wp.array2d(dtype=Lanes),\n    by_vectors: wp.array2d(dtype=Vector),\n"
    if features:
        arguments += "    by_features: wp.array2d(dtype=Lanes),\n"
    if given:
        arguments += _OFFSETS + "    by_weights: wp.array3d(dtype=Lanes),\n"
    text = _HEADER.format(name="backward", arguments=arguments)
    text += "    ones = Lanes(Real(1.0))\n"
    own, count = ("slopes", outputs) if here else ("features", inputs)
    text += "".join(f"    x{a} = {own}[{row(a)}, block]\n" for a in range(count))
    text += "".join(f"    sum{a} = Lanes()\n" for a in _whole(used) if features)
    text += EDGE.format(sign="" if here else "-", near=NEAR, gain=1 + NEAR) + SLOPES.format(slope=NEAR * (1 + NEAR)) + body.text
    if features:
        text += "".join(f"    by_features[{row(a)}, block] = sum{a}\n" for a in _whole(used))
    return text


class Body:
    """Lines inside the loop over edges, and which variables they have given a value."""

    def __init__(self, given: bool = False) -> None:
        self.text = f"        {_AT}\n" if given else ""
        self.known: set[str] = set()
        self.given = given

    def line(self, text: str) -> None:
        """A line as it is."""
        self.text += f"        {text}\n"

    def add(self, name: str, value: str) -> None:
        """Add to a variable, or make it."""
        self.line(f"{name} {'+=' if name in self.known else '='} {value}")
        self.known.add(name)

    def rotations(self, rows: Iterable[tuple[int, int]]) -> None:
        """The elements of D_l in these rows (degree, row), and what they are made of."""
        needed = {(degree, row) for degree, row in rows if degree > 1}
        for degree in range(max((degree for degree, _ in needed), default=1), 2, -1):
            for row in [row for found, row in needed if found == degree]:
                below = {first[0] for column in range(2 * degree + 1) for first, _ in rotation(degree, row, column)}
                needed |= {(degree - 1, i) for i in below}
        for degree, row in sorted(needed):
            for column in range(2 * degree + 1):
                terms = rotation(degree, row, column)
                groups: dict[float, str] = {}
                for ((i, i_), (j, j_)), value in terms.items():
                    size = round(abs(value), 12)
                    sign = "-" if value < 0 else "+" if size in groups else ""
                    groups[size] = groups.get(size, "") + f" {sign} D{degree - 1}_{i}{i_} * D1_{j}{j_}"
                products = [text if size == 1.0 else f"Real({size!r}) * ({text})" for size, text in groups.items()]
                self.line(f"D{degree}_{row}{column} = " + " + ".join(products))

    def turned(self, name: str, source: str, components: Sequence[int], bead: str = "") -> None:
        """Components of features in the frame of the edge, from those outside: variables, or what is stored of a bead."""
        degrees = sorted({_degree(k) for k in components})
        for degree in degrees:
            start, size = degree * degree, 2 * degree + 1
            if bead:
                for column in range(size):
                    self.line(f"{name}in{start + column} = " + source.format(row(start + column, bead)))
            here = f"{name}in{{}}" if bead else source
            for k in [k for k in components if _degree(k) == degree]:
                terms = [f"D{degree}_{k - start}{c} * {here.format(start + c)}" for c in range(size)]
                self.line(f"{name}{k} = " + (here.format(0) if degree == 0 else " + ".join(terms)))
                self.known.add(f"{name}{k}")

    def turned_back(self, target: str, name: str, k: int, made: set[int]) -> None:
        """Add component k of a message, turned out of the frame of the edge."""
        degree = _degree(k)
        start = degree * degree
        for row in range(2 * degree + 1):
            if start + row in made:
                value = f"{name}{start + row}"
                self.line(f"{target} += " + (value if degree == 0 else f"D{degree}_{row}{k - start} * {value}"))

    def radial(self, number: int, *, slope: bool = False) -> None:
        """The value of a radial function, and its slope."""
        if self.given:
            self.line(f"w{number} = table[at, {number}, block]")
            return
        for name, knot, column in (("va", "knot", 0), ("ra", "knot", 1), ("vb", "knot + 1", 0), ("rb", "knot + 1", 1)):
            self.line(f"{name}{number} = table[{knot}, {2 * number + column}, block]")
        one, other = f"va{number}", f"vb{number}"
        rest = [f"ra{number}", f"rb{number}"]
        self.line(f"w{number} = below * {one} + rise_below * {rest[0]} + above * {other} + rise_above * {rest[1]}")
        if slope:
            self.line(
                f"d{number} = d_below * ({one} - {other}) + d_rise_below * {rest[0]} + d_rise_above * {rest[1]}"
            )


def row(component: int, bead: str = "bead") -> str:
    """Where a component is stored."""
    degree = _degree(component)
    first = f"{degree**2} * beads + " if degree else ""
    return f"{first}{2 * degree + 1} * {bead} + {component - degree**2}"


def _degree(component: int) -> int:
    return int(component**0.5)


def _rows(terms: Sequence[Coupling], *, whole: bool) -> set[tuple[int, int]]:
    components = {index for term in terms for k, a, _ in term.terms for index in (k, a)}
    return {(_degree(k), k - _degree(k) ** 2) for k in (_whole(components) if whole else components)}


def _whole(components: Iterable[int]) -> list[int]:
    """All components of the degrees of these."""
    degrees = sorted({_degree(k) for k in components})
    return [k for degree in degrees for k in range(degree**2, (degree + 1) ** 2)]


def _signed(sign: int, value: str) -> str:
    return value if sign > 0 else f"-{value}"
