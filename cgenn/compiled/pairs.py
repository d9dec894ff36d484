"""In which order beads are gone over, and which of the edges of a neighbour list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.compiled.launch import Launch, kernel

_SELECT = """\
def select(
    begin: wp.int32,
    there: wp.array(dtype=wp.int32),
    back: wp.array(dtype=wp.int32),
    listed: wp.array(dtype=wp.int32),
    beads: wp.array(dtype=wp.int64),
    starts: wp.array(dtype=wp.int32),
    ends: wp.array(dtype=wp.int32),
    spare: wp.array(dtype=wp.int32),
    filling: wp.int32,
    rows: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int32),
    targets: wp.array(dtype=wp.int32),
    kept: wp.array(dtype=wp.int32),
) -> None:
    row, single = wp.tid()
    place = begin + row
    at = wp.int32(0)
    if filling == 1:
        at = rows[place]
    for edge in range(listed[there[place]], listed[there[place] + 1]):
        other = back[wp.int32(beads[edge])]
        if other >= starts[place] and other < place:
            continue
        if filling == 1:
            senders[at] = other
            targets[at] = spare[place]
            if other > place and other < ends[place]:
                targets[at] = other
            kept[at] = edge
        at += 1
    if filling == 0:
        rows[place + 1] = at
"""
"""First it counts, then it fills the rows."""
_LANES = 8
"""Not used by this kernel."""
_BITS = 6
"""So many times the box is halved along each edge."""


class Order(NamedTuple):
    """Beads one after the other that are close to each other, so that what is known of neighbours is in the cache.

    Attributes:
        there: the bead at each place, shape (beads,).
        back: the place of each bead, shape (beads,).
    """

    there: Int[Tensor, " beads"]
    back: Int[Tensor, " beads"]

    @classmethod
    def of(
        cls,
        positions: Float[Tensor, "beads 3"],
        cells: Float[Tensor, "systems 3 3"] | None,
        batch: Int[Tensor, " beads"],
    ) -> Order:
        """Along a curve that goes through one eighth of the box after the other, and so on (Morton 1966)."""
        if cells is None:
            low = positions.amin(0)
            share = (positions - low) / (positions.amax(0) - low).clamp(min=1e-6)
        else:
            share = torch.einsum("bi,bij->bj", positions, torch.linalg.inv(cells)[batch])
            share = share - torch.floor(share)
        steps = (share * 2**_BITS).long().clamp(0, 2**_BITS - 1)
        code = batch.long()
        for bit in reversed(range(_BITS)):
            for axis in range(3):
                code = 2 * code + ((steps[:, axis] >> bit) & 1)
        there = torch.argsort(code, stable=True)
        back = torch.empty_like(there)
        back[there] = torch.arange(len(there), device=there.device)
        return cls(there, back)


class Pairs(NamedTuple):
    """Which edges of a list are gone over, and where: all of them, or those of each pair of beads once.

    Threads have beads of their own. A pair within those of one of them is in the row of its first bead; what the other
    bead gets is added there. Any other pair, also of a bead and its own image, is in both rows, and what is not for the
    bead of the row goes to `targets` behind all beads, where it is lost.

    Attributes:
        rows: where the edges of each bead begin, and the end, shape (beads + 1,).
        senders, targets: shape (kept,).
        kept: which ones of the list they are, shape (kept,).
    """

    rows: Int[Tensor, " rows"]
    senders: Int[Tensor, " kept"]
    targets: Int[Tensor, " kept"]
    kept: Int[Tensor, " kept"]

    @classmethod
    def of(
        cls,
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        beads: int,
        cuts: Sequence[int] | None,
        order: Order | None = None,
    ) -> Pairs:
        """Of a list that is sorted by receiver.

        Args:
            receivers: bead of each row.
            senders: the other ones.
            beads: how many there are.
            cuts: where the beads of each thread begin, and the end; without them all edges stay.
            order: that of the beads here; senders become places.
        """
        whole, every = torch.int32, torch.arange(beads + 1, device=senders.device)
        there, back = (every[:-1].to(whole),) * 2 if order is None else (each.to(whole) for each in order)
        listed = torch.searchsorted(receivers, every).to(whole)
        bounds = every.new_tensor([beads, beads] if cuts is None else cuts)
        part = torch.searchsorted(bounds[:-1], every[:-1], right=True) - 1
        starts, ends = (bounds[part + side].to(whole) for side in (0, 1))
        spare = (beads + part).to(whole)
        rows, kept = every.new_zeros(beads + 1, dtype=whole), every.new_zeros(3, 1, dtype=whole)
        given: list[Tensor | float] = [there, back, listed, senders, starts, ends, spare]
        select = kernel(_SELECT, torch.float32, _LANES)
        Launch(select, beads, 1, [*given, 0, rows, *kept], senders.device)()
        rows[1:] = torch.cumsum(rows[1:], 0)
        kept = every.new_zeros(3, int(rows[-1]), dtype=whole)
        Launch(select, beads, 1, [*given, 1, rows, *kept], senders.device)()
        return cls(rows, *kept)
