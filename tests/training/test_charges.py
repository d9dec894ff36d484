"""Training on ions whose charges depend on their surroundings, and reference charges that cannot be right."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cgenn.comparison import predict
from cgenn.data.dataset import BeadDataset
from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import coulomb_pairs
from cgenn.electrostatics.settings import tune
from cgenn.h5md import Frames
from cgenn.potential.config import NetworkConfig, PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.reference.random_charges import RandomCharges
from cgenn.topology import BeadTopology
from cgenn.training.charges import check_dipole_weights, type_charges
from cgenn.training.config import LossWeights, TrainingConfig
from cgenn.training.module import ForceMatching, FrameSource
from cgenn.training.train import train
from cgenn.training.trainer import make_trainer, quiet

IONS, EDGE = 12, 1.2
TOPOLOGY = BeadTopology.build(["P", "N"] * (IONS // 2), [20.0, 30.0] * (IONS // 2))
PREDICTED = ElectrostaticsConfig(groups="system")


def salt(n_frames: int = 64) -> Frames:
    """Ions at random on a jittered lattice; each takes 0.2 e for the charge of every close ion, in all neutral.

    Forces and virials are the derivatives of a Coulomb energy with these charges and of a repulsion.
    """
    random = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * EDGE / 3
    places = np.stack([lattice[random.permutation(27)[:IONS]] for _ in range(n_frames)])
    positions = torch.from_numpy(places + random.uniform(-0.07, 0.07, places.shape)).flatten(0, 1).requires_grad_()
    strain = torch.zeros(n_frames, 3, 3, requires_grad=True)
    batch, box = torch.arange(n_frames).repeat_interleave(IONS), EDGE * torch.eye(3).repeat(n_frames, 1, 1)
    settings = tune(box, IONS, accuracy=1e-8, cutoff=0.6)
    pairs = coulomb_pairs(positions, settings, cell=box, batch=batch, n_systems=n_frames)
    change = torch.eye(3) + strain
    at, cell = torch.einsum("bi,bij->bj", positions, change[batch]), box @ change
    ends, system = (pairs.receivers, pairs.senders), batch[pairs.receivers]
    distance = (at[ends[1]] - at[ends[0]] + torch.einsum("pi,pij->pj", pairs.shifts, cell[system])).norm(dim=1)
    signs = torch.tensor([1.0, -1.0]).repeat(n_frames * IONS // 2)
    taken = torch.zeros(len(signs))
    for one, other in (ends, ends[::-1]):
        taken = taken.index_add(0, one, 0.2 * torch.exp(-((distance / 0.35) ** 4)) * signs[other])
    raw = (0.8 * signs + taken).view(n_frames, IONS)
    charges = raw - raw.mean(1, keepdim=True)
    repulsion = 5.0 * (0.3 / distance) ** 4 * torch.exp(-((distance / 0.5) ** 8))
    energies = coulomb_energy(
        at, charges.flatten(), None, pairs, settings, cell=cell, batch=batch, n_systems=n_frames
    ).index_add(0, system, repulsion)
    slope, virials = torch.autograd.grad(energies.sum(), [positions, strain])
    parts = {"charges": charges, "energies": energies, "virials": virials}
    frames = {name: part.detach().numpy() for name, part in parts.items()}
    return Frames(positions.detach().view(-1, IONS, 3).numpy(), -slope.view(-1, IONS, 3).numpy(), box.numpy(), **frames)


@pytest.fixture(scope="module")
def frames() -> Frames:
    torch.set_default_dtype(torch.float64)
    return salt()


@pytest.fixture
def data(frames: Frames, tmp_path: Path) -> BeadDataset:
    return BeadDataset.write(tmp_path / "salt.h5", TOPOLOGY, frames, temperature=100.0)


def config(electrostatics: ElectrostaticsConfig = PREDICTED, **options) -> TrainingConfig:
    network = NetworkConfig(cutoff=0.5, channels=8, layers=1, radial_width=16, electrostatics=electrostatics)
    chosen = dict(epochs=1, batch_size=4, learning_rate=0.02, ema_decay=0.9, precision="double", accelerator="cpu")
    return TrainingConfig(network=network, **{**chosen, **options})


def charge_error(potential: Potential, frames: Frames) -> float:
    """Root mean square over the last frames, which training keeps aside [e]."""
    held = frames[-7:]
    graph = potential.graph(TOPOLOGY, torch.from_numpy(held.positions), torch.from_numpy(held.box))
    found = potential.moments(graph).charges.view(held.charges.shape).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 0.0, atol=1e-12)
    return float(np.sqrt(np.square(found - held.charges).mean()))


def test_charges_are_learnt_with_forces(data, frames):
    """Better than constant charges with a network, and that is better than a network alone."""
    potential = train(data, config(epochs=8))
    of_types = frames.charges[-7:] - np.tile(potential.config.type_charges[::-1], IONS // 2)
    assert charge_error(potential, frames) < 0.3 * np.sqrt(np.square(of_types).mean())
    constant = train(data, config(ElectrostaticsConfig(charges="types", groups="system"), epochs=4))
    assert not any("charge" in name for name in constant.network.state_dict())
    plain = TrainingConfig(
        **{**config(epochs=4).model_dump(), "network": NetworkConfig(cutoff=0.5, channels=8, layers=1)}
    )
    errors = [model.provenance["force_errors"] for model in (potential, constant, train(data, plain))]
    best, middle, worst = (error["model"] ** 0.5 for error in errors)
    assert best < 0.6 * middle
    assert middle < 0.7 * worst
    # before training there is no difference between constant charges and those that start from them
    assert errors[0]["priors"] == pytest.approx(errors[1]["priors"], rel=1e-6)


def fitted(potential: Potential, data: BeadDataset, folder: Path) -> tuple[float, float]:
    """One epoch; the mean square errors of charges and forces on the frames kept aside, in the loss's units."""
    chosen, splits = config(ema_decay=0.0, batch_size=2), [(np.arange(56), np.arange(56, 64))]
    module = ForceMatching(potential, Priors(), [TOPOLOGY], [300.0], chosen, None)
    with quiet():
        trainer = make_trainer(chosen, folder, "run")
        trainer.fit(module, FrameSource([data], splits, chosen, torch.float64))
    return tuple(float(trainer.callback_metrics[f"validation_{name}"]) for name in ("charges", "forces"))


