"""Order and division of the batches."""

import numpy as np
import pytest
import torch

from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.topology import BeadTopology
from cgenn.training import batches
from cgenn.training.batches import Batches


@pytest.fixture
def numbered(tmp_path):
    """Two datasets of different molecules; the first coordinate is the number of the frame."""
    made = []
    for beads, frames in ((2, 700), (3, 500)):
        topology = BeadTopology.build(["A"] * beads, [1.0] * beads)
        positions = np.zeros((frames, beads, 3))
        positions[:, :, 0] = np.arange(frames)[:, None]
        path = tmp_path / f"{beads}.h5"
        made.append(BeadDataset.write(path, topology, Frames(positions, positions), temperature=300.0))
    return made


def _seen(source: Batches) -> list[tuple[int, int]]:
    return [(group.dataset, int(x)) for batch in source for group in batch for x in group.positions[:, 0, 0]]


def _batches(datasets, **options) -> Batches:
    frames = [np.arange(len(data)) for data in datasets]
    return Batches(datasets, frames, **{"batch_size": 100, "seed": 1, "epoch": 0, **options})


@pytest.mark.parametrize("buffered", [10**7, 900])
def test_every_frame_comes_once(numbered, monkeypatch, buffered):
    monkeypatch.setattr(batches, "BUFFERED_BEADS", buffered)
    seen = _seen(_batches(numbered))
    assert len(seen) == len(set(seen)) == 1200
    assert seen != sorted(seen)


def test_order_depends_on_seed_and_epoch_only(numbered):
    assert _seen(_batches(numbered)) == _seen(_batches(numbered))
    assert _seen(_batches(numbered)) != _seen(_batches(numbered, epoch=1))
    assert _seen(_batches(numbered)) != _seen(_batches(numbered, seed=2))


def test_processes_divide_every_batch(numbered):
    whole = list(_batches(numbered))
    shares = [list(_batches(numbered, rank=rank, world_size=2)) for rank in range(2)]
    for number, batch in enumerate(whole):
        together = {(g.dataset, int(x)) for share in shares for g in share[number] for x in g.positions[:, 0, 0]}
        assert together == {(g.dataset, int(x)) for g in batch for x in g.positions[:, 0, 0]}
        assert {sum(len(g.positions) for g in share[number]) for share in shares} == {50}


def test_validation_keeps_the_last_frames_and_the_order(numbered):
    source = _batches(numbered, shuffle=False, batch_size=1000)
    assert len(source) == len(list(source)) == 2
    assert _seen(source) == sorted(_seen(source))


def test_chosen_frames_and_precision(numbered):
    chosen = [np.array([3, 600]), np.array([499])]
    source = Batches(numbered, chosen, batch_size=8, seed=0, epoch=0, dtype=torch.float64)
    assert set(_seen(source)) == {(0, 3), (0, 600), (1, 499)}
    assert next(iter(source))[0].forces.dtype == torch.float64


def test_batches_carry_all_that_frames_hold(tmp_path):
    """Charges, dipoles, energies and virials stay with their frame, whatever the order; absent ones are None."""
    random = np.random.default_rng(0)
    topology = BeadTopology.build(["A", "B"], [1.0, 1.0], charges=[1.0, -1.0])
    extra = {"charges": (2,), "dipoles": (2, 3), "energies": (), "virials": (3, 3)}
    values = {name: random.normal(size=(20, *shape)) for name, shape in extra.items()}
    values["virials"] += values["virials"].transpose(0, 2, 1)
    positions = random.normal(size=(20, 2, 3))
    full = BeadDataset.write(tmp_path / "full.h5", topology, Frames(positions, positions, **values), temperature=300.0)
    plain = BeadDataset.write(tmp_path / "plain.h5", topology, Frames(positions, positions), temperature=300.0)
    for batch in Batches([full, plain], [np.arange(20)] * 2, batch_size=8, seed=0, epoch=0, dtype=torch.float64):
        for group in batch:
            if group.dataset == 1:
                assert (group.charges, group.dipoles, group.energies, group.virials, group.box) == (None,) * 5
                continue
            distance = np.abs(group.positions.numpy()[:, None] - positions[None]).max(axis=(2, 3))
            for name in extra:
                found = getattr(group, name)
                assert found.dtype == torch.float64
                np.testing.assert_allclose(found.numpy(), values[name][distance.argmin(axis=1)], rtol=1e-6)
