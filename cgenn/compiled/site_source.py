"""The Warp source of the energy between sites of two bodies, of which each pair is looked at once.

The inner loops are C++, as loops of Warp over the sites do not become vector instructions.
"""

from __future__ import annotations

import torch

from cgenn.compiled.edge_source import ENVELOPE, ENVELOPE_SLOPE

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

_PAIRS = f"""\
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
            envelope = {ENVELOPE}
            gap = Real(1.0) - share
            slope = {ENVELOPE_SLOPE} / (cutoff * distance)
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
    typedef NUMBER Number;
    typedef Number Many __attribute__((ext_vector_type(LANES), aligned(4)));
    typedef int Places __attribute__((ext_vector_type(LANES), aligned(4)));
    typedef Number Powers __attribute__((ext_vector_type(4), aligned(4)));
    const Number* const here_x = &wp::index(sites, bead, 0).c[0];
    const Number* const here_y = &wp::index(sites, bead, 1).c[0];
    const Number* const here_z = &wp::index(sites, bead, 2).c[0];
    const Number density = Number(1) / spacing;
    Many energy = 0, fx = 0, fy = 0, fz = 0, tx = 0, ty = 0, tz = 0;
    for (int b = 0; b < SIZE; b += LANES) {
        const Many x = *(const Many*)&wp::index(sites, other, 0).c[b];
        const Many y = *(const Many*)&wp::index(sites, other, 1).c[b];
        const Many z = *(const Many*)&wp::index(sites, other, 2).c[b];
        for (int a = 0; a < count; ++a) {
            const Number ax = here_x[a], ay = here_y[a], az = here_z[a];
            const Many dx = x + (r[0] - ax), dy = y + (r[1] - ay), dz = z + (r[2] - az);
            const Many distance = __builtin_elementwise_sqrt(dx * dx + dy * dy + dz * dz + Number(1e-8));
            const Many at = distance * density;
            const Places interval = __builtin_convertvector(__builtin_elementwise_min(at, (Many)end), Places);
            const Many t = at - __builtin_convertvector(interval, Many);
            const Places place = (*(const Places*)&wp::index(starts, pair, a, b) + interval) * 4;
COLUMNS
            energy += c0 + t * (c1 + t * (c2 + t * c3));
            const Many slope = (c1 + t * (Number(2) * c2 + Number(3) * t * c3)) * density / distance;
            const Many sx = slope * dx, sy = slope * dy, sz = slope * dz;
            fx += sx;
            fy += sy;
            fz += sz;
            tx += az * sy - ay * sz;
            ty += ax * sz - az * sx;
            tz += ay * sx - ax * sy;
        }
    }
    const Many parts[7] = {energy, fx, fy, fz, tx, ty, tz};
    for (int k = 0; k < 7; ++k) {
        Number total = 0;
        for (int b = 0; b < LANES; ++b) total += parts[k][b];
        wp::index(pairs, edge, k) = total;
    }
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
"""Derivatives by vectors and by turns of the beads, from those by the energies; a pair turned as a whole has none."""

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
    inner = _SUMS.replace("NUMBER", "float" if dtype == torch.float32 else "double").replace("SIZE", str(size))
    inner = inner.replace("COLUMNS", _columns(lanes(size))).replace("LANES", str(lanes(size)))
    return _EDGES.format(name="site_pairs", arguments=arguments) + _PAIRS + inner


def lanes(sites: int) -> int:
    """Sites that are worked on at a time."""
    return 16 if sites > 8 else 8 if sites > 4 else 4


def _columns(count: int) -> str:
    """C++ that makes c0 to c3 from the four numbers at each of some places: rows become columns, four by four.

    Loading the four together takes half the time of gathering each of them.
    """
    groups = range(0, count, 4)
    lines = [f"const Powers p{k} = *(const Powers*)(table.data + place[{k}]);" for k in range(count)]

    def shuffled(name: str, one: str, other: str, order: list[int]) -> None:
        lines.append(f"const auto {name} = __builtin_shufflevector({one}, {other}, {', '.join(map(str, order))});")

    def joined(names: list[str], size: int) -> str:
        while len(names) > 1:
            for one, other in zip(names[::2], names[1::2], strict=True):
                shuffled(one + "j", one, other, list(range(2 * size)))
            names, size = [one + "j" for one in names[::2]], 2 * size
        return names[0]

    rows = [joined([f"p{k + group}" for group in groups], 4) for k in range(4)]
    for name, first in (("low", 0), ("high", 2)):
        order = [group + first + k for group in groups for k in (0, count, 1, count + 1)]
        shuffled(f"{name}0", rows[0], rows[1], order)
        shuffled(f"{name}1", rows[2], rows[3], order)
        for k in range(2):
            order = [group + 2 * k + step for group in groups for step in (0, 1, count, count + 1)]
            shuffled(f"c{first + k}", f"{name}0", f"{name}1", order)
    return "\n".join(f"            {line}" for line in lines)
