"""The product of what a bead gathered with itself: kernels against the module of the network."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from cgenn.compiled import product_source
from cgenn.compiled.launch import Step, Steps, kernel
from cgenn.nn.tensor_product import NodeProduct

from .conftest import close

BEADS, CHANNELS = 7, 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("lmax", "out"), [(2, 1), (2, 2), (4, 0), (4, 1), (4, 4)])
def test_product_and_its_derivatives(lmax: int, out: int, dtype: torch.dtype) -> None:
    """Of few terms, which are written out, and of messages up to degree four, the most that are compiled."""
    gathered, products = (o3.Irreps([(1, (degree, 1)) for degree in range(lmax + 1)]) for degree in (lmax, out))
    module = NodeProduct(gathered, gathered, products, CHANNELS).requires_grad_(False)
    left, right = torch.randn(2, BEADS, gathered.dim, CHANNELS).requires_grad_(True)
    expected = module(left, right)
    slopes = torch.randn_like(expected)
    by_left, by_right = torch.autograd.grad(expected, (left, right), slopes)

    path, i, j, k = module.terms.tolist()
    terms = list(zip(path, i, j, k, module.values.exact.tolist(), strict=True))
    pairs = torch.cat([left, right], dim=2).detach().to(dtype)
    found = torch.zeros(BEADS, products.dim, CHANNELS, dtype=dtype)
    weights, sizes = module.weight.to(dtype), (gathered.dim, products.dim)
    there, back = product_source.term_lists(terms)
    texts = [
        product_source.forward(*sizes, there, dtype, CHANNELS),
        product_source.backward(*sizes, back, dtype, CHANNELS),
    ]
    for text, (places, values), out_of in ((texts[0], there, found), (texts[1], back, slopes.to(dtype))):
        given = [places, values.to(dtype), weights, pairs, out_of]
        Steps(0, BEADS, BEADS, [Step(kernel(text, dtype, CHANNELS), 1, given)], torch.device("cpu"))()
    tolerance = 1e-13 if dtype == torch.float64 else 1e-6
    close(found, expected.detach(), tolerance)
    close(pairs, torch.cat([by_left, by_right], dim=2), tolerance)
