"""Radial distribution functions of systems whose g(r) is known."""

import numpy as np
import pytest

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.radial import default_range, radial_distributions
from cgenn.analysis.structure import heights

TRICLINIC = np.array([[3.0, 0.0, 0.0], [1.4, 2.6, 0.0], [-1.4, 1.2, 2.4]])
FCC = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]) / 2


def ideal_gas(frames: int, beads: int, seed: int = 0) -> Ensemble:
    """Independent beads in a triclinic cell whose volume changes from frame to frame."""
    generator = np.random.default_rng(seed)
    box = TRICLINIC * generator.uniform(1.0, 1.2, size=(frames, 1, 1))
    return Ensemble(generator.uniform(-1, 2, size=(frames, beads, 3)) @ box, box)


def test_ideal_gas_in_a_triclinic_cell_is_one_up_to_half_its_height():
    gas = ideal_gas(60, 400)
    half = heights(gas.box).min() / 2
    result = radial_distributions(["A"] * 150 + ["B"] * 250, gas, r_max=half, bins=30)
    assert result.names == ("A|A", "A|B", "B|B")
    found = result.counts.sum(axis=0)
    ideal = found / result.g
    deviation = (found - ideal) / np.sqrt(ideal)  # Poisson noise
    assert abs(deviation).max() < 4.5
    assert np.mean(deviation**2) == pytest.approx(1.0, abs=0.35)
    np.testing.assert_allclose(result.g[:, 10:], 1.0, atol=0.05)
    assert np.mean(abs(result.g - 1.0)[:, 5:] < 2 * result.error[:, 5:]) > 0.85


def test_pairs_within_molecules_are_left_out_of_counts_and_normalisation():
    gas = ideal_gas(40, 100, seed=1)
    bonded = np.repeat(gas.positions, 3, axis=1) + np.random.default_rng(2).normal(size=(40, 300, 3)) * 0.02
    molecules = np.repeat(np.arange(100), 3)
    ensemble = Ensemble(bonded, gas.box)
    between = radial_distributions(["A", "B", "B"] * 100, ensemble, bins=10, molecules=molecules)
    np.testing.assert_array_equal(between.n_pairs, [100 * 99 / 2, 100 * 200 - 200, 200 * 199 / 2 - 100])
    np.testing.assert_allclose(between.g[:, 3:], 1.0, atol=0.08)
    everything = radial_distributions(["A", "B", "B"] * 100, ensemble, bins=10)
    assert everything.g[1, 0] > 20


@pytest.mark.parametrize("copies", [5, 6])
def test_peaks_and_coordination_of_an_fcc_crystal(copies):
    constant = 0.5
    grid = np.stack(np.meshgrid(*[np.arange(copies)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (grid @ FCC)[None] * constant + 0.013
    ensemble = Ensemble(positions, copies * constant * FCC[None])
    result = radial_distributions(["X"] * copies**3, ensemble, bins=200)
    occupied = result.r[result.counts[0, 0] > 0]
    shells = [np.sqrt(0.5), 1.0, np.sqrt(1.5), np.sqrt(2.0), np.sqrt(2.5), np.sqrt(3.0)]
    expected = [constant * shell for shell in shells if constant * shell < result.edges[-1]]
    np.testing.assert_allclose(occupied, expected, atol=np.diff(result.edges)[0])
    assert result.coordination(0.45)["X|X"] == pytest.approx(12)
    assert result.coordination(0.55)["X|X"] == pytest.approx(18)
    assert result.error is None  # one frame


def test_coordination_counts_from_either_side():
    gas = ideal_gas(20, 120, seed=3)
    result = radial_distributions(["A"] * 20 + ["B"] * 100, gas)
    numbers = result.coordination(0.5)
    assert numbers["A|B"] == pytest.approx(5 * numbers["B|A"])
    density = 100 * np.mean(1 / np.linalg.det(gas.box))
    assert numbers["A|B"] == pytest.approx(4 / 3 * np.pi * 0.5**3 * density, rel=0.15)


def test_large_ensembles_are_thinned_over_all_blocks(monkeypatch):
    monkeypatch.setattr("cgenn.analysis.radial._PAIRS", 1e4)
    gas = ideal_gas(300, 60, seed=4)
    result = radial_distributions(["A"] * 60, gas, bins=5)
    assert result.frames.min() >= 2
    assert result.frames.sum() < 50
    np.testing.assert_allclose(result.g[0, 2:], 1.0, atol=0.3)


def test_default_range_is_half_a_small_cell_or_some_distances_of_a_large_one():
    small = ideal_gas(3, 10)
    assert default_range([small]) == pytest.approx(heights(small.box).min() / 2)
    dense = Ensemble(np.zeros((1, 10**6, 3)), np.eye(3)[None] * 20.0)
    assert default_range([dense]) == pytest.approx(5 * (8000 / 1e6) ** (1 / 3))


def test_bad_input_is_named():
    gas = ideal_gas(2, 10)
    with pytest.raises(ValueError, match="needs a box in every frame"):
        radial_distributions(["A"] * 10, Ensemble(gas.positions))
    with pytest.raises(ValueError, match="10 beads, but 3 bead types"):
        radial_distributions(["A"] * 3, gas)
    with pytest.raises(ValueError, match=r"half the shortest height of the cell, .* nm, got 9.0 nm"):
        radial_distributions(["A"] * 10, gas, r_max=9.0)
    with pytest.raises(ValueError, match=r"`cutoff` must lie between 0 and .* got -1.0 nm"):
        radial_distributions(["A"] * 10, gas).coordination(-1.0)
