"""Distributions by coordinate type: what is compared with what, and the numbers of known distributions."""

import numpy as np
import pytest

from cgenn.analysis.distributions import compare_distributions, coordinate_types
from cgenn.analysis.ensemble import Ensemble
from cgenn.topology import BeadTopology

CHAIN = BeadTopology.build(["A", "B", "B", "A", "C"], [1.0] * 5, bonds=[(0, 1), (1, 2), (2, 3), (3, 4)])
START = np.array([[0.0, 0.3, 0.1], [0.1, 0.1, 0.0], [0.25, 0.1, 0.05], [0.3, 0.25, 0.1], [0.2, 0.35, 0.2]])


def noisy(frames: int, seed: int, width: float = 0.005) -> np.ndarray:
    return START + np.random.default_rng(seed).normal(size=(frames, 5, 3)) * width


def test_coordinates_are_grouped_by_types_in_either_direction():
    found = {key: rows.tolist() for key, rows in coordinate_types(CHAIN, periodic=False).items()}
    assert found["bond", "A|B"] == [[0, 1], [2, 3]]
    assert found["angle", "A|B|B"] == [[0, 1, 2], [1, 2, 3]]
    assert found["dihedral", "A|B|B|A"] == [[0, 1, 2, 3]]
    assert {key[1]: sorted(rows) for key, rows in found.items() if key[0] == "pair"} == {
        "A|A": [[0, 3]],
        "A|C": [[0, 4]],
        "B|C": [[1, 4]],
    }


def test_pairs_of_a_periodic_system_stay_within_molecules_and_are_bounded():
    system = CHAIN.repeat(3000)
    pairs = {key[1]: rows for key, rows in coordinate_types(system, periodic=True).items() if key[0] == "pair"}
    assert {name: len(rows) for name, rows in pairs.items()} == {"A|A": 2000, "A|C": 2000, "B|C": 2000}
    for rows in pairs.values():
        np.testing.assert_array_equal(system.molecules[rows[:, 0]], system.molecules[rows[:, 1]])
    free = coordinate_types(system, periodic=False)["pair", "A|A"]
    assert len(free) == 2000
    assert len(np.unique(free, axis=0)) == 2000


def test_a_gaussian_bond_has_its_mean_width_and_block_error():
    frames, width = 20_000, 0.01
    generator = np.random.default_rng(5)
    lengths = 0.4 + width * generator.normal(size=(2, frames))
    positions = np.zeros((2, frames, 2, 3))
    positions[:, :, 1, 0] = lengths
    pair = BeadTopology.build(["A", "B"], [1.0, 1.0], bonds=[(0, 1)])
    (entry,) = compare_distributions(pair, Ensemble(positions[0]), Ensemble(positions[1] + [[0, 0, 0], [0.01, 0, 0]]))
    assert (entry.kind, entry.types, entry.unit) == ("bond", "A|B", "nm")
    assert entry.reference_moments.mean == pytest.approx(lengths[0].mean())
    assert entry.reference_moments.deviation == pytest.approx(width, rel=0.02)
    assert entry.reference_moments.error == pytest.approx(width / np.sqrt(frames), rel=0.6)
    assert entry.model_moments.mean == pytest.approx(0.41, abs=3e-4)
    x = np.linspace(0.3, 0.5, 4001)  # two Gaussians one width apart
    p, q = (np.exp(-0.5 * ((x - mean) / width) ** 2) / width / np.sqrt(2 * np.pi) for mean in (0.40, 0.41))
    mixture = 0.5 * (p + q)
    expected = 0.5 * np.trapezoid(p * np.log(p / mixture) + q * np.log(q / mixture), x)
    assert entry.js == pytest.approx(expected, abs=4 * entry.js_error)
    assert entry.js_error < 0.1 * entry.js
    assert np.sum(entry.density(entry.reference) * np.diff(entry.edges)) == pytest.approx(1.0)


def test_equal_distributions_differ_by_the_sampling_floor_only():
    entries = compare_distributions(CHAIN, Ensemble(noisy(4000, 1)), Ensemble(noisy(4000, 2)))
    assert [entry.kind for entry in entries].count("pair") == 3
    ratio = np.mean([entry.js for entry in entries]) / np.mean([entry.floor[0] for entry in entries])
    assert ratio == pytest.approx(1.0, abs=0.3)


def test_what_lies_far_outside_counts_as_different():
    positions = noisy(500, 1)
    entries = compare_distributions(CHAIN, Ensemble(positions), Ensemble(positions * 30.0))
    assert all(entry.js == pytest.approx(np.log(2), abs=1e-6) for entry in entries if entry.kind in ("bond", "pair"))
    assert all(entry.js < 1e-12 for entry in entries if entry.kind in ("angle", "dihedral"))


def test_rigid_bonds_have_bins_of_finite_width():
    positions = np.repeat(START[None], 50, axis=0)
    entries = compare_distributions(CHAIN, Ensemble(positions), Ensemble(positions + 1e-9))
    assert all(entry.js < 1e-9 for entry in entries)
    assert all(np.all(np.diff(entry.edges) > 0) for entry in entries)


def test_molecules_broken_over_the_box_edge_are_the_same():
    positions = noisy(300, 3)
    box = np.repeat(np.array([[1.4, 0, 0], [0.5, 1.3, 0], [-0.5, 0.4, 1.2]])[None], 300, axis=0)
    shifts = np.random.default_rng(4).integers(-1, 2, size=positions.shape).astype(float)
    broken = Ensemble(positions + shifts @ box, box, label="model")
    entries = compare_distributions(CHAIN, Ensemble(positions, box), broken)
    assert len(entries) == 10
    assert all(entry.js < 1e-3 for entry in entries)


def test_many_frames_of_pairs_are_thinned(monkeypatch):
    monkeypatch.setattr("cgenn.analysis.distributions._VALUES", 3000.0)
    entries = compare_distributions(CHAIN, Ensemble(noisy(4000, 1)), Ensemble(noisy(4000, 2)))
    counts = {entry.kind: entry.reference.sum() for entry in entries}
    assert counts["dihedral"] == 4000
    assert 800 < counts["pair"] < 1200


def test_ensembles_that_do_not_fit_are_named():
    fits = Ensemble(noisy(10, 1))
    with pytest.raises(ValueError, match="model: 4 beads, but the topology has 5"):
        compare_distributions(CHAIN, fits, Ensemble(noisy(10, 1)[:, :4], label="model"))
    boxed = Ensemble(noisy(10, 1), np.repeat(np.eye(3)[None], 10, axis=0), label="model")
    with pytest.raises(ValueError, match="model has a periodic box, but reference has none"):
        compare_distributions(CHAIN, fits, boxed)
