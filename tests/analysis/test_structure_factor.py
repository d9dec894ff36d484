"""Structure factors of systems whose correlations are known."""

import numpy as np
import pytest

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.structure_factor import debye_wavenumber, screening_limit, structure_factors
from cgenn.units import COULOMB, thermal_energy

BOX = np.array([[2.0, 0, 0], [0.7, 2.2, 0], [-0.6, 0.9, 2.1]])


def gas(frames: int, beads: int, seed: int = 0) -> Ensemble:
    """Positions without correlation in a tilted box that breathes."""
    generator = np.random.default_rng(seed)
    box = BOX * generator.uniform(0.95, 1.05, (frames, 1, 1))
    return Ensemble(generator.random((frames, beads, 3)) @ box, box)


def test_nothing_is_structured_in_an_ideal_gas():
    ensemble, charges = gas(400, 60), np.tile([1.0, -1.0, 0.5], 20)
    result = structure_factors(ensemble, 20.0, charges=charges)
    for values, errors in ((result.number, result.number_error), (result.charge, result.charge_error)):
        scatter = (values - 1.0) / errors
        assert np.sqrt(np.mean(scatter**2)) < 1.6
        assert np.abs(values - 1.0)[2:].max() < 0.05
    volume = np.linalg.det(ensemble.box).mean()
    expected = 0.5 * 4 / 3 * np.pi * 20.0**3 * volume / (2 * np.pi) ** 3
    assert result.n_vectors.sum() == pytest.approx(expected, rel=0.05)


def test_every_wave_vector_against_the_plain_sum():
    """Charges and dipoles that differ from frame to frame, in a box far from cubic that changes."""
    generator, frames, beads, k_max = np.random.default_rng(1), 3, 7, 11.0
    box = np.stack([BOX, BOX * np.array([1.3, 1.0, 0.8]), BOX @ np.linalg.qr(generator.normal(size=(3, 3)))[0]])
    positions, charges = generator.normal(size=(frames, beads, 3)), generator.normal(size=(frames, beads))
    dipoles = 0.1 * generator.normal(size=(frames, beads, 3))
    number, charge, count = 0.0, 0.0, 0
    grid = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for r, q, mu, cell in zip(positions, charges, dipoles, box, strict=True):
        k = 2 * np.pi * grid @ np.linalg.inv(cell).T
        k = k[(np.linalg.norm(k, axis=1) <= k_max) & (grid != 0).any(axis=1)]
        phase = np.exp(1j * k @ r.T)
        number += np.sum(np.abs(phase.sum(axis=1)) ** 2) / beads
        charge += np.sum(np.abs(((q + 1j * k @ mu.T) * phase).sum(axis=1)) ** 2)
        count += len(k)
    result = structure_factors(Ensemble(positions, box), k_max, charges=charges, dipoles=dipoles, bins=1)
    assert result.n_vectors[0] * frames * 2 == count
    assert result.number[0] == pytest.approx(number / count, rel=1e-10)
    assert result.charge[0] == pytest.approx(charge / count / np.mean(np.sum(charges**2, axis=1)), rel=1e-10)