def test_charges_frozen_in_one_epoch_and_free_in_the_next(data, tmp_path):
    """The readout is in the optimiser: frozen it stays as it was, free it moves and the charges get better."""
    torch.manual_seed(0)
    full = PotentialConfig(
        **config().network.model_dump(), types=("N", "P"), average_neighbors=5.0, energy_scale=1.0, temperature=100.0,
        type_charges=(-0.8, 0.8),
    )  # fmt: skip
    potential = Potential(full, Priors())
    readout = potential.network.charge_readout
    readout.start_from_zero()
    start = {name: value.clone() for name, value in readout.state_dict().items()}
    readout.requires_grad_(False)
    frozen = fitted(potential, data, tmp_path / "frozen")
    assert all(torch.equal(value, start[name]) for name, value in readout.state_dict().items())
    readout.requires_grad_(True)
    free = fitted(potential, data, tmp_path / "free")
    assert not any(torch.equal(value, start[name]) for name, value in readout.state_dict().items())
    assert free[0] < 0.7 * frozen[0]


def test_balance_is_learnt_with_every_part(data, tmp_path):
    """Factors of all parts that the data hold move towards the logarithm of their errors; the others stay."""
    weights = LossWeights(energies=0.1, virials=0.1, torques=0.0)
    chosen = config(weights=weights, balance="uncertainty", epochs=2)
    train(data, chosen, tmp_path / "out")
    (checkpoint,) = (tmp_path / "out").glob("*/last.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    names = [name for name, weight in weights.model_dump().items() if weight > 0]
    factors = dict(zip(names, state["balance.log_variance"].tolist(), strict=True))
    assert factors.pop("dipoles") == 0.0
    assert all(abs(value) > 1e-3 for value in factors.values()), factors
    header = (tmp_path / "out" / "metrics" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"validation_{name}" for name in ("forces", "charges", "energies", "virials")} <= set(header)


def test_a_balanced_run_goes_on_to_the_same_result(frames, tmp_path, monkeypatch):
    """The checkpoint holds the factors, too."""
    data = BeadDataset.write(tmp_path / "few.h5", TOPOLOGY, frames[:20], temperature=100.0)
    chosen = config(balance="uncertainty", epochs=3)
    whole = train(data, chosen, tmp_path / "whole")

    def stop(module: ForceMatching) -> None:
        if module.current_epoch == 2:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ForceMatching, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="killed"):
            train(data, chosen, tmp_path / "killed")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = train(data, chosen, tmp_path / "killed")
    assert all(
        torch.equal(value, again.network.state_dict()[name]) for name, value in whole.network.state_dict().items()
    )
    fixed = train(data, config(epochs=3))
    assert any(
        not torch.equal(value, whole.network.state_dict()[name]) for name, value in fixed.network.state_dict().items()
    )


