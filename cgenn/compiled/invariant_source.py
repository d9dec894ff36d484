"""The Warp source of the invariants of how bodies lie, for some edges at a time, and of their derivatives.

What an invariant does not change by, a turn of both bodies and the edge together, gives its derivative by the direction
of the edge from those by turns of the bodies, which in turn follow from the tensors themselves: x becomes x + w J x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cgenn.compiled.orientation_source import Tensors, generator, harmonics
from cgenn.nn.orientation import EdgeInvariants

_ZERO = 1e-9
_ROWS = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    offsets: wp.array(dtype=wp.int32),
    tensors: wp.array2d(dtype=Real),
    invariants: wp.array2d(dtype=Real),
{arguments}) -> None:
    row, single = wp.tid()
    bead = begin + row
    some(bead, offsets[bead], first[bead], last[bead], senders, vectors, tensors, invariants{names})
"""

_SOME = '''
@wp.func_native("""
    typedef {number} Number;
    typedef Number Many __attribute__((ext_vector_type({at_once}), aligned(4)));
    const Number* const mine = tensors.data + bead * {size};
{own}    for (int start = first; start < last; start += {at_once}) {{
        const int count = last - start < {at_once} ? last - start : {at_once};
        int edges[{at_once}];
        const Number* others[{at_once}];
        Many r0, r1, r2;
        for (int k = 0; k < {at_once}; ++k) {{
            edges[k] = start + (k < count ? k : 0);
            others[k] = tensors.data + senders.data[edges[k]] * {size};
            const auto& r = vectors.data[edges[k]];
            r0[k] = r[0], r1[k] = r[1], r2[k] = r[2];
        }}
        const auto numbers = [&](const Number* const* from, int place) {{
            Many found;
            for (int k = 0; k < {at_once}; ++k) found[k] = from[k][place];
            return found;
        }};
        Many inverse = r0 * r0 + r1 * r1 + r2 * r2;
        for (int k = 0; k < {at_once}; ++k) inverse[k] = Number(1) / sqrt(inverse[k]);
{others}        const auto row = [&](int k) {{ return at + start - first + (k < count ? k : 0); }};
{body}    }}
{end}""")
def some(
    bead: wp.int32,
    at: wp.int32,
    first: wp.int32,
    last: wp.int32,
    senders: wp.array(dtype=wp.int32),
    vectors: wp.array(dtype=Vector),
    tensors: wp.array2d(dtype=Real),
    invariants: wp.array2d(dtype=Real),
{arguments}): ...
'''
"""C++ on vectors of edges; those that are missing in the last one are the first one again."""


def invariants(edges: EdgeInvariants, tensors: Tensors, dtype: torch.dtype, at_once: int, width: int) -> str:
    """Those of the messages that a bead gets, of all edges, so many `at_once`; each has room for `width` numbers."""
    body = f"""\
        const auto into = [&](int m, Many values) {{
            for (int k = 0; k < count; ++k) invariants.data[row(k) * {width} + m] = values[k];
        }};
"""
    body += _vectors(_Invariants(edges, tensors).values())
    body += "".join(f"        into({m}, i{m});\n" for m in range(edges.outputs))
    return _rows("invariants", tensors, dtype, at_once, body, {})


