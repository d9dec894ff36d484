"""The Warp source of the product of what each bead gathered with itself, and of its derivatives.

There are 137 terms at lmax 2, which are written out; 611 at lmax 3 and 2052 at lmax 4 would take minutes to compile and
are a list that is gone through. C++ with vectors of its own, as those of Warp take twice the time here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Term = tuple[int, int, int, int, float]
"""(path, first, second, out, coefficient) of a product."""
Terms = tuple[Int[Tensor, "terms 4"], Float[Tensor, " terms"]]
"""The first four of each, and the coefficients."""
_WRITTEN_OUT = 200
"""At most so many terms."""

_KERNEL = '''\
def {name}(
    chunk: wp.array(dtype=wp.int32),
    terms: wp.array(dtype=wp.vec4i),
    values: wp.array(dtype=Real),
    weights: wp.array2d(dtype=Lanes),
    pairs: wp.array3d(dtype=Lanes),
    products: wp.array3d(dtype=Lanes),
) -> None:
    row, block = wp.tid()
    components(row, block, terms, values, weights, pairs, products)

@wp.func_native("""
    typedef {number} Number;
    typedef Number Many{vector};
    const auto weight = [&](int path) {{ return *(Many*)&wp::index(weights, path, block); }};
    const auto many = [bead](auto& array, int component, int block) -> Many& {{
        return *(Many*)&wp::index(array, bead, component, block);
    }};
    const auto add = [&](Many* sums, const Many* one, const Many* other, int first, int last) {{
        const auto* const term = terms.data;
        const Number* const value = values.data;
        Many part = 0;
        for (int at = first; at < last; ++at) {{
            part += value[at] * one[term[at][1]] * other[term[at][2]];
            if (const int to = term[at][3]; to >= 0) {{
                sums[to] += weight(term[at][0]) * part;
                part = 0;
            }}
        }}
    }};
    const int half = products.shape[2];
    Many left[{size}], right[{size}], sums[{sums}] = {{}};
    for (int k = 0; k < {size}; ++k) {{
        left[k] = many(pairs, k, block);
        right[k] = many(pairs, k, half + block);
    }}
{body}\
""")
def components(
    bead: wp.int32,
    block: wp.int32,
    terms: wp.array(dtype=wp.vec4i),
    values: wp.array(dtype=Real),
    weights: wp.array2d(dtype=Lanes),
    pairs: wp.array3d(dtype=Lanes),
    products: wp.array3d(dtype=Lanes),
): ...
'''

_FORWARD = """\
{all}    for (int k = 0; k < {out}; ++k) many(products, k, block) = sums[k];
"""

_BACKWARD = """\
    Many slopes[{out}];
    for (int k = 0; k < {out}; ++k) slopes[k] = many(products, k, block);
{by_left}    for (int k = 0; k < {size}; ++k) many(pairs, k, block) = sums[k], sums[k] = 0;
{by_right}    for (int k = 0; k < {size}; ++k) many(pairs, k, half + block) = sums[k];
"""


def forward(size: int, out: int, terms: Terms, dtype: torch.dtype, lanes: int) -> str:
    """out_k = sum c w_p left_i right_j; left and right are the two halves of the channels of `pairs`."""
    body = _FORWARD.format(out=out, all=_sums("left", "right", terms, 0, len(terms[0])))
    return _text("product", body, size, out, dtype, lanes)


def backward(size: int, out: int, terms: Terms, dtype: torch.dtype, lanes: int) -> str:
    """The derivatives by both halves of `pairs`, in place of them, from those by the products."""
    count = len(terms[0])
    by_left = _sums("right", "slopes", terms, 0, count // 2)
    by_right = _sums("left", "slopes", terms, count // 2, count)
    body = _BACKWARD.format(size=size, out=out, by_left=by_left, by_right=by_right)
    return _text("product_backward", body, size, size, dtype, lanes)


def term_lists(terms: Sequence[Term]) -> tuple[Terms, Terms]:
    """What `forward` and `backward` go through: for the latter first the terms of left, then those of right.

    Those with the same path and the same sum follow each other; the last of them says which sum, the others -1.
    """
    by_left = _ordered([(path, j, k, i, value) for path, i, j, k, value in terms])
    by_right = _ordered([(path, i, k, j, value) for path, i, j, k, value in terms])
    return _tensors(_ordered(terms)), _tensors(by_left + by_right)


def _ordered(terms: Sequence[Term]) -> list[Term]:
    groups: dict[tuple[int, int], list[Term]] = defaultdict(list)
    for term in terms:
        path, i, j, k, value = term
        groups[k, path].append((path, i, j, -1, value))
    for (k, _), group in groups.items():
        group[-1] = (*group[-1][:3], k, group[-1][4])
    return [term for key in sorted(groups) for term in groups[key]]


def _tensors(terms: Sequence[Term]) -> Terms:
    places = torch.tensor([term[:4] for term in terms], dtype=torch.int32)
    return places, torch.tensor([term[4] for term in terms], dtype=torch.float64)


def _sums(one: str, other: str, terms: Terms, first: int, last: int) -> str:
    """Lines that add some of the terms."""
    if last - first > _WRITTEN_OUT:
        return f"    add(sums, {one}, {other}, {first}, {last});\n"
    text, parts = "", []
    for (path, i, j, to), value in zip(terms[0][first:last].tolist(), terms[1][first:last].tolist(), strict=True):
        parts.append(f"Number({value!r}) * {one}[{i}] * {other}[{j}]")
        if to >= 0:
            text += f"    sums[{to}] += weight({path}) * ({' + '.join(parts)});\n"
            parts = []
    return text


def _text(name: str, body: str, size: int, sums: int, dtype: torch.dtype, lanes: int) -> str:
    number = "float" if dtype == torch.float32 else "double"
    vector = f" __attribute__((ext_vector_type({lanes}), aligned(4)))" if lanes > 1 else ""
    return _KERNEL.format(name=name, number=number, vector=vector, size=size, sums=sums, body=body)
