"""The Warp source of the sigmoid and of x sigmoid(x), with its derivative in the same pass over memory.

It is C++ with vectors of its own: the compiler has no exponential function for them.
"""

from __future__ import annotations

import math

import torch

_TYPES = """\
    typedef NUMBER Number;
    typedef Number Many __attribute__((ext_vector_type(LANES), aligned(4)));
    typedef INTEGER Whole __attribute__((ext_vector_type(LANES), aligned(4)));
"""
_SIGMOID = """\
    const Many low = -LIMIT, high = LIMIT;
    const Many limited = __builtin_elementwise_max(low, __builtin_elementwise_min(high, x));
    const Many power = __builtin_elementwise_floor(Number(0.5) - limited * Number(1.4426950408889634));
    const Many rest = -limited - power * Number(0.6931471805599453);
    const Many small = SERIES;
    const Whole bits = (__builtin_convertvector(power, Whole) + BIAS) << SHIFT;
    const Many sigmoid = Number(1) / (Number(1) + small * __builtin_bit_cast(Many, bits));
"""
"""From x."""

_SQUASHED = f'''\

@wp.func_native("""
{_TYPES}    const Many x = *(const Many*)&values;
{_SIGMOID}    wp::vec_t<LANES, Number> found;
    *(Many*)&found = sigmoid;
    return found;
""")
def squashed(values: Lanes) -> Lanes: ...
'''

_SILU = f'''\

@wp.func_native("""
{_TYPES}    Many* const place = (Many*)&wp::index(values, row, block);
    const Many x = *place;
{_SIGMOID}    const Many result = x * sigmoid;
    *place = result;
    *(Many*)&wp::index(slopes, row, block) = sigmoid + result * (Number(1) - sigmoid);
""")
def silu(row: wp.int32, block: wp.int32, values: wp.array2d(dtype=Lanes), slopes: wp.array2d(dtype=Lanes)): ...
'''

_ROWS = """\
def {name}(
    begin: wp.int32,
    offsets: wp.array(dtype=wp.int32),
    base: wp.int32,
    hidden: wp.array2d(dtype=Lanes),
    slopes: wp.array2d(dtype=Lanes),
    shares: wp.array(dtype=Real),
{arguments}) -> None:
    row, single = wp.tid()
    bead = begin + row
    for at in range(offsets[bead] - base, offsets[bead + 1] - base):
"""

BACKWARD = _ROWS.format(
    name="activate_backward",
    arguments="    by_damped: wp.array2d(dtype=Lanes),\n    by_shares: wp.array(dtype=Real),\n",
)
BACKWARD += """\
        total = Lanes()
        for block in range(hidden.shape[1]):
            slope = by_damped[at, block]
            total += wp.cw_mul(slope, hidden[at, block])
            by_damped[at, block] = shares[at] * wp.cw_mul(slope, slopes[at, block])
        by_shares[at] = wp.dot(total, Lanes(Real(1.0)))
"""
"""The derivatives by `hidden`, before its activation, and by the shares, from those by `damped`, in place of them."""


def forward(dtype: torch.dtype, lanes: int) -> str:
    """Activate what is hidden, with the slopes, and multiply it by the share of each edge."""
    text = _ROWS.format(name="activate", arguments="    damped: wp.array2d(dtype=Lanes),\n")
    text += "        for block in range(hidden.shape[1]):\n            silu(at, block, hidden, slopes)\n"
    return text + "            damped[at, block] = shares[at] * hidden[at, block]\n" + silu(dtype, lanes)


def silu(dtype: torch.dtype, lanes: int) -> str:
    """The source of silu(row, block, values, slopes): values become x sigmoid(x), and slopes its derivative."""
    return _filled(_SILU, dtype, lanes)


def squashed(dtype: torch.dtype, lanes: int) -> str:
    """The source of squashed(values), the sigmoid of each lane."""
    return _filled(_SQUASHED, dtype, lanes)


def _filled(text: str, dtype: torch.dtype, lanes: int) -> str:
    single = dtype == torch.float32
    number, integer, bias, shift, limit, order = (
        ("float", "int", 127, 23, 87, 7) if single else ("double", "long long", 1023, 52, 700, 13)
    )
    series = f"Number({1 / math.factorial(order)!r})"
    for k in reversed(range(order)):
        series = f"Number({1 / math.factorial(k)!r}) + rest * ({series})"
    values = {"NUMBER": number, "INTEGER": integer, "LIMIT": limit, "SERIES": series, "BIAS": bias, "SHIFT": shift}
    text = text.replace("LANES", str(lanes))
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text
