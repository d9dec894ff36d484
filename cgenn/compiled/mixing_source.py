"""The source of matrix products that mix the channels of a few beads, the same kernels for all layers.

Features are stored bead by bead, component by component. The rows of six beads that belong to the same component are
multiplied by the weights of its degree together: weights are read once for all of them, and there are enough sums to
hide how long a product takes. In C++, because vectors of Warp leave the registers when there are that many.
"""

from __future__ import annotations

import torch

AT_ONCE = 6
"""Beads of a thread."""

_TYPES = "    types: wp.array(dtype=wp.int32),\n    factors: wp.array(dtype=Lanes),\n"
_KEPT = "    kept: wp.array(dtype=Lanes),\n    kept_size: wp.int32,\n    kept_degrees: wp.int32,\n"
_ARGUMENTS = """\
    degrees: wp.int32,
    blocks: wp.int32,
    values: wp.array(dtype=Real),
    values_size: wp.int32,
    values_apart: wp.int32,
    wide: wp.int32,
    weights: wp.array(dtype=Lanes),
    out: wp.array(dtype=Lanes),
    out_size: wp.int32,
    out_apart: wp.int32,
"""
_KERNEL = '''\
def mixing{name}(
    chunk: wp.array(dtype=wp.int32),
{arguments}) -> None:
    tile, block = wp.tid()
    products(chunk, tile, block, {given})

@wp.func_native("""
    {vector}
    const int begin = chunk.data[0], count = chunk.data[1];
    for (int degree = 0; degree < degrees; ++degree) {{
        const Many* const from = (const Many*)weights.data + size_t(degree) * wide * blocks + block;
        for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {{
            int bead = {at_once} * tile;
            if (bead + {at_once} <= count) {{
{several}            }} else for (; bead < count; ++bead) {{
{one}            }}
        }}
    }}
""")
def products(
    chunk: wp.array(dtype=wp.int32),
    tile: wp.int32,
    block: wp.int32,
{arguments}): ...
'''


def mixing(dtype: torch.dtype, lanes: int, *, onto: bool = False, kept: bool = False, scaled: bool = False) -> str:
    """out = values times the weights of each degree, for the beads `chunk[0]` and on, `chunk[1]` in number.

    Arrays hold `size` components of a bead; the first bead of one that is `apart` is the first one of the chunk.

    Args:
        dtype: of the features.
        lanes: channels of a vector.
        kept: add the first degrees of other features, multiplied by factors of the type of the bead.
        scaled: multiply the sum by such factors.
        onto: add it to what is there.
    """
    arguments = _ARGUMENTS + (_TYPES if kept or scaled else "") + (_KEPT if kept else "")
    number = "float" if dtype == torch.float32 else "double"
    vector = f" __attribute__((ext_vector_type({lanes}), aligned(sizeof({number}))))" if lanes > 1 else ""
    return _KERNEL.format(
        name="_onto" * onto + "_kept" * kept + "_scaled" * scaled,
        arguments=arguments,
        given=", ".join(line.split(":")[0].strip() for line in arguments.splitlines()),
        vector=f"typedef {number} Number; typedef Number Many{vector};",
        at_once=AT_ONCE,
        several=_products(AT_ONCE, onto, kept, scaled),
        one=_products(1, onto, kept, scaled),
    )


def _products(rows: int, onto: bool, kept: bool, scaled: bool) -> str:
    """For some beads, from `bead` on."""

    def place(row: int, array: str) -> str:
        return f"(size_t((1 - {array}_apart) * begin + bead + {row}) * {array}_size + m)"

    lines, each = [], range(rows)
    for r in each:
        lines.append(f"const Number* const x{r} = values.data + {place(r, 'values')} * wide;")
        lines.append(f"Many s{r} = 0;")
    lines.append("for (int k = 0; k < wide; ++k) {")
    lines.append("    const Many row = from[size_t(k) * blocks];")
    lines += [f"    s{r} += x{r}[k] * row;" for r in each]
    lines.append("}")
    for r in each:
        if kept or scaled:
            kind = f"types.data[begin + bead + {r}]"
            lines.append(f"const Many f{r} = ((const Many*)factors.data)[{kind} * blocks + block];")
        if kept:
            other = f"(size_t(begin + bead + {r}) * kept_size + m) * blocks + block"
            lines.append(f"if (degree < kept_degrees) s{r} += f{r} * ((const Many*)kept.data)[{other}];")
        lines.append(f"Many& to{r} = ((Many*)out.data)[{place(r, 'out')} * blocks + block];")
        lines.append(f"to{r} {'+=' if onto else '='} {f'f{r} * ' if scaled else ''}s{r};")
    return "".join(f"                {line}\n" for line in lines)
