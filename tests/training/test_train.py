"""Training end to end on beads whose mean force is known."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.config import NetworkConfig
from cgenn.potential.derivatives import virial
from cgenn.potential.potential import Potential
from cgenn.topology import BeadTopology
from cgenn.training.config import TrainingConfig
from cgenn.training.module import ENERGY_LENGTH
from cgenn.training.train import train
from cgenn.units import thermal_energy

SMALL = NetworkConfig(cutoff=0.6, channels=8, layers=1, radial_width=16)


def _config(**options) -> TrainingConfig:
    return TrainingConfig(**{"network": SMALL, "epochs": 2, "batch_size": 64, "precision": "double", **options})


@pytest.fixture
def pairs(tmp_path: Path) -> BeadDataset:
    """Two unbonded beads on a spring that no prior describes, with noise of known size on the forces."""
    random = np.random.default_rng(0)
    topology = BeadTopology.build(["X", "Y"], [10.0, 10.0])
    vectors = random.normal(size=(2000, 3))
    vectors *= (random.uniform(0.25, 0.5, 2000) / np.linalg.norm(vectors, axis=1))[:, None]
    positions = np.stack([np.zeros_like(vectors), vectors], axis=1)
    distance = np.linalg.norm(vectors, axis=1, keepdims=True)
    pull = 3000.0 * (distance - 0.38) * vectors / distance
    forces = np.stack([pull, -pull], axis=1) + 20.0 * random.normal(size=positions.shape)
    return BeadDataset.write(tmp_path / "pairs.h5", topology, Frames(positions, forces), temperature=300.0)


def test_network_learns_down_to_the_noise(pairs, tmp_path):
    potential = train(pairs, _config(epochs=15, learning_rate=1e-2, ema_decay=0.9), tmp_path / "out")
    errors = potential.provenance["force_errors"]
    assert errors["null"] > 20 * 20.0**2
    assert errors["floor"] == pytest.approx(20.0**2, rel=0.2)
    assert errors["model"] < 1.2 * 20.0**2
    assert json.loads((tmp_path / "out" / "training.json").read_text())["force_errors"] == errors
    saved = Potential.load(tmp_path / "out" / "model.safetensors")
    graph = potential.graph(pairs.topology, torch.tensor(pairs.read(slice(5)).positions, dtype=torch.float64))
    torch.testing.assert_close(saved(graph, pairs.topology), potential(graph, pairs.topology), rtol=0, atol=1e-12)


def test_virial_of_equilibrium_is_learnt_without_forces(tmp_path):
    """Two beads on a spring, drawn exactly: the trace of dE/de is 3 kT on average, whatever the spring."""
    random, kt = np.random.default_rng(0), thermal_energy(300.0)
    grid = np.linspace(0.1, 0.9, 1001)
    weight = grid**2 * np.exp(-0.5 * 500.0 * (grid - 0.4) ** 2 / kt)
    lengths = np.interp(random.random((300, 1)), np.cumsum(weight) / weight.sum(), grid)
    vectors = random.normal(size=(300, 3))
    vectors *= lengths / np.linalg.norm(vectors, axis=1, keepdims=True)
    positions = np.stack([np.zeros_like(vectors), vectors], axis=1)
    topology = BeadTopology.build(["X", "Y"], [10.0, 10.0])
    frames = Frames(positions, 1000.0 * random.normal(size=positions.shape))  # which tell nothing
    pairs = BeadDataset.write(tmp_path / "pairs.h5", topology, frames, temperature=300.0)
    network = SMALL.model_copy(update={"cutoff": 1.2})
    weights = {"virials": 1.0, "forces": 0.0}
    config = _config(network=network, epochs=25, ema_decay=0.9, virials="equilibrium", weights=weights)
    potential = train(pairs, config, tmp_path / "out")
    graph = potential.graph(topology, torch.from_numpy(positions))
    found = virial(lambda graph: potential(graph, topology), graph).detach().numpy()
    assert np.trace(found.mean(0)) == pytest.approx(3 * kt, rel=0.1)


def test_same_seed_same_model_other_seed_other_model(chain_dataset):
    weights = [train(chain_dataset, _config(seed=seed, noise=0.005)).network.state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_noise_keeps_the_blur_out_of_the_priors(chain_dataset):
    sharp = train(chain_dataset, _config(noise=0.0, epochs=1)).priors
    displaced = train(chain_dataset, _config(noise=0.01, epochs=1)).priors
    assert displaced == sharp


def test_running_means_leave_whole_numbers_alone(tmp_path):
    """0.9 i + 0.1 i may be a little less than i: the bonds of the validation loss would be those of other beads."""
    torch.set_default_dtype(torch.float32)
    random = np.random.default_rng(0)
    topology = BeadTopology.build(["A"] * 16, [12.0] * 16, bonds=[(i, i + 1) for i in range(15)])
    positions = np.cumsum(random.normal(scale=0.1, size=(40, 16, 3)), axis=1)
    frames = Frames(positions, 100.0 * random.normal(size=positions.shape))
    data = BeadDataset.write(tmp_path / "chain.h5", topology, frames, temperature=300.0)
    potential = train(data, _config(epochs=1, batch_size=4, ema_decay=0.9, learning_rate=1e-6), tmp_path / "out")
    logged = np.genfromtxt(tmp_path / "out/metrics/metrics.csv", delimiter=",", names=True)["validation_loss"]
    errors = potential.provenance["force_errors"]
    unit = potential.config.energy_scale / ENERGY_LENGTH
    assert np.nanmax(logged) == pytest.approx(errors["model"] / unit**2, rel=1e-3)


def test_finished_run_is_read_and_another_configuration_refused(chain_dataset, tmp_path):
    out = tmp_path / "out"
    train(chain_dataset, _config(epochs=1), out)
    before = (out / "model.safetensors").stat().st_mtime_ns
    train(chain_dataset, _config(epochs=1), out)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another configuration"):
        train(chain_dataset, _config(epochs=2), out)


SCRIPT = textwrap.dedent("""
    import sys, torch
    from cgenn.potential.config import NetworkConfig
    from cgenn.training.config import TrainingConfig
    from cgenn.training.train import train
    if __name__ == "__main__":
        data, out, devices, batch = sys.argv[1:]
        torch.set_default_dtype(torch.float64)
        network = NetworkConfig(cutoff=0.6, channels=8, layers=1, radial_width=16)
        config = TrainingConfig(network=network, epochs=6, batch_size=int(batch), precision="double", noise=0.0,
                                accelerator="cpu", devices=int(devices))
        train(data, config, out)
