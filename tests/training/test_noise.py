"""Displaced copies: the mixed label is an unbiased mean force of the blurred density."""

import numpy as np
import torch

from cgenn.topology import BeadTopology
from cgenn.training.noise import NoisyLabels
from cgenn.training.noise_floor import noise_floor


def test_label_is_the_mean_force_of_the_blurred_harmonic_well():
    kt, k, sigma = 2.5, 400.0, 0.05
    labels = NoisyLabels(sigma, kt, force_variance=900.0)
    random = torch.Generator().manual_seed(0)
    positions = (kt / k) ** 0.5 * torch.randn(200_000, 1, 3, generator=random)
    noise = 30.0 * torch.randn(positions.shape, generator=random)
    moved, forces = labels.displace(positions, -k * positions + noise, random)
    slope = (moved * forces).sum() / moved.square().sum()
    blurred = kt / (kt / k + sigma**2)
    assert abs(slope.item() / -blurred - 1) < 0.02


def test_mixture_has_less_noise_than_either_part():
    labels = NoisyLabels(0.01, 2.5, force_variance=800.0**2)
    random = torch.Generator().manual_seed(0)
    recorded = 800.0 * torch.randn(50_000, 1, 3, generator=random)
    _, mixed = labels.displace(torch.zeros_like(recorded), recorded, random)
    expected = 1 / (1 / 800.0**2 + (0.01 / 2.5) ** 2)
    assert abs(mixed.square().mean().item() / expected - 1) < 0.02


def test_noise_floor_of_forces_with_known_noise(chain, chain_frames):
    random = np.random.default_rng(3)
    smooth = chain_frames.positions - chain_frames.positions.mean(axis=1, keepdims=True)
    forces = 50.0 * smooth + 20.0 * random.normal(size=smooth.shape)
    assert abs(noise_floor(chain, chain_frames.positions, forces) / 20.0**2 - 1) < 0.1


def test_noise_floor_is_the_same_for_turned_frames(chain, chain_frames):
    random = np.random.default_rng(3)
    forces = 20.0 * random.normal(size=chain_frames.positions.shape)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    there = noise_floor(chain, chain_frames.positions @ turn.T, forces @ turn.T)
    assert np.isclose(there, noise_floor(chain, chain_frames.positions, forces), rtol=1e-8)


def test_noise_floor_of_a_liquid_cannot_be_told():
    """No two beads have neighbours that are nearly the same: the forces say nothing of their noise."""
    random = np.random.default_rng(0)
    liquid = BeadTopology.build(["A"] * 60, np.ones(60))
    assert np.isnan(noise_floor(liquid, random.uniform(0, 2, (20, 60, 3)), random.normal(size=(20, 60, 3))))
