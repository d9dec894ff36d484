"""The Warp source of matrix products that mix the channels of a few beads, the same kernels for all layers.

Features are stored bead by bead, component by component. The rows of four beads that belong to the same component are
multiplied by the weights of its degree together: weights are read once for all of them, and there are enough sums to
hide how long a product takes.
"""

from __future__ import annotations

AT_ONCE = 4
"""Beads of a thread."""

_HEADER = """\
def mixing{name}(
    chunk: wp.array(dtype=wp.int32),
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
{arguments}) -> None:
    tile, block = wp.tid()
    begin = chunk[0]
    count = chunk[1]
    four = {at_once} * tile
    if four + {at_once} <= count:
"""
_TYPES = "    types: wp.array(dtype=wp.int32),\n    factors: wp.array(dtype=Lanes),\n"
_KEPT = "    kept: wp.array(dtype=Lanes),\n    kept_size: wp.int32,\n    kept_degrees: wp.int32,\n"


def mixing(*, onto: bool = False, kept: bool = False, scaled: bool = False) -> str:
    """out = values times the weights of each degree, for the beads `chunk[0]` and on, `chunk[1]` in number.

    Arrays hold `size` components of a bead; the first bead of one that is `apart` is the first one of the chunk.

    Args:
        kept: add the first degrees of other features, multiplied by factors of the type of the bead.
        scaled: multiply the sum by such factors.
        onto: add it to what is there.
    """
    arguments = (_TYPES if kept or scaled else "") + (_KEPT if kept else "")
    name = "_onto" * onto + "_kept" * kept + "_scaled" * scaled
    text = _HEADER.format(name=name, arguments=arguments, at_once=AT_ONCE)
    text += _products("four", AT_ONCE, " " * 8, onto, kept, scaled)
    text += "    else:\n        for one in range(four, count):\n"
    return text + _products("one", 1, " " * 12, onto, kept, scaled)


def _products(first: str, rows: int, indent: str, onto: bool, kept: bool, scaled: bool) -> str:
    """For some beads, from the first on."""
    n, m, k = f"n_{first}", f"m_{first}", f"k_{first}"
    names = [f"{first}{r}" for r in range(rows)]

    def place(bead: str, size: str, wide: str) -> str:
        return f"(wp.int64({bead}) * wp.int64({size}) + wp.int64({m})) * wp.int64({wide})"

    lines = [f"for {n} in range(degrees):", f"    for {m} in range({n} * {n}, ({n} + 1) * ({n} + 1)):"]
    for r, name in enumerate(names):
        to = place(f"(1 - out_apart) * begin + {first} + {r}", "out_size", "blocks")
        lines.append(f"        to_{name} = {to} + wp.int64(block)")
        lines.append(
            f"        x_{name} = {place(f'(1 - values_apart) * begin + {first} + {r}', 'values_size', 'wide')}"
        )
        lines.append(f"        s_{name} = Lanes()")
    lines.append(f"        w_{first} = wp.int64({n} * wide) * wp.int64(blocks) + wp.int64(block)")
    lines.append(f"        for {k} in range(wide):")
    lines.append(f"            row_{first} = vector(weights, w_{first} + wp.int64({k}) * wp.int64(blocks))")
    lines += [f"            s_{name} += number(values, x_{name} + wp.int64({k})) * row_{first}" for name in names]
    for r, name in enumerate(names):
        if kept or scaled:
            factor = f"vector(factors, wp.int64(types[begin + {first} + {r}] * blocks + block))"
            lines.append(f"        f_{name} = {factor}")
        if kept:
            other = f"vector(kept, {place(f'begin + {first} + {r}', 'kept_size', 'blocks')} + wp.int64(block))"
            lines.append(f"        if {n} < kept_degrees:")
            lines.append(f"            s_{name} += wp.cw_mul(f_{name}, {other})")
        value = f"wp.cw_mul(f_{name}, s_{name})" if scaled else f"s_{name}"
        lines.append(f"        put(out, to_{name}, {f'vector(out, to_{name}) + ' if onto else ''}{value})")
    return "".join(f"{indent}{line}\n" for line in lines)