def test_bragg_peaks_of_rock_salt():
    """Number peaks where h, k, l are even, charge peaks where they are odd, all of height N; nothing elsewhere."""
    constant, cells = 0.564, 2
    grid = np.stack(np.meshgrid(*[np.arange(2 * cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    charges = (-1.0) ** grid.sum(axis=1)
    tilted = cells * constant * np.array([[1.0, 0, 0], [1.0, 1.0, 0], [0.0, -1.0, 1.0]])
    result = structure_factors(
        Ensemble(grid[None] * constant / 2 + 0.1, tilted[None]), 2 * np.pi / constant * 2.9, charges=charges, bins=400
    )
    squared = (result.k * constant / (2 * np.pi)) ** 2
    for values, peaks in ((result.number, {4: 3, 8: 6}), (result.charge, {3: 4})):
        for place, height in zip(squared, values * result.n_vectors, strict=True):
            expected = len(grid) * next((n for peak, n in peaks.items() if abs(place - peak) < 0.02), 0)
            assert height == pytest.approx(expected, abs=1e-6)
    assert result.charge_error is None


def test_two_close_charges_are_a_dipole():
    ensemble, small = gas(4, 10, seed=2), 1e-5
    generator = np.random.default_rng(3)
    dipoles, charges = generator.normal(size=(4, 10, 3)), np.full(10, 0.5)
    pairs = np.concatenate([ensemble.positions + small * dipoles, ensemble.positions - small * dipoles], axis=1)
    close = np.r_[0.25 + 0.5 / small * np.ones(10), 0.25 - 0.5 / small * np.ones(10)]
    found = structure_factors(ensemble, 15.0, charges=charges, dipoles=dipoles)
    expected = structure_factors(Ensemble(pairs, ensemble.box), 15.0, charges=close)
    scale = np.sum(charges**2) / np.sum(close**2)
    np.testing.assert_allclose(found.charge * scale, expected.charge, rtol=1e-4)


def plasma(charge: float, width: float, edge: float, frames: int) -> tuple[Ensemble, np.ndarray]:
    """50 pairs of Gaussian ions at 300 K by Langevin dynamics, all of their energy in reciprocal space."""
    generator, kt, charges = np.random.default_rng(0), thermal_energy(300.0), charge * np.tile([1.0, -1.0], 50)
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:1098]
    waves = 2 * np.pi / edge * grid[np.linalg.norm(grid, axis=1) < 5.7]
    squares = np.sum(waves**2, axis=1)
    weights = 8 * np.pi * COULOMB / edge**3 * np.exp(-squares * width**2) / squares
    positions, velocities = edge * generator.random((100, 3)), np.sqrt(kt) * generator.normal(size=(100, 3))
    step, damping, found = 0.15 / np.sqrt(kt), 0.8, []
    for count in range(6 * frames):
        phase = np.exp(1j * positions @ waves.T)
        density = weights * np.conj(charges @ phase)
        forces = charges[:, None] * ((phase * density).imag @ waves)
        velocities += step * forces
        positions = positions + 0.5 * step * velocities
        velocities = damping * velocities + np.sqrt((1 - damping**2) * kt) * generator.normal(size=(100, 3))
        positions = positions + 0.5 * step * velocities
        if count % 6 == 0:
            found.append(positions)
    return Ensemble(np.array(found[20:]), np.tile(edge * np.eye(3), (frames - 20, 1, 1))), charges


def test_a_weak_plasma_screens_as_debye_and_hueckel_say():
    """S_zz = 1 / (1 + exp(-k^2 s^2) k_D^2 / k^2) for Gaussian ions, which tends to the limit of perfect screening."""
    width, edge = 0.3, 4.44
    ensemble, charges = plasma(0.053, width, edge, 400)
    result = structure_factors(ensemble, 5.0, charges=charges)
    limit = screening_limit(result.k, charges, 100 / edge**3, 300.0)
    expected = 1 / (1 + np.exp(-((result.k * width) ** 2)) / limit)
    np.testing.assert_allclose(result.charge, expected, rtol=0.1)
    assert expected[0] < 0.55
    np.testing.assert_allclose(result.number, 1.0, atol=0.15)


def test_the_limit_of_perfect_screening():
    """The Debye length of an electrolyte, 0.304 nm / sqrt(mol/l) in water (Israelachvili), and the slope of k^2."""
    density = 2 * 6.02214076e23 * 1e-24  # 1 mol/l of each of two ions
    charges = np.array([1.0, -1.0]) / np.sqrt(78.4)
    assert 1 / debye_wavenumber(charges, density, 298.15) == pytest.approx(0.304, abs=0.001)
    k = np.array([0.1, 0.2])
    expected = k**2 * thermal_energy(300.0) / (4 * np.pi * COULOMB * density * 4.0)
    np.testing.assert_allclose(screening_limit(k, np.array([2.0, -2.0]), density, 300.0), expected)


def test_bad_input_is_named():
    ensemble = gas(2, 10)
    with pytest.raises(ValueError, match="a structure factor needs a box in every frame, got none"):
        structure_factors(Ensemble(ensemble.positions), 10.0)
    with pytest.raises(ValueError, match=r"`k_max` = 0.1 /nm is below all wave vectors of the box"):
        structure_factors(ensemble, 0.1)
    with pytest.raises(ValueError, match=r"`k_max` must be positive, got -1 /nm"):
        structure_factors(ensemble, -1)
    with pytest.raises(ValueError, match=r"`charges` must have the shape \(10,\) or \(2, 10\), got \(3,\)"):
        structure_factors(ensemble, 10.0, charges=np.ones(3))
    with pytest.raises(ValueError, match="`charges` are all zero: there is no S_zz"):
        structure_factors(ensemble, 10.0, charges=np.zeros(10))
    with pytest.raises(ValueError, match="`dipoles` need `charges`"):
        structure_factors(ensemble, 10.0, dipoles=np.zeros((2, 10, 3)))
    with pytest.raises(ValueError, match=r"`number_density` must be positive, got 0 /nm\^3"):
        debye_wavenumber(np.ones(3), 0, 300.0)
