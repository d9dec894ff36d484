"""Internal coordinates against known geometries, brute force and mdtraj."""

from itertools import product

import mdtraj
import numpy as np
import pytest

from cgenn.analysis.structure import angles, dihedrals, distances, heights, minimum_image

QUADRUPLE = np.array([[0, 1, 2, 3]])
TRICLINIC = np.array([[3.0, 0.0, 0.0], [1.4, 2.6, 0.0], [-1.4, 1.2, 2.4]])


def chain(phi: float) -> np.ndarray:
    """Four beads along z: looking from the second to the third, the last one is `phi` clockwise from the first."""
    last = [np.cos(phi), np.sin(phi), 1.0]
    return np.array([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], last]])


@pytest.mark.parametrize("phi", [-3.0, -np.pi / 3, 0.0, 0.4, np.pi / 2, np.pi])
def test_dihedral_has_the_iupac_sign(phi):
    # Seen along +z (away from the eye), turning from +x towards +y is clockwise.
    assert dihedrals(chain(phi), QUADRUPLE)[0, 0] == pytest.approx(phi, abs=1e-12)


def test_dihedral_changes_sign_in_the_mirror_but_not_when_read_backwards():
    positions = np.random.default_rng(1).normal(size=(20, 4, 3))
    value = dihedrals(positions, QUADRUPLE)
    np.testing.assert_allclose(dihedrals(positions * [-1, 1, 1], QUADRUPLE), -value)
    np.testing.assert_allclose(dihedrals(positions, QUADRUPLE[:, ::-1]), value)


def test_angle_and_distance_of_a_known_geometry():
    positions = np.array([[[3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 4.0, 0.0], [-1.0, 0.0, 0.0]]])
    assert distances(positions, np.array([[0, 2]]))[0, 0] == pytest.approx(5.0)
    np.testing.assert_allclose(angles(positions, np.array([[0, 1, 2], [0, 1, 3]]))[0], [np.pi / 2, np.pi])


def test_minimum_image_is_the_shortest_of_all_images():
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(4, 200, 3)) * 4.0
    box = np.stack([TRICLINIC * scale for scale in (1.0, 1.1, 0.9, 1.3)])
    shifts = np.array(list(product(range(-6, 7), repeat=3)), dtype=float)
    for frame in range(4):
        images = vectors[frame][:, None] + shifts @ box[frame]
        expected = np.linalg.norm(images, axis=-1).min(axis=1)
        found = np.linalg.norm(minimum_image(vectors, box)[frame], axis=-1)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_heights_of_a_triclinic_cell():
    volume = np.linalg.det(TRICLINIC)
    a, b, c = TRICLINIC
    areas = [np.linalg.norm(np.cross(b, c)), np.linalg.norm(np.cross(c, a)), np.linalg.norm(np.cross(a, b))]
    np.testing.assert_allclose(heights(TRICLINIC), volume / np.array(areas))


@pytest.mark.parametrize("periodic", [False, True])
def test_agrees_with_mdtraj(periodic):
    generator = np.random.default_rng(3)
    positions = generator.normal(size=(10, 6, 3)) * (2.0 if periodic else 0.3)
    topology = mdtraj.Topology()
    residue = topology.add_residue("CG", topology.add_chain())
    for _ in range(6):
        topology.add_atom("C", mdtraj.element.carbon, residue)
    box = np.repeat(TRICLINIC[None], 10, axis=0).astype(np.float32) if periodic else None
    trajectory = mdtraj.Trajectory(positions, topology)
    if box is not None:
        trajectory.unitcell_vectors = box
    rows = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [5, 1, 0, 4]])
    options = {"periodic": periodic, "opt": False}
    turn = dihedrals(positions, rows, box) - mdtraj.compute_dihedrals(trajectory, rows, **options)
    np.testing.assert_allclose(np.sin(turn / 2), 0.0, atol=2e-5)
    np.testing.assert_allclose(
        angles(positions, rows[:, :3], box), mdtraj.compute_angles(trajectory, rows[:, :3], **options), atol=2e-4
    )
    np.testing.assert_allclose(
        distances(positions, rows[:, :2], box), mdtraj.compute_distances(trajectory, rows[:, :2], **options), atol=1e-5
    )
