"""Errors, effective sample sizes and sampling floors against what theory says of known processes."""

import numpy as np
import pytest

from cgenn.analysis.statistics import (
    BlockAverages,
    block_sums,
    blocking_error,
    effective_samples,
    jackknife,
    jensen_shannon,
    moments,
    sampling_floor,
    statistical_inefficiency,
)


def autoregressive(n: int, rho: float, seed: int = 0) -> np.ndarray:
    """x_t = rho x_(t-1) + noise, of unit variance; the mean has the variance (1 + rho) / (1 - rho) / n."""
    noise = np.random.default_rng(seed).normal(size=n) * np.sqrt(1 - rho**2)
    series = np.empty(n)
    series[0] = noise[0] / np.sqrt(1 - rho**2)
    for step in range(1, n):
        series[step] = rho * series[step - 1] + noise[step]
    return series


def test_divergence_is_zero_for_equals_symmetric_and_at_most_ln_2():
    generator = np.random.default_rng(0)
    p, q = generator.random((2, 60, 60))
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, 7.0 * p) == pytest.approx(0.0, abs=1e-14)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), rel=1e-12)
    assert 0.0 < jensen_shannon(p, q) < np.log(2.0)
    left, right = np.zeros((2, 10))
    left[:5], right[5:] = 1.0, 1.0
    assert jensen_shannon(left, right) == pytest.approx(np.log(2.0), abs=1e-7)


def test_divergence_of_two_bins_by_hand():
    expected = 0.5 * (0.5 * np.log(0.5 / 0.6) + 0.5 * np.log(0.5 / 0.4)) + 0.5 * (
        0.7 * np.log(0.7 / 0.6) + 0.3 * np.log(0.3 / 0.4)
    )
    assert jensen_shannon(np.array([0.5, 0.5]), np.array([7, 3])) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (np.ones(3), np.ones(4), "same shape"),
        (np.zeros(3), np.ones(3), "not empty"),
        (np.array([1.0, -1.0, 2.0]), np.ones(3), "not negative"),
        (np.array([1.0, np.nan, 2.0]), np.ones(3), "finite"),
    ],
)
def test_divergence_refuses_what_is_no_histogram(p, q, message):
    with pytest.raises(ValueError, match=message):
        jensen_shannon(p, q)


def test_sampling_floor_is_that_of_multinomial_noise():
    p = np.random.default_rng(1).random(200) + 0.5
    samples = 20_000
    floor, spread = sampling_floor(p, samples)
    assert floor == pytest.approx(199 / (8 * samples), rel=0.06)  # E[JS] = (K - 1) / 8N for many samples
    assert spread == pytest.approx(np.sqrt(2 * 199) / (8 * samples), rel=0.5)  # chi-squared with K - 1 degrees
    both, _ = sampling_floor(p, samples, samples)
    assert both == pytest.approx(2 * floor, rel=0.1)
    with pytest.raises(ValueError, match="`n_model` must be at least 1, got 0"):
        sampling_floor(p, 0)


@pytest.mark.parametrize("repeats", [1, 5])
def test_effective_samples_sees_through_repeated_frames(repeats):
    generator = np.random.default_rng(2)
    p = generator.random(300)
    counts = repeats * generator.multinomial(1000, p / p.sum(), size=20)
    assert effective_samples(counts) == pytest.approx(20_000, rel=0.1)


def test_effective_samples_of_blocks_that_never_mix():
    stuck = np.zeros((10, 40))
    stuck[:5, :20], stuck[5:, 20:] = 1000.0, 1000.0
    assert effective_samples(stuck) < 400
    assert effective_samples(stuck[:1]) == 20_000  # one block cannot tell
    assert effective_samples(np.full((4, 2), 7)) == 56  # no scatter at all


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_blocking_error_of_an_autoregressive_series(rho):
    n = 32768
    expected = np.sqrt((1 + rho) / (1 - rho) / n)
    found = np.mean([blocking_error(autoregressive(n, rho, seed)) for seed in range(4)])
    assert found == pytest.approx(expected, rel=0.15)
    assert statistical_inefficiency(autoregressive(n, rho)) == pytest.approx((1 + rho) / (1 - rho), rel=0.4)


def test_blocking_error_of_constants_and_of_too_little():
    assert blocking_error(np.ones(8)) == 0.0
    assert statistical_inefficiency(np.ones(8)) == 1.0
    with pytest.raises(ValueError, match="at least two finite values"):
        blocking_error(np.ones(1))


def test_moments_from_blocks_agree_with_the_series():
    rho, n, blocks = 0.8, 40_000, 40
    series = autoregressive(n, rho, seed=5)[:, None]
    index = np.arange(n) * blocks // n
    sums = sum(block_sums(series[part], index[part], blocks) for part in (slice(0, 17_001), slice(17_001, None)))
    mean, error, deviation = moments(sums)
    assert mean == pytest.approx(series.mean())
    assert deviation == pytest.approx(series.std())
    assert error == pytest.approx(np.sqrt((1 + rho) / (1 - rho) / n), rel=0.3)
    assert moments(sums[:1])[1] is None


def test_jackknife_error_of_a_population_is_the_binomial_one():
    generator = np.random.default_rng(6)
    inside = generator.binomial(500, 0.3, size=30)
    counts = np.stack([inside, 500 - inside], axis=1)
    value, error = jackknife(counts, lambda total: float(total[0] / total.sum()))
    assert value == pytest.approx(0.3, abs=0.02)
    assert error == pytest.approx(np.sqrt(0.3 * 0.7 / 15_000), rel=0.35)
    assert jackknife(counts[:1], lambda total: float(total[0]))[1] is None


def test_blocking_error_sees_a_drift_below_the_noise():
    """A drift by one deviation of the noise, whose mean is uncertain by about 1 / sqrt(12); blocks alone say 0.02."""
    series = np.random.default_rng(0).normal(size=10_000) + np.linspace(0.0, 1.0, 10_000)
    assert 0.5 / np.sqrt(12) < blocking_error(series) < 1.5 / np.sqrt(12)


def test_block_averages_added_in_pieces_agree_with_the_moments():
    series = np.column_stack([autoregressive(4000, 0.5, 1), autoregressive(4000, 0.9, 2) + 3.0])
    blocks = np.arange(4000) // 400
    averages = BlockAverages.empty(10, 2)
    for part in (slice(0, 1300), slice(1300, None)):
        averages.add(series[part], blocks[part])
    for column in (0, 1):
        mean, error, _ = moments(block_sums(series[:, [column]], blocks, 10))
        assert averages.estimate(column) == pytest.approx((mean, error))
    value, error = averages.root(1)
    assert (value**2, 2 * value * error) == pytest.approx(averages.estimate(1))
    assert BlockAverages.of(series, np.zeros(4000, dtype=int)).error is None
