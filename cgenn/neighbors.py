"""Pairs of beads within a cutoff, in any cell, for any cutoff, for one system or a batch of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import torch
import vesin
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Directed pairs: each pair of beads in both directions, each periodic image on its own.

    Attributes:
        receivers, senders: bead indices, shape (edges,), ordered by receiver.
        shifts: whole cell vectors added to the sender, shape (edges, 3).
    """

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    shifts: Float[Tensor, "edges 3"]


def edge_vectors(
    positions: Float[Tensor, "beads 3"],
    receivers: Int[Tensor, " edges"],
    senders: Int[Tensor, " edges"],
    shifts: Float[Tensor, "edges 3"],
    cell: Float[Tensor, "edges 3 3"] | None,
) -> Float[Tensor, "edges 3"]:
    """Vector from each receiver to (the image of) its sender [nm]; `cell` holds the cell vectors for each edge."""
    vectors = positions.index_select(0, senders) - positions.index_select(0, receivers)
    return vectors if cell is None else vectors + torch.einsum("ei,eij->ej", shifts, cell)


def neighbors(
    positions: Float[Tensor, "beads 3"],
    cutoff: float,
    *,
    cell: Float[Tensor, "systems 3 3"] | None = None,
    batch: Int[Tensor, " beads"] | None = None,
    n_systems: int = 1,
    both: bool = True,
) -> Neighbors:
    """All pairs closer than `cutoff` [nm] within each system, in both directions; else each once, in any order.

    Systems without a cell are laid out side by side in open space and searched in one go; periodic ones one by one. One
    periodic system on a GPU is searched there. `batch` has to be sorted.

    Raises:
        ValueError: if the cutoff is not positive or a cell has no volume.
    """
    if not cutoff > 0:
        raise ValueError(f"`cutoff` must be positive, got {cutoff} nm")
    if positions.is_cuda and cell is not None and n_systems == 1 and _works_on(positions.device):
        return _search_on_device(positions.detach(), cutoff, cell[0].detach(), both)
    points = positions.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(points).all():
        raise ValueError(f"the position of bead {int(np.argwhere(~np.isfinite(points))[0, 0])} is not finite")
    if cell is None:
        spread = points if batch is None else _side_by_side(points, batch.cpu().numpy(), n_systems, cutoff)
        parts = [_search_open(spread, cutoff, both)]
    else:
        cells = cell.detach().to("cpu", torch.float64).numpy()
        flat = np.abs(np.linalg.det(cells)) < 1e-9
        if flat.any():
            raise ValueError(
                f"the cell of system {int(np.argmax(flat))} has no volume: {cells[np.argmax(flat)].tolist()} nm"
            )
        owners = np.zeros(len(points), dtype=np.int64) if batch is None else batch.cpu().numpy()
        starts = np.searchsorted(owners, np.arange(n_systems + 1))
        parts = [
            _search_periodic(points[start:stop], cells[system], cutoff, start, both)
            for system, (start, stop) in enumerate(pairwise(starts.tolist()))
        ]
    joined = parts[0] if len(parts) == 1 else [np.concatenate(entries) for entries in zip(*parts, strict=True)]
    receivers, senders, shifts = joined
    return Neighbors(
        torch.from_numpy(receivers).to(positions.device),
        torch.from_numpy(senders).to(positions.device),
        torch.from_numpy(shifts).to(positions.device, positions.dtype),
    )


def in_copies(pairs: Int[Tensor, "2 pairs"], beads: int, copies: int) -> Int[Tensor, "2 all"]:
    """Pairs of beads of one system in as many copies of it, one after the other."""
    return (pairs[:, None] + beads * torch.arange(copies, device=pairs.device)[None, :, None]).flatten(1)


def without(found: Neighbors, excluded: Int[Tensor, "2 pairs"], n_beads: int) -> Neighbors:
    """Without pairs of these beads, in either direction and of whatever images."""
    first, second = excluded.long()
    keys = torch.cat([first * n_beads + second, second * n_beads + first]).sort().values
    edges = found.receivers * n_beads + found.senders
    nearest = keys[torch.searchsorted(keys, edges).clamp(max=len(keys) - 1)]
    kept = (nearest != edges).nonzero().squeeze(1)
    return Neighbors(*(part.index_select(0, kept) for part in (found.receivers, found.senders, found.shifts)))


