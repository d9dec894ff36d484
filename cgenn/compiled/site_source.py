"""The Warp source of the energy between sites of two bodies, of which each pair is looked at once.

The inner loops are C++, as loops of Warp over the sites do not become vector instructions.
"""

from __future__ import annotations

import torch

_EDGES = """\
def {name}(
    begin: wp.int32,
    first: wp.array(dtype=wp.int32),
    last: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
{arguments}) -> None:
    row, single = wp.tid()
    bead = begin + row
    for edge in range(first[bead], last[bead]):
        other = senders[edge]
"""

_PAIRS = """\
        if other < bead:
            continue
        kind = types[bead]
        pair = kind * oriented.shape[0] + types[other]
        r = vectors[edge]
        distance = wp.length(r)
        for k in range(7):
            pairs[edge, k] = Real(0.0)
        if distance < cutoff and oriented[kind] + oriented[types[other]] > 0:
            site_sums(bead, other, pair, counts[kind], edge, r, spacing, end, starts, table, sites, pairs)
            share = distance / cutoff
            share3 = share * share * share
            share6 = share3 * share3
            envelope = Real(1.0) + share6 * (share * (Real(48.0) - Real(21.0) * share) - Real(28.0))
            gap = Real(1.0) - share
            slope = Real(-168.0) * share3 * share * share * gap * gap / (cutoff * distance)
            if other == bead:
                envelope *= Real(0.5)
                slope *= Real(0.5)
            energy = pairs[edge, 0]
            pairs[edge, 0] = envelope * energy
            for k in range(3):
                pairs[edge, 1 + k] = envelope * pairs[edge, 1 + k] + slope * energy * r[k]
                pairs[edge, 4 + k] = envelope * pairs[edge, 4 + k]
"""

_SUMS = '''\

@wp.func_native("""
    using Number = NUMBER;
    constexpr int size = SIZE;
    const Number* __restrict x = &wp::index(sites, other, 0).c[0];
    const Number* __restrict y = &wp::index(sites, other, 1).c[0];
    const Number* __restrict z = &wp::index(sites, other, 2).c[0];
    const Number* __restrict here_x = &wp::index(sites, bead, 0).c[0];
    const Number* __restrict here_y = &wp::index(sites, bead, 1).c[0];
    const Number* __restrict here_z = &wp::index(sites, bead, 2).c[0];
    const Number* __restrict powers = table.data;
    const Number density = Number(1) / spacing;
    Number energy[size] = {}, fx[size] = {}, fy[size] = {}, fz[size] = {}, tx[size] = {}, ty[size] = {}, tz[size] = {};
    for (int a = 0; a < count; ++a) {
        const int* __restrict start = &wp::index(starts, pair, a, 0);
        const Number ax = here_x[a], ay = here_y[a], az = here_z[a];
        const Number ox = r[0] - ax, oy = r[1] - ay, oz = r[2] - az;
        for (int b = 0; b < size; ++b) {
            const Number dx = x[b] + ox, dy = y[b] + oy, dz = z[b] + oz;
            const Number distance = ROOT(dx * dx + dy * dy + dz * dz + Number(1e-8));
            const Number at = distance * density;
            const int interval = (int)(at < end ? at : end);
            const Number t = at - Number(interval);
            const int place = 4 * (start[b] + interval);
            const Number c0 = powers[place], c1 = powers[place + 1], c2 = powers[place + 2], c3 = powers[place + 3];
            energy[b] += c0 + t * (c1 + t * (c2 + t * c3));
            const Number slope = (c1 + t * (Number(2) * c2 + Number(3) * t * c3)) * density / distance;
            const Number sx = slope * dx, sy = slope * dy, sz = slope * dz;
            fx[b] += sx;
            fy[b] += sy;
            fz[b] += sz;
            tx[b] += az * sy - ay * sz;
            ty[b] += ax * sz - az * sx;
            tz[b] += ay * sx - ax * sy;
        }
    }
    Number sums[7] = {};
    for (int b = 0; b < size; ++b) {
        sums[0] += energy[b];
        sums[1] += fx[b];
        sums[2] += fy[b];
        sums[3] += fz[b];
        sums[4] += tx[b];
        sums[5] += ty[b];
        sums[6] += tz[b];
    }
    for (int k = 0; k < 7; ++k) wp::index(pairs, edge, k) = sums[k];
""")
def site_sums(
    bead: wp.int32,
    other: wp.int32,
    pair: wp.int32,
    count: wp.int32,
    edge: wp.int32,
    r: Vector,
    spacing: Real,
    end: Real,
    starts: wp.array3d(dtype=wp.int32),
    table: wp.array(dtype=Real),
    sites: wp.array2d(dtype=Lanes),
    pairs: wp.array2d(dtype=Real),
): ...
'''

SHARE = _EDGES.format(
    name="share_energies",
    arguments="    pairs: wp.array2d(dtype=Real),\n    energies: wp.array(dtype=Real),\n",
)
SHARE += """\
        if other >= bead:
            half = Real(0.5) * pairs[edge, 0]
            energies[bead] += half
            energies[other] += half
"""
"""Half the energy of each pair goes to each end; in one part."""

SPREAD = _EDGES.format(
    name="spread_slopes",
    arguments="""\
    vectors: wp.array(dtype=Vector),
    pairs: wp.array2d(dtype=Real),
    slopes: wp.array(dtype=Real),
    turns: wp.array(dtype=Vector),
    there: wp.array(dtype=Vector),
    by_vectors: wp.array2d(dtype=Vector),
""",
)
SPREAD += """\
        if other >= bead:
            factor = Real(0.5) * (slopes[bead] + slopes[other])
            force = factor * Vector(pairs[edge, 1], pairs[edge, 2], pairs[edge, 3])
            turn = factor * Vector(pairs[edge, 4], pairs[edge, 5], pairs[edge, 6])
            by_vectors[edge, 0] += force
            turns[bead] += turn
            there[edge] -= turn + wp.cross(vectors[edge], force)
"""
"""Derivatives by the vectors and by turns of the beads, from those by the energies; a pair turned as a whole has none."""

COLLECT = _EDGES.format(
    name="collect_turns", arguments="    there: wp.array(dtype=Vector),\n    turns: wp.array(dtype=Vector),\n"
)
COLLECT += "        turns[other] += there[edge]\n"
"""What the edges hold for their senders; in one part."""


def site_pairs(size: int, dtype: torch.dtype) -> str:
    """Of each pair its energy and the derivatives by the vector and by a turn of the bead: seven numbers."""
    arguments = """\
    vectors: wp.array(dtype=Vector),
    cutoff: Real,
    types: wp.array(dtype=wp.int32),
    oriented: wp.array(dtype=wp.int32),
    counts: wp.array(dtype=wp.int32),
    spacing: Real,
    end: Real,
    starts: wp.array3d(dtype=wp.int32),
    table: wp.array(dtype=Real),
    sites: wp.array2d(dtype=Lanes),
    pairs: wp.array2d(dtype=Real),
"""
    single = dtype == torch.float32
    inner = _SUMS.replace("NUMBER", "float" if single else "double").replace("SIZE", str(size))
    inner = inner.replace("ROOT", "__builtin_sqrtf" if single else "__builtin_sqrt")
    return _EDGES.format(name="site_pairs", arguments=arguments) + _PAIRS + inner
