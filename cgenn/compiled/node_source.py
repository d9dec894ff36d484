"""The Warp source of the kernels over beads of one layer: skips, gates and the readout of the energy.

What mixes channels is left to matrix products; these do the rest in one pass each.
"""

from __future__ import annotations

from collections.abc import Sequence

from cgenn.compiled.source import row

_BEADS = """\
def {name}(
    begin: wp.int32,
    beads: wp.int32,
{arguments}) -> None:
    row, block = wp.tid()
    bead = begin + row
"""


def mix(degrees: Sequence[int], kept: int) -> str:
    """Add what was there before, and scale: mixed = (mixed + skip_type features) / sqrt(3)."""
    text = _header("mix", ["types", "features", "skip", "mixed"])
    text += "    kept = skip[types[bead], block]\n"
    for k in range(_size(degrees)):
        value = f"mixed[{row(k)}, block]"
        if k < kept:
            value = f"({value} + wp.cw_mul(kept, features[{row(k)}, block]))"
        text += f"    mixed[{row(k)}, block] = Real({3**-0.5!r}) * {value}\n"
    return text


def gate(degrees: Sequence[int], silu: float, sigmoid: float) -> str:
    """silu of the scalars; the rest is multiplied by the sigmoids of the gates."""
    text = _header("gate", ["mixed", "gates", "gated"])
    text += "    blocks = mixed.shape[1]\n    s = mixed[bead, block]\n    g = squashed(s)\n"
    text += f"    gated[bead, block] = Real({silu!r}) * wp.cw_mul(s, g)\n"
    for number, degree in enumerate(degrees[1:]):
        text += f"    g{number} = Real({sigmoid!r}) * squashed(gates[bead, {number} * blocks + block])\n"
        for k in range(degree**2, (degree + 1) ** 2):
            text += f"    gated[{row(k)}, block] = wp.cw_mul(mixed[{row(k)}, block], g{number})\n"
    return text


def gate_backward(degrees: Sequence[int], silu: float, sigmoid: float) -> str:
    """Derivatives by what was mixed, in place of those by what was gated, and by the gates."""
    text = _header("gate_backward", ["mixed", "gates", "slopes", "by_gates"])
    text += "    blocks = mixed.shape[1]\n    one = Lanes(Real(1.0))\n    s = mixed[bead, block]\n    g = squashed(s)\n"
    text += f"    slopes[bead, block] = Real({silu!r}) * wp.cw_mul(slopes[bead, block], "
    text += "wp.cw_mul(g, one + wp.cw_mul(s, one - g)))\n"
    for number, degree in enumerate(degrees[1:]):
        text += f"    g{number} = squashed(gates[bead, {number} * blocks + block])\n    sum{number} = Lanes()\n"
        for k in range(degree**2, (degree + 1) ** 2):
            text += f"    v{k} = slopes[{row(k)}, block]\n"
            text += f"    sum{number} += wp.cw_mul(mixed[{row(k)}, block], v{k})\n"
            text += f"    slopes[{row(k)}, block] = Real({sigmoid!r}) * wp.cw_mul(v{k}, g{number})\n"
        text += f"    by_gates[bead, {number} * blocks + block] = Real({sigmoid!r}) * "
        text += f"wp.cw_mul(sum{number}, wp.cw_mul(g{number}, one - g{number}))\n"
    return text


def unmix(degrees: Sequence[int], kept: int) -> str:
    """Derivatives by the two sums that were mixed, in place of those by the result, and by the features."""
    text = _header("unmix", ["types", "skip", "slopes", "by_features"])
    text += "    kept = skip[types[bead], block]\n"
    for k in range(_size(degrees)):
        text += f"    v{k} = Real({3**-0.5!r}) * slopes[{row(k)}, block]\n    slopes[{row(k)}, block] = v{k}\n"
        if k < kept:
            text += f"    by_features[{row(k)}, block] = wp.cw_mul(kept, v{k})\n"
    return text


READOUT = """\
def readout(
    begin: wp.int32,
    hidden: wp.array2d(dtype=Lanes),
    weights: wp.array(dtype=Lanes),
    energies: wp.array(dtype=Real),
) -> None:
    row, single = wp.tid()
    bead = begin + row
    total = Lanes()
    for block in range(weights.shape[0]):
        h = hidden[bead, block]
        total += wp.cw_mul(weights[block], wp.cw_mul(h, squashed(h)))
    energies[bead] += wp.dot(total, Lanes(Real(1.0)))
"""

READOUT_BACKWARD = """\
def readout_backward(
    begin: wp.int32,
    hidden: wp.array2d(dtype=Lanes),
    weights: wp.array(dtype=Lanes),
    slopes: wp.array(dtype=Real),
    by_hidden: wp.array2d(dtype=Lanes),
) -> None:
    row, block = wp.tid()
    bead = begin + row
    one = Lanes(Real(1.0))
    h = hidden[bead, block]
    g = squashed(h)
    by_hidden[bead, block] = slopes[bead] * wp.cw_mul(weights[block], wp.cw_mul(g, one + wp.cw_mul(h, one - g)))
"""


def scale(size: int) -> str:
    """Multiply by a factor of the type."""
    text = _header("scale", ["types", "factors", "values"]) + "    factor = factors[types[bead], block]\n"
    for k in range(size):
        text += f"    values[{row(k)}, block] = wp.cw_mul(factor, values[{row(k)}, block])\n"
    return text


def _header(name: str, arguments: Sequence[str]) -> str:
    kinds = {"types": "wp.array(dtype=wp.int32)"}
    lines = [f"    {label}: {kinds.get(label, 'wp.array2d(dtype=Lanes)')},\n" for label in arguments]
    return _BEADS.format(name=name, arguments="".join(lines))


def _size(degrees: Sequence[int]) -> int:
    return (degrees[-1] + 1) ** 2
