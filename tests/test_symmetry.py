import numpy as np
import pytest

from cgenn.symmetry import point_group

ORDERS = {
    "C1": 1, "Cs": 2, "Ci": 2, "C2": 2, "C3": 3, "C2v": 4, "C3v": 6, "C2h": 4, "S4": 4, "D2": 4, "D3": 6, "D3h": 12,
    "D6h": 24, "D3d": 12, "D2d": 8, "D5d": 20,
}  # fmt: skip


@pytest.mark.parametrize("name", [*ORDERS, "Cinfv", "Dinfh", "Cinfh"])
def test_elements_form_a_group_of_known_order(name):
    elements = point_group(name).elements
    assert len(elements) == ORDERS.get(name, len(elements))
    np.testing.assert_allclose(
        elements @ elements.swapaxes(1, 2), np.tile(np.eye(3), (len(elements), 1, 1)), atol=1e-12
    )
    products = np.einsum("aij,bjk->abik", elements, elements).reshape(-1, 1, 3, 3)
    assert np.abs(products - elements).max((2, 3)).min(1).max() < 1e-12
    assert np.abs(elements[:, None] - elements + 9 * np.eye(len(elements))[..., None, None]).max((2, 3)).min() > 0.1


@pytest.mark.parametrize(
    ("name", "axis", "is_invariant"),
    [("C3v", [0, 0, 1], True), ("D3h", [0, 0, 1], False), ("Cs", [1, 1, 0], True), ("C2v", [0, 0, 1], True),
     ("S4", [0, 0, 1], False), ("Cinfv", [0, 0, 1], True), ("Cinfv", [1, 0, 0], False), ("C1", [1, 2, 3], True)],
)  # fmt: skip
def test_vectors_that_a_group_allows(name, axis, is_invariant):
    mean = point_group(name).elements.mean(axis=0) @ axis
    np.testing.assert_allclose(mean, axis if is_invariant else np.zeros(3), atol=1e-12)


def test_planes_and_axes_are_where_they_are_said_to_be():
    def holds(name, operation):
        return np.abs(point_group(name).elements - np.diag(operation)).max((1, 2)).min() < 1e-12

    assert all(holds(name, [1, -1, 1]) for name in ("C2v", "C3v", "D6h", "Cinfv"))
    assert all(holds(name, [1, -1, -1]) for name in ("D2", "D3", "D3d", "D3h", "D2d", "Dinfh"))
    assert not holds("D2d", [1, -1, 1])
    assert point_group("Cinfh").axial
    assert not point_group("Dinfh").axial


@pytest.mark.parametrize("name", ["", "C0", "D1", "Cinf", "S3", "D3v", "c2v", "C13", "C02", "C\u0663", "Oh"])
def test_unknown_groups_are_named(name):
    with pytest.raises(ValueError, match=f"unknown point group '{name}', expected C1, Cs"):
        point_group(name)
