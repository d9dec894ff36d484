"""What passes through dense layers keeps its variance."""

import torch

from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN, Dense, perceptron


def test_gains_are_those_of_a_normal_variable() -> None:
    z = torch.linspace(-10, 10, 200_001)
    weight = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5 * (z[1] - z[0])
    for gain, function in ((SILU_GAIN, torch.nn.functional.silu), (SIGMOID_GAIN, torch.sigmoid)):
        assert abs(gain**2 * (weight * function(z) ** 2).sum().item() - 1) < 1e-3


def test_variance_is_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 64)
    assert abs(Dense(64, 400)(x).var().item() - 1) < 0.1
    outputs = torch.stack([perceptron(64, 64, 64, hidden=2)(x).var() for _ in range(8)])
    assert 0.7 < outputs.mean().item() < 1.3
