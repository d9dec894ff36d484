"""Alanine dipeptide with oriented peptide planes, from the atoms to a simulation in OpenMM."""

import numpy as np
import pytest
import torch

import cgenn
from cgenn.body import rotation_matrices
from cgenn.potential import bonded
from cgenn.potential.linkage import Linkage
from cgenn.testing import check_model

KINDS = {"bonds": bonded.distances, "angles": bonded.angles, "dihedrals": bonded.dihedrals}


def coordinates(linkage: Linkage, frames) -> dict[str, np.ndarray]:
    """All bonds, angles and dihedrals, shape (terms, frames)."""
    beads = frames.positions.shape[-2]
    points = linkage.points(frames.positions.reshape(-1, beads, 3), frames.orientations.reshape(-1, beads, 4))
    result = {}
    for kind, function in KINDS.items():
        index = getattr(linkage, kind)
        starts = points.shape[1] * torch.arange(len(points))[:, None, None]
        everywhere = (torch.from_numpy(index) + starts).flatten(0, 1)
        result[kind] = function(points.flatten(0, 1), everywhere).view(len(points), -1).T.numpy()
    return result


@pytest.mark.slow
def test_the_chain_keeps_its_shape(tmp_path):
    cgenn.run_reference("alanine-dipeptide-vacuum", tmp_path / "aa", length=200.0, equilibration=10.0, interval=0.2)
    data = cgenn.map_trajectory(tmp_path / "aa", None, "dipeptide-planes", tmp_path / "cg.h5")
    assert len(data.topology.joints) == 4
    network = cgenn.NetworkConfig(channels=8, layers=1)
    settings = cgenn.TrainingConfig(network=network, epochs=2, batch_size=50)
    potential = cgenn.train(data, settings, tmp_path / "model")
    errors = potential.provenance["torque_errors"]
    assert errors["priors"] < 0.6 * errors["null"]
    assert errors["model"] < 0.6 * errors["null"]

    given = data.read()
    frame = rotation_matrices(given.orientations[0])
    assert all(result.passed for result in check_model(potential, data.topology, given.positions[0], None, frame))

    settings = cgenn.SimulationConfig(timestep=0.004, steps=1500, report_interval=15, replicas=4)
    run = cgenn.simulate(potential, tmp_path / "cg.h5", settings, tmp_path / "run").read()
    linkage = Linkage.of(data.topology)
    seen, reached = coordinates(linkage, given), coordinates(linkage, run)
    for kind in ("bonds", "angles"):
        off = reached[kind].mean(1) - seen[kind].mean(1)
        np.testing.assert_array_less(np.abs(off), 0.5 * seen[kind].std(1))
        np.testing.assert_allclose(reached[kind].std(1) / seen[kind].std(1), 1, atol=0.3)
    planar = [number for number, row in enumerate(linkage.dihedrals) if row[1] >= 5 and row[2] >= 5]
    assert len(planar) == 4
    bend = [np.abs(np.sin(one["dihedrals"][planar])).mean(1) for one in (seen, reached)]
    np.testing.assert_array_less(bend[1], 1.7 * bend[0])  # a short series in cosines is softer than such a narrow well
    np.testing.assert_array_less(bend[1], 0.25)  # 0.64 if nothing held the planes
