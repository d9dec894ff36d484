"""Which edges are gone over, and in which order, written out."""

from __future__ import annotations

import pytest
import torch

from cgenn.compiled.pairs import Order, Pairs
from cgenn.neighbors import neighbors

BEADS = 40


@pytest.mark.parametrize("cuts", [None, (0, BEADS), (0, 13, 30, BEADS)])
@pytest.mark.parametrize("ordered", [False, True])
def test_pairs(cuts: tuple[int, ...] | None, ordered: bool) -> None:
    """All edges, or those within a part from the lower place only; in the rows of places, from what was listed."""
    torch.manual_seed(0)
    positions, cell = torch.rand(BEADS, 3), torch.eye(3)[None]
    found = neighbors(positions, 0.55, cell=cell)  # also images of one bead
    order = Order.of(positions, cell, torch.zeros(BEADS, dtype=torch.int64)) if ordered else None
    pairs = Pairs.of(found.receivers, found.senders, BEADS, cuts, order)
    places = torch.arange(BEADS) if order is None else order.back
    part = [0] * BEADS if cuts is None else [sum(place >= cut for cut in cuts[1:]) for place in range(BEADS)]
    expected = set()
    for edge, (one, other) in enumerate(
        zip(places[found.receivers].tolist(), places[found.senders].tolist(), strict=True)
    ):
        together = cuts is not None and part[one] == part[other]
        if not (together and other < one):
            expected.add((one, other, other if together and other > one else BEADS + part[one], edge))
    rows = torch.repeat_interleave(pairs.rows.diff()).tolist()
    got = list(zip(rows, pairs.senders.tolist(), pairs.targets.tolist(), pairs.kept.tolist(), strict=True))
    assert len(got) == len(set(got))
    if cuts is None:  # where nothing is added to others, targets do not matter
        got, expected = [row[:2] + row[3:] for row in got], {row[:2] + row[3:] for row in expected}
    assert set(got) == expected


def test_order() -> None:
    """Beads that follow each other are close, in a cell and without one; systems stay apart."""
    torch.manual_seed(0)
    positions, cells = 4.0 * torch.rand(1000, 3) - 1.0, 2.0 * torch.eye(3).repeat(2, 1, 1)
    batch = torch.arange(1000) // 500
    for given in (cells, None):
        order = Order.of(positions, given, batch)
        assert torch.equal(order.there[order.back], torch.arange(1000))
        assert (batch[order.there].diff() >= 0).all()
        apart = positions[order.there].diff(dim=0)
        apart = apart - 2.0 * torch.round(apart / 2.0) if given is not None else apart
        usual = positions.diff(dim=0)
        usual = usual - 2.0 * torch.round(usual / 2.0) if given is not None else usual
        assert apart.norm(dim=1).mean() < 0.35 * usual.norm(dim=1).mean()
