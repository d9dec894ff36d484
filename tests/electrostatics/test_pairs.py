from dataclasses import replace

import pytest
import torch

from cgenn.electrostatics.pairs import coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings, tune
from tests.electrostatics.conftest import join, random_charges

LONG = CoulombSettings("ewald", cutoff=2.0, alpha=2.0, k_cutoff=10.0)
"""A cutoff longer than the cell, so that beads see their own images."""


@pytest.mark.parametrize("tilted", [False, True])
def test_every_pair_once(tilted: bool) -> None:
    ions = random_charges(6, tilted=tilted)
    assert ions.cell is not None
    images = torch.cartesian_prod(*[torch.arange(-5.0, 6.0)] * 3)
    vectors = ions.positions[:, None, None] - ions.positions[None, :, None] + images @ ions.cell[0]
    distances = vectors.norm(dim=3)
    expected = distances[(distances < LONG.cutoff) & (distances > 0)].sort().values[::2]  # each counted twice
    pairs = ions.pairs(LONG)
    found = ions.positions[pairs.senders] + pairs.shifts @ ions.cell[0] - ions.positions[pairs.receivers]
    torch.testing.assert_close(found.norm(dim=1).sort().values, expected)


def test_excluded_pairs_are_dropped_at_their_nearest_image() -> None:
    ions = random_charges(6, tilted=True)
    moved = ions.positions.clone()
    moved[1] += 3 * ions.cell[0, 0] - ions.cell[0, 2]  # type: ignore[index]
    ions = replace(ions, positions=moved)
    everything = ions.pairs(LONG)
    pairs = replace(ions, excluded=torch.tensor([[1, 4, 0], [0, 5, 1]])).pairs(LONG)
    assert len(everything.senders) - len(pairs.senders) == pairs.excluded.shape[1] == 2
    for (first, second), shift in zip(pairs.excluded.T, pairs.excluded_shifts, strict=True):
        same = (everything.receivers == first) & (everything.senders == second)
        nearest = (moved[second] + everything.shifts[same] @ ions.cell[0] - moved[first]).norm(dim=1).min()  # type: ignore[index]
        assert (moved[second] + shift @ ions.cell[0] - moved[first]).norm() == pytest.approx(nearest.item())  # type: ignore[index]


def test_open_systems_list_all_pairs_of_each() -> None:
    batch = torch.tensor([0, 0, 0, 2, 2])
    found = coulomb_pairs(
        torch.rand((5, 3)), CoulombSettings("open"), batch=batch, n_systems=3, excluded=torch.tensor([[2], [1]])
    )
    assert torch.stack([found.receivers, found.senders]).tolist() == [[0, 0, 3], [1, 2, 4]]


def test_a_skin_changes_nothing() -> None:
    ions = replace(join([random_charges(), random_charges(tilted=True, seed=1)]), excluded=torch.tensor([[0], [1]]))
    settings = CoulombSettings("ewald", cutoff=0.4, alpha=6.0, k_cutoff=30.0)
    wide = coulomb_pairs(
        ions.positions, settings, cell=ions.cell, batch=ions.batch, n_systems=2, excluded=ions.excluded, skin=0.2
    )
    assert len(wide.senders) > len(ions.pairs(settings).senders)
    torch.testing.assert_close(ions.energy(settings, wide), ions.energy(settings))


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        ([[0], [6]], "names bead 6, but there are 6"),
        ([[2], [2]], "bead 2 is excluded from itself"),
        ([[0], [4]], "beads 0 and 4 are excluded but belong to different systems"),
    ],
)
def test_wrong_exclusions(excluded: list[list[int]], message: str) -> None:
    ions = join([random_charges(3), random_charges(3)])
    with pytest.raises(ValueError, match=message):
        replace(ions, excluded=torch.tensor(excluded)).pairs(LONG)


def test_wrong_cells_and_batches() -> None:
    ions = random_charges(4)
    with pytest.raises(ValueError, match="method 'ewald' needs a cell"):
        replace(ions, cell=None).pairs(LONG)
    with pytest.raises(ValueError, match="method 'open' is without a cell"):
        ions.pairs(CoulombSettings("open"))
    with pytest.raises(ValueError, match="ordered by system"):
        replace(join([ions, ions]), batch=torch.tensor([0, 1] * 4)).pairs(LONG)


def test_one_cell_for_each_system() -> None:
    settings = tune(torch.eye(3), 2, accuracy=1e-3)
    with pytest.raises(ValueError, match=r"`cell` must have the shape \(1, 3, 3\), one for each system, got \(3, 3\)"):
        coulomb_pairs(torch.rand(2, 3), settings, cell=torch.eye(3))
