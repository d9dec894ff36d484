"""Which pairs of beads interact in real space, and which do not interact at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.settings import CoulombSettings
from cgenn.electrostatics.slab import check_vacuum
from cgenn.neighbors import neighbors


@dataclass(frozen=True, eq=False)
class CoulombPairs:
    """Pairs of a Coulomb sum, each once.

    Attributes:
        receivers, senders: beads of each pair within the cutoff in real space or beyond it, shape (pairs,).
        shifts: whole cell vectors added to the sender, shape (pairs, 3).
        excluded: pairs of beads that do not interact; not among those above, shape (2, excluded).
        excluded_shifts: cell vectors that bring the second of an excluded pair nearest to the first, (excluded, 3).
    """

    receivers: Int[Tensor, " pairs"]
    senders: Int[Tensor, " pairs"]
    shifts: Float[Tensor, "pairs 3"]
    excluded: Int[Tensor, "2 excluded"]
    excluded_shifts: Float[Tensor, "excluded 3"]


def coulomb_pairs(
    positions: Float[Tensor, "beads 3"],
    settings: CoulombSettings,
    *,
    cell: Float[Tensor, "systems 3 3"] | None = None,
    batch: Int[Tensor, " beads"] | None = None,
    n_systems: int = 1,
    excluded: Int[Tensor, "2 excluded"] | None = None,
    skin: float = 0.0,
) -> CoulombPairs:
    """All pairs within the cutoff and `skin` [nm] beyond it, every periodic image on its own; all pairs in open space.

    Of an excluded pair only the nearest image does not interact.

    Raises:
        ValueError: if the cell does not fit the method, a slab has too little vacuum, the batch is not sorted, or an
            excluded pair names a bead twice, one that does not exist, or beads of two systems.
    """
    if (cell is None) != (settings.method == "open"):
        raise ValueError(f"method {settings.method!r} {'needs a cell' if cell is None else 'is without a cell'}")
    if cell is not None and cell.shape != (n_systems, 3, 3):
        raise ValueError(
            f"`cell` must have the shape ({n_systems}, 3, 3), one for each system, got {tuple(cell.shape)}"
        )
    batch = torch.zeros(len(positions), dtype=torch.int64) if batch is None else batch.cpu()
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError("the beads of a batch have to be ordered by system")
    if settings.slab and cell is not None:
        check_vacuum(positions, cell, batch)
    barred = torch.zeros((2, 0), dtype=torch.int64) if excluded is None else _distinct(excluded.cpu(), batch)
    device, dtype = positions.device, positions.dtype
    if cell is None:
        first, second = _all_pairs(batch, n_systems)
        shifts, barred_shifts = torch.zeros((len(first), 3)), torch.zeros((barred.shape[1], 3))
    else:
        found = neighbors(
            positions, settings.cutoff + skin, cell=cell, batch=batch.to(device), n_systems=n_systems, both=False
        )
        first, second, shifts = found.receivers.cpu(), found.senders.cpu(), found.shifts.cpu()
        barred_shifts = _nearest(positions.detach().cpu(), cell.detach().cpu()[batch[barred[0]]], barred)
    if barred.shape[1]:
        keep = _kept(first, second, shifts, barred, barred_shifts, len(positions))
        first, second, shifts = first[keep], second[keep], shifts[keep]
    return CoulombPairs(
        first.to(device),
        second.to(device),
        shifts.to(device, dtype),
        barred.to(device),
        barred_shifts.to(device, dtype),
    )


def pair_vectors(
    positions: Float[Tensor, "beads 3"],
    receivers: Int[Tensor, " pairs"],
    senders: Int[Tensor, " pairs"],
    shifts: Float[Tensor, "pairs 3"],
    cell: Float[Tensor, "systems 3 3"] | None,
    system: Int[Tensor, " pairs"],
) -> Float[Tensor, "pairs 3"]:
    """Vector from the first bead of each pair to (the image of) the second [nm]; `system` is that of the pair."""
    vectors = positions.index_select(0, senders) - positions.index_select(0, receivers)
    if cell is None:
        return vectors
    if len(cell) == 1:
        return vectors + shifts @ cell[0]
    return vectors + torch.einsum("pi,pij->pj", shifts, cell.index_select(0, system))


def _all_pairs(batch: Tensor, n_systems: int) -> tuple[Tensor, Tensor]:
    counts = torch.bincount(batch, minlength=n_systems).tolist()
    start, parts = 0, [torch.zeros((2, 0), dtype=torch.int64)]
    for count in counts:
        parts.append(torch.triu_indices(count, count, 1) + start)
        start += count
    first, second = torch.cat(parts, dim=1)
    return first, second


def _distinct(excluded: Tensor, batch: Tensor) -> Tensor:
    """The excluded pairs with the lower index first, each once."""
    if excluded.numel() == 0:
        return torch.zeros((2, 0), dtype=torch.int64)
    if int(excluded.min()) < 0 or int(excluded.max()) >= len(batch):
        raise ValueError(f"an excluded pair names bead {int(excluded.max())}, but there are {len(batch)} beads")
    low, high = excluded.min(0).values, excluded.max(0).values
    if bool((low == high).any()):
        raise ValueError(f"bead {int(low[low == high][0])} is excluded from itself")
    apart = (batch[low] != batch[high]).nonzero()
    if len(apart):
        pair = int(apart[0, 0])
        raise ValueError(f"beads {int(low[pair])} and {int(high[pair])} are excluded but belong to different systems")
    return torch.unique(torch.stack([low, high]), dim=1)


def _nearest(positions: Tensor, cells: Tensor, pairs: Tensor) -> Tensor:
    """Whole cell vectors that bring the second bead of each pair nearest to the first, in any cell."""
    vectors = (positions[pairs[1]] - positions[pairs[0]]).to(torch.float64)
    cells = cells.to(torch.float64)
    rounded = -torch.einsum("pi,pij->pj", vectors, torch.linalg.inv(cells)).round()
    around = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=3)), dtype=torch.float64)
    candidates = rounded[:, None] + around
    images = vectors[:, None] + torch.einsum("pci,pij->pcj", candidates, cells)
    best = images.square().sum(2).argmin(1)
    return candidates[torch.arange(len(best)), best]


def _kept(first: Tensor, second: Tensor, shifts: Tensor, barred: Tensor, barred_shifts: Tensor, n_beads: int) -> Tensor:
    """Indices of the pairs that are not excluded."""
    keys = (barred[0] * n_beads + barred[1]).numpy()  # ordered: `unique` sorts
    wanted = (torch.minimum(first, second) * n_beads + torch.maximum(first, second)).numpy()
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    suspects = torch.from_numpy(np.flatnonzero(keys[place] == wanted))
    theirs = barred_shifts[torch.from_numpy(place)[suspects]].to(shifts.dtype)
    ours = torch.where((first < second)[suspects, None], shifts[suspects], -shifts[suspects])
    keep = torch.ones(len(first), dtype=torch.bool)
    keep[suspects[(ours == theirs).all(1)]] = False
    return keep.nonzero().squeeze(1)