SCRIPT = """
import sys
import torch
from cgenn.training.config import TrainingConfig
from cgenn.training.train import train
if __name__ == "__main__":
    data, settings, devices = sys.argv[1:]
    torch.set_default_dtype(torch.float64)
    config = TrainingConfig.model_validate_json(settings)
    train(data, config.model_copy(update={"devices": int(devices)}), f"{data}-{devices}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("weights", [{"forces": 0.0}, {"charges": 0.3}], ids=["charges alone", "with forces"])
def test_two_processes_give_the_gradient_of_one(data, tmp_path, weights):
    """With learnt factors; and with charges alone, where some parameters have no gradient."""
    (tmp_path / "script.py").write_text(SCRIPT)
    chosen = config(balance="uncertainty", weights=LossWeights(**weights), epochs=2)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    found = []
    for devices in "12":
        command = [sys.executable, tmp_path / "script.py", data.path, chosen.model_dump_json(), devices]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.append(Potential.load(Path(f"{data.path}-{devices}") / "model.safetensors").network.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-8, atol=1e-10)


def test_mean_charge_of_each_type(data, frames, tmp_path):
    """Over frames and datasets; from the topology where frames have none; a type without beads counts for nothing."""
    other = BeadTopology.build(["P", "Q"], [1.0, 1.0], charges=[0.5, -0.5])
    pair = Frames(np.zeros((3, 2, 3)), np.zeros((3, 2, 3)))
    fixed = BeadDataset.write(tmp_path / "pair.h5", other, pair, temperature=100.0)
    assert type_charges([fixed], ("N", "P", "Q"), PREDICTED) == (0.0, 0.5, -0.5)
    found = type_charges([data, fixed], ("N", "P", "Q"), PREDICTED)
    positive = frames.charges[:, ::2]
    assert found[1] == pytest.approx((positive.sum() + 3 * 0.5) / (positive.size + 3))


@pytest.mark.parametrize("times", [1, 5])
def test_every_frame_counts_the_same_for_the_charge_of_a_type(tmp_path, times):
    """Whether its charges are written frame by frame or once, and however many frames are read."""
    means = []
    for stated in (False, True):
        data = []
        for name, charge, n_frames in (("a", 0.5, 30 * times), ("b", 0.2, 10 * times)):
            charges = np.array([charge, -charge])
            topology = BeadTopology.build(["P", "N"], [1.0, 1.0], charges=charges)
            places = np.zeros((n_frames, 2, 3))
            each = np.tile(charges, (n_frames, 1)) if stated and name == "a" else None
            frames = Frames(places, places, charges=each)
            data.append(BeadDataset.write(tmp_path / f"{name}{stated}.h5", topology, frames, temperature=100.0))
        means.append(type_charges(data, ("N", "P"), PREDICTED))
    expected = (30 * 0.5 + 10 * 0.2) / 40
    assert means[0] == means[1] == pytest.approx((-expected, expected))


CONSTANT = ElectrostaticsConfig(charges="types")
ZWITTERION = {"charges": [1.0, 0.0, -1.0, 1.0, 0.0, 0.0], "bonds": [(0, 1), (1, 2), (3, 4), (4, 5)]}


def still(path: Path, types: str, **given) -> BeadDataset:
    """Two frames of beads with constant charges."""
    topology = BeadTopology.build(list(types), [1.0] * len(types), **given)
    return BeadDataset.write(path, topology, Frames(np.zeros((2, len(types), 3))), temperature=100.0)


def test_what_constant_charges_lose_is_told(tmp_path, caplog):
    """A neutral and a charged chain of one type have the same charges; the total is that of neither."""
    chains = still(tmp_path / "chains.h5", "AAAAAA", **ZWITTERION)
    assert type_charges([chains], ("A",), CONSTANT) == pytest.approx((1 / 6,))
    unlike, totals = caplog.messages
    assert "chains.h5: beads of type 'A' have mean reference charges from -1.000 to +1.000 e, but all get" in unlike
    assert "get +0.167 e; give them types of their own" in unlike
    assert "chains.h5: the constant charges of molecule 0, which begins with bead 0, add up to +0.5000 e" in totals
    assert "+0.0000 e (2 of 2 differ); give its beads types of their own" in totals


@pytest.mark.parametrize(
    ("types", "config"),
    [("ABCADB", CONSTANT), ("AAAAAA", PREDICTED)],
    ids=["types of their own", "predicted"],
)
def test_nothing_is_told_where_nothing_is_lost(tmp_path, caplog, types, config):
    type_charges([still(tmp_path / "chains.h5", types, **ZWITTERION)], sorted(set(types)), config)
    assert caplog.messages == []


def test_beads_of_one_type_that_differ_between_datasets(tmp_path, caplog):
    data = [still(tmp_path / f"{charge}.h5", "PN", bonds=[(0, 1)], charges=[charge, -charge]) for charge in (0.5, 0.1)]
    assert type_charges(data, ("N", "P"), CONSTANT) == pytest.approx((-0.3, 0.3))
    assert len(caplog.messages) == 2
    assert "0.5.h5: beads of type 'P' have mean reference charges from +0.500 to +0.500 e, but" in caplog.messages[0]
    assert "all get +0.300 e (likewise those of N); give them" in caplog.messages[0]


def test_reference_charges_that_are_missing(frames, tmp_path):
    bare = replace(frames, charges=None)
    data = BeadDataset.write(tmp_path / "bare.h5", TOPOLOGY, bare, temperature=100.0)
    for electrostatics in (PREDICTED, ElectrostaticsConfig(charges="types")):
        with pytest.raises(
            ValueError, match=r"bare.h5 has no reference charges, which `electrostatics` needs: .*map it"
        ):
            train(data, config(electrostatics))


def test_totals_that_the_charges_do_not_have(data):
    """Single ions keep their charge as molecules of their own, which these do not."""
    message = (
        r"salt.h5: the charges of molecule \d+, which begins with bead \d+, add up to 0.0000 e .*`groups`, such as"
    )
    with pytest.raises(ValueError, match=message):
        train(data, config(ElectrostaticsConfig(groups="molecule")))


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({"virials": 1.0}, {}, "`weights.virials` is 1.0, but no dataset holds virials"),
        ({"energies": 2.0}, {}, "`weights.energies` is 2.0, but no dataset holds energies"),
        ({"dipoles": 5.0}, {}, "`weights.dipoles` is 5.0, but dipoles are not predicted, or no dataset holds them"),
        ({"charges": 5.0}, {"electrostatics": None}, "`weights.charges` is 5.0, but charges are not predicted"),
        (
            {"total_dipole": 1.0},
            {"electrostatics": None},
            "`weights.total_dipole` is 1.0, but charges and dipoles",
        ),
        ({"molecular_dipoles": 1.0}, {"electrostatics": {"dipoles": True}}, "or no dataset holds dipoles of the beads"),
        (
            {"forces": 0.0},
            {"electrostatics": None},
            "`weights` are those of charges and dipoles and torques, of which there is nothing",
        ),
    ],
)
def test_weights_of_what_is_not_there(frames, tmp_path, weights, options, message):
    data = BeadDataset.write(
        tmp_path / "bare.h5", TOPOLOGY, replace(frames, energies=None, virials=None), temperature=100.0
    )
    network = {**config().network.model_dump(), **options}
    with pytest.raises(ValueError, match=message):
        train(data, TrainingConfig(**{**config().model_dump(), "network": network, "weights": weights}))


def test_one_frame_whose_charges_do_not_add_up_is_found(frames, tmp_path):
    many = frames[np.arange(600) % len(frames)]
    charges = many.charges.copy()
    charges[577] += 5.0
    data = BeadDataset.write(tmp_path / "many.h5", TOPOLOGY, replace(many, charges=charges), temperature=100.0)
    with pytest.raises(ValueError, match=r"many.h5: the charges of system 0, .* but in frame 577 they are"):
        train(data, config(PREDICTED))


def test_energies_need_several_frames_in_a_batch(data):
    with pytest.raises(ValueError, match="a batch, which holds a single frame: set a larger `batch_size`"):
        train(data, config(weights=LossWeights(energies=1.0), batch_size=1))


@pytest.mark.parametrize("part", ["molecular_dipoles", "total_dipole"])
def test_dipoles_that_depend_on_the_images(data, tmp_path, part):
    """Where charges add up to the same in the whole system only, or constant ones do not add up to the reference."""
    with pytest.raises(ValueError, match=rf"`weights.{part}` is 1.0, but .*salt.h5 is periodic and .*smaller `groups`"):
        train(data, config(weights=LossWeights(**{part: 1.0})))
    frames = Frames(np.zeros((4, 6, 3)), np.zeros((4, 6, 3)), dipoles=np.zeros((4, 6, 3)))
    for types, message in (("AAAAAA", r"constant charges of molecule 1 add up to 0.5000 e"), ("ABCADB", None)):
        topology = BeadTopology.build(list(types), [1.0] * 6, **ZWITTERION)
        chains = BeadDataset.write(tmp_path / f"{types}.h5", topology, frames, temperature=100.0)
        chosen = config(ElectrostaticsConfig(charges="types", dipoles=True), weights=LossWeights(**{part: 1.0}))
        if message is None:
            check_dipole_weights([chains], chosen)
        else:
            with pytest.raises(ValueError, match=rf"`weights.{part}` is 1.0, but in .*{message} more or less than the"):
                train(chains, chosen)


def test_dipoles_of_molecules_in_a_box_are_learnt(frames, tmp_path):
    """Ions in pairs, without bonds; where their beads are stored makes no difference to the loss."""
    ions = frames[:8]
    pairs = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses, residue_index=np.arange(IONS) // 2)
    charges = ions.charges.reshape(8, -1, 2)
    charges = (charges - charges.mean(axis=2, keepdims=True)).reshape(8, IONS)
    losses = []
    for name, cells in (("here", 0.0), ("there", np.random.default_rng(0).integers(-1, 2, ions.positions.shape))):
        stored = replace(ions, positions=ions.positions + EDGE * cells, charges=charges)
        data = BeadDataset.write(tmp_path / f"{name}.h5", pairs, stored, temperature=100.0)
        chosen = config(
            ElectrostaticsConfig(groups="residue"), weights=LossWeights(molecular_dipoles=1.0, total_dipole=1.0)
        )
        train(data, chosen, tmp_path / name)
        rows = np.genfromtxt(tmp_path / name / "metrics" / "metrics.csv", delimiter=",", names=True)
        losses.append([float(np.nanmax(rows[f"validation_{part}"])) for part in ("molecular_dipoles", "total_dipole")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert min(losses[0]) > 0


@pytest.mark.slow
def test_charges_are_found_from_forces_alone(tmp_path):
    """Ions of charge +1 and -1 e whose stated charges are half of that, and count for nothing."""
    model = RandomCharges(ions=32, edge=2.0 * (32 / 128) ** (1 / 3))
    frames, unseen = model.frames(120, seed=0), model.frames(10, seed=1)
    halved = replace(frames, charges=0.5 * frames.charges)
    data = BeadDataset.write(tmp_path / "ions.h5", model.topology, halved, temperature=300.0)
    network = NetworkConfig(cutoff=0.4, channels=8, layers=1, electrostatics=PREDICTED)
    weights = LossWeights(forces=1.0, charges=0.0)
    potential = train(data, TrainingConfig(network=network, weights=weights, epochs=30, batch_size=4))
    assert potential.config.type_charges == pytest.approx((-0.5, 0.5))
    test = BeadDataset.write(tmp_path / "unseen.h5", model.topology, unseen, temperature=300.0)
    found = predict(potential, test)
    assert np.abs(found.charges - unseen.charges).max() < 0.05
    assert np.abs(found.forces - unseen.forces).mean() < 0.03 * np.abs(unseen.forces).mean()
