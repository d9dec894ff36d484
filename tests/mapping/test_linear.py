import numpy as np
import pytest
from scipy.sparse import random_array

from cgenn.mapping.linear import LinearMap


@pytest.mark.parametrize(("frames", "atoms", "beads"), [(0, 5, 2), (1, 5, 2), (5000, 5, 2), (37, 3000, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_frame_is_multiplied_by_the_matrix(frames, atoms, beads, dtype):
    rng = np.random.default_rng(0)
    matrix = random_array((beads, atoms), density=0.3, format="csr", rng=rng)
    values = rng.normal(size=(frames, atoms, 3)).astype(dtype)
    mapped = LinearMap(matrix)(values)
    assert mapped.dtype == dtype
    np.testing.assert_allclose(mapped, np.einsum("ba,fax->fbx", matrix.toarray(), values), rtol=1e-4, atol=1e-4)


def test_another_number_of_atoms_is_refused():
    linear = LinearMap(random_array((2, 5), density=1.0, format="csr"))
    with pytest.raises(ValueError, match=r"expected an array of shape \(frames, 5, 3\), got \(4, 6, 3\)"):
        linear(np.zeros((4, 6, 3)))
