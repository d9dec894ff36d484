"""Products that mix the channels of some beads: kernels against einsum, whole sixes of beads and what is left."""

from __future__ import annotations

import pytest
import torch

from cgenn.compiled.launch import Step, Steps, kernel
from cgenn.compiled.mixing_source import AT_ONCE, mixing

CHANNELS, DEGREES, KEPT, FIRST, BEADS = 32, 3, 2, 5, 2 * AT_ONCE + 1
KINDS = [{}, {"onto": True}, {"kept": True}, {"scaled": True}, {"onto": True, "scaled": True}]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("lanes", [1, 8, 16, 32])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_mixing(kind: dict[str, bool], lanes: int, apart: bool) -> None:
    """Beads 5 to 17 of 20; those of the others stay as they are, those that are apart begin with the first."""
    beads, size = FIRST + BEADS + 2, DEGREES**2
    values, before, kept = (torch.randn(beads, size, CHANNELS) for _ in range(3))
    weights, factors = torch.randn(DEGREES, CHANNELS, CHANNELS), torch.randn(3, CHANNELS)
    types = (torch.arange(beads) % 3).to(torch.int32)
    here, to = slice(FIRST, FIRST + BEADS), slice(0, BEADS) if apart else slice(FIRST, FIRST + BEADS)
    degrees = torch.arange(size).sqrt().long()
    made = torch.einsum("bmk,mkn->bmn", values[to], weights[degrees])
    scale = factors[types[here]][:, None]
    if kind.get("kept"):
        made[:, : KEPT**2] += scale * kept[here, : KEPT**2]
    if kind.get("scaled"):
        made *= scale
    expected = before.clone()
    expected[to] = made + before[to] if kind.get("onto") else made
    more = [types, factors] if kind.get("kept") or kind.get("scaled") else []
    more += [kept, size, KEPT] if kind.get("kept") else []
    found, blocks = before.clone(), CHANNELS // lanes
    given = [DEGREES, blocks, values, size, int(apart), CHANNELS, weights, found, size, int(apart), *more]
    made_kernel = kernel(mixing(torch.float64, lanes, **kind), torch.float64, lanes)
    Steps(FIRST, FIRST + BEADS, BEADS, [Step(made_kernel, blocks, given, AT_ONCE)], torch.device("cpu"))()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
