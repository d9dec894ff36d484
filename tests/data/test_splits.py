import numpy as np
import pytest

from cgenn.data.splits import block_split


@pytest.mark.parametrize(
    ("segments", "fraction", "blocks"),
    [(None, 0.2, 10), ([(0, 333), (333, 1000)], 0.1, 20), ([(i, i + 1) for i in range(1000)], 0.25, 10)],
)
def test_parts_are_disjoint_complete_and_of_the_right_size(segments, fraction, blocks):
    training, validation = block_split(1000, segments, fraction, blocks)
    np.testing.assert_array_equal(np.sort(np.r_[training, validation]), np.arange(1000))
    assert len(validation) == pytest.approx(1000 * fraction, abs=1000 / blocks)
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)


def test_validation_frames_are_whole_blocks_spread_over_the_run():
    _, validation = block_split(1000, fraction=0.2, blocks=10)
    runs = np.split(validation, np.flatnonzero(np.diff(validation) > 1) + 1)
    assert [len(run) for run in runs] == [100, 100]
    assert runs[0][0] < 500 <= runs[1][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "`fraction` must lie between 0 and 1, got 0.0"),
        ({"blocks": 1}, "`blocks` must be at least 2, got 1"),
        ({"n_frames": 1}, "1 frames in 10 blocks cannot be split"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        block_split(**{"n_frames": 100, **options})
