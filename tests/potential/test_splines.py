"""Splines between pairs, against those of SciPy."""

import numpy as np
import torch
from scipy.interpolate import BSpline, CubicSpline

from cgenn.potential.priors import PairPrior, Priors
from cgenn.potential.repulsion import spline_energy

COEFFICIENTS = np.random.default_rng(0).normal(size=9)
TABLE = Priors(pairs=PairPrior(range=0.8, coefficients={"A|A": tuple(COEFFICIENTS)})).pair_table(["A"])[0, 0]
ROWS = torch.from_numpy(np.stack([np.zeros_like(TABLE), TABLE]))
KNOTS = np.linspace(0.0, 0.8, 11)


def energies_and_slopes(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r = torch.from_numpy(distances).requires_grad_()
    energies = spline_energy(r, torch.ones(len(r), dtype=torch.int64), ROWS, 0.8)
    (slopes,) = torch.autograd.grad(energies.sum(), r)
    return energies.detach().numpy(), slopes.numpy()


def test_splines_are_those_of_scipy() -> None:
    r = np.linspace(0.0, 0.8, 401)
    knots = 0.08 * np.arange(-3, 14)
    expected = BSpline(knots, TABLE, 3)
    energies, slopes = energies_and_slopes(r)
    np.testing.assert_allclose(energies, expected(r), atol=1e-12)
    np.testing.assert_allclose(slopes, expected(r, 1), atol=1e-10)
    np.testing.assert_allclose(slopes[-1], 0.0, atol=1e-10)


def test_values_at_the_knots_are_enough() -> None:
    """Natural splines, such as OpenMM's, go through them with the same energies in between."""
    energies, _ = energies_and_slopes(KNOTS)
    r = np.linspace(0.0, 0.8, 200)
    np.testing.assert_allclose(
        CubicSpline(KNOTS, energies, bc_type="natural")(r), energies_and_slopes(r)[0], atol=1e-12
    )


def test_nothing_beyond_the_range() -> None:
    energies, slopes = energies_and_slopes(np.array([0.8, 0.800001, 5.0]))
    assert not energies.any()
    assert not slopes.any()


def test_gradients() -> None:
    """And a pair of types without splines."""
    distance = torch.tensor([0.02, 0.1, 0.45, 0.77, 0.9, 0.3], dtype=torch.float64, requires_grad=True)
    kinds = torch.tensor([1, 1, 1, 1, 1, 0])
    assert torch.autograd.gradcheck(lambda r: spline_energy(r, kinds, ROWS, 0.8), distance)
    assert torch.autograd.gradgradcheck(lambda r: spline_energy(r, kinds, ROWS, 0.8), distance)
    assert spline_energy(distance, kinds, ROWS, 0.8)[5] == 0


def test_float32() -> None:
    r = torch.linspace(0.05, 0.85, 50, dtype=torch.float32)
    found = spline_energy(r, torch.ones(50, dtype=torch.int64), ROWS, 0.8)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), energies_and_slopes(r.double().numpy())[0], atol=1e-5)
