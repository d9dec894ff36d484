"""Neighbours against every pair and image written out."""

import numpy as np
import pytest
import torch

from cgenn.neighbors import Neighbors, VerletList, _search_on_device, in_copies, neighbors, without

CUBIC = np.eye(3)
TRICLINIC = np.array([[1.0, 0.0, 0.0], [0.45, 0.9, 0.0], [-0.48, 0.42, 1.1]])
TILTED = np.array([[1.0, 0.0, 0.0], [2.6, 0.9, 0.0], [-1.7, 3.1, 0.8]])  # far from reduced
TURNED = TRICLINIC @ np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]

Edges = dict[tuple[int, int, int, int, int], np.ndarray]


def every_image(points: np.ndarray, cell: np.ndarray | None, cutoff: float) -> Edges:
    """Vector of every directed pair within the cutoff, by (receiver, sender, shift)."""
    reach = np.zeros(3, int)
    if cell is not None:
        fractional = points @ np.linalg.inv(cell)
        reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0) + np.ptp(fractional, axis=0)).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    moves = shifts @ (np.eye(3) if cell is None else cell)
    vectors = points[None, :, None] - points[:, None, None] + moves
    inside = np.linalg.norm(vectors, axis=-1) < cutoff
    home = np.flatnonzero(~shifts.any(axis=1))[0]
    inside[np.arange(len(points)), np.arange(len(points)), home] = False
    return {(int(i), int(j), *map(int, shifts[s])): vectors[i, j, s] for i, j, s in np.argwhere(inside)}


def as_edges(found: Neighbors, points: torch.Tensor, cell: torch.Tensor | None = None) -> Edges:
    vectors = points[found.senders] - points[found.receivers]
    if cell is not None:
        vectors = vectors + found.shifts @ cell
    rows = torch.cat([found.receivers[:, None], found.senders[:, None], found.shifts.long()], dim=1).tolist()
    assert len({tuple(row) for row in rows}) == len(rows), "an edge is there twice"
    return {tuple(row): vector for row, vector in zip(rows, vectors.numpy(), strict=True)}


def assert_same(found: Edges, expected: Edges) -> None:
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-12)


@pytest.mark.parametrize("cutoff", [0.2, 0.5, 1.5])
def test_open(cutoff: float) -> None:
    points = np.random.default_rng(0).uniform(0.0, 1.5, (30, 3))
    found = neighbors(torch.from_numpy(points), cutoff)
    assert_same(as_edges(found, torch.from_numpy(points)), every_image(points, None, cutoff))
    assert (found.receivers.diff() >= 0).all()


@pytest.mark.parametrize("cell", [CUBIC, TRICLINIC, TILTED, TURNED], ids=["cubic", "triclinic", "tilted", "turned"])
@pytest.mark.parametrize("cutoff", [0.3, 0.7, 1.6], ids=["short", "over half the box", "several images"])
def test_periodic(cell: np.ndarray, cutoff: float) -> None:
    points = np.random.default_rng(1).uniform(-0.5, 1.5, (9, 3)) @ cell  # also beads outside the cell
    given = torch.from_numpy(points), torch.from_numpy(cell)
    on_device = _search_on_device(given[0], cutoff, given[1], True)  # what a GPU does
    for found in (neighbors(given[0], cutoff, cell=given[1][None]), on_device):
        assert_same(as_edges(found, *given), every_image(points, cell, cutoff))
        assert (found.receivers.diff() >= 0).all()


def test_one_bead_sees_its_own_images() -> None:
    found = neighbors(torch.zeros(1, 3), 1.1, cell=torch.eye(3)[None])
    assert len(found.receivers) == 6
    assert neighbors(torch.zeros(1, 3), 1.1).receivers.tolist() == []


@pytest.mark.parametrize("periodic", [False, True])
def test_batch_is_the_systems_one_by_one(periodic: bool) -> None:
    random = np.random.default_rng(2)
    points = [torch.from_numpy(random.uniform(0.0, 1.0, (n, 3))) for n in (4, 1, 7)]
    cells = torch.stack([torch.from_numpy(cell) for cell in (CUBIC, TRICLINIC, 1.3 * CUBIC)]) if periodic else None
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([4, 1, 7]))
    together = neighbors(torch.cat(points), 0.6, cell=cells, batch=batch, n_systems=3)
    expected: set = set()
    for system, (start, one) in enumerate(zip((0, 4, 5), points, strict=True)):
        alone = neighbors(one, 0.6, cell=None if cells is None else cells[system : system + 1])
        rows = zip(alone.receivers + start, alone.senders + start, alone.shifts, strict=True)
        expected |= {(int(i), int(j), *shift.long().tolist()) for i, j, shift in rows}
    rows = zip(together.receivers, together.senders, together.shifts, strict=True)
    assert {(int(i), int(j), *shift.long().tolist()) for i, j, shift in rows} == expected


