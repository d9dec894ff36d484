"""Pressures against the energy at slightly different volumes."""

import numpy as np
import pytest
import torch

from cgenn.body import rotation_matrices
from cgenn.h5md import Frames
from cgenn.simulation.pressure import pressures, tensions
from cgenn.units import BAR, thermal_energy


def energy(potential, topology, positions, orientations, box):
    turned = torch.from_numpy(rotation_matrices(orientations))[None]
    graph = potential.graph(topology, torch.from_numpy(positions)[None], torch.from_numpy(box)[None], turned)
    return float(potential(graph, topology))


def test_slope_of_the_energy_with_the_volume(discs):
    potential, topology, positions, orientations, box = discs
    scales = 1.0 + np.array([-1e-5, 1e-5])
    ends = [energy(potential, topology, scale * positions, orientations, scale * box) for scale in scales]
    volume = np.linalg.det(box)
    slope = (ends[1] - ends[0]) / (volume * (scales[1] ** 3 - scales[0] ** 3))
    ideal = len(topology) * thermal_energy(300.0) / volume
    twice = (np.stack([x, x]) for x in (positions, box, orientations))
    frames = Frames(**dict(zip(("positions", "box", "orientations"), twice, strict=True)))
    found = pressures(potential, topology, frames, 300.0)
    np.testing.assert_allclose(found, (ideal - slope) / BAR, rtol=1e-6)
    assert pressures(potential, topology, frames, 330.0)[0] - found[0] == pytest.approx(0.1 * ideal / BAR)


def test_slope_of_the_energy_with_the_area(discs):
    potential, topology, positions, orientations, box = discs
    scales = [1.0 + np.array([step, step, 0.0]) for step in (-1e-5, 1e-5)]
    ends = [energy(potential, topology, scale * positions, orientations, scale * box) for scale in scales]
    area = np.linalg.det(box) / box[2, 2]
    slope = (ends[1] - ends[0]) / (area * (scales[1][0] ** 2 - scales[0][0] ** 2))
    frames = Frames(positions[None], box=box[None], orientations=orientations[None])
    found = tensions(potential, topology, frames, 300.0)
    assert found == pytest.approx((slope - len(topology) * thermal_energy(300.0) / area) / BAR, rel=1e-6)


def test_one_bar():
    """1 bar nm^3 in kJ/mol."""
    assert pytest.approx(1e5 * 1e-27 * 6.02214076e23 / 1e3) == BAR


def test_no_box(discs):
    potential, topology, positions, orientations, _ = discs
    with pytest.raises(ValueError, match="needs a box in every frame"):
        pressures(potential, topology, Frames(positions[None], orientations=orientations[None]), 300.0)
