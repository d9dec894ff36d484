"""Beads whose mean force is known: a chain in a known potential, with noise on its forces."""

from pathlib import Path

import numpy as np
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

TEMPERATURE = 300.0
LENGTH, STIFFNESS = 0.15, 2.0e4
"""Of the bonds: [nm], [kJ/mol/nm^2]."""


@pytest.fixture
def chain() -> BeadTopology:
    """Four beads in a row."""
    return BeadTopology.build(["A", "B", "C", "D"], [12.0] * 4, bonds=[(0, 1), (1, 2), (2, 3)])


@pytest.fixture
def chain_frames() -> Frames:
    """Frames of the chain in its harmonic bonds alone, drawn exactly: bond vectors are independent."""
    random = np.random.default_rng(7)
    frames, width = 1500, np.sqrt(thermal_energy(TEMPERATURE) / STIFFNESS)
    grid = np.linspace(LENGTH - 6 * width, LENGTH + 6 * width, 4001)
    weight = grid**2 * np.exp(-0.5 * ((grid - LENGTH) / width) ** 2)
    lengths = np.interp(random.random((frames, 3)), np.cumsum(weight) / weight.sum(), grid)
    directions = random.normal(size=(frames, 3, 3))
    bonds = lengths[..., None] * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    positions = np.concatenate([np.zeros((frames, 1, 3)), np.cumsum(bonds, axis=1)], axis=1)
    pull = (STIFFNESS * (lengths - LENGTH) / lengths)[..., None] * bonds
    forces = np.zeros_like(positions)
    forces[:, :-1] += pull
    forces[:, 1:] -= pull
    return Frames(positions, forces)


@pytest.fixture
def chain_dataset(chain: BeadTopology, chain_frames: Frames, tmp_path: Path) -> BeadDataset:
    """The same on disk, with normal noise of 100 kJ/mol/nm on the forces."""
    noise = 100.0 * np.random.default_rng(8).normal(size=chain_frames.positions.shape)
    noisy = Frames(chain_frames.positions, chain_frames.forces + noise)
    return BeadDataset.write(tmp_path / "chain.h5", chain, noisy, temperature=TEMPERATURE)
