"""Noise of known size on pairs of beads with orientations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.topology import BeadTopology
from cgenn.training.oriented_floor import oriented_floors

PAIR = BeadTopology.build(["A", "B"], [1.0, 1.0])
NOISE = (20.0, 3.0)
"""Of a component of a force [kJ/mol/nm] and of a torque [kJ/mol]."""

HALF_TURN = np.diag([-1.0, -1.0, 1.0])
GROUPS = {"C1": np.eye(3)[None], "C2": np.stack([np.eye(3), HALF_TURN])}


def pairs(turned: str, frames: int = 3000) -> tuple[np.ndarray, ...]:
    """Positions and orientations of pairs that stay near a favourable one, as a whole turned at random; what A feels.

    The force is along the axis between the beads and depends on the angle of A's z axis with it, the torque is about
    that axis and depends on the angle between the x axes; under a half turn about z both stay. Of A every second image
    is shown if it has one.
    """
    random = np.random.default_rng(0)
    whole = Rotation.random(frames, rng=1).as_matrix()
    a, b = (whole @ Rotation.from_rotvec(0.3 * random.normal(size=(frames, 3))).as_matrix() for _ in range(2))
    axis = (whole @ Rotation.from_rotvec(0.2 * random.normal(size=(frames, 3))).as_matrix())[:, :, 2]
    force = 300.0 * (axis * a[:, :, 2]).sum(1, keepdims=True) ** 4 * axis
    torque = 60.0 * (a[:, :, 0] * b[:, :, 0]).sum(1, keepdims=True) * np.cross(a[:, :, 0], b[:, :, 0])
    if turned == "C2":
        a[::2] = a[::2] @ HALF_TURN
    positions = np.stack([np.zeros((frames, 3)), 0.4 * axis], axis=1)
    felt = [np.stack([each, np.zeros_like(each)], axis=1) for each in (force, torque)]
    noisy = [each + size * random.normal(size=each.shape) for each, size in zip(felt, NOISE, strict=True)]
    return positions, np.stack([a, b], axis=1), *noisy


def floors(group: str, **options) -> list[float]:
    positions, orientations, *felt = pairs(group, **options)
    groups = {"A": GROUPS[group], "B": GROUPS["C1"]}
    return oriented_floors(PAIR, groups, np.full(2, 0.15), positions, orientations, felt)


@pytest.mark.parametrize("group", ["C1", "C2"])
def test_floors_of_pairs(group):
    """Whichever of the equivalent frames of a bead is given."""
    assert floors(group) == pytest.approx([size**2 for size in NOISE], rel=0.25)


def test_surroundings_that_are_too_few_or_too_unlike_tell_nothing():
    assert np.isnan(floors("C1", frames=10)).all()
    random, liquid = np.random.default_rng(2), BeadTopology.build(["A"] * 30, np.ones(30))
    places, felt = random.random((10, 30, 3)), random.normal(size=(10, 30, 3))
    turned = Rotation.random(300, rng=3).as_matrix().reshape(10, 30, 3, 3)
    (floor,) = oriented_floors(liquid, {"A": GROUPS["C1"]}, np.full(30, 0.15), places, turned, [felt])
    assert np.isnan(floor)
