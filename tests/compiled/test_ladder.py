"""Products as steps from degree to degree, against e3nn."""

import pytest
import torch
from e3nn import o3

from cgenn.compiled.ladder import couplings, step
from cgenn.nn.harmonics import SphericalHarmonics
from cgenn.nn.tensor_product import EdgeProduct

EXACT = {"rtol": 0, "atol": 1e-12}


def stepped(x: torch.Tensor, direction: torch.Tensor, after: int) -> torch.Tensor:
    """A tensor one degree up or down along a direction, or turned about it."""
    found = torch.zeros(2 * after + 1)
    for a, b, k, value in step(len(x) // 2, after):
        found[k] += value * direction[b] * x[a]
    return found


def through(x: torch.Tensor, direction: torch.Tensor, rank: int, target: int, *, turned: bool) -> torch.Tensor:
    """Down to a rank, turned there or not, and up again."""
    degree = len(x) // 2
    path = [*range(degree - 1, rank - 1, -1), *([rank] if turned else []), *range(rank + 1, target + 1)]
    for after in path:
        x = stepped(x, direction, after)
    return x


def directions() -> list[torch.Tensor]:
    torch.manual_seed(0)
    found = [*torch.randn(4, 3), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, -1.0, 0.0])]
    return [each / each.norm() for each in found]


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3)])
def test_steps_turn_with_what_they_are_applied_to(before: int, after: int) -> None:
    turn = o3.rand_matrix(dtype=torch.float64)
    here, there = (o3.Irrep(degree, 1).D_from_matrix(turn).double() for degree in (before, after))
    for direction in directions():
        x = torch.randn(2 * before + 1)
        expected = there @ stepped(x, direction, after)
        torch.testing.assert_close(stepped(here @ x, turn @ direction, after), expected, rtol=0, atol=1e-6)
    assert max(abs(value) for *_, value in step(before, after)) == 1.0


def test_steps_between_scalars_and_vectors() -> None:
    """Scalar product, multiple, vector product."""
    direction, x = directions()[0], torch.randn(3)
    torch.testing.assert_close(stepped(x, direction, 0), (x @ direction)[None])
    torch.testing.assert_close(stepped(torch.tensor([2.0]), direction, 1), 2.0 * direction)
    cross = torch.linalg.cross(x, direction, dim=0)
    turned = stepped(x, direction, 1)
    torch.testing.assert_close(turned * (turned @ cross).sign(), cross)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("lmax", [0, 1, 2, 3])
@pytest.mark.parametrize("scalars_in", [True, False])
def test_message_is_the_product(lmax: int, parity: int, scalars_in: bool) -> None:
    """The sum over ranks = the features times the harmonics of the edge, with a weight for each path."""
    irreps = o3.Irreps.spherical_harmonics(lmax, p=parity)
    features = o3.Irreps("0e") if scalars_in else irreps
    product = EdgeProduct(features, irreps, irreps)
    terms = couplings(product.coupling.exact, product.paths, features, irreps)
    for direction in directions():
        x, weights = torch.randn(features.dim), torch.randn(len(product.paths))
        harmonics = SphericalHarmonics(lmax)(direction[None], direction.norm()[None])
        itself = torch.zeros(1, dtype=torch.int64)
        expected = product(x[None, :, None], harmonics, weights[None], torch.eye(len(weights)), itself, itself)[0, :, 0]
        message = torch.zeros(irreps.dim)
        for term in terms:
            radial = sum(share * weights[path] for path, share in term.weights)
            source, target = (slice(degree**2, (degree + 1) ** 2) for degree in (term.source, term.target))
            message[target] += radial * through(x[source], direction, term.rank, term.target, turned=term.turned)
        torch.testing.assert_close(message, expected, **EXACT)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_radial_functions_are_few(lmax: int, parity: int) -> None:
    """Each path is in some; a turn is there only where reflections may matter."""
    irreps = o3.Irreps.spherical_harmonics(lmax, p=parity)
    product = EdgeProduct(irreps, irreps, irreps)
    terms = couplings(product.coupling.exact, product.paths, irreps, irreps)
    assert {path for term in terms for path, _ in term.weights} == set(range(len(product.paths)))
    assert len({(term.source, term.target, term.rank, term.turned) for term in terms}) == len(terms)
    assert any(term.turned for term in terms) == (parity == 1)
    degrees = [(one, other) for one in range(lmax + 1) for other in range(lmax + 1)]
    assert len(terms) <= sum(2 * min(pair) + 1 for pair in degrees)