""")


def _start(folder: Path, data: BeadDataset, out: Path, devices: int = 1, batch: int = 64) -> subprocess.Popen:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(data.path), str(out), str(devices), str(batch)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _finish(run: subprocess.Popen, folder: Path) -> None:
    assert run.wait(timeout=400) == 0, (folder / "log").read_text()


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return Potential.load(out / "model.safetensors").network.state_dict()


def test_killed_run_goes_on_to_the_same_result(chain_dataset, tmp_path):
    whole = _start(tmp_path, chain_dataset, tmp_path / "whole")
    _finish(whole, tmp_path)
    killed = _start(tmp_path, chain_dataset, tmp_path / "killed")
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed").glob("*/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = _start(tmp_path, chain_dataset, tmp_path / "killed")
    _finish(again, tmp_path)
    one, other = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(chain_dataset, tmp_path):
    for devices in (1, 2):
        run = _start(tmp_path, chain_dataset, tmp_path / str(devices), devices=devices, batch=1350)
        _finish(run, tmp_path)
    one, two = _weights(tmp_path / "1"), _weights(tmp_path / "2")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-8, atol=1e-10)


def test_different_molecules_in_one_training_set(chain_dataset, pairs):
    potential = train([chain_dataset, pairs], _config(epochs=1))
    assert set(potential.config.types) == {"A", "B", "C", "D", "X", "Y"}
    assert potential.provenance["frames"] == [1350, 1800]
    for data in (chain_dataset, pairs):
        graph = potential.graph(data.topology, torch.tensor(data.read(slice(3)).positions, dtype=torch.float64))
        assert torch.isfinite(potential(graph, data.topology)).all()


def test_periodic_dataset(tmp_path):
    random = np.random.default_rng(0)
    topology = BeadTopology.build(["W"] * 20, [18.0] * 20)
    grid = np.stack(np.meshgrid(*[np.arange(3) * 0.4] * 3), axis=-1).reshape(-1, 3)[:20]
    positions = grid + 0.02 * random.normal(size=(60, 20, 3))
    box = np.repeat(np.diag([1.2, 1.2, 1.2])[None], 60, axis=0)
    frames = Frames(positions, 10.0 * random.normal(size=positions.shape), box)
    data = BeadDataset.write(tmp_path / "box.h5", topology, frames, temperature=300.0)
    potential = train(data, _config(epochs=1, batch_size=8))
    assert potential.config.average_neighbors > 10
    assert "W|W" in potential.priors.repulsion


def test_early_stop(chain_dataset):
    potential = train(chain_dataset, _config(epochs=60, patience=1, learning_rate=0.05, ema_decay=0.0))
    assert potential.provenance["epochs"] < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forces": None}, "holds no forces"),
        ({"temperature": 310.0}, "one potential is trained at one temperature"),
    ],
)
def test_datasets_that_cannot_be_trained_on(chain, chain_frames, chain_dataset, tmp_path, change, message):
    frames = Frames(chain_frames.positions, change.get("forces", chain_frames.forces))
    temperature = change.get("temperature", 300.0)
    other = BeadDataset.write(tmp_path / "other.h5", chain, frames, temperature=temperature)
    with pytest.raises(ValueError, match=message):
        train([chain_dataset, other], _config())


def test_a_single_bead_cannot_be_trained_on(tmp_path):
    topology, positions = BeadTopology.build(["A"], [1.0]), np.zeros((50, 1, 3))
    data = BeadDataset.write(tmp_path / "one.h5", topology, Frames(positions, positions), temperature=300.0)
    with pytest.raises(ValueError, match="a single bead"):
        train(data, _config())


def test_loss_that_is_not_finite_stops(chain, chain_frames, tmp_path):
    forces = chain_frames.forces.copy()
    forces[3, 1, 2] = 1e30
    data = BeadDataset.write(tmp_path / "bad.h5", chain, Frames(chain_frames.positions, forces), temperature=300.0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(data, _config(epochs=3, precision="single"))


@pytest.mark.parametrize("batch_size", [1350, 675, 67])
def test_very_short_runs(chain_dataset, batch_size):
    """One, two and twenty steps: the schedule of the learning rate copes."""
    assert train(chain_dataset, _config(epochs=1, batch_size=batch_size)).provenance["epochs"] == 1


def test_devices_must_divide_the_batch(chain_dataset):
    with pytest.raises(ValueError, match="multiple of `devices`"):
        train(chain_dataset, _config(devices=3))


def test_default_batch_depends_on_the_size_of_a_frame():
    assert TrainingConfig().with_batch_size(5).batch_size == 128
    assert TrainingConfig().with_batch_size(512).batch_size == 1
    assert TrainingConfig(devices=2).with_batch_size(512).batch_size == 2
    assert TrainingConfig(batch_size=64).with_batch_size(512).batch_size == 64


@pytest.mark.parametrize(("beads", "copies", "hinted"), [(6, 2, True), (6, 1, False), (5, 3, False)])
def test_chains_among_others_are_hinted_at(tmp_path, caplog, beads, copies, hinted):
    """Unless the network is told not to look along them."""
    random = np.random.default_rng(0)
    chain = BeadTopology.build(["M"] * beads, [14.0] * beads, bonds=[(i, i + 1) for i in range(beads - 1)])
    steps = random.normal(size=(20, copies, beads, 3))
    steps *= random.normal(0.25, 0.01, size=steps.shape[:3])[..., None] / np.linalg.norm(steps, axis=-1, keepdims=True)
    positions = (steps.cumsum(axis=2) + random.random((20, copies, 1, 3)) * 2.0).reshape(20, -1, 3)
    box = np.broadcast_to(2.0 * np.eye(3), (20, 3, 3))
    frames = Frames(positions, random.normal(size=positions.shape), box=box)
    data = BeadDataset.write(tmp_path / "chains.h5", chain.repeat(copies), frames, temperature=300.0)
    for excluded in (0, 3):
        caplog.clear()
        network = SMALL.model_copy(update={"excluded_bonds": excluded})
        with caplog.at_level(logging.INFO, logger="cgenn"):
            potential = train(data, _config(network=network, epochs=1), tmp_path / f"out-{excluded}")
        assert ("`network.excluded_bonds=3`" in caplog.text) == (hinted and not excluded)
        assert potential.config.excluded_bonds == excluded
