"""The Warp source of the kernels over beads of one layer: gates and the readout of the energy.

What mixes channels is left to `mixing_source`; these do the rest in one pass each.
"""

from __future__ import annotations

from collections.abc import Sequence

_HEADER = """\
def {name}(
    chunk: wp.array(dtype=wp.int32),
{arguments}) -> None:
    row, block = wp.tid()
    bead = chunk[0] + row
"""


def gate(degrees: Sequence[int], silu: float, sigmoid: float) -> str:
    """silu of the scalars; the rest is multiplied by the sigmoids of the gates."""
    text = _header("gate", ["mixed", "gates", "bias", "gated"])
    text += "    s = mixed[bead, 0, block]\n    g = squashed(s)\n"
    text += f"    gated[bead, 0, block] = Real({silu!r}) * wp.cw_mul(s, g)\n"
    for number, degree in enumerate(degrees[1:]):
        text += f"    g{number} = Real({sigmoid!r}) * squashed(gates[bead, {number}, block] + bias[{number}, block])\n"
        for k in range(degree**2, (degree + 1) ** 2):
            text += f"    gated[bead, {k}, block] = wp.cw_mul(mixed[bead, {k}, block], g{number})\n"
    return text


def gate_backward(degrees: Sequence[int], silu: float, sigmoid: float, *, turning: bool = False) -> str:
    """Derivatives by what was mixed, in place of those by what was gated, and by the gates, in place of them.

    What the scalars add to the energy comes on top: `by_energies` times `reads`. In `turning`, nothing else depends on
    what was gated, which is still in the place of its derivatives.
    """
    text = _header(
        "gate_turning" if turning else "gate_backward", ["mixed", "gates", "bias", "reads", "by_energies", "slopes"]
    )
    text += "    one = Lanes(Real(1.0))\n    s = mixed[bead, 0, block]\n    g = squashed(s)\n"
    text += f"    v = {'' if turning else 'slopes[bead, 0, block] + '}by_energies[bead] * reads[bead, block]\n"
    text += f"    slopes[bead, 0, block] = Real({silu!r}) * wp.cw_mul(v, wp.cw_mul(g, one + wp.cw_mul(s, one - g)))\n"
    for number, degree in enumerate(degrees[1:]):
        text += f"    g{number} = squashed(gates[bead, {number}, block] + bias[{number}, block])\n"
        text += f"    sum{number} = Lanes()\n"
        for k in range(degree**2, (degree + 1) ** 2):
            text += f"    v{k} = {'Lanes()' if turning else f'slopes[bead, {k}, block]'}\n"
            text += f"    sum{number} += wp.cw_mul(mixed[bead, {k}, block], v{k})\n"
            text += f"    slopes[bead, {k}, block] = Real({sigmoid!r}) * wp.cw_mul(v{k}, g{number})\n"
        text += f"    gates[bead, {number}, block] = Real({sigmoid!r}) * "
        text += f"wp.cw_mul(sum{number}, wp.cw_mul(g{number}, one - g{number}))\n"
    return text


READOUT = """\
def readout(
    chunk: wp.array(dtype=wp.int32),
    hidden: wp.array2d(dtype=Lanes),
    bias: wp.array(dtype=Lanes),
    weights: wp.array(dtype=Lanes),
    energies: wp.array(dtype=Real),
) -> None:
    row, single = wp.tid()
    one = Lanes(Real(1.0))
    total = Lanes()
    for block in range(weights.shape[0]):
        h = hidden[row, block] + bias[block]
        g = squashed(h)
        total += wp.cw_mul(weights[block], wp.cw_mul(h, g))
        hidden[row, block] = wp.cw_mul(weights[block], wp.cw_mul(g, one + wp.cw_mul(h, one - g)))
    energies[chunk[0] + row] += wp.dot(total, one)
"""
"""Adds to the energy of the beads; what is hidden, without its bias, becomes the derivative by it."""


def _header(name: str, arguments: Sequence[str]) -> str:
    """For the beads of a chunk: `row` is the place in it."""
    kinds = {
        "bias": "wp.array2d(dtype=Lanes)",
        "reads": "wp.array2d(dtype=Lanes)",
        "by_energies": "wp.array(dtype=Real)",
    }
    lines = [f"    {label}: {kinds.get(label, 'wp.array3d(dtype=Lanes)')},\n" for label in arguments]
    return _HEADER.format(name=name, arguments="".join(lines))
