"""Priors fitted by Boltzmann inversion, against ensembles whose potential is known."""

import numpy as np
import pytest

from cgenn.potential.priors import REPULSION_RANGE
from cgenn.topology import BeadTopology
from cgenn.training.priors import BINS, fit_priors
from cgenn.units import thermal_energy

from .conftest import LENGTH, STIFFNESS, TEMPERATURE

KT = thermal_energy(TEMPERATURE)


def test_bonds_are_those_the_frames_were_drawn_from(chain, chain_frames):
    fit = fit_priors([(chain, chain_frames.positions, None)], TEMPERATURE, reach=1.0)
    assert set(fit.priors.bonds) == {"A|B", "B|C", "C|D"}
    for prior in fit.priors.bonds.values():
        assert prior.length == pytest.approx(LENGTH, abs=1e-3)
        assert prior.k == pytest.approx(STIFFNESS, rel=0.15)


def test_a_free_joint_has_no_dihedral_preference(chain, chain_frames):
    prior = fit_priors([(chain, chain_frames.positions, None)], TEMPERATURE, reach=1.0).priors.dihedrals["A|B|C|D"]
    assert max(prior.k) < 0.2 * KT


def _torsions(phi: np.ndarray) -> np.ndarray:
    """Four beads with the given dihedrals, all angles a right angle."""
    zero, one = np.zeros_like(phi), np.ones_like(phi)
    ends = [(one, zero, zero), (zero, zero, zero), (zero, zero, one), (np.cos(phi), np.sin(phi), one)]
    return np.stack([np.stack(end, axis=-1) for end in ends], axis=1)


def test_dihedral_series_is_recovered(chain):
    phi = np.linspace(-np.pi, np.pi, 20001)
    energy = 3.0 * (1 + np.cos(phi - 0.5)) + 1.5 * (1 + np.cos(2 * phi + 1.0))
    weight = np.exp(-energy / KT)
    drawn = np.interp(np.random.default_rng(0).random(40_000), np.cumsum(weight) / weight.sum(), phi)
    prior = fit_priors([(chain, _torsions(drawn), None)], TEMPERATURE, reach=0.1).priors.dihedrals["A|B|C|D"]
    fitted = sum(k * np.cos(n * phi - phase) for n, (k, phase) in enumerate(zip(prior.k, prior.phase, strict=True), 1))
    assert np.abs((fitted - fitted.min()) - (energy - energy.min())).max() < 0.6


def test_unsampled_bins_are_survived_and_reported(chain):
    drawn = np.random.default_rng(0).normal(1.0, 0.2, 5000)
    fit = fit_priors([(chain, _torsions(drawn), None)], TEMPERATURE, reach=0.1)
    prior = fit.priors.dihedrals["A|B|C|D"]
    assert np.isfinite(prior.k).all()
    phi = np.array([1.0, -2.0])
    energy = sum(k * np.cos(n * phi - p) for n, (k, p) in enumerate(zip(prior.k, prior.phase, strict=True), 1))
    assert energy[1] - energy[0] > 2 * KT
    assert any(f"of {BINS} bins" in note for note in fit.notes)


def test_a_bond_that_never_moves_is_reported_not_nan(chain):
    fit = fit_priors([(chain, _torsions(np.linspace(0, 3, 50)), None)], TEMPERATURE, reach=0.1)
    assert all(np.isfinite(prior.k) for prior in fit.priors.bonds.values())
    assert any("A|B" in note for note in fit.notes)


def test_repulsion_starts_where_pairs_stop_coming():
    pair = BeadTopology.build(["X", "Y"], [1.0, 1.0])
    distance = np.random.default_rng(0).uniform(0.4, 0.9, 10_000)
    positions = np.zeros((len(distance), 2, 3))
    positions[:, 1, 0] = distance
    prior = fit_priors([(pair, positions, None)], TEMPERATURE, reach=1.0).priors.repulsion["X|Y"]
    assert prior.sigma == pytest.approx(0.4, abs=0.002)
    close = fit_priors([(pair, positions, None)], TEMPERATURE, reach=0.42).priors.repulsion["X|Y"]
    assert close.sigma * REPULSION_RANGE <= 0.42


def test_closest_approach_sees_periodic_images():
    pair = BeadTopology.build(["X", "Y"], [1.0, 1.0])
    positions = np.zeros((200, 2, 3))
    positions[:, 1, 0] = np.random.default_rng(0).uniform(1.5, 1.6, 200)
    box = np.repeat(2.0 * np.eye(3)[None], 200, axis=0)
    prior = fit_priors([(pair, positions, box)], TEMPERATURE, reach=0.8).priors.repulsion["X|Y"]
    assert prior.sigma == pytest.approx(0.4, abs=0.01)


def test_two_topologies_share_the_priors_of_their_types(chain, chain_frames):
    longer = BeadTopology.build(["A", "B"], [1.0, 1.0], bonds=[(0, 1)])
    pairs = chain_frames.positions[:, :2] * 1.001
    fit = fit_priors([(chain, chain_frames.positions, None), (longer, pairs, None)], TEMPERATURE, reach=1.0)
    assert fit.priors.bonds["A|B"].length == pytest.approx(LENGTH, abs=2e-3)


def test_soft_angles_keep_mean_and_variance():
    """A well at pi, but no parabola within the data. p ~ sin(theta) exp(-E / kT) has the moments of the data."""
    grid = np.linspace(0.0, np.pi, 20_001)
    weight = np.sin(grid) * np.exp(-2.0 * (grid - np.pi) ** 2)
    theta = np.interp(np.random.default_rng(0).random(20_000), np.cumsum(weight) / weight.sum(), grid)
    trio = BeadTopology.build(["A"] * 3, [1.0] * 3, bonds=[(0, 1), (1, 2)])
    positions = np.zeros((len(theta), 3, 3))
    positions[:, 0, 0], positions[:, 2, 0], positions[:, 2, 1] = 1.0, np.cos(theta), np.sin(theta)
    fit = fit_priors([(trio, positions, None)], TEMPERATURE, reach=0.1)
    assert any("not a single well" in note for note in fit.notes if note.startswith("angle"))
    prior, grid = fit.priors.angles["A|A|A"], np.linspace(0, np.pi, 2001)
    weights = np.sin(grid) * np.exp(-0.5 * prior.k * (grid - prior.angle) ** 2 / KT)
    mean = np.average(grid, weights=weights)
    assert mean == pytest.approx(theta.mean(), abs=1e-3)
    assert np.average((grid - mean) ** 2, weights=weights) == pytest.approx(theta.var(), rel=1e-2)


def test_negative_temperature_is_refused(chain, chain_frames):
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        fit_priors([(chain, chain_frames.positions, None)], -1.0, reach=1.0)


def test_a_chain_that_gets_straight_has_no_dihedral_prior(chain):
    """Its dihedral is not defined on a line: what one frame in ten shows is left to the network, and said."""
    positions = _torsions(np.random.default_rng(0).uniform(-np.pi, np.pi, 1000))
    positions[::10, 3] = [0.001, 0.0, 2.0]
    fit = fit_priors([(chain, positions, None)], TEMPERATURE, reach=0.1)
    assert fit.priors.dihedrals == {}
    assert "dihedral A|B|C|D: 10.0% of the time it is nearly straight; it has no prior" in fit.notes
