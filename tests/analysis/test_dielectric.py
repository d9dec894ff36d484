"""Dipoles against their definition, the dielectric constant against independent dipoles."""

import numpy as np
import pytest

from cgenn.analysis.dielectric import (
    dielectric_constant,
    molecular_dipoles,
    running_dielectric_constant,
    total_dipole,
)
from cgenn.units import COULOMB, thermal_energy

BOX = np.array([[3.0, 0, 0], [1.2, 2.8, 0], [-1.1, 0.9, 2.6]])
LENGTH, CHARGE, PAIRS = 0.1, 0.7, 30
MOLECULES = np.repeat(np.arange(PAIRS), 2)
BONDS = np.arange(2 * PAIRS).reshape(-1, 2)
CHARGES = np.tile([CHARGE, -CHARGE], PAIRS)


def directions(generator: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = generator.normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def gas():
    """Independent dumbbells in a tilted box, which cuts them: positions, box vectors, dipoles."""
    generator, frames = np.random.default_rng(0), 3000
    axes = LENGTH * directions(generator, frames, PAIRS)
    centres = generator.random((frames, PAIRS, 3)) @ BOX
    positions = np.stack([centres + 0.5 * axes, centres - 0.5 * axes], axis=2).reshape(frames, -1, 3)
    box = np.tile(BOX, (frames, 1, 1))
    return positions + generator.integers(-1, 2, positions.shape) @ box, box, CHARGE * axes


@pytest.mark.parametrize("bonds", [None, BONDS])
def test_dipoles_of_molecules_cut_by_the_box(gas, bonds):
    positions, box, dipoles = (part[:20] for part in gas)
    options = {"molecules": MOLECULES, "bonds": bonds, "box": box}
    np.testing.assert_allclose(molecular_dipoles(positions, CHARGES, **options), dipoles, atol=1e-12)
    np.testing.assert_allclose(total_dipole(positions, CHARGES, **options), dipoles.sum(axis=1), atol=1e-11)
    own = np.random.default_rng(1).normal(size=positions.shape)
    each = np.tile(CHARGES, (20, 1))
    total = total_dipole(positions, each, own, **options)
    np.testing.assert_allclose(total, dipoles.sum(axis=1) + own.sum(axis=1), atol=1e-11)
    np.testing.assert_allclose(molecular_dipoles(positions, each, own, **options).sum(axis=1), total, atol=1e-11)


def test_dipole_of_a_charged_molecule_is_about_its_centre():
    positions = np.array([[[0.0, 0, 0], [0, 0, 1.0]]])
    options = {"molecules": np.zeros(2, dtype=int)}
    assert molecular_dipoles(positions, np.array([0.0, 1.0]), **options)[0, 0, 2] == pytest.approx(0.5)
    heavy = np.array([1.0, 3.0])
    found = molecular_dipoles(positions + 7.0, np.array([0.0, 1.0]), masses=heavy, **options)
    assert found[0, 0, 2] == pytest.approx(0.25)


def test_dielectric_constant_of_independent_dipoles(gas):
    """<M^2> = N mu^2, so that eps - 1 = N mu^2 / (3 eps_0 V kT); errors are those of a sum of many dipoles."""
    positions, box, _ = gas
    total = total_dipole(positions, CHARGES, molecules=MOLECULES, box=box)
    volume = np.linalg.det(BOX)
    value, error = dielectric_constant(total, volume, 300.0)
    polarisation = PAIRS * (CHARGE * LENGTH) ** 2
    susceptibility = 4 * np.pi * COULOMB * polarisation / (3 * volume * thermal_energy(300.0))
    assert error == pytest.approx(susceptibility * np.sqrt(2 / 3 / len(total)), rel=0.6)
    assert value == pytest.approx(1 + susceptibility, abs=3 * error)
    running = running_dielectric_constant(total, np.full(len(total), volume), 300.0, high_frequency=2.0)
    assert running[0] == pytest.approx(2.0)
    assert running[-1] == pytest.approx(value + 1)
    shifted, _ = dielectric_constant(total + 5.0, volume, 300.0, blocks=np.repeat(np.arange(30), 100))
    assert shifted == pytest.approx(value)


def test_ions_must_be_followed_across_the_boundary():
    steps = 0.02 * np.random.default_rng(2).normal(size=(3000, 10, 3))
    positions = np.random.default_rng(3).random((1, 10, 3)) @ BOX + np.cumsum(steps, axis=0)
    charges, box = np.tile([1.0, -1.0], 5), np.tile(BOX, (3000, 1, 1))
    expected = np.einsum("b,fbx->fx", charges, positions)
    np.testing.assert_allclose(total_dipole(positions, charges, box=box), expected)
    wrapped = (positions @ np.linalg.inv(BOX)) % 1.0 @ BOX
    with pytest.raises(ValueError, match=r"charged molecule \d+ moves by .* must be followed across the boundary"):
        total_dipole(wrapped, charges, box=box)
    np.testing.assert_allclose(
        total_dipole(positions[::1000], charges, box=box[::1000], unwrapped=True), expected[::1000]
    )


def test_bad_input_is_named(gas):
    positions, box, _ = (part[:3] for part in gas)
    with pytest.raises(ValueError, match="system with a net charge depends on the origin: the charge is 42 e"):
        total_dipole(positions, np.abs(CHARGES), box=box)
    with pytest.raises(ValueError, match=r"`charges` must have the shape \(60,\) or \(3, 60\), got \(5,\)"):
        total_dipole(positions, CHARGES[:5], box=box)
    with pytest.raises(ValueError, match=r"`dipoles` must have the shape of the positions"):
        total_dipole(positions, CHARGES, positions[:, :5], box=box)
    with pytest.raises(ValueError, match=r"`molecules` must have the shape \(60,\), got \(5,\)"):
        molecular_dipoles(positions, CHARGES, molecules=MOLECULES[:5], box=box)
    with pytest.raises(ValueError, match=r"`box` must have the shape \(3, 3, 3\), got \(3, 3\)"):
        molecular_dipoles(positions, CHARGES, molecules=MOLECULES, box=BOX)
    with pytest.raises(ValueError, match=r"`volume` must be positive, got 0.0 nm\^3"):
        dielectric_constant(np.ones((3, 3)), 0.0, 300.0)
    with pytest.raises(ValueError, match=r"total dipoles must have the shape \(frames, 3\)"):
        dielectric_constant(np.ones(3), 1.0, 300.0)
