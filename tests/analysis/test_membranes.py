"""A synthetic bilayer of known area, thickness, order and density, across the boundary of its box."""

import numpy as np
import pytest

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.membrane_section import membrane_part
from cgenn.analysis.membranes import (
    area_per_lipid,
    bilayer_centre,
    bond_order,
    density_profile,
    from_centre,
    in_place,
    leaflets,
    thickness,
)
from cgenn.topology import BeadTopology

NAMES = ("NC3", "PO4", "GL", "C1", "C2", "D1", "D2")
BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (5, 6)]
DEPTH = np.array([2.2, 1.9, 1.5, 1.0, 0.3, 1.0, 0.3])
SIDE, HEIGHT, TILT = 4.0, 8.0, np.radians(30.0)


def bilayer(frames: int, seed: int, shift: float = 3.9) -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """64 lipids in two leaflets, their tails tilted by 30 degrees in any direction; the whole moves along z."""
    generator = np.random.default_rng(seed)
    lipid = BeadTopology.build(
        ["H", "P", "G", *"TTTT"], [72.0] * 7, bonds=BONDS, names=NAMES, residue_names=["DOPC"] * 7
    )
    sign = np.repeat([1.0, -1.0], 32)
    angle = generator.uniform(0, 2 * np.pi, (frames, 64, 1))
    across = np.tan(TILT) * np.maximum(1.5 - DEPTH, 0.0)
    positions = np.empty((frames, 64, 7, 3))
    place = generator.uniform(0, SIDE, (frames, 64, 2))
    positions[..., 0] = place[..., :1] + across * np.cos(angle)
    positions[..., 1] = place[..., 1:] + across * np.sin(angle)
    positions[..., 2] = sign[:, None] * DEPTH + shift + generator.normal(0, 0.5, (frames, 1, 1))
    box = np.tile(np.diag([SIDE, SIDE, HEIGHT]), (frames, 1, 1))
    return lipid.repeat(64), positions.reshape(frames, -1, 3) % np.array([SIDE, SIDE, HEIGHT]), box


def test_bilayer_of_known_geometry():
    topology, positions, box = bilayer(30, 1)
    reference = Ensemble(positions, box, label="all-atom, mapped")
    _, positions, box = bilayer(30, 2, shift=0.0)
    part = membrane_part(topology, reference, Ensemble(positions, box, label="CG"))
    order = 1.5 * np.cos(TILT) ** 2 - 0.5
    expected = {"in_place": 1.0, "area_per_lipid": 2 * SIDE**2 / 64, "thickness": 3.8, "tail_order": order}
    for side in ("reference", "model"):
        found = {key: entry[side] for key, entry in part.numbers["bilayer"].items()}
        assert found == pytest.approx(expected, rel=1e-6)
    assert part.headline["thickness"].error == pytest.approx(0.0, abs=1e-9)
    assert "(PO4)" in part.sections[0].text


def test_a_bilayer_that_falls_apart_is_seen_in_the_model_and_is_none_in_the_reference():
    topology, positions, box = bilayer(10, 1)
    mess = np.random.default_rng(0).uniform(0, 8, (10, 64, 1, 3)) + 0.3 * np.random.default_rng(1).normal(
        size=(10, 64, 7, 3)
    )
    sides = Ensemble(positions, box), Ensemble(mess.reshape(10, -1, 3), box, label="CG")
    part = membrane_part(topology, *sides)
    assert part.numbers["bilayer"]["in_place"]["model"] < 0.8
    assert membrane_part(topology, *sides[::-1]).sections == ()


def test_nothing_without_a_box_lipids_or_an_upright_box():
    topology, positions, box = bilayer(4, 1)
    bare = Ensemble(positions), Ensemble(positions, label="CG")
    assert membrane_part(topology, *bare).sections == ()
    water = BeadTopology.build(["W"] * len(topology), [18.0] * len(topology))
    boxed = Ensemble(positions, box), Ensemble(positions, box, label="CG")
    assert membrane_part(water, *boxed).sections == ()
    tilted = box + np.array([[0, 0, 0], [0, 0, 0], [0.5, 0, 0]])
    assert membrane_part(topology, Ensemble(positions, tilted), boxed[1]).sections == ()


def test_heights_about_the_middle_are_periodic():
    ends = np.array([[3.9, 0.1, 3.8, 0.2]])
    height = np.array([4.0])
    centre = bilayer_centre(ends, height)
    assert np.sin(np.pi * centre[0] / 4.0) == pytest.approx(0.0, abs=1e-9)
    heads = from_centre(np.array([[1.5, 2.5]]), centre, height)
    np.testing.assert_allclose(heads, [[1.5, -1.5]], atol=1e-9)
    sides = leaflets(np.array([[1.5, 2.5]]), np.array([[0.2, 3.8]]))
    assert sides.tolist() == [[1, -1]]
    assert in_place(heads, sides) == 1.0
    assert thickness(heads, sides) == pytest.approx(3.0)
    assert np.isnan(thickness(heads, np.ones((1, 2), dtype=int))).all()


def test_order_and_density():
    bonds = np.array([[[0.0, 0.0, 0.5], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]])
    np.testing.assert_allclose(bond_order(bonds), [[1.0, -0.5, 0.0]], atol=1e-12)
    z = np.array([[-0.5, 0.1, 0.2, 7.0]])
    profile = density_profile(z, np.array([1.0, 2.0, 3.0, 9.0]), np.array([2.0]), np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(profile, [[0.5, 2.5]])


def test_mistakes_are_named():
    box = np.diag([3.0, 3.0, 5.0])[None]
    assert area_per_lipid(box, 18) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="`lipids` must be at least 1, got 0"):
        area_per_lipid(box, 0)
    with pytest.raises(ValueError, match="two vectors across z and one along it"):
        area_per_lipid(box + np.array([[0, 0, 0], [0, 0, 0], [0.5, 0, 0]]), 18)