def invariants_backward(edges: EdgeInvariants, tensors: Tensors, dtype: torch.dtype, at_once: int, width: int) -> str:
    """Derivatives by the vectors and by turns of both bodies, added to what is there, from those by the invariants."""
    body = f"""\
        Many turns[6];
        const Number* rows[{at_once}];
"""
    lines = f"for (int k = 0; k < {at_once}; ++k) rows[k] = invariants.data + row(k) * {width};\n"
    lines += "".join(f"g{m} = numbers(rows, {m})\n" for m in range(edges.outputs))
    lines += _Invariants(edges, tensors).derivatives()
    for number, end in enumerate("bo"):
        for axis in range(3):
            lines += f"turns[{3 * number + axis}] = {_turn(tensors, end, axis)};\n"
    body += _vectors(lines)
    body += """\
        const Many u[3] = {u0, u1, u2};
        for (int axis = 0; axis < 3; ++axis) {
            const int next = (axis + 1) % 3, after = (axis + 2) % 3;
            const Many aside = u[next] * (turns[after] + turns[3 + after]) - u[after] * (turns[next] + turns[3 + next]);
            for (int k = 0; k < count; ++k) {
                total[axis] += turns[axis][k];
                of_others.data[edges[k]][axis] += turns[3 + axis][k];
                wp::index(by_vectors, edges[k], 0)[axis] += aside[k] * inverse[k];
            }
        }
"""
    arguments = {
        "of_bead": "wp.array(dtype=Vector)",
        "of_others": "wp.array(dtype=Vector)",
        "by_vectors": "wp.array2d(dtype=Vector)",
    }
    end = "    for (int axis = 0; axis < 3; ++axis) of_bead.data[bead][axis] += total[axis];\n"
    return _rows("invariants_backward", tensors, dtype, at_once, body, arguments, "    Number total[3] = {};\n", end)


class _Invariants:
    """The invariants i0, i1, ... in the order of `EdgeInvariants`, and the derivatives from g0, g1, ... by them.

    b and o are the tensors of the bead, the receiver, and of the other one, the sender.
    """

    def __init__(self, edges: EdgeInvariants, tensors: Tensors) -> None:
        self.tensors, self.count = tensors, 0
        self.prepared = harmonics(edges.degree)
        self.singles: list[tuple[int, str, int, float]] = []
        """(number, tensor, degree, scale) of F . Y."""
        self.pairs: list[_Pairs] = []
        for number, kind in enumerate(edges.kinds):
            scale = (2 * kind.degree + 1) ** -0.5
            self._pair(number, number, {(c, c): f"Real({scale!r})" for c in range(2 * kind.degree + 1)})
            if number in edges.singles:
                for end in "bo":
                    for start in self._starts(number):
                        self.singles.append((self.count, f"{end}{start}", kind.degree, scale))
                        self.count += 1
        for place, ((first, second, third), coupling) in enumerate(zip(edges.triples, edges.couplings, strict=True)):
            matrix: dict[tuple[int, int], str] = {}
            for a, block in enumerate(coupling.exact.tolist()):  # type: ignore[operator]
                for b, values in enumerate(block):
                    parts = [f"Real({v!r}) * Y{third**2 + c}" for c, v in enumerate(values) if abs(v) > _ZERO]
                    if parts:
                        matrix[a, b] = f"z{place}_{a}_{b}"
                        self.prepared.append(f"{matrix[a, b]} = " + " + ".join(parts))
            self._pair(first, second, matrix)

    def _starts(self, number: int) -> list[int]:
        return [self.tensors.start(number, n) for n in range(self.tensors.counts[number])]

    def _pair(self, first: int, second: int, matrix: dict[tuple[int, int], str]) -> None:
        self.pairs.append(_Pairs(self.count, self._starts(first), self._starts(second), matrix))
        self.count += len(self.pairs[-1].here) * len(self.pairs[-1].there)

    def values(self) -> str:
        """Lines that make the invariants."""
        lines = list(self.prepared)
        for place, tensor, degree, scale in self.singles:
            parts = [f"{_component(tensor, c)} * Y{degree**2 + c}" for c in range(2 * degree + 1)]
            lines.append(f"i{place} = Real({scale!r}) * ({' + '.join(parts)})")
        for group, pairs in enumerate(self.pairs):
            lines += pairs.multiplied(f"u{group}", "o", 1)
            for n, m, place in pairs.each():
                rows = sorted({a for a, _ in pairs.matrix})
                parts = [f"b{pairs.here[n] + a} * u{group}_{m}_{a}" for a in rows]
                lines.append(f"i{place} = " + " + ".join(parts))
        return "".join(f"        {line}\n" for line in lines)

    def derivatives(self) -> str:
        """Lines that make the derivatives dbN and doN by the tensors."""
        lines = list(self.prepared)
        by: dict[str, list[str]] = {f"{end}{c}": [] for end in "bo" for c in range(self.tensors.size)}
        for place, tensor, degree, scale in self.singles:
            for c in range(2 * degree + 1):
                by[_component(tensor, c)].append(f"Real({scale!r}) * g{place} * Y{degree**2 + c}")
        for group, pairs in enumerate(self.pairs):
            lines += pairs.multiplied(f"u{group}", "o", 1) + pairs.multiplied(f"v{group}", "b", 0)
            for n, m, place in pairs.each():
                for a in sorted({a for a, _ in pairs.matrix}):
                    by[f"b{pairs.here[n] + a}"].append(f"g{place} * u{group}_{m}_{a}")
                for b in sorted({b for _, b in pairs.matrix}):
                    by[f"o{pairs.there[m] + b}"].append(f"g{place} * v{group}_{n}_{b}")
        lines += [f"d{name} = " + (" + ".join(parts) or "Real(0.0)") for name, parts in by.items()]
        return "".join(f"        {line}\n" for line in lines)


