"""Structures whose deviations, contacts and secondary structure are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.analysis.proteins import in_contact, native_contacts, native_pairs, rmsd, secondary_structure


def helix(residues: int) -> np.ndarray:
    """CA atoms of an ideal alpha helix: radius 0.23 nm, 100 degrees and 0.15 nm per residue, right-handed."""
    turn = np.radians(100.0) * np.arange(residues)
    return np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(residues)], axis=1)


def strand(residues: int) -> np.ndarray:
    """CA atoms of a nearly flat zigzag, 0.38 nm apart, with angles of 124 degrees."""
    half = np.radians(62.0)
    steps = np.arange(residues)
    return 0.38 * np.stack([np.sin(half) * steps, np.cos(half) * (steps % 2), 1e-3 * steps**2], axis=1)


def test_native_structure_wherever_it_is():
    """Turned and moved it is itself; its mirror image, from which no rotation leads back, is not."""
    native = helix(20)
    turned = Rotation.random(5, rng=np.random.default_rng(0)).as_matrix() @ native.T
    moved = turned.transpose(0, 2, 1) + np.array([3.0, -1.0, 2.0])
    np.testing.assert_allclose(rmsd(moved, native), 0.0, atol=1e-7)
    np.testing.assert_allclose(native_contacts(moved, native), 1.0, atol=0.01)
    assert rmsd(native[None] * [1, 1, -1], native) > 0.1


def test_rmsd_of_small_displacements():
    """Of n beads moved by s in every direction the superposition takes six of 3 n degrees of freedom away."""
    native = helix(30)
    moved = native + 0.01 * np.random.default_rng(1).normal(size=(2000, 30, 3))
    expected = 0.01 * np.sqrt((3 * 30 - 6) / 30)
    assert np.sqrt(np.mean(rmsd(moved, native) ** 2)) == pytest.approx(expected, rel=0.01)


def test_contacts_are_lost_with_distance():
    native = np.array([[0.5 * i, 0.0, 0.0] for i in range(5)] + [[0.5 * i, 0.6, 0.0] for i in range(4, -1, -1)])
    pairs = native_pairs(native)
    assert {tuple(pair) for pair in pairs.tolist()} >= {(0, 9), (1, 8), (2, 7)}
    assert (pairs[:, 1] - pairs[:, 0]).min() > 3
    lifted = (np.arange(10) > 4)[:, None] * np.array([0.0, 1.0, 0.0])
    apart = native + lifted * np.array([0.0, 0.12, 2.0])[:, None, None]
    q = native_contacts(apart, native)
    assert q[0] == pytest.approx(1.0, abs=0.01)
    assert 0.4 < q[1] < 0.9
    assert q[2] < 1e-6
    assert in_contact(apart)[:, 0, 9].tolist() == [True, True, False]


def test_secondary_structure_of_ideal_elements():
    """A helix and its mirror image (no protein has one), a strand, and a random coil."""
    in_helix, in_strand = secondary_structure(np.stack([helix(12), strand(12), helix(12) * [1, 1, -1]]))
    assert in_helix[0].sum() >= 8
    assert not in_strand[0].any()
    assert in_strand[1].sum() >= 8
    assert not in_helix[1:].any()
    coil = 0.38 / np.sqrt(3) * np.random.default_rng(3).normal(size=(200, 30, 3)).cumsum(axis=1)
    assert max(marks.mean() for marks in secondary_structure(coil)) < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rmsd(np.zeros((2, 5, 3)), np.zeros((4, 3))), r"must have the shape \(5, 3\), got \(4, 3\)"),
        (lambda: native_contacts(np.zeros((2, 4, 3)), np.zeros((4, 3))), "no two of the 4 residues are in contact"),
        (lambda: secondary_structure(np.zeros((1, 4, 3))), "five or more residues, got 4"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