def test_precision_is_kept() -> None:
    found = neighbors(torch.rand(5, 3, dtype=torch.float32), 1.0, cell=torch.eye(3, dtype=torch.float32)[None])
    assert found.shifts.dtype == torch.float32
    assert found.senders.dtype == torch.int64


def test_what_cannot_be_is_refused() -> None:
    points = torch.rand(3, 3)
    with pytest.raises(ValueError, match=r"`cutoff` must be positive, got -1.0 nm"):
        neighbors(points, -1.0)
    cells = torch.stack([torch.eye(3), torch.zeros(3, 3)])
    with pytest.raises(ValueError, match="the cell of system 1 has no volume"):
        neighbors(points, 1.0, cell=cells, batch=torch.tensor([0, 0, 1]), n_systems=2)
    points[1, 2] = torch.nan
    with pytest.raises(ValueError, match="the position of bead 1 is not finite"):
        neighbors(points, 1.0)


@pytest.mark.parametrize("cell", [None, 1.2 * TRICLINIC], ids=["open", "triclinic"])
def test_verlet_list_misses_nothing_on_a_walk(cell: np.ndarray | None) -> None:
    random = np.random.default_rng(3)
    points = random.uniform(0.0, 1.2, (20, 3))
    box = None if cell is None else torch.from_numpy(cell)[None]
    kept = VerletList(cutoff=0.5, skin=0.2)
    for _ in range(60):
        points = points + 0.01 * random.normal(size=points.shape)
        here = torch.from_numpy(points)
        found = as_edges(kept.find(here, cell=box), here, None if box is None else box[0])
        within = {key: vector for key, vector in found.items() if np.linalg.norm(vector) < 0.5}
        assert_same(within, every_image(points, cell, 0.5))
    assert 1 < kept.rebuilds < 30


def test_verlet_list_is_found_anew() -> None:
    points, box = torch.rand(6, 3), torch.eye(3)[None]
    kept = VerletList(cutoff=0.4)
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    calls = [
        dict(positions=points, cell=box),
        dict(positions=points, cell=1.0001 * box),
        dict(positions=points),
        dict(positions=points.float()),
        dict(positions=points[:5]),
        dict(positions=points, batch=batch, n_systems=2),
        dict(positions=points, batch=batch.flip(0).sort().values.clamp(max=0), n_systems=2),
    ]
    for number, call in enumerate(calls, start=1):
        first = kept.find(**call)
        assert kept.rebuilds == number
        assert kept.find(**call) is first
    with pytest.raises(ValueError, match="not finite"):
        kept.find(points * torch.nan)


@pytest.mark.parametrize("cell", [None, TRICLINIC, TILTED])
def test_excluded_pairs_are_left_out_in_all_images(cell):
    """In both directions, in all systems; a list with a skin agrees, and so does one that starts anew."""
    random = np.random.default_rng(3)
    points = torch.from_numpy(random.random((2, 8, 3)) @ (np.eye(3) if cell is None else cell)).flatten(0, 1)
    batch = torch.arange(2).repeat_interleave(8)
    cells = None if cell is None else torch.from_numpy(np.stack([cell, cell]))
    barred = in_copies(torch.tensor([[0, 2, 2], [5, 3, 7]]), 8, 2)
    everything = neighbors(points, 0.7, cell=cells, batch=batch, n_systems=2)
    found = without(everything, barred, 16)
    pairs = set(map(tuple, barred.T.tolist()))
    rows = torch.stack([everything.receivers, everything.senders], dim=1).tolist()
    kept = [index for index, (i, j) in enumerate(rows) if (min(i, j), max(i, j)) not in pairs]
    assert 0 < len(kept) < len(rows)
    for name in ("receivers", "senders", "shifts"):
        torch.testing.assert_close(getattr(found, name), getattr(everything, name)[kept])
    verlet = VerletList(0.5, skin=0.2, excluded=barred)
    for moved in (points, points + 0.3):
        listed = verlet.find(moved, cell=cells, batch=batch, n_systems=2)
        again = without(neighbors(moved, 0.7, cell=cells, batch=batch, n_systems=2), barred, 16)
        torch.testing.assert_close(listed.senders, again.senders)
        torch.testing.assert_close(listed.shifts, again.shifts)
    assert verlet.rebuilds == 2
