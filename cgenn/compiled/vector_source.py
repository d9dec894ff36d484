"""Vectors of C++ in place of Warp's loops over lanes, for kernels so long that these take minutes to become vectors.

Where there are many registers, short kernels are better off with loops: those over edges took a third longer with these
vectors at lmax 2, a tenth at lmax 3, where they are compiled in 10 s instead of 130 s.
"""

from __future__ import annotations

import torch

_VECTORS = '''\

@wp.func_native("""
}}
namespace wp {{
typedef vec_t<{lanes}, {number}> Loop;
typedef {number} Many __attribute__((ext_vector_type({lanes}), aligned(4)));
inline Many many(const Loop& values) {{ return *(const Many*)&values; }}
inline Loop loop(Many values) {{ Loop found; *(Many*)&found = values; return found; }}
inline Loop cw_mul(Loop one, Loop other) {{ return loop(many(one) * many(other)); }}
inline Loop add(Loop one, Loop other) {{ return loop(many(one) + many(other)); }}
inline Loop sub(Loop one, Loop other) {{ return loop(many(one) - many(other)); }}
inline Loop mul({number} scale, Loop values) {{ return loop(scale * many(values)); }}
inline Loop mul(Loop values, {number} scale) {{ return loop(scale * many(values)); }}
inline Loop neg(Loop values) {{ return loop(-many(values)); }}
}}
inline void nothing() {{
""")
def in_vectors(): ...

@wp.func_native("""
    auto found = values;
    {settled}
    return found;
""")
def settled(values: Lanes) -> Lanes: ...
'''
"""A function that ends at once: what follows stands in the namespace of Warp, whose templates give way to it.

A value that is `settled` has been computed before whatever else is settled after it.
"""
_SETTLED = """
#ifdef __AVX__
    asm volatile("" : "+x"(*(wp::Many*)&found));
#endif
"""
"""For vectors that are no longer than a register."""


def in_vectors(text: str, dtype: torch.dtype, lanes: int) -> str:
    """The source of a kernel whose operations on Lanes are to be those of vectors of C++."""
    single = dtype == torch.float32
    parts = _VECTORS.format(
        number="float32" if single else "float64", lanes=lanes, settled=_SETTLED if single and lanes == 8 else ""
    )
    return text.replace("wp.tid()\n", "wp.tid()\n    in_vectors()\n", 1) + parts
