"""What an ensemble accepts, how it is read in pieces, and how its blocks are made."""

import h5py
import numpy as np
import pytest

from cgenn.analysis.ensemble import Ensemble, independent_blocks

CUBE = np.repeat(np.eye(3)[None] * 3.0, 4, axis=0)


def test_chunks_cover_all_frames_in_order_with_bounded_size():
    positions = np.arange(1000 * 900 * 3, dtype=np.float32).reshape(1000, 900, 3)
    ensemble = Ensemble(positions)
    chunks = list(ensemble.chunks())
    assert max(len(chunk.positions) for chunk in chunks) * 900 <= 400_000
    np.testing.assert_array_equal(np.concatenate([chunk.positions for chunk in chunks]), positions)
    np.testing.assert_array_equal(np.concatenate([chunk.blocks for chunk in chunks]), ensemble.block_index)
    wanted = np.arange(1000) % 7 == 3
    chosen = np.concatenate([chunk.positions for chunk in ensemble.chunks(per_frame=10_000, frames=wanted)])
    np.testing.assert_array_equal(chosen, positions[wanted])


def test_positions_may_lie_in_a_file(tmp_path):
    positions = np.random.default_rng(0).normal(size=(4, 5, 3))
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        ensemble = Ensemble(file.create_dataset("value", data=positions), CUBE)
        (chunk,) = ensemble.chunks()
        np.testing.assert_array_equal(chunk.positions, positions)
        np.testing.assert_array_equal(chunk.box, CUBE)


def test_few_pieces_are_cut_and_many_are_merged():
    cut = independent_blocks(np.zeros(100, dtype=int))
    np.testing.assert_array_equal(cut, np.arange(100) // 10)
    interleaved = np.tile([5, 9], 30)  # two replicas, written in turn
    blocks = independent_blocks(interleaved)
    assert len(np.unique(blocks)) == 10
    assert all(len(np.unique(interleaved[blocks == block])) == 1 for block in range(10))
    assert independent_blocks(np.repeat(np.arange(500), 3)).max() == 31
    np.testing.assert_array_equal(independent_blocks(np.arange(12)), np.arange(12))
    assert independent_blocks(np.zeros(1, dtype=int)).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 3)),), r"shape \(frames, beads, 3\), got \(4, 3\)"),
        ((np.zeros((0, 5, 3)),), "no frames or no beads"),
        ((np.zeros((4, 5, 3)), np.zeros((3, 3))), r"box must have the shape \(4, 3, 3\), got \(3, 3\)"),
        ((np.zeros((4, 5, 3)), CUBE * [[[1]], [[1]], [[0]], [[1]]]), "the box of frame 2 has the volume 0.0"),
        ((np.zeros((4, 5, 3)), None, np.zeros(3)), "one entry per frame, 4, got"),
    ],
)
def test_a_wrong_shape_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(*arguments)


def test_a_position_that_is_not_finite_is_named():
    positions = np.zeros((4, 5, 3))
    positions[2, 3, 1] = np.nan
    with pytest.raises(ValueError, match=r"model: the position of bead 3 in frame 2 is \[0.0, nan, 0.0\]"):
        list(Ensemble(positions, label="model").chunks())


def test_number_density_is_that_of_the_mean_volume():
    box = np.stack([np.diag([2.0, 2.0, 2.0]), np.diag([2.0, 2.0, 3.0])])
    assert Ensemble(np.zeros((2, 30, 3)), box).number_density == pytest.approx(3.0)
    with pytest.raises(ValueError, match="there is no box"):
        _ = Ensemble(np.zeros((2, 30, 3))).number_density


def test_pieces_and_the_time_between_their_frames():
    """Replicas written in turn at the same times; where a frame is missing there is no one interval."""
    times = np.repeat(10.0 + 0.5 * np.arange(6), 2)
    ensemble = Ensemble(np.zeros((12, 1, 3)), blocks=np.tile([7, 3], 6), times=times)
    assert [piece.tolist() for piece in ensemble.pieces] == [[1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8, 10]]
    assert ensemble.interval == pytest.approx(0.5)
    assert Ensemble(np.zeros((12, 1, 3))).interval is None
    assert Ensemble(np.zeros((1, 1, 3)), times=np.zeros(1)).interval is None
    assert Ensemble(np.zeros((3, 1, 3)), times=np.array([0.0, 1.0, 3.0])).interval is None
    with pytest.raises(ValueError, match=r"`times` must have one entry per frame, 3, got the shape \(2,\)"):
        Ensemble(np.zeros((3, 1, 3)), times=np.zeros(2))
