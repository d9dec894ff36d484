"""Chains whose sizes, correlations and form factors theory gives."""

import numpy as np
import pytest

from cgenn.analysis.polymers import (
    bond_correlations,
    end_to_end_distance,
    form_factor,
    persistence_length,
    radius_of_gyration,
)
from tests.analysis.chains import freely_rotating

ROD = np.arange(11)[:, None] * np.array([0.0, 0.3, 0.4])


def test_ideal_random_walk():
    """<R^2> = n b^2, and <Rg^2> = b^2 n (n + 2) / 6 (n + 1), which is <R^2> / 6 for long chains."""
    steps = np.random.default_rng(0).normal(size=(4000, 60, 3)) * 0.5 / np.sqrt(3)
    walks = np.concatenate([np.zeros((4000, 1, 3)), steps.cumsum(axis=1)], axis=1)
    assert np.mean(end_to_end_distance(walks) ** 2) == pytest.approx(60 * 0.25, rel=0.03)
    assert np.mean(radius_of_gyration(walks) ** 2) == pytest.approx(0.25 * 60 * 62 / (6 * 61), rel=0.03)


def test_rod():
    assert end_to_end_distance(ROD) == pytest.approx(5.0)
    assert radius_of_gyration(ROD) == pytest.approx(0.5 * np.sqrt((11**2 - 1) / 12))
    assert persistence_length(ROD) == pytest.approx(5.0)
    cosine, second = bond_correlations(ROD)
    np.testing.assert_allclose([cosine, second], 1.0)


def test_masses_weigh_the_beads():
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert radius_of_gyration(positions, np.array([1.0, 3.0])) == pytest.approx(np.sqrt(0.25 * 0.75))


@pytest.mark.parametrize("cosine", [0.3, 0.8])
def test_freely_rotating_chain(cosine):
    """Correlations decay as cosine^s, their P2 as P2(cosine)^s; the projection is a geometric series of them."""
    chains = freely_rotating(20_000, 20, cosine)
    cosines, second = (values.mean(axis=0) for values in bond_correlations(chains, 6))
    np.testing.assert_allclose(cosines, cosine ** np.arange(6), atol=0.005)
    np.testing.assert_allclose(second, (1.5 * cosine**2 - 0.5) ** np.arange(6), atol=0.005)
    expected = 0.4 * (1 - cosine**20) / (1 - cosine)
    assert persistence_length(chains).mean() == pytest.approx(expected, rel=0.02)
    squared = 0.16 * (20 * (1 + cosine) / (1 - cosine) - 2 * cosine * (1 - cosine**20) / (1 - cosine) ** 2)
    assert np.mean(end_to_end_distance(chains) ** 2) == pytest.approx(squared, rel=0.02)


def test_worm_like_chain_of_short_bonds():
    """l_p (1 - exp(-L / l_p)) with l_p = -b / ln c, for bonds much shorter than that."""
    chains = freely_rotating(10_000, 100, 0.98, bond=0.02)
    length = -0.02 / np.log(0.98)
    assert persistence_length(chains).mean() == pytest.approx(length * (1 - np.exp(-2.0 / length)), rel=0.02)


def test_form_factor_of_a_dumbbell_and_of_a_gaussian_chain():
    k = np.array([0.01, 2.0, 7.0])
    pair = np.array([[[0.0, 0.0, 0.0], [0.6, 0.0, 0.0]]])
    np.testing.assert_allclose(form_factor(pair, k), (1 + np.sinc(0.6 * k / np.pi)) / 2, rtol=1e-4)
    n, k = 150, np.array([0.2, 0.6, 1.0])
    steps = np.random.default_rng(1).normal(size=(600, n, 3)) * 0.3 / np.sqrt(3)
    x = k**2 * n * 0.09 / 6
    debye = 2 * (np.exp(-x) - 1 + x) / x**2  # of many beads (Debye 1947)
    np.testing.assert_allclose(form_factor(steps.cumsum(axis=1), k), debye, rtol=0.04)
    np.testing.assert_allclose(form_factor(np.zeros((3, 1, 3)), k), 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: end_to_end_distance(np.zeros((4, 1, 3))), "chains of 2 or more beads are needed, .* got the shape"),
        (lambda: persistence_length(np.zeros((4, 3, 3))), "in the same place: a bond has no direction"),
        (lambda: radius_of_gyration(ROD, np.ones(3)), r"one entry per bead \(11\), got \(3,\)"),
        (lambda: bond_correlations(ROD, 11), "between 1 and the 10 bonds of a chain, got 11"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
