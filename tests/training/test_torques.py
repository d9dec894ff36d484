"""Training on beads with orientations whose mean forces and torques are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.comparison import predict
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.topology import BeadTopology
from cgenn.training.batches import Batches, FrameGroup
from cgenn.training.config import TrainingConfig
from cgenn.training.train import train

ROD = Body(symmetry="Cinfv", inertia=(0.25, 0.25, 0.0))
TOPOLOGY = BeadTopology.build(["R", "A"], [25.0, 10.0], bodies={"R": ROD})
FORCE_NOISE, TORQUE_NOISE = 20.0, 2.0
"""Of a component [kJ/mol/nm], [kJ/mol]."""

SMALL = {"cutoff": 0.8, "channels": 8, "layers": 1, "radial_width": 16}


def rods(frames: int, seed: int) -> Frames:
    """A rod and a bead: E = k/2 (r - r0)^2 - e z.u with k = 3000 kJ/mol/nm^2, e = 30 kJ/mol; u from rod to bead."""
    random = np.random.default_rng(seed)
    u = random.normal(size=(frames, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    rotations = Rotation.random(frames, rng=random)
    z = rotations.as_matrix()[:, :, 2]
    r = random.uniform(0.35, 0.55, (frames, 1))
    across = 30.0 * (z - (z * u).sum(1, keepdims=True) * u) / r
    pull = -3000.0 * (r - 0.45) * u + across
    forces = np.stack([-pull, pull], axis=1)
    torques = np.stack([30.0 * np.cross(z, u), np.zeros_like(u)], axis=1)
    quaternions = np.tile([1.0, 0, 0, 0], (frames, 2, 1))
    quaternions[:, 0] = rotations.as_quat(scalar_first=True)
    return Frames(
        positions=np.stack([np.zeros_like(u), r * u], axis=1),
        forces=forces + FORCE_NOISE * random.normal(size=forces.shape),
        orientations=quaternions,
        torques=torques + TORQUE_NOISE * random.normal(size=torques.shape) * [[1.0], [0.0]],
    )


def written(folder: Path, name: str = "rods", frames: int = 600, seed: int = 0, **changes) -> BeadDataset:
    data = replace(rods(frames, seed), **changes)
    return BeadDataset.write(folder / f"{name}.h5", TOPOLOGY, data, temperature=300.0)


def config(**options) -> TrainingConfig:
    chosen = {"network": SMALL, "epochs": 2, "batch_size": 50, "precision": "double", "ema_decay": 0.9}
    return TrainingConfig.parse({**chosen, **options}, "test")


def test_forces_and_torques_are_learnt_down_to_the_noise(tmp_path):
    """Against noise in the data, and against exact numbers on frames that were never seen."""
    data, held = written(tmp_path), written(tmp_path, "held", 200, 1)
    potential = train(data, config(epochs=15, learning_rate=0.03), tmp_path / "out", validation=held)
    assert potential.config.bodies == {"R": ROD}
    forces, torques = potential.provenance["force_errors"], potential.provenance["torque_errors"]
    assert torques["null"] > 25 * TORQUE_NOISE**2
    assert torques["floor"] == pytest.approx(TORQUE_NOISE**2, rel=0.5)
    assert torques["model"] < TORQUE_NOISE**2 + 0.02 * torques["null"]
    assert forces["model"] < FORCE_NOISE**2 + 0.02 * forces["null"]
    assert potential.provenance["frames"] == [600, 0]
    again = Potential.load(tmp_path / "out" / "model.safetensors")
    found, wanted = predict(again, held), held.read()
    assert np.mean((found.torques[:, 0] - wanted.torques[:, 0]) ** 2) == pytest.approx(torques["model"], rel=1e-4)
    assert not found.torques[:, 1].any()
    np.testing.assert_array_equal(found.orientations, wanted.orientations)


def test_without_orientations(tmp_path):
    """The same data without them, or a network that is not to see them: the torques are those of no model."""
    data = written(tmp_path)
    blind = train(data, config(network={**SMALL, "oriented": False}))
    assert blind.config.bodies == {}
    assert "torque_errors" not in blind.provenance
    assert predict(blind, data).torques is None
    plain = replace(data.read(), orientations=None, torques=None)
    bare = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses)
    same = train(BeadDataset.write(tmp_path / "bare.h5", bare, plain, temperature=300.0), config())
    weights = [model.network.state_dict() for model in (blind, same)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_orientations_without_torques(tmp_path):
    potential = train(written(tmp_path, torques=None), config())
    assert potential.config.bodies == {"R": ROD}
    assert "torque_errors" not in potential.provenance


def test_frame_groups_hold_matrices(tmp_path):
    data = written(tmp_path, frames=20)
    (group,) = next(iter(Batches([data], [np.arange(20)], batch_size=20, seed=0, epoch=0, shuffle=False)))
    expected = Rotation.from_quat(data.read().orientations[:, 0], scalar_first=True).as_matrix()
    np.testing.assert_allclose(group.orientations[:, 0], expected, atol=1e-6)
    assert torch.equal(group.some(torch.tensor([3])).torques[0], group.torques[3])
    assert FrameGroup.of(0, replace(data.read(), orientations=None, torques=None), torch.float64).torques is None


def test_what_cannot_be_is_refused(tmp_path):
    data = written(tmp_path, frames=20)
    with pytest.raises(ValueError, match=r"`weights.torques` is 2.0, but torques are not predicted, or no dataset"):
        train(data, config(weights={"torques": 2.0}, network={**SMALL, "oriented": False}))
    disc = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses, bodies={"R": Body(inertia=(1, 1, 2), symmetry="D6h")})
    other = BeadDataset.write(tmp_path / "other.h5", disc, data.read(), temperature=300.0)
    with pytest.raises(ValueError, match=r"type 'R' have symmetry Cinfv in .*rods.h5, but symmetry D6h in .*other.h5"):
        train([data, other], config())
    long = ROD.model_copy(update={"inertia": (0.5, 0.5, 0.0)})
    rods = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses, bodies={"R": long})
    other = BeadDataset.write(tmp_path / "long.h5", rods, data.read(), temperature=300.0)
    with pytest.raises(ValueError, match=r"type 'R' have other atoms or axes in .*long.h5 than in .*rods.h5: map one"):
        train([data, other], config())
