"""Products in the frame of the edge, against e3nn."""

import pytest
import torch
from e3nn import o3

from cgenn.compiled.edge_frame import couplings, generator, rotation
from cgenn.nn.harmonics import SphericalHarmonics
from cgenn.nn.tensor_product import EdgeProduct

EXACT = {"rtol": 0, "atol": 1e-12}


def towards(direction: torch.Tensor) -> torch.Tensor:
    """A rotation that takes a direction to the y axis."""
    first = torch.linalg.cross(direction, torch.tensor([0.3, -0.5, 0.8]), dim=0)
    first = first / first.norm()
    return torch.stack([first, direction, torch.linalg.cross(first, direction, dim=0)])


def matrices(first: torch.Tensor, lmax: int) -> list[torch.Tensor]:
    """D_0 to D_lmax by the polynomials, from D_1."""
    found = [torch.eye(1), first]
    for degree in range(2, lmax + 1):
        size, below = 2 * degree + 1, found[-1]
        elements = [
            sum(value * below[one] * first[other] for (one, other), value in rotation(degree, row, column).items())
            for row in range(size)
            for column in range(size)
        ]
        found.append(torch.stack(elements).view(size, size))
    return found[: lmax + 1]


def directions() -> list[torch.Tensor]:
    torch.manual_seed(0)
    found = [*torch.randn(4, 3), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, -1.0, 0.0])]
    return [each / each.norm() for each in found]


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_rotation(degree: int) -> None:
    """A rotation, e3nn's, that leaves of a harmonic of the edge the middle component only."""
    for direction in directions():
        turn = towards(direction)
        found = matrices(turn, degree)[degree]
        torch.testing.assert_close(found @ found.T, torch.eye(2 * degree + 1), **EXACT)
        assert found.det().item() == pytest.approx(1.0)
        torch.testing.assert_close(found, o3.Irrep(degree, 1).D_from_matrix(turn), rtol=0, atol=1e-10)
        harmonic = SphericalHarmonics(degree)(direction[None], direction.norm()[None])[0, degree**2 :]
        pole = torch.zeros(2 * degree + 1)
        pole[degree] = (2 * degree + 1) ** 0.5
        torch.testing.assert_close(found @ harmonic, pole, **EXACT)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_generator_is_the_derivative_of_the_rotation(degree: int, axis: int) -> None:
    found = torch.zeros(2 * degree + 1, 2 * degree + 1)
    for row, column, value in generator(degree, axis):
        found[row, column] = value
    torch.testing.assert_close(found, -found.T)
    turn = torch.linalg.matrix_exp(0.7 * _about(axis))
    torch.testing.assert_close(torch.linalg.matrix_exp(0.7 * found), matrices(turn, max(degree, 1))[degree], **EXACT)


def _about(axis: int) -> torch.Tensor:
    """w -> e x w."""
    return torch.linalg.cross(torch.eye(3)[axis].expand(3, 3), torch.eye(3), dim=1).T


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("lmax", [0, 1, 2, 3])
@pytest.mark.parametrize("scalars_in", [True, False])
def test_message_is_the_product(lmax: int, parity: int, scalars_in: bool) -> None:
    """D^T W D x = the features times the harmonics of the edge, with a weight for each path."""
    irreps = o3.Irreps.spherical_harmonics(lmax, p=parity)
    features = o3.Irreps("0e") if scalars_in else irreps
    product = EdgeProduct(features, irreps, irreps)
    terms = couplings(product.coupling.exact, product.paths, features, irreps)
    for direction in directions():
        x, weights = torch.randn(features.dim), torch.randn(len(product.paths))
        harmonics = SphericalHarmonics(lmax)(direction[None], direction.norm()[None])
        expected = product(x[None, :, None], harmonics, weights[None, :, None])[0, :, 0]
        turn = torch.block_diag(*matrices(towards(direction), lmax))
        inside, message = turn[: features.dim, : features.dim] @ x, torch.zeros(irreps.dim)
        for term in terms:
            radial = sum(share * weights[path] for path, share in term.weights)
            for k, a, sign in term.terms:
                message[k] += sign * radial * inside[a]
        torch.testing.assert_close(turn.T @ message, expected, **EXACT)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_radial_functions_are_few_and_sparse(lmax: int, parity: int) -> None:
    """Each path is in some; each pair of components is in one at most, and of the same order m up to its sign."""
    irreps = o3.Irreps.spherical_harmonics(lmax, p=parity)
    product = EdgeProduct(irreps, irreps, irreps)
    terms = couplings(product.coupling.exact, product.paths, irreps, irreps)
    assert {path for term in terms for path, _ in term.weights} == set(range(len(product.paths)))
    pairs = [(k, a) for term in terms for k, a, _ in term.terms]
    assert len(pairs) == len(set(pairs))
    order = [m for degree in range(lmax + 1) for m in range(-degree, degree + 1)]
    assert all(abs(order[k]) == abs(order[a]) for k, a in pairs)
    degrees = [(one, other) for one in range(lmax + 1) for other in range(lmax + 1)]
    assert len(terms) <= sum(2 * min(pair) + 1 for pair in degrees)
