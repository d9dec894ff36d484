"""Potentials whose energy depends on the temperature, from data of several temperatures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cgenn.comparison import predict
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.compiled import CompiledPotential
from cgenn.potential.config import NetworkConfig, PotentialConfig
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.simulation.transfer import beyond_training
from cgenn.topology import BeadTopology
from cgenn.training.config import TrainingConfig
from cgenn.training.train import train

TOPOLOGY = BeadTopology.build(["X", "Y"], [10.0, 10.0])
NETWORK = NetworkConfig(cutoff=0.6, channels=8, layers=1, radial_width=16, temperature_input=True)


def spring(temperature: float) -> float:
    """Of the mean force between two beads [kJ/mol/nm^2]."""
    return 8.0 * temperature


def pairs(path: Path, temperature: float) -> BeadDataset:
    """Two beads on a spring that no prior describes, softer where it is colder."""
    random = np.random.default_rng(int(temperature))
    vectors = random.normal(size=(200, 3))
    vectors *= (random.uniform(0.25, 0.5, 200) / np.linalg.norm(vectors, axis=1))[:, None]
    distance = np.linalg.norm(vectors, axis=1, keepdims=True)
    pull = spring(temperature) * (distance - 0.38) * vectors / distance
    frames = Frames(np.stack([np.zeros_like(vectors), vectors], axis=1), np.stack([pull, -pull], axis=1))
    return BeadDataset.write(path, TOPOLOGY, frames, temperature=temperature)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> list[BeadDataset]:
    folder = tmp_path_factory.mktemp("pairs")
    return [pairs(folder / f"{temperature}.h5", float(temperature)) for temperature in (300, 400, 500)]


@pytest.fixture
def potential() -> Potential:
    """With random weights, between the lowest and the highest temperature."""
    torch.manual_seed(0)
    known = {"types": ("X", "Y"), "average_neighbors": 1.0, "energy_scale": 10.0}
    config = PotentialConfig(**NETWORK.model_dump(), **known, temperature=400.0, temperatures=(300.0, 500.0))
    return Potential(config, Priors()).requires_grad_(False)


def off(potential: Potential, dataset: BeadDataset) -> float:
    """Mean square deviation of the forces."""
    return float(((predict(potential, dataset).forces - dataset.read().forces) ** 2).mean())


def test_each_dataset_is_seen_at_its_temperature(datasets, tmp_path):
    cold, _, hot = datasets
    config = TrainingConfig(network=NETWORK, epochs=1, batch_size=50, precision="double", learning_rate=1e-2)
    potential = train([cold, hot], config, tmp_path / "out", validation=[cold, hot])
    assert potential.config.temperature == 400.0
    assert potential.config.temperatures == (300.0, 500.0)
    found = potential.provenance["force_errors"]["model"]
    assert found == pytest.approx(0.5 * (off(potential, cold) + off(potential, hot)), rel=1e-4)


@pytest.mark.slow
def test_energy_depends_on_the_temperature_also_in_between(datasets, tmp_path):
    """What does not depend on it is off by a fifth and more at the other temperatures."""
    cold, middle, hot = datasets
    config = TrainingConfig(network=NETWORK, epochs=40, batch_size=30, learning_rate=2e-2, ema_decay=0.9)
    potential = train([cold, hot], config, tmp_path / "several")
    sizes = [float((data.read().forces ** 2).mean()) for data in datasets]
    several = [(off(potential, data) / size) ** 0.5 for data, size in zip(datasets, sizes, strict=True)]
    assert max(several[0], several[2]) < 0.05
    assert several[1] < 0.1  # which was not in the data
    config = config.model_copy(update={"network": NETWORK.model_copy(update={"temperature_input": False})})
    alone = train(middle, config, tmp_path / "one")
    one = [(off(alone, data) / size) ** 0.5 for data, size in zip(datasets, sizes, strict=True)]
    assert one[1] < 0.05
    assert min(one[0], one[2]) > 0.15


def test_at_a_temperature(potential):
    hot = potential.at_temperature(500.0)
    np.testing.assert_allclose(hot.bead_features(TOPOLOGY), 0.5)
    np.testing.assert_allclose(potential.bead_features(TOPOLOGY), 0.0)  # 400 K, as before
    assert potential.config.temperature == 400.0
    assert hot.network is potential.network
    with pytest.raises(ValueError, match=r"temperature must be positive, got -1\.0 K"):
        potential.at_temperature(-1.0)


def test_file_keeps_the_temperature(potential, tmp_path):
    hot = potential.at_temperature(480.0)
    hot.save(tmp_path / "hot.safetensors")
    assert Potential.load(tmp_path / "hot.safetensors").config == hot.config


def test_compiled_potential_at_a_temperature(potential):
    single, positions = potential.float(), torch.tensor([[[0.0, 0.0, 0.0], [0.3, 0.1, 0.0]]], dtype=torch.float32)
    found = []
    for temperature in (300.0, 500.0):
        here = single.at_temperature(temperature)
        expected = energy_and_forces(here.network_energy, here.graph(TOPOLOGY, positions))[1]
        for fast in (CompiledPotential(here), CompiledPotential(single).at_temperature(temperature)):
            forces = energy_and_forces(fast.network_energy, fast.graph(TOPOLOGY, positions))[1]
            torch.testing.assert_close(forces, expected, rtol=1e-4, atol=1e-3)
        found.append(expected)
    assert (found[1] - found[0]).norm() > 0.1 * found[0].norm()


def test_simulation_takes_its_temperature(potential, tmp_path):
    energies, start = {}, (TOPOLOGY, np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]))
    for temperature in (300.0, 500.0):
        config = SimulationConfig(
            temperature=temperature, timestep=0.001, steps=2, report_interval=1, precision="double"
        )
        run = simulate(potential, start, config, tmp_path / f"{temperature}", progress=False)
        assert run.temperature == temperature
        here = potential.at_temperature(temperature)
        positions = torch.from_numpy(run.read().positions).to(here.dtype)
        expected = here(here.graph(TOPOLOGY, positions), TOPOLOGY).numpy()
        columns = run.states()
        energies[temperature] = columns["network [kJ/mol]"] + columns["priors [kJ/mol]"]
        np.testing.assert_allclose(energies[temperature], expected, rtol=1e-4, atol=1e-4)
    assert abs(energies[500.0] - energies[300.0]).min() > 0.1


def test_warning_outside_of_the_data(potential):
    assert beyond_training(potential, TOPOLOGY, 350.0) == []
    assert beyond_training(potential, TOPOLOGY, 500.0) == []
    (said,) = beyond_training(potential, TOPOLOGY, 600.0)
    assert said.startswith("the model was trained from 300 to 500 K and is simulated at 600 K")


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ([0, 0], {}, "needs data of several temperatures to train on, but all are of 300.0 K"),
        ([0, 1], {"noise": 0.01}, "`noise` is for data of one temperature"),
        ([0, 1], {"network": NETWORK.model_copy(update={"temperature_input": False})}, "400.0 K.*at one temperature"),
    ],
)
def test_data_that_do_not_fit(chosen, options, message, datasets):
    config = TrainingConfig(**{"network": NETWORK, "epochs": 1, **options})
    with pytest.raises(ValueError, match=message):
        train([datasets[each] for each in chosen], config)


def test_temperatures_of_validation_alone_are_not_learnt(datasets):
    with pytest.raises(ValueError, match=r"several temperatures to train on, but all are of 300\.0 K"):
        train(datasets[0], TrainingConfig(network=NETWORK, epochs=1), validation=datasets)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"temperatures": None}, "`temperatures` come with `temperature_input`"),
        ({"temperatures": (500.0, 300.0)}, "must be a lower and a higher one"),
    ],
)
def test_configurations_that_do_not_fit(update, message):
    given = {**NETWORK.model_dump(), "types": ("X",), "average_neighbors": 1.0, "energy_scale": 1.0}
    with pytest.raises(ValueError, match=message):
        PotentialConfig(**given | {"temperature": 400.0, "temperatures": (300.0, 500.0)} | update)


def test_no_other_temperature_without_the_input():
    given = {**NETWORK.model_dump(), "temperature_input": False, "types": ("X",), "average_neighbors": 1.0}
    potential = Potential(PotentialConfig(**given, energy_scale=1.0, temperature=300.0), Priors())
    assert potential.at_data_temperature(400.0) is potential
    with pytest.raises(ValueError, match=r"it is that at 300 K; train one with `network.temperature_input`"):
        potential.at_temperature(400.0)
