"""The energy of charging beads: found again from equilibrated charges, and what it does for charges that are wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cgenn.data.dataset import BeadDataset
from cgenn.potential.config import NetworkConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Moments, Potential
from cgenn.reference.charge_equilibration import EquilibratedIons
from cgenn.reference.crystals import Crystal
from cgenn.reference.ions import frames_of
from cgenn.topology import BeadTopology
from cgenn.training.config import TrainingConfig
from cgenn.training.train import train

HARD = EquilibratedIons((0.0, 2400.0), (2200.0, 2600.0), smearing=0.05)
TOPOLOGY = BeadTopology.build(["CATION"] * 4 + ["ANION"] * 4, np.full(8, 20.0))


@pytest.fixture
def data(tmp_path):
    crystal = Crystal.build("rock-salt", 1, 0.3)
    random = np.random.default_rng(0)
    types, positions, box = crystal.disturbed(20, displacement=0.01, strain=0.05, random=random)
    frames = frames_of(HARD, types, positions, box)
    return BeadDataset.write(tmp_path / "ions.h5", TOPOLOGY, frames, temperature=300.0)


def trained(data, **options) -> Potential:
    electrostatics = ElectrostaticsConfig(
        **{"groups": "system", "smearing": 0.05, "accuracy": 1e-6, "self_energy": True, **options}
    )
    network = NetworkConfig(cutoff=0.4, channels=4, layers=1, lmax=0, radial_width=4, electrostatics=electrostatics)
    return train(data, TrainingConfig(network=network, epochs=1, precision="double", accelerator="cpu"))


def test_hardness_is_found_again(data):
    found = dict(zip(("ANION", "CATION"), np.array(trained(data).config.type_self_energies), strict=True))
    assert found["CATION"][1] == pytest.approx(2200.0, rel=1e-3)
    assert found["ANION"][1] == pytest.approx(2600.0, rel=1e-3)
    # chi of the model is that at no charge, here it is that at the mean charge of the type
    charge = data.read().charges.mean(axis=(0,)).reshape(2, 4).mean(axis=1)
    difference = found["CATION"][0] - found["ANION"][0]
    assert difference == pytest.approx(2200.0 * charge[0] - 2400.0 - 2600.0 * charge[1], rel=1e-3)


def test_energy_is_least_at_the_reference_charges(data):
    """Wrong charges change it in second order, where without the energy of charging they do in first order."""
    potential, plain = trained(data), trained(data, self_energy=False)
    read = data.read(slice(3, 4))
    positions, box = (torch.from_numpy(part).double() for part in (read.positions, read.box))
    right = torch.from_numpy(read.charges[0]).double()
    wrong = torch.tensor([0.01] * 4 + [-0.01] * 4)

    def change(model: Potential, size: float) -> float:
        graph = model.graph(TOPOLOGY, positions, box)
        energies = [model.electrostatic_energy(graph, Moments(right + part * wrong, None)) for part in (0.0, size)]
        return float(energies[1] - energies[0])

    assert change(potential, 1.0) == pytest.approx(change(potential, -1.0), rel=0.02)
    assert 0 < change(potential, 1.0) < 0.05 * abs(change(plain, 1.0))


def test_constant_charges_have_none(data):
    with pytest.raises(
        ValueError, match=r"`electrostatics.self_energy` is for `electrostatics.charges` = \"predicted\""
    ):
        trained(data, charges="types")


def test_charges_of_another_kind(data, tmp_path):
    """A bead whose charge grows with the potential on it has no hardness."""
    frames = data.read()
    mean = frames.charges.mean(axis=0)
    turned = BeadDataset.write(
        tmp_path / "turned.h5",
        TOPOLOGY,
        replace(frames, charges=mean - 0.2 * (frames.charges - mean)),
        temperature=300.0,
    )
    with pytest.raises(ValueError, match="the reference charges do not minimise an energy"):
        trained(turned)


def test_charges_of_each_frame_are_needed(data, tmp_path):
    frames = data.read()
    plain = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses, charges=[0.8] * 4 + [-0.8] * 4)
    constant = BeadDataset.write(tmp_path / "constant.h5", plain, replace(frames, charges=None), temperature=300.0)
    with pytest.raises(ValueError, match="has no charges of each frame"):
        trained(constant)
