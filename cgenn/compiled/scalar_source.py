"""Kernels for GPUs, written from those for processors: a thread for each channel, in place of a vector of channels.

Threads whose channels follow each other read neighbouring numbers, and those of one bead go over the same edges in
step. The derivative by the vector of an edge is the sum over the channels: 32 threads add theirs up before one writes.
"""

from __future__ import annotations

import re

THREADS = 32
"""Of a GPU that run in step (a warp)."""

_ONE = {
    "wp.cw_mul(": "wp.mul(",
    "Lanes(Real(1.0))": "Real(1.0)",
    "Lanes()": "Real(0.0)",
}
_SUM = re.compile(r"wp\.dot\((\w+), ones?\)")
_ADDED = re.compile(r"by_vectors\[edge, block\] \+= (.*)")

_ADD = f'''
@wp.func_native("""
#if defined(__CUDA_ARCH__)
    for (int apart = {THREADS // 2}; apart > 0; apart /= 2)
        for (int k = 0; k < 3; ++k) value[k] += __shfl_xor_sync(0xffffffffu, value[k], apart);
    if (block % {THREADS} != 0) return;
#endif
    auto& sum = wp::index(by_vectors, edge, block / {THREADS});
    for (int k = 0; k < 3; ++k) sum[k] += value[k];
""")
def add_vector(by_vectors: wp.array2d(dtype=Vector), edge: wp.int32, block: wp.int32, value: Vector): ...
'''
"""On a processor, where the tests run it, one channel follows the other and each adds its own part."""


def in_scalars(text: str) -> str:
    """The source of a kernel in which Lanes are a single channel."""
    for many, one in _ONE.items():
        text = text.replace(many, one)
    text = _SUM.sub(r"\1", text)
    return _ADDED.sub(r"add_vector(by_vectors, edge, block, \1)", text) + _ADD