def _search_open(points: np.ndarray, cutoff: float, both: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tree rather than a grid: beads that flew far apart cost nothing."""
    pairs = cKDTree(points).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
    if not both:
        return pairs[:, 0], pairs[:, 1], np.zeros((len(pairs), 3))
    i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.lexsort((j, i))
    return i[order], j[order], np.zeros((len(i), 3))


def _search_periodic(
    points: np.ndarray, cell: np.ndarray, cutoff: float, offset: int, both: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    search = vesin.NeighborList(cutoff=cutoff, full_list=both, sorted=both, n_threads=1)
    i, j, shift = search.compute(points, cell, True, "ijS", copy=False)  # long lists are copied once
    return i.view(np.int64) + offset, j.view(np.int64) + offset, shift.astype(np.float32)


@cache
def _works_on(device: torch.device) -> bool:
    """Whether vesin can search on a GPU: found out by trying."""
    try:
        _search_on_device(torch.zeros(2, 3, device=device), 1.0, 3 * torch.eye(3, device=device), True)
    except RuntimeError as error:
        _log.warning("neighbours are searched by the processor, as vesin cannot on %s: %s", device, error)
        return False
    return True


def _search_on_device(positions: Tensor, cutoff: float, cell: Tensor, both: bool) -> Neighbors:
    """One periodic system, without a copy of positions or pairs elsewhere."""
    broken = (~torch.isfinite(positions)).any(1)
    if bool(broken.any()):
        raise ValueError(f"the position of bead {int(broken.int().argmax())} is not finite")
    search = vesin.NeighborList(cutoff=cutoff, full_list=both)
    i, j, shift = search.compute(positions.double(), cell.double(), True, "ijS")
    i, j = i.view(torch.int64), j.view(torch.int64)
    order = torch.argsort(i, stable=True)
    return Neighbors(i[order], j[order], shift[order].to(positions.dtype))


def _side_by_side(points: np.ndarray, batch: np.ndarray, n_systems: int, cutoff: float) -> np.ndarray:
    """Move the systems apart along x, so that none sees another."""
    low, high = np.full(n_systems, np.inf), np.full(n_systems, -np.inf)
    np.minimum.at(low, batch, points[:, 0])
    np.maximum.at(high, batch, points[:, 0])
    width = np.where(np.isfinite(low), high - low + 2 * cutoff, 0.0)
    start = np.concatenate([[0.0], np.cumsum(width)[:-1]])
    moved = points.copy()
    moved[:, 0] += (start - np.where(np.isfinite(low), low, 0.0))[batch]
    return moved


@dataclass
class VerletList:
    """Neighbours kept from call to call: found within cutoff + skin, found anew once a bead moved more than skin / 2.

    A changed cell, batch, number of beads, device or precision also leads to a new search. The list that comes back
    may hold pairs beyond the cutoff, where every term of the potential is zero; it holds no `excluded` ones.
    """

    cutoff: float
    skin: float = 0.2
    excluded: Int[Tensor, "2 pairs"] | None = None
    rebuilds: int = field(default=0, init=False)
    _positions: Tensor | None = field(default=None, init=False, repr=False)
    _cell: Tensor | None = field(default=None, init=False, repr=False)
    _batch: Tensor | None = field(default=None, init=False, repr=False)
    _neighbors: Neighbors | None = field(default=None, init=False, repr=False)

    def find(
        self,
        positions: Float[Tensor, "beads 3"],
        *,
        cell: Float[Tensor, "systems 3 3"] | None = None,
        batch: Int[Tensor, " beads"] | None = None,
        n_systems: int = 1,
    ) -> Neighbors:
        """Pairs that include all closer than the cutoff; see `neighbors` for the arguments."""
        if self._neighbors is None or self._outdated(positions, cell, batch):
            found = neighbors(positions, self.cutoff + self.skin, cell=cell, batch=batch, n_systems=n_systems)
            if self.excluded is not None and self.excluded.numel():
                found = without(found, self.excluded, len(positions))
            self._neighbors = found
            self._positions = positions.detach().clone()
            self._cell = None if cell is None else cell.detach().clone()
            self._batch = batch
            self.rebuilds += 1
        return self._neighbors

    def _outdated(self, positions: Tensor, cell: Tensor | None, batch: Tensor | None) -> bool:
        last = self._positions
        if last is None or last.shape != positions.shape or not _same_kind(last, positions):
            return True
        if not _equal(self._batch, batch) or not _comparable(self._cell, cell):
            return True
        near = (positions.detach() - last).square().sum(1).max() <= (0.5 * self.skin) ** 2
        if cell is not None and self._cell is not None:
            near = near & torch.eq(cell, self._cell).all()
        return not bool(near)  # the only time that a processor waits for a GPU


def _same_kind(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and first.dtype == second.dtype


def _comparable(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and _same_kind(first, second)


def _equal(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first is second:
        return first is second
    return _comparable(first, second) and torch.equal(first, second)
