import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.mapping.superposition import continuous, inertia, is_collinear, superpose, turn_axis

HEXAGON = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3), np.zeros(6)], axis=1)


def turns(n, seed=0):
    return Rotation.random(n, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("planar", [True, False])
def test_a_turned_geometry_is_found(planar):
    reference = HEXAGON if planar else np.random.default_rng(1).normal(size=(5, 3))
    wanted = turns(200).as_matrix()
    found = superpose(reference, np.einsum("nij,aj->nai", wanted, reference))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_the_fit_is_the_best_rotation_also_of_a_mirror_image():
    """Against SciPy's fit by singular values; what is closest to a mirror image is still a rotation."""
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(7, 3))
    for positions in (reference + 0.5 * rng.normal(size=(20, 7, 3)), (reference * [1, 1, -1])[None]):
        found = superpose(reference, positions)
        np.testing.assert_allclose(np.linalg.det(found), 1.0)
        for one, matrix in zip(positions, found, strict=True):
            np.testing.assert_allclose(matrix, Rotation.align_vectors(one, reference)[0].as_matrix(), atol=1e-7)


def test_atoms_that_tell_no_orientation():
    """In one point, and on a line; a triatomic molecule that is nearly straight still tells one."""
    bent = np.array([[0.0, 0.0, 0.1], [0.0, 0.02, -0.05], [0.0, -0.02, -0.05]])
    wanted = turns(3).as_matrix()
    found = superpose(bent, np.einsum("nij,aj->nai", wanted, bent), str)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    for reference, flaw in ((bent, 0.0), (HEXAGON, 0.0), (HEXAGON, [0.3, 0, 0]), (bent, 1e-9)):
        positions = np.einsum("nij,aj->nai", wanted, reference)
        positions[1] *= flaw
        with pytest.raises(ValueError, match=r"^1: its atoms do not tell how it is turned: they are in one point"):
            superpose(reference, positions, str)
        superpose(reference, positions)


def test_the_shortest_turn_of_an_axis():
    before = turns(50).as_matrix()
    before[:3, :, 2], before[:3, :, 0] = [0, 0, 1], [1, 0, 0]
    before[:3, :, 1] = [0, 1, 0]
    direction = turns(50, 1).as_matrix()[:, :, 0]
    direction[:3] = [[0, 0, 1], [0, 0, -1], [1e-10, 0, -1]]
    after = turn_axis(before, direction)
    np.testing.assert_allclose(after[:, :, 2], direction, atol=1e-9)
    np.testing.assert_allclose(after.transpose(0, 2, 1) @ after, np.tile(np.eye(3), (50, 1, 1)), atol=1e-12)
    angles = Rotation.from_matrix(after @ before.transpose(0, 2, 1)).magnitude()
    np.testing.assert_allclose(np.cos(angles), np.sum(before[:, :, 2] * direction, axis=1), atol=1e-9)


def test_quaternions_change_sign_where_they_must():
    angles = np.linspace(0, 6 * np.pi, 300)
    path = Rotation.from_rotvec(angles[:, None] * [0.6, 0.0, 0.8]).as_quat(scalar_first=True)[:, None]
    jumping = path * np.sign(np.random.default_rng(3).normal(size=(300, 1, 1)))
    for signs in (1.0, -1.0):
        smooth = continuous(signs * jumping, None)
        assert smooth[0, 0, 0] > 0
        assert np.abs(np.diff(smooth, axis=0)).max() < 0.05
        np.testing.assert_allclose(np.concatenate([smooth[:100], continuous(jumping[100:], smooth[99])]), smooth)


def test_inertia_and_lines():
    masses, atoms = np.array([2.0, 3.0, 4.0]), np.random.default_rng(4).normal(size=(3, 3))
    expected = sum(m * (r @ r * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, atoms, strict=True))
    np.testing.assert_allclose(inertia(masses, atoms), expected)
    np.testing.assert_allclose(inertia(masses, np.stack([atoms, atoms]))[1], expected)
    bent = np.array([[0.0, 0.002, 0.116], [0.0, -0.005, 0.0], [0.0, 0.002, -0.116]])
    assert is_collinear(bent)
    assert not is_collinear(HEXAGON)
