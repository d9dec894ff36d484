"""Brownian motion with a known diffusion coefficient, in boxes that change, and straight flight."""

import numpy as np
import pytest

from cgenn.analysis.dynamics import diffusion, mean_square_displacement, unwrapped


def brownian(frames: int, points: int, d: float, interval: float, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(frames, points, 3)) * np.sqrt(2 * d * interval)
    return np.cumsum(steps, axis=0)


def test_displacement_by_fft_is_that_of_the_definition():
    walk = brownian(40, 3, 1.0, 1.0) + 100.0
    found = mean_square_displacement(walk, 20)
    for lag in range(1, 20):
        expected = np.square(walk[lag:] - walk[:-lag]).sum(axis=2).mean(axis=0)
        np.testing.assert_allclose(found[lag], expected, rtol=1e-8)
    assert not found[0].any()


def test_flight_is_ballistic():
    flight = np.arange(64)[:, None, None] * np.array([[[0.1, 0.0, 0.2], [0.0, -0.3, 0.0]]])
    found = diffusion([flight], 0.5)
    np.testing.assert_allclose(found.displacement, np.arange(16) ** 2 * (0.05 + 0.09) / 2, atol=1e-9)
    assert found.exponent == pytest.approx(2.0, abs=1e-6)


def test_diffusion_coefficient_and_its_error():
    """Over many repetitions the error is the scatter, and the mean is D."""
    runs = [diffusion([brownian(400, 10, 0.3, 0.2, seed=2 * run + part) for part in (0, 1)], 0.2) for run in range(40)]
    values, errors = (np.array([getattr(run, name) for run in runs]) for name in ("coefficient", "coefficient_error"))
    assert values.mean() == pytest.approx(0.3, abs=3 * values.std() / np.sqrt(40))
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.35)
    assert runs[0].window == pytest.approx((10.0, 19.8))
    assert np.mean([run.exponent for run in runs]) == pytest.approx(1.0, abs=0.1)
    assert diffusion([brownian(400, 1, 0.3, 0.2)], 0.2).coefficient_error is None


@pytest.mark.parametrize("tilted", [False, True])
def test_points_are_followed_through_a_box_that_changes(tilted):
    """Wrapped into fluctuating boxes, a walk is found again; its diffusion with it."""
    walk = brownian(2000, 40, 0.05, 0.1)
    cell = np.array([[3.0, 0.0, 0.0], [0.9 * tilted, 2.8, 0.0], [-0.7 * tilted, 0.5 * tilted, 2.9]])
    same = np.tile(cell, (2000, 1, 1))
    fractions = walk @ np.linalg.inv(cell)
    wrapped = (fractions - np.floor(fractions)) @ cell
    np.testing.assert_allclose(np.diff(unwrapped(wrapped, same), axis=0), np.diff(walk, axis=0), atol=1e-9)
    boxes = cell * (1 + 0.005 * np.random.default_rng(1).normal(size=(2000, 1, 1)))
    inside = walk - np.floor(walk @ np.linalg.inv(boxes)) @ boxes
    found = diffusion([unwrapped(inside, boxes)], 0.1)
    assert found.coefficient == pytest.approx(0.05, rel=0.15)


def test_pieces_that_are_too_short_are_left_out():
    long = [brownian(100, 4, 1.0, 1.0, seed) for seed in (1, 2)]
    with_short = diffusion([*long, brownian(10, 4, 50.0, 1.0)], 1.0)
    assert with_short.coefficient == diffusion(long, 1.0).coefficient


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion([np.zeros((20, 1, 3))], 1.0), "needs 32 frames in a row, got 20"),
        (lambda: diffusion([], 1.0), "needs 32 frames in a row, got 0"),
        (lambda: diffusion([np.full((40, 1, 3), np.nan)], 1.0), "positions that are finite, got NaN"),
        (lambda: diffusion([np.zeros((40, 1, 3))], 0.0), "`interval` must be positive, got 0.0 ps"),
        (lambda: mean_square_displacement(np.zeros((4, 1, 3)), 5), "between 1 and the 4 frames, got 5"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
