"""Fragments are put where beads are: a conformation of the library, turned and moved, comes back as it was."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.backmapping.fragments import Library


@pytest.mark.parametrize("mapping", ["backbone", "dipeptide-planes"])
def test_a_turned_conformation_is_found_again(peptide, make_map, mapping):
    frames, whole = make_map(peptide, mapping)
    library = Library.build(frames, whole)
    rng = np.random.default_rng(0)
    turn = Rotation.random(rng=rng)
    for atoms in whole[::13]:
        moved = turn.apply(atoms) + np.array([1.0, -2.0, 3.0])
        beads = frames.mapping.linear(moved[None])[0]
        placed = library.place(beads, frames(moved[None]).orientations[0], rng)
        np.testing.assert_allclose(placed, moved, atol=1e-6)


def test_the_library_does_not_mirror(peptide, make_map):
    """Beads of the mirror image get atoms of the right hand."""
    frames, whole = make_map(peptide, "backbone")
    library = Library.build(frames, whole)
    beads = frames.mapping.linear(whole)[0] * [1, 1, -1]
    placed = library.place(beads, None, np.random.default_rng(0))
    n, ca, ha, cb, c = (placed[atom] for atom in (6, 8, 9, 12, 10))
    assert np.dot(np.cross(n - ca, c - ca), cb - ca) > 0
    assert np.dot(np.cross(n - ca, c - ca), ha - ca) < 0


def test_single_beads_are_turned_at_random(water, make_map):
    frames, whole = make_map(water, "water")
    library = Library.build(frames, whole)
    beads = frames.mapping.linear(whole)[0]
    placed = [library.place(beads, None, np.random.default_rng(seed)) for seed in range(20)]
    dipoles = [(atoms[1::3] + atoms[2::3]) / 2 - atoms[::3] for atoms in placed]
    directions = np.concatenate(dipoles) / np.linalg.norm(np.concatenate(dipoles), axis=1, keepdims=True)
    assert np.abs(directions.mean(axis=0)).max() < 0.08  # 960 directions: 0.019 is one standard error
    np.testing.assert_allclose(np.mean(directions**2, axis=0), 1 / 3, atol=0.05)
    assert np.array_equal(placed[0], library.place(beads, None, np.random.default_rng(0)))
    np.testing.assert_allclose(frames.mapping.linear(np.array(placed)), np.tile(beads, (20, 1, 1)), atol=1e-9)
