"""Reporters in a script of one's own."""

from __future__ import annotations

import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.simulation.reporters import H5MDReporter, StateReporter, degrees_of_freedom
from cgenn.simulation.system import create_system


def make_simulation(potential, topology, positions, box=None) -> openmm.app.Simulation:
    system, beads = create_system(potential, topology, box=box, backend="python", device="cpu")
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    platform = openmm.Platform.getPlatform("Reference")
    simulation = openmm.app.Simulation(beads.to_openmm(), system, integrator, platform)
    simulation.context.setPositions(positions)
    return simulation


def test_frames_are_a_bead_dataset(potential, topology, positions, tmp_path):
    simulation = make_simulation(potential, topology, positions, box=[2, 2, 2])
    frames = H5MDReporter(tmp_path / "cg.h5", 5, topology, temperature=300.0, periodic=True)
    simulation.reporters.append(frames)
    simulation.step(20)
    last = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    frames.close()
    dataset = BeadDataset.open(tmp_path / "cg.h5")
    assert (dataset.n_frames, dataset.temperature, dataset.segments) == (4, 300.0, [(0, 4)])
    np.testing.assert_allclose(dataset.read().positions[-1], last, atol=1e-6)
    np.testing.assert_allclose(dataset.read().box, np.broadcast_to(2 * np.eye(3), (4, 3, 3)))
    h5md = pytest.importorskip("MDAnalysis.coordinates.H5MD")
    with h5md.H5MDReader(str(tmp_path / "cg.h5"), convert_units=False) as reader:
        np.testing.assert_allclose(reader[3].positions, last, atol=1e-6)
        assert reader[3].time == pytest.approx(0.04)


def test_states(potential, topology, positions, tmp_path):
    simulation = make_simulation(potential, topology, positions)
    rows = StateReporter(tmp_path / "state.csv", 5)
    simulation.reporters.append(rows)
    simulation.step(10)
    state = simulation.context.getState(energy=True)
    network = simulation.context.getState(energy=True, groups={0}).getPotentialEnergy()._value
    rows.close()
    header, *lines = (tmp_path / "state.csv").read_text().splitlines()
    assert header.split(",")[0] == "step"
    assert len(lines) == 2
    values = lines[-1].split(",")
    assert float(values[2]) == pytest.approx(network, rel=1e-6)
    assert float(values[5]) == pytest.approx((state.getPotentialEnergy() + state.getKineticEnergy())._value, rel=1e-8)


def test_degrees_of_freedom():
    system = openmm.System()
    for mass in (1.0, 1.0, 0.0):
        system.addParticle(mass)
    assert degrees_of_freedom(system) == 6
    system.addConstraint(0, 1, 0.1)
    system.addForce(openmm.CMMotionRemover())
    assert degrees_of_freedom(system) == 2
