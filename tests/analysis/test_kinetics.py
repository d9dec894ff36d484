"""Slow coordinates of processes whose timescales are known."""

import numpy as np
import pytest

from cgenn.analysis import kinetics
from cgenn.analysis.kinetics import implied_timescales, slow_coordinates


def two_states(frames: int, leave: float, arrive: float, seed: int) -> np.ndarray:
    """A chain of jumps 0 -> 1 and 1 -> 0 with these probabilities: its correlation is (1 - leave - arrive)^t."""
    uniform = np.random.default_rng(seed).random(frames)
    states = np.zeros(frames)
    for t in range(1, frames):
        jump = leave if states[t - 1] == 0 else arrive
        states[t] = 1 - states[t - 1] if uniform[t] < jump else states[t - 1]
    return states


def test_timescale_of_two_states_is_the_analytic_one():
    """Hidden in three noisy features, at every lag; jumps between trajectories do not count."""
    pytest.importorskip("deeptime")
    generator, trajectories = np.random.default_rng(0), []
    for seed in range(4):
        state = two_states(20_000, 0.02, 0.03, seed)
        noise = generator.normal(size=(20_000, 3))
        trajectories.append(np.column_stack([2 * state + 0.1 * noise[:, 0], noise[:, 1], 0.5 * state + noise[:, 2]]))
    expected = -1 / np.log(1 - 0.02 - 0.03)
    scales = implied_timescales(trajectories, [5, 10, 20])
    np.testing.assert_allclose(scales[:, 0], expected, rtol=0.1)
    assert scales[:, 1].max() < 0.4 * expected
    slow = slow_coordinates(trajectories, 10)
    projected = slow(trajectories[0])[:, 0]
    assert abs(np.corrcoef(projected, trajectories[0][:, 0])[0, 1]) > 0.99
    assert np.concatenate([slow(part) for part in trajectories]).std(axis=0) == pytest.approx(1.0, rel=0.05)


def test_mistakes_are_named(monkeypatch):
    pytest.importorskip("deeptime")
    with pytest.raises(ValueError, match="between 1 and the 10 frames of the longest trajectory, got 20"):
        slow_coordinates([np.zeros((10, 2))], 20)
    with pytest.raises(ValueError, match="features must be finite"):
        slow_coordinates([np.full((100, 2), np.nan)], 5)
    monkeypatch.setattr(kinetics, "has_deeptime", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'cgenn\[kinetics\]'"):
        slow_coordinates([np.zeros((10, 2))], 2)
