"""Free-energy surfaces and the divergence of alanine dipeptide."""

import numpy as np
import pytest

from cgenn.analysis.conformations import compare_surfaces, dihedral_histogram, free_energy, mirrored
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.statistics import jensen_shannon, sampling_floor
from cgenn.analysis.structure import dihedrals
from cgenn.units import thermal_energy

BACKBONE = ((0, 1, 2, 3), (1, 2, 3, 4))


def chains(frames: int, seed: int = 0) -> Ensemble:
    """Five-bead chains with a preferred handedness."""
    generator = np.random.default_rng(seed)
    start = np.array([[0.0, 0.3, 0.1], [0.1, 0.1, 0.0], [0.25, 0.1, 0.05], [0.3, 0.25, 0.1], [0.2, 0.35, 0.2]])
    return Ensemble(start + generator.normal(size=(frames, 5, 3)) * 0.04, label="model")


@pytest.fixture(scope="module")
def alanine(data_folder):
    frames = np.load(data_folder / "ala2_5bead_cgnet_10k.npz")["positions"].astype(float) * 0.1
    return Ensemble(frames), np.load(data_folder / "ala2_phi_psi_reference_hist.npz")["full"]


def test_alanine_dipeptide_frames_have_the_published_divergence(alanine):
    frames, reference = alanine
    result = compare_surfaces(frames, frames, BACKBONE, reference)
    assert result.js == pytest.approx(0.0225, abs=5e-5)
    assert result.js_frames == result.js
    assert result.js_mirrored == pytest.approx(0.66, abs=0.005)
    assert 0.0005 < result.js_error < 0.004
    assert result.floor[0] == pytest.approx(0.0175, abs=0.0015)
    assert 8000 < result.effective_samples <= 10_000


def test_ten_thousand_independent_samples_of_alanine_dipeptide(alanine):
    floor, spread = sampling_floor(alanine[1], 10_000)
    assert floor == pytest.approx(0.0174, abs=0.0005)
    assert 0.0003 < spread < 0.0012


def test_histogram_is_that_of_numpy_and_adds_up_over_blocks():
    ensemble = chains(3000)
    phi, psi = dihedrals(ensemble.positions, np.array(BACKBONE)).T
    expected, _, _ = np.histogram2d(phi, psi, bins=60, range=[[-np.pi, np.pi]] * 2)
    counts = dihedral_histogram(ensemble, BACKBONE)
    assert counts.shape == (10, 60, 60)
    np.testing.assert_array_equal(counts.sum(axis=0), expected)
    np.testing.assert_array_equal(counts.sum(axis=(1, 2)), 300)


def test_mirrored_histogram_is_that_of_mirrored_positions():
    ensemble = chains(500)
    reflected = Ensemble(ensemble.positions * [1, 1, -1])
    expected = dihedral_histogram(reflected, BACKBONE).sum(axis=0)
    np.testing.assert_array_equal(mirrored(dihedral_histogram(ensemble, BACKBONE).sum(axis=0)), expected)


def test_free_energy_differences_are_boltzmann_factors_and_empty_bins_are_masked():
    surface = free_energy(np.array([[100.0, 10.0], [0.0, 1.0]]), 300.0)
    assert surface.mask.tolist() == [[False, False], [True, False]]
    assert surface[0, 0] == 0.0
    assert surface[1, 1] == pytest.approx(thermal_energy(300.0) * np.log(100.0))
    with pytest.raises(ValueError, match="at least one count"):
        free_energy(np.zeros((2, 2)), 300.0)
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        free_energy(np.ones((2, 2)), -1.0)


def test_a_perfect_model_lies_at_its_sampling_floor():
    floors, found = [], []
    for seed in range(4):
        result = compare_surfaces(chains(4000, seed), chains(6000, seed + 10), BACKBONE)
        floors.append(result.floor[0])
        found.append(result.js)
        assert result.js_frames is None
    assert np.mean(found) == pytest.approx(np.mean(floors), rel=0.15)


def test_a_mirror_image_is_far_from_the_reference():
    reference, model = chains(3000), chains(3000, 1)
    result = compare_surfaces(reference, Ensemble(model.positions * [1, 1, -1]), BACKBONE)
    assert result.js > 3 * result.js_mirrored
    assert result.js_mirrored == pytest.approx(result.floor[0], rel=0.3)


def test_a_given_histogram_sets_the_bins_and_bad_ones_are_refused():
    ensemble = chains(200)
    given = dihedral_histogram(ensemble, BACKBONE, bins=(36, 18)).sum(axis=0)
    result = compare_surfaces(ensemble, ensemble, BACKBONE, given)
    assert result.model.shape == (36, 18)
    assert result.js == pytest.approx(0.0, abs=1e-12)
    assert jensen_shannon(result.reference, result.model) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="must have two dimensions"):
        compare_surfaces(ensemble, ensemble, BACKBONE, np.ones(60))
    with pytest.raises(ValueError, match="not negative"):
        compare_surfaces(ensemble, ensemble, BACKBONE, -given)
    with pytest.raises(ValueError, match="four of the 5 beads"):
        dihedral_histogram(ensemble, ((0, 1, 2, 3), (1, 2, 3, 5)))
