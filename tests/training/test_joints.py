"""Priors between oriented beads: fitted, subtracted with their torques, trained and simulated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cgenn
from cgenn.body import Body, rotation_matrices
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.config import NetworkConfig, PotentialConfig
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.linkage import Linkage
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.config import TrainingConfig
from cgenn.training.force_matching import Residual, force_errors
from cgenn.training.priors import Sample, fit_priors
from cgenn.training.train import train
from cgenn.units import thermal_energy

ROD = Body(
    symmetry="Cinfv",
    inertia=(0.08555, 0.08555, 0.0),
    names=("C", "N"),
    masses=(12.0, 14.0),
    coordinates=((0.0, 0.0, -0.06), (0.0, 0.0, 0.055)),
)
PAIR = BeadTopology.build(["R", "A"], [26.0, 15.0], bonds=[(0, 1)], bodies={"R": ROD}, joints=[(0, 1, 1, -1)])
LENGTH, ANGLE, STIFFNESS, BEND = 0.15, 2.0, 2.0e4, 150.0


def frames(count: int = 4000, seed: int = 0) -> Frames:
    """A rod and a bead, drawn exactly from k/2 (r - r0)^2 + b/2 (theta - theta0)^2 at the rod's end, at 300 K."""
    random, kt = np.random.default_rng(seed), thermal_energy(300.0)

    def drawn(grid: np.ndarray, energy: np.ndarray, measure: np.ndarray) -> np.ndarray:
        weight = measure * np.exp(-energy / kt)
        return np.interp(random.random(count), np.cumsum(weight) / weight.sum(), grid)

    r = np.linspace(0.08, 0.22, 4001)
    r = drawn(r, 0.5 * STIFFNESS * (r - LENGTH) ** 2, r**2)
    theta = np.linspace(0.5, np.pi, 4001)
    theta = drawn(theta, 0.5 * BEND * (theta - ANGLE) ** 2, np.sin(theta))
    turns = random.normal(size=(count, 2, 4))
    turns /= np.linalg.norm(turns, axis=2, keepdims=True)
    turns[:, 1] = [1.0, 0.0, 0.0, 0.0]
    matrices = rotation_matrices(turns)[:, 0]
    azimuth = random.uniform(0, 2 * np.pi, count)
    across = np.cos(azimuth)[:, None] * matrices[:, :, 0] + np.sin(azimuth)[:, None] * matrices[:, :, 1]
    away = -np.cos(theta)[:, None] * matrices[:, :, 2] + np.sin(theta)[:, None] * across
    bead = 0.055 * matrices[:, :, 2] + r[:, None] * away
    return Frames(np.stack([np.zeros_like(bead), bead], axis=1), orientations=turns)


def with_forces(potential: Potential, given: Frames) -> Frames:
    """The frames with the forces and torques of the priors of a potential."""
    matrices = torch.from_numpy(rotation_matrices(given.orientations))
    graph = potential.graph(PAIR, torch.from_numpy(given.positions), None, matrices)
    priors = potential.prior_energy(PAIR)
    _, forces, torques = energy_forces_torques(lambda at: torch.stack(list(priors(at).values())).sum(0), graph)
    shape = given.positions.shape
    return replace(given, forces=forces.view(shape).numpy(), torques=torques.view(shape).numpy())


@pytest.fixture(scope="module")
def potential() -> Potential:
    """The energy that the frames are drawn from, below a network."""
    torch.manual_seed(0)
    priors = Priors(
        bonds={"A|R:N": {"length": LENGTH, "k": STIFFNESS}}, angles={"A|R:N|R:C": {"angle": ANGLE, "k": BEND}}
    )
    config = PotentialConfig(
        types=("A", "R"), channels=4, layers=1, average_neighbors=1.0, energy_scale=1.0, temperature=300.0,
        bodies={"R": ROD},
    )  # fmt: skip
    return Potential(config, priors).double().requires_grad_(False)


def test_boltzmann_inversion_finds_the_energy():
    given = frames()
    found = fit_priors([Sample(PAIR, given.positions, None, given.orientations)], 300.0, 1.0).priors
    assert [list(found.bonds), list(found.angles), list(found.dihedrals)] == [["A|R:N"], ["A|R:N|R:C"], []]
    bond, angle = found.bonds["A|R:N"], found.angles["A|R:N|R:C"]
    assert (bond.length, angle.angle) == (pytest.approx(LENGTH, abs=1e-3), pytest.approx(ANGLE, abs=0.01))
    assert (bond.k, angle.k) == (pytest.approx(STIFFNESS, rel=0.1), pytest.approx(BEND, rel=0.1))


def test_nothing_is_left_of_the_forces_and_torques_of_priors(potential, tmp_path):
    given = with_forces(potential, frames(50))
    group = FrameGroup.of(0, given, torch.float64)
    assert group.torques.abs().max() > 10
    targets = Residual(potential, potential.priors, [PAIR])(group, group.graph(potential, PAIR))
    for left in (targets.forces, targets.torques):
        torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-9)
    data = BeadDataset.write(tmp_path / "pair.h5", PAIR, given, temperature=300.0)
    errors = force_errors(potential, [data], [np.arange(50)], with_model=False)
    assert errors.torques.priors < 1e-6 * errors.torques.null
    assert "priors alone 0.0" in errors.torques.sentence()


def test_training_and_simulation_keep_the_shape(potential, tmp_path):
    """The whole way: dataset, priors and network, OpenMM, and the distributions that come out."""
    given = with_forces(potential, frames(600))
    data = BeadDataset.write(tmp_path / "pair.h5", PAIR, given, temperature=300.0)
    network = NetworkConfig(cutoff=0.8, channels=4, layers=1)
    trained = train(data, TrainingConfig(network=network, epochs=1, batch_size=60), tmp_path / "model")
    settings = cgenn.SimulationConfig(timestep=0.004, steps=600, report_interval=10, replicas=12, friction=5.0)
    run = cgenn.simulate(trained, tmp_path / "pair.h5", settings, tmp_path / "run").read()
    linkage = Linkage.of(PAIR)
    for index, name in ((linkage.bonds, "length"), (linkage.angles, "angle")):
        seen = [shape(linkage, index, one) for one in (given, run)]
        assert abs(seen[0].mean() - seen[1].mean()) < 0.3 * seen[0].std(), name
        assert 0.7 < seen[1].std() / seen[0].std() < 1.4, name


def shape(linkage: Linkage, index: np.ndarray, given: Frames) -> np.ndarray:
    points = linkage.points(given.positions.reshape(-1, 2, 3), given.orientations.reshape(-1, 2, 4)).numpy()[
        :, index[0]
    ]
    if len(index[0]) == 2:
        return np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    first, second = points[:, 0] - points[:, 1], points[:, 2] - points[:, 1]
    return np.arccos(np.sum(first * second, 1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1))


def test_a_model_without_orientations_takes_the_centres(tmp_path, potential):
    given = with_forces(potential, frames(200))
    data = BeadDataset.write(tmp_path / "pair.h5", PAIR, given, temperature=300.0)
    network = NetworkConfig(cutoff=0.8, channels=4, layers=1, oriented=False)
    trained = train(data, TrainingConfig(network=network, epochs=1, batch_size=60), tmp_path / "model")
    assert list(trained.priors.bonds) == ["A|R"]
    system, beads = cgenn.create_system(trained, tmp_path / "pair.h5", replicas=2)
    assert not len(beads.joints)
    assert system.getNumParticles() == 4
