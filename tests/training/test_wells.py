"""Wells of known distributions, and that a simulation of the fitted prior has the distribution it came from."""

import numpy as np
import pytest

from cgenn.analysis import jensen_shannon
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology
from cgenn.training.priors import fit_priors
from cgenn.training.wells import fit_wells
from cgenn.units import thermal_energy

TEMPERATURE = 450.0
KT = thermal_energy(TEMPERATURE)
TRIO = BeadTopology.build(["A"] * 3, [28.0] * 3, bonds=[(0, 1), (1, 2)])
ANGLES = np.array([[3.05, 410.0, 0.0], [2.75, 220.0, 2.5], [2.13, 75.0, 7.6]])
BONDS = np.array([[0.262, 81e3, 0.0], [0.237, 68e3, 0.2]])
"""Those of beads of two carbons in a melt of polyethylene: trans and gauche."""


def density(wells, values, measure, *, mirror=False):
    images = np.concatenate([wells, wells * [-1, 1, 1] + [2 * np.pi, 0, 0]]) if mirror else wells
    return measure(values) * np.exp(
        -(images[:, 2] + 0.5 * images[:, 1] * (values[:, None] - images[:, 0]) ** 2) / KT
    ).sum(1)


def drawn(random, grid, weights, size):
    return np.interp(random.random(size), np.cumsum(weights) / weights.sum(), grid)


def bent(first, second, theta):
    """Three beads with these bonds and angle."""
    zero = np.zeros_like(theta)
    ends = [(first, zero, zero), (zero, zero, zero), (second * np.cos(theta), second * np.sin(theta), zero)]
    return np.stack([np.stack(end, axis=-1) for end in ends], axis=1)


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(0)
    r, theta = np.linspace(0.2, 0.3, 5001), np.linspace(1e-3, np.pi, 5001)
    lengths = drawn(random, r, density(BONDS, r, np.square), (2, 20_000))
    return bent(*lengths, drawn(random, theta, density(ANGLES, theta, np.sin, mirror=True), 20_000))


def test_wells_are_found_again(frames):
    fit = fit_priors([(TRIO, frames, None)], TEMPERATURE, reach=0.1)
    bond, angle = fit.priors.bonds["A|A"].wells, fit.priors.angles["A|A|A"].wells[:3]
    np.testing.assert_allclose(bond[:, 0], BONDS[:, 0], atol=1e-3)
    np.testing.assert_allclose(bond[:, 1], BONDS[:, 1], rtol=0.1)
    np.testing.assert_allclose(bond[:, 2], BONDS[:, 2], atol=0.3)
    theta = np.linspace(1.7, np.pi, 500)
    found, true = (-KT * np.log(density(wells, theta, np.ones_like, mirror=True)) for wells in (angle, ANGLES))
    assert np.abs((found - true) - (found - true).mean()).max() < 0.25 * KT
    assert not [note for note in fit.notes if note.startswith(("bond", "angle"))]


def test_a_simulation_has_both_wells(frames, tmp_path):
    """Bonds and angles of beads under the fitted priors alone are distributed as those that these were fitted to."""
    config = PotentialConfig(
        types=("A",), cutoff=0.5, channels=2, layers=1, lmax=0, radial_width=4, radial_basis=4,
        average_neighbors=2.0, energy_scale=1.0, temperature=TEMPERATURE,
    )  # fmt: skip
    priors = fit_priors([(TRIO, frames, None)], TEMPERATURE, reach=0.1).priors
    potential = Potential(config, priors.model_copy(update={"repulsion": {}})).requires_grad_(False).eval()
    for weights in potential.network.parameters():
        weights.zero_()
    data = BeadDataset.write(tmp_path / "trio.h5", TRIO, Frames(frames), temperature=TEMPERATURE)
    settings = SimulationConfig(
        timestep=0.004, friction=5.0, steps=2000, equilibration=500, report_interval=50, replicas=200,
        platform="Reference", seed=1,
    )  # fmt: skip
    found = simulate(potential, data.path, settings, tmp_path / "run", progress=False).positions.reshape(-1, 3, 3)
    for measure in (_lengths, _angles):
        expected, sampled = measure(frames), measure(found)
        edges = np.histogram_bin_edges(expected, 30)
        assert jensen_shannon(np.histogram(sampled, edges)[0], np.histogram(expected, edges)[0]) < 0.01


def _lengths(positions):
    return np.linalg.norm(np.diff(positions, axis=1), axis=-1).ravel()


def _angles(positions):
    one, other = positions[:, 0] - positions[:, 1], positions[:, 2] - positions[:, 1]
    return np.arccos((one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1))


@pytest.mark.parametrize("size", [200, 50_000])
def test_one_well_is_one_however_skewed(size):
    """No barrier: neither in a Gaussian, nor with a long tail, nor in the noise of few values."""
    random = np.random.default_rng(1)
    for values in (random.normal(0.38, 0.01, size), 0.3 + 0.01 * random.gamma(2.0, size=size)):
        counts, edges = np.histogram(values, 72)
        assert fit_wells(counts, edges, np.square, KT, mirror=False) is None


def test_a_low_barrier_is_none():
    grid = np.linspace(0.2, 0.3, 5001)
    for apart, number in ((0.012, 0), (0.025, 2)):
        wells = np.array([[0.25 - apart / 2, 8e4, 0.0], [0.25 + apart / 2, 8e4, 0.0]])
        values = drawn(np.random.default_rng(2), grid, density(wells, grid, np.square), 20_000)
        counts, edges = np.histogram(values, 72)
        found = fit_wells(counts, edges, np.square, KT, mirror=False)
        assert (0 if found is None else len(found)) == number
