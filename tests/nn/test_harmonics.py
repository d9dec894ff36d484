import copy
import pickle

import pytest
import torch
from e3nn import o3

from cgenn.nn.constant import Constant
from cgenn.nn.harmonics import SphericalHarmonics


@pytest.mark.parametrize("lmax", range(7))
def test_equal_to_e3nn(lmax: int) -> None:
    vectors = torch.randn(50, 3)
    found = SphericalHarmonics(lmax)(vectors, vectors.norm(dim=1))
    expected = o3.spherical_harmonics(list(range(lmax + 1)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_can_be_pickled_and_copied() -> None:
    vectors = torch.randn(5, 3)
    module = SphericalHarmonics(3)
    expected = module(vectors, vectors.norm(dim=1))
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(again(vectors, vectors.norm(dim=1)), expected)


def test_constants_keep_their_digits() -> None:
    third = torch.tensor([1.0, 2.0]) / 3.0
    holder = torch.nn.Sequential(Constant(third))
    assert holder.float()[0]().dtype == torch.float32
    assert torch.equal(holder.float().double()[0](), third)
    assert not holder.state_dict()
