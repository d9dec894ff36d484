"""Orientational correlation of systems in which it is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.orientation import (
    body_axes,
    nematic_order,
    orientational_autocorrelation,
    orientational_correlation,
    p2_deviation,
    rdf_deviation,
)
from cgenn.analysis.orientation_figures import orientation_figure
from cgenn.analysis.radial import radial_distributions

TRICLINIC = np.array([[3.0, 0.0, 0.0], [1.4, 2.6, 0.0], [-1.4, 1.2, 2.4]])


def gas(frames: int, beads: int, seed: int = 0) -> tuple[Ensemble, np.ndarray]:
    """Independent beads with independent orientations in a triclinic cell."""
    generator = np.random.default_rng(seed)
    box = TRICLINIC * generator.uniform(1.0, 1.2, size=(frames, 1, 1))
    quaternions = Rotation.random(frames * beads, rng=generator).as_quat(scalar_first=True)
    return Ensemble(generator.uniform(-1, 2, size=(frames, beads, 3)) @ box, box), quaternions.reshape(frames, beads, 4)


def test_axes_of_frames():
    turned = Rotation.from_euler("x", 90, degrees=True).as_quat(scalar_first=True)
    np.testing.assert_allclose(body_axes(np.stack([turned, -turned])), [[0, -1, 0]] * 2, atol=1e-15)
    np.testing.assert_allclose(body_axes(turned, (0.0, 1.0, 0.0)), [0, 0, 1], atol=1e-15)


def test_independent_orientations_have_no_correlation():
    ensemble, quaternions = gas(40, 200)
    found = orientational_correlation(ensemble, quaternions, bins=20)
    deviation = (found.p2 / found.error)[3:]
    assert np.mean(deviation**2) == pytest.approx(1.2, abs=0.8)  # of ten blocks
    np.testing.assert_allclose(found.sums.sum() / found.counts.sum(), 0.0, atol=5e-3)


def test_two_sublattices_at_right_angles():
    """Body-centred cubic, the axes of the corners along x and those of the centres along z."""
    corners = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = 0.5 * np.concatenate([corners, corners + 0.5])[None] + 0.02
    axes = np.repeat([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]], len(corners), axis=0)[None]
    ensemble = Ensemble(positions, 2.0 * np.eye(3)[None])
    found = orientational_correlation(ensemble, axes, r_max=0.99, bins=99)
    shells = 0.5 * np.sqrt([0.75, 1.0, 2.0, 2.75, 3.0])
    there = found.counts[0] > 0
    np.testing.assert_allclose(found.r[there], shells, atol=0.01)
    np.testing.assert_allclose(found.p2[there], [-0.5, 1.0, 1.0, -0.5, 1.0], atol=1e-12)
    assert np.isnan(found.p2[~there]).all()
    assert np.isnan(found.error).all()  # one frame
    some = orientational_correlation(ensemble, axes, r_max=0.99, bins=99, beads=np.arange(64))
    np.testing.assert_allclose(some.p2[some.counts[0] > 0], 1.0)


def test_order_parameter():
    turn = np.linspace(0.0, 2.0 * np.pi, 50, endpoint=False)
    plane = np.stack([np.cos(turn), np.sin(turn), 0.0 * turn], axis=1)
    parallel = np.tile([0.6, 0.0, -0.8], (50, 1))
    np.testing.assert_allclose(nematic_order(np.stack([parallel, plane])), [1.0, 0.25])
    free = body_axes(Rotation.random(200 * 400, rng=np.random.default_rng(1)).as_quat(scalar_first=True))
    assert nematic_order(free.reshape(200, 400, 3)).mean() == pytest.approx(0.81 / np.sqrt(400), rel=0.05)


def test_axes_that_turn_and_axes_that_stay():
    angle = 0.2 * np.arange(60)
    turning = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    axes = np.stack([turning, np.tile([0.0, 1.0, 0.0], (60, 1))], axis=1)
    found = orientational_autocorrelation(axes, 20)
    np.testing.assert_allclose(found, 0.5 * (1.5 * np.cos(angle[:20]) ** 2 - 0.5) + 0.5, atol=1e-12)
    pieces = orientational_autocorrelation(np.concatenate([axes, axes[::-1]]), 20, blocks=np.repeat([0, 1], 60))
    np.testing.assert_allclose(pieces, found, atol=1e-12)
    with pytest.raises(ValueError, match="between 1 and the 60 frames of the longest piece, got 61"):
        orientational_autocorrelation(axes, 61)


def test_deviation_of_two_samples_of_the_same_is_at_the_floor():
    (first, one), (second, two) = gas(40, 150, seed=2), gas(40, 150, seed=3)
    settings = {"r_max": 1.0, "bins": 20}
    ordered = [np.where(np.arange(150)[:, None] % 2 == 0, quaternions, [1.0, 0, 0, 0]) for quaternions in (one, two)]
    correlations = [
        orientational_correlation(entry, turned, **settings)
        for entry, turned in zip((first, second), ordered, strict=True)
    ]
    radial = [radial_distributions(["X"] * 150, entry, **settings) for entry in (first, second)]
    for deviation in (p2_deviation(*correlations), rdf_deviation(*radial)):
        assert 0.5 * deviation.floor < deviation.value < 1.6 * deviation.floor
    assert p2_deviation(correlations[0], correlations[0]).value == 0.0
    everywhere = orientational_correlation(first, np.tile([1.0, 0, 0, 0], (40, 150, 1)), **settings)
    expected = np.average(np.abs(correlations[0].p2 - 1.0)[1:], weights=correlations[0].density[1:])
    assert p2_deviation(correlations[0], everywhere).value == pytest.approx(expected, rel=0.05)
    alone = orientational_correlation(first, one, **settings, beads=np.array([0]))
    assert np.isnan(p2_deviation(alone, alone)).all()
    with pytest.raises(ValueError, match=r"the same bins are needed, got 20 up to 1 nm and 10 up to 0\.9 nm"):
        p2_deviation(correlations[0], orientational_correlation(first, one, r_max=0.9, bins=10))


def test_figure():
    ensemble, quaternions = gas(12, 60)
    radial = {name: radial_distributions(["X"] * 60, ensemble, bins=20) for name in ("all-atom", "CG", "isotropic")}
    found = orientational_correlation(ensemble, quaternions, bins=20)
    picture = orientation_figure(radial, {"all-atom": found, "CG": found})
    assert picture == orientation_figure(radial, {"all-atom": found, "CG": found})
    assert picture.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="all-atom, CG, isotropic, got 'other'"):
        orientation_figure(radial, {"other": found})


def test_bad_input_is_named():
    ensemble, quaternions = gas(2, 10)
    with pytest.raises(ValueError, match="needs a box in every frame"):
        orientational_correlation(Ensemble(ensemble.positions), quaternions)
    with pytest.raises(ValueError, match=r"\(2, 10, 3\) or \(2, 10, 4\), got \(2, 9, 4\)"):
        orientational_correlation(ensemble, quaternions[:, 1:])
    with pytest.raises(ValueError, match=r"half the shortest height of the cell, .* got 9.0 nm"):
        orientational_correlation(ensemble, quaternions, r_max=9.0)