@dataclass(frozen=True)
class _Pairs:
    """Invariants F_n Z G_m of all tensors of a kind here and one there, the first of them with this number.

    Attributes:
        here, there: where the tensors begin.
        matrix: Z, as far as it is not zero.
    """

    number: int
    here: list[int]
    there: list[int]
    matrix: dict[tuple[int, int], str]

    def each(self) -> list[tuple[int, int, int]]:
        """(n, m, number) of each invariant."""
        pairs = [(n, m) for n in range(len(self.here)) for m in range(len(self.there))]
        return [(n, m, self.number + place) for place, (n, m) in enumerate(pairs)]

    def multiplied(self, name: str, end: str, side: int) -> list[str]:
        """Lines that make Z G_m, or F_n Z with a `side` of 0."""
        lines = []
        for number, start in enumerate(self.there if side else self.here):
            for k in sorted({index[1 - side] for index in self.matrix}):
                found = [(index[side], value) for index, value in self.matrix.items() if index[1 - side] == k]
                lines.append(
                    f"{name}_{number}_{k} = " + " + ".join(f"{value} * {end}{start + c}" for c, value in found)
                )
        return lines


def _component(tensor: str, c: int) -> str:
    return f"{tensor[0]}{int(tensor[1:]) + c}"


def _turn(tensors: Tensors, end: str, axis: int) -> str:
    """The derivative by a turn about an axis, from those by the tensors."""
    parts = []
    for number, start in tensors.each():
        for a, b, value in generator(tensors.kinds[number].degree, axis):
            parts.append(f"Real({value!r}) * d{end}{start + a} * {end}{start + b}")
    return (" + ".join(parts) or "Real(0.0)").replace("Real(", "Number(")


def _rows(
    name: str,
    tensors: Tensors,
    dtype: torch.dtype,
    at_once: int,
    body: str,
    more: dict[str, str],
    begin: str = "",
    end: str = "",
) -> str:
    """A kernel that does something with edges of a bead, several at a time."""
    given = "".join(f"    {label}: {kind},\n" for label, kind in more.items())
    text = _ROWS.format(name=name, arguments=given, names="".join(f", {label}" for label in more))
    own = "".join(f"    const Number b{c} = mine[{c}];\n" for c in range(tensors.size))
    others = "".join(f"        const Many o{c} = numbers(others, {c});\n" for c in range(tensors.size))
    number = "float" if dtype == torch.float32 else "double"
    sizes = {"at_once": at_once, "size": max(tensors.size, 1), "number": number}
    return text + _SOME.format(own=own + begin, others=others, body=body, end=end, arguments=given, **sizes)


def _vectors(text: str) -> str:
    """Lines as C++; those without a semicolon make a new vector. u is the direction from the bead to the other one."""
    lines = [f"u{k} = r{k} * inverse" for k in range(3)] + [line.strip() for line in text.splitlines()]
    lines = [line if line.endswith(";") else f"const Many {line};" for line in lines]
    return "".join(f"        {line.replace('Real(', 'Number(')}\n" for line in lines)
