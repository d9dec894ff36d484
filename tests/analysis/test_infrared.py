"""The spectrum against processes whose spectrum is known: oscillators and relaxation."""

import numpy as np
import pytest

from cgenn.analysis.dielectric import dielectric_constant
from cgenn.analysis.infrared import LIGHT, dipole_autocorrelation, infrared_spectrum
from cgenn.units import COULOMB, thermal_energy


def relaxation(frames: int, decay: float, seed: int = 0) -> np.ndarray:
    """Three independent processes with unit variance and the autocorrelation decay^n."""
    generator = np.random.default_rng(seed)
    noise = np.sqrt(1 - decay**2) * generator.normal(size=(frames, 3))
    result = np.empty((frames, 3))
    result[0] = generator.normal(size=3)
    for frame in range(1, frames):
        result[frame] = decay * result[frame - 1] + noise[frame]
    return result


def oscillator(frames: int, interval: float, frequency: float, damping: float, seed: int = 0) -> np.ndarray:
    """A damped harmonic oscillator in a heat bath, propagated exactly, with unit mean square displacement per axis."""
    generator = np.random.default_rng(seed)
    matrix = np.array([[0.0, 1.0], [-(frequency**2), -damping]])
    values, vectors = np.linalg.eig(matrix)
    step = (vectors @ np.diag(np.exp(values * interval)) @ np.linalg.inv(vectors)).real
    stationary = np.diag([1.0, frequency**2])
    spread = np.linalg.cholesky(stationary - step @ stationary @ step.T)
    state, result = np.linalg.cholesky(stationary) @ generator.normal(size=(2, 3)), np.empty((frames, 3))
    for frame, noise in enumerate(generator.normal(size=(frames, 2, 3))):
        state = step @ state + spread @ noise
        result[frame] = state[0]
    return result


def prefactor(volume: float, temperature: float) -> float:
    """1 / (6 eps_0 c V kT)."""
    return 4 * np.pi * COULOMB / (6 * LIGHT * volume * thermal_energy(temperature))


def test_autocorrelation_of_a_relaxation():
    series = relaxation(100_000, 0.9)
    np.testing.assert_allclose(dipole_autocorrelation(series, 20), 0.9 ** np.arange(20), atol=0.02)


def test_pairs_of_frames_of_different_pieces_are_left_out():
    """Two replicas whose frames take turns, against the plain double sum."""
    pieces = relaxation(40, 0.8), relaxation(40, 0.8, seed=1)
    series = np.stack(pieces, axis=1).reshape(80, 3)
    centred = [piece - series.mean(axis=0) for piece in pieces]
    sums = [np.mean([np.mean(np.sum(p[: 40 - n] * p[n:], axis=1)) for p in centred]) for n in range(10)]
    found = dipole_autocorrelation(series, 10, blocks=np.tile([0, 1], 40))
    np.testing.assert_allclose(found, np.array(sums) / sums[0], atol=1e-12)


def test_a_sharp_line_is_a_gaussian_at_its_frequency():
    interval, wavenumber, resolution = 0.002, 500.0, 20.0
    time = interval * np.arange(20_000)
    phase = 2 * np.pi * LIGHT * 1e-7 * wavenumber * time
    series = np.stack([np.cos(phase), np.sin(phase), np.zeros_like(phase)], axis=1)
    spectrum = infrared_spectrum(series, interval, 10.0, 300.0, resolution=resolution)
    peak = spectrum.wavenumber[np.argmax(spectrum.absorption)]
    assert peak == pytest.approx(wavenumber, abs=resolution / 5)
    above = spectrum.wavenumber[spectrum.absorption > 0.5 * spectrum.absorption.max()]
    assert np.ptp(above) == pytest.approx(resolution, abs=resolution / 5)
    # a rotating dipole of unit size: the integral of alpha n over w is prefactor w^2 pi
    area = np.trapezoid(spectrum.absorption, 2 * np.pi * LIGHT * 1e-7 * spectrum.wavenumber)
    frequency = 2 * np.pi * LIGHT * 1e-7 * wavenumber
    assert area == pytest.approx(1e7 * prefactor(10.0, 300.0) * frequency**2 * np.pi, rel=0.01)


def test_absorption_of_a_damped_oscillator():
    """The analytic line, 2 <M^2> w0^2 g / ((w0^2 - w^2)^2 + w^2 g^2) times the prefactor and w^2."""
    interval, frequency, damping = 0.004, 2 * np.pi * LIGHT * 1e-7 * 300.0, 8.0
    series = oscillator(120_000, interval, frequency, damping)
    spectrum = infrared_spectrum(series, interval, 20.0, 350.0, resolution=5.0)
    w = 2 * np.pi * LIGHT * 1e-7 * spectrum.wavenumber
    line = 6 * frequency**2 * damping / ((frequency**2 - w**2) ** 2 + (w * damping) ** 2)
    expected = 1e7 * prefactor(20.0, 350.0) * w**2 * line
    low = spectrum.wavenumber < 1000.0
    deviation = (spectrum.absorption[low] - expected[low]) / expected.max()
    assert np.abs(deviation).max() < 0.15
    assert np.sqrt(np.mean(deviation**2)) < 0.03
    scatter = (spectrum.absorption[low] - expected[low])[1:] / spectrum.error[low][1:]
    assert np.sqrt(np.mean(scatter**2)) == pytest.approx(1.0, abs=0.4)


def test_the_sum_rule_gives_the_dielectric_constant():
    """2/pi times the integral of eps''/w, with eps'' = alpha n c / w, is eps - 1 (Kramers and Kronig)."""
    series = relaxation(50_000, 0.9, seed=5)
    spectrum = infrared_spectrum(series, 0.01, 30.0, 300.0, resolution=40.0)
    w = 2 * np.pi * LIGHT * 1e-7 * spectrum.wavenumber[1:]
    loss = spectrum.absorption[1:] * 1e-7 * LIGHT / w**2
    found = 2 / np.pi * (np.trapezoid(loss, w) + loss[0] * w[0])
    assert 1 + found == pytest.approx(dielectric_constant(series, 30.0, 300.0)[0], rel=2e-3)


def test_bad_input_is_named():
    series = relaxation(100, 0.5)
    with pytest.raises(
        ValueError, match=r"a resolution of 10 /cm needs pieces of more than 5.* ps, the shortest .* 0.1"
    ):
        infrared_spectrum(series, 0.001, 1.0, 300.0)
    with pytest.raises(ValueError, match="`interval` must be positive, got 0"):
        infrared_spectrum(series, 0.0, 1.0, 300.0)
    with pytest.raises(ValueError, match="`lags` must lie between 1 and the 100 frames of the longest piece, got 101"):
        dipole_autocorrelation(series, 101)
    with pytest.raises(ValueError, match="the same in all frames"):
        dipole_autocorrelation(np.ones((100, 3)))
