import itertools

import numpy as np
import pytest

from cgenn.mapping.whole import Tree, lattice_steps

BOXES = {
    "cubic": np.diag([2.0, 2.0, 2.0]),
    "truncated octahedron": 2.5 * np.array([[1, 0, 0], [1 / 3, 8**0.5 / 3, 0], [-1 / 3, 2**0.5 / 3, 6**0.5 / 3]]),
    "reduced, tilted to the limit": np.array([[2.0, 0, 0], [1.0, 2.0, 0], [-1.0, 1.0, 2.0]]),
    "not reduced": np.array([[2.0, 0, 0], [3.1, 2.2, 0], [-4.7, 5.3, 2.1]]),
    "turned": np.array([[2.0, 0, 0], [0.7, 2.2, 0], [-0.6, 0.9, 2.1]])
    @ np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0],
}  # fmt: skip


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_short_displacements_are_recovered_from_any_image(box):
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4, 500, 3))
    true *= 0.99 * rng.random((4, 500, 1)) / np.linalg.norm(true, axis=-1, keepdims=True)
    boxes = np.tile(box, (4, 1, 1)) * rng.uniform(1.0, 1.1, (4, 1, 1))
    images = rng.integers(-3, 4, (4, 500, 3))
    np.testing.assert_array_equal(lattice_steps(true + images @ boxes, boxes), images)


def test_the_image_found_is_the_closest_of_all():
    box = BOXES["reduced, tilted to the limit"]
    rng = np.random.default_rng(1)
    displacements = rng.uniform(-3, 3, (1, 2000, 3))
    steps = lattice_steps(displacements, box[None])
    found = np.linalg.norm(displacements - steps @ box, axis=-1)[0]
    images = np.array(list(itertools.product(range(-4, 5), repeat=3))) @ box
    closest = np.linalg.norm(displacements[0][:, None] - images, axis=-1).min(axis=1)
    within = closest < 1.0
    assert within.sum() > 500
    np.testing.assert_allclose(found[within], closest[within], atol=1e-12)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_long_branched_molecules_are_made_whole(box):
    rng = np.random.default_rng(2)
    parents = np.array([max(0, atom - rng.integers(1, 4)) for atom in range(1, 60)])
    bonds = np.stack([parents, np.arange(1, 60)], axis=1)
    whole = np.zeros((7, 62, 3))
    for child, parent in zip(range(1, 60), parents, strict=True):
        step = rng.normal(size=(7, 3))
        whole[:, child] = whole[:, parent] + 0.3 * step / np.linalg.norm(step, axis=1, keepdims=True)
    whole[:, 60:] = rng.random((7, 2, 3))
    assert np.ptp(whole[:, :60], axis=1).max() > 1.0  # half of the shortest edge
    boxes = np.tile(box, (7, 1, 1))
    broken = whole + rng.integers(-2, 3, whole.shape) @ boxes
    order = rng.permutation(62)
    place = np.argsort(order)
    tree = Tree.build(62, place[bonds], np.empty((0, 2), dtype=int))
    made = tree.make_whole(broken[:, order], boxes)[:, place]
    np.testing.assert_allclose(
        made[:, bonds[:, 1]] - made[:, bonds[:, 0]], (whole[:, bonds[:, 1]] - whole[:, bonds[:, 0]])
    )
    np.testing.assert_array_equal(made[:, 60:], broken[:, 60:])


def test_bonds_are_walked_before_the_links_of_a_bead():
    """A chain longer than half the box is whole along its bonds, not by the distance of its ends."""
    chain = np.zeros((1, 10, 3))
    chain[0, :, 0] = 0.3 * np.arange(10)
    box = np.diag([2.0, 2.0, 2.0])[None]
    bonds = np.stack([np.arange(9), np.arange(1, 10)], axis=1)
    star = np.stack([np.zeros(9, dtype=int), np.arange(1, 10)], axis=1)
    tree = Tree.build(10, bonds, star)
    np.testing.assert_allclose(tree.make_whole(chain % 2.0, box), chain, atol=1e-12)
    unbonded = Tree.build(10, bonds[:0], star)
    assert np.ptp(unbonded.make_whole(chain % 2.0, box)[0, :, 0]) <= 2.0
