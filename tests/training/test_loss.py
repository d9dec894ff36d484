"""Each part of the loss against numbers worked out by hand, on an ion pair and a neutral bead in open space."""

import math

import numpy as np
import pytest
import torch

from cgenn.graph import BeadGraph
from cgenn.h5md import Frames
from cgenn.nn.network import BeadOutputs
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.training.batches import FrameGroup
from cgenn.training.config import LossWeights, TrainingConfig
from cgenn.training.force_matching import Residual
from cgenn.training.loss import (
    Balance,
    Targets,
    Units,
    equilibrium_virials,
    group_tree,
    square_errors,
    torque_lengths,
    trained_terms,
)
from cgenn.units import COULOMB

TOPOLOGY = BeadTopology.build(["A", "B", "C"], [1.0, 1.0, 1.0], bonds=[(0, 1)], charges=[0.4, -0.4, 0.0])
DISTANCES = np.array([0.2, 0.4])
"""Of the ions in two frames, along x."""

EVERYTHING = LossWeights(
    forces=1, charges=1, dipoles=1, molecular_dipoles=1, total_dipole=1, energies=1, virials=1, torques=1
)  # fmt: skip
PAIR = -0.16 * COULOMB
"""Energy times distance of the pair [kJ/mol nm]."""


def silent(dipoles: bool = True, charges: str = "predicted") -> Potential:
    """No network energy and no dipoles, and charges of exactly 0.4, -0.4 and 0 e."""
    config = PotentialConfig(
        types=("A", "B", "C"), average_neighbors=2.0, energy_scale=10.0, temperature=300.0, channels=4,
        type_charges=(0.4, -0.4, 0.0),
        electrostatics=ElectrostaticsConfig(charges=charges, dipoles=dipoles, excluded_bonds=0),
    )  # fmt: skip
    potential = Potential(config, Priors())
    for readout in potential.network.readouts:
        torch.nn.init.zeros_(readout[-1].weight)
    for moment in (potential.network.charge_readout, potential.network.dipole_readout):
        if moment is not None:
            moment.start_from_zero()
    return potential


def frames(**given) -> Frames:
    positions = np.zeros((2, 3, 3))
    positions[:, 1, 0] = DISTANCES
    positions[:, 2, 1] = 0.5
    return Frames(positions, np.zeros((2, 3, 3)), **given)


def errors(
    potential: Potential, data: Frames, weights: LossWeights = EVERYTHING, topology: BeadTopology = TOPOLOGY, **options
) -> dict:
    group = FrameGroup.of(0, data, torch.float64)
    graph = potential.graph(topology, group.positions)
    targets = Targets(group.forces.flatten(0, 1), group.energies, group.virials)
    return square_errors(potential, graph, group, targets, topology, weights, **{"create_graph": False, **options})


def test_forces() -> None:
    """q q / r^2 on two beads along x, in either direction."""
    found, count = errors(silent(), frames())["forces"]
    assert count == 18
    assert found.item() == pytest.approx(2 * np.sum((PAIR / DISTANCES**2) ** 2))


class InField(Potential):
    """Every bead with an orientation has its z axis in a field of 10 kJ/mol along x."""

    def outputs(self, graph: BeadGraph) -> BeadOutputs:
        along = graph.orientations[:, 0, 2] * (graph.types == 1)
        found = super().outputs(graph)
        return found._replace(energies=0 * found.energies - along)


def test_torques_in_units_of_force_times_radius_of_gyration() -> None:
    """Off by 3 and 4 kJ/mol on the one bead with a body, sqrt(tr I / 2 M) = 0.5 nm; what others feel does not count.

    A bead along z feels z x E = 10 kJ/mol along y, one along x nothing.
    """
    config = PotentialConfig(
        types=("A", "B", "C"), average_neighbors=2.0, energy_scale=10.0, temperature=300.0, channels=4,
        bodies={"B": {"symmetry": "Cinfv", "inertia": (0.25, 0.25, 0.0)}},
    )  # fmt: skip
    torques = np.full((2, 3, 3), 100.0)
    torques[:, 1] = [[3.0, 10.0, 0.0], [0.0, 0.0, 4.0]]
    orientations = np.tile([1.0, 0, 0, 0], (2, 3, 1))
    orientations[1, 1] = [0.5**0.5, 0.0, 0.5**0.5, 0.0]  # z to x
    potential = InField(config, Priors()).double()
    group = FrameGroup.of(0, frames(orientations=orientations, torques=torques), torch.float64)
    graph = group.graph(potential, TOPOLOGY)
    targets = Residual(potential, Priors(), [TOPOLOGY])(group, graph)
    for weights in (LossWeights(), EVERYTHING):
        parts = square_errors(potential, graph, group, targets, TOPOLOGY, weights, create_graph=False)
        assert (parts["torques"][0].item(), parts["torques"][1]) == (pytest.approx((9 + 16) / 0.25), 6)
        assert parts["forces"][0].item() == 0.0
    off = LossWeights(torques=0)
    assert "torques" not in square_errors(potential, graph, group, targets, TOPOLOGY, off, create_graph=False)
    np.testing.assert_allclose(torque_lengths(potential, TOPOLOGY), [0.0, 0.5, 0.0])


def test_charges_against_those_of_each_frame_or_of_the_topology() -> None:
    """0.1 e off on two beads of the first frame, 0.3 e on two of the second."""
    charges = np.array([[0.5, -0.5, 0.0], [0.1, -0.4, 0.3]])
    found, count = errors(silent(), frames(charges=charges))["charges"]
    assert (found.item(), count) == (pytest.approx(0.01 + 0.01 + 0.09 + 0.09), 6)
    assert errors(silent(), frames())["charges"][0].item() == pytest.approx(0.0, abs=1e-20)


def test_dipoles_of_beads_molecules_and_systems() -> None:
    """The pair's charges are 0.1 e too small and 0.2 or 0.4 nm apart; its own and the other bead's dipoles are missing.

    A molecule lacks 0.1 e times the distance along x and 0.03 e nm along y; the third bead lacks 0.02 e nm along y.
    """
    charges = np.tile([0.5, -0.5, 0.0], (2, 1))
    dipoles = np.zeros((2, 3, 3))
    dipoles[:, 0, 1], dipoles[:, 2, 1] = 0.03, 0.02
    found = errors(silent(), frames(charges=charges, dipoles=dipoles))
    assert (found["dipoles"][0].item(), found["dipoles"][1]) == (pytest.approx(2 * (0.03**2 + 0.02**2)), 18)
    along_x = np.sum((0.1 * DISTANCES) ** 2)
    molecules, count = found["molecular_dipoles"]
    assert (molecules.item(), count) == (pytest.approx(along_x + 2 * (0.03**2 + 0.02**2)), 12)
    whole, count = found["total_dipole"]
    assert (whole.item(), count) == (pytest.approx((along_x + 2 * 0.05**2) / 3), 6)


def test_dipoles_whatever_the_images() -> None:
    """Beads moved by box vectors, each its own; a chain longer than half of the box is followed along its bonds."""
    chain = BeadTopology.build(
        ["A", "B", "C", "A", "B"], [1.0] * 5, bonds=[(0, 1), (1, 2)], residue_index=[0] * 3 + [1] * 2
    )
    random = np.random.default_rng(1)
    places = np.array([[0.0, 0, 0], [0.4, 0, 0], [0.8, 0, 0], [0.1, 0.5, 0.3], [0.4, 0.5, 0.3]])
    box = np.tile(np.array([[1.0, 0, 0], [0.2, 1.1, 0], [-0.3, 0.4, 1.2]]), (2, 1, 1))
    charges = np.array([[0.6, -0.5, -0.1, 0.3, -0.3], [0.2, -0.1, -0.1, 0.4, -0.4]])
    potential = silent(dipoles=False)
    config = potential.config.electrostatics.model_copy(update={"groups": "residue"})
    potential.config = potential.config.model_copy(update={"electrostatics": config})
    found = []
    for steps in (np.zeros((2, 5, 3)), random.integers(-2, 3, size=(2, 5, 3))):
        data = Frames(places + steps @ box, np.zeros((2, 5, 3)), box, charges=charges)
        group = FrameGroup.of(0, data, torch.float64)
        graph = potential.graph(chain, group.positions, group.box)
        targets = Targets(group.forces.flatten(0, 1), None, None)
        weights = LossWeights(molecular_dipoles=1, total_dipole=1)
        tree = group_tree(chain, config)
        parts = square_errors(potential, graph, group, targets, chain, weights, create_graph=False, tree=tree)
        found.append([parts[name][0].item() for name in ("molecular_dipoles", "total_dipole")])
        wrong = potential.moments(graph).charges.detach().view(2, 5).numpy() - charges
    moments = wrong[..., None] * places
    moments = np.stack([moments[:, :3].sum(1), moments[:, 3:].sum(1)], axis=1)
    assert found[0] == pytest.approx([np.square(moments).sum(), np.square(moments.sum(1)).sum() / 5])
    assert found[1] == pytest.approx(found[0])
    assert "total_dipole" not in square_errors(potential, graph, group, targets, chain, weights, create_graph=False)


def test_energies_whatever_their_zero() -> None:
    """By bead; the mean error of the batch is free, so that of two frames half their difference is left of each."""
    energies = np.array([1000.0, 1010.0])
    found, count = errors(silent(), frames(energies=energies))["energies"]
    away = (PAIR / DISTANCES[0] - PAIR / DISTANCES[1] + 10.0) / 3
    assert (found.item(), count) == (pytest.approx(2 * (away / 2) ** 2), 2)
    shifted, _ = errors(silent(), frames(energies=energies - 5e4))["energies"]
    assert shifted.item() == pytest.approx(found.item())
    one = frames(energies=energies)[:1]
    assert "energies" not in errors(silent(), one)


def test_virials() -> None:
    """dE/dstrain of q q / r is -E along the distance; by bead; what wrong forces within a molecule do is left out."""
    virials = np.zeros((2, 3, 3))
    virials[:, 2, 2] = 6.0
    apart = BeadTopology.build(TOPOLOGY.types, TOPOLOGY.masses, charges=TOPOLOGY.charges)
    assert errors(silent(), frames(virials=virials))["virials"][0].item() == pytest.approx(2 * 2.0**2)
    found, count = errors(silent(), frames(virials=virials), topology=apart)["virials"]
    assert (found.item(), count) == (pytest.approx(np.sum((PAIR / DISTANCES / 3) ** 2) + 2 * 2.0**2), 18)


@pytest.mark.parametrize("edge", [None, 3.0])
def test_virials_of_equilibrium(edge: float | None) -> None:
    """Two molecules, a pair and a single bead: 2 kT on the diagonal in a box, kT without, but for the pair's inside."""
    random = np.random.default_rng(0)
    forces = random.normal(size=(2, 3, 3))
    box = None if edge is None else np.tile(edge * np.eye(3), (2, 1, 1))
    data = Frames(frames().positions, forces, box)
    group = FrameGroup.of(0, data, torch.float64)
    graph = group.graph(silent(), TOPOLOGY)
    found = equilibrium_virials(graph, group.forces.flatten(0, 1), TOPOLOGY, 2.5).numpy()
    arm = 0.5 * (data.positions[:, 1] - data.positions[:, 0])
    inside = np.einsum("fa,fb->fab", forces[:, 1] - forces[:, 0], arm)
    expected = (1 if edge is None else 2) * 2.5 * np.eye(3) - 0.5 * (inside + inside.transpose(0, 2, 1))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_only_what_has_a_weight_and_is_known() -> None:
    full = {"charges": np.zeros((2, 3)), "dipoles": np.zeros((2, 3, 3)), "energies": np.zeros(2)}
    assert set(errors(silent(), frames(**full))) == {
        "forces", "charges", "dipoles", "molecular_dipoles", "total_dipole", "energies"
    }  # fmt: skip
    assert set(errors(silent(), frames(**full), LossWeights())) == {"forces", "charges", "dipoles"}
    assert set(errors(silent(), frames(), LossWeights(forces=0.0, charges=2.0))) == {"charges"}
    assert set(errors(silent(charges="types", dipoles=False), frames(**full), LossWeights())) == {"forces"}
    without = errors(silent(dipoles=True), frames(charges=np.zeros((2, 3))))
    assert "molecular_dipoles" not in without  # dipoles are predicted, and those of the beads are unknown
    assert "molecular_dipoles" in errors(silent(dipoles=False), frames(charges=np.zeros((2, 3))))


def test_constant_charges_are_part_of_what_is_subtracted() -> None:
    """Their energy is in the residual and not in what is trained; that of predicted ones the other way round."""
    group = FrameGroup.of(0, frames(energies=np.zeros(2), virials=np.zeros((2, 3, 3))), torch.float64)
    energy = torch.from_numpy(PAIR / DISTANCES)
    for charges, fixed in (("types", -energy), ("predicted", torch.zeros(2))):
        potential = silent(charges=charges, dipoles=False)
        graph = potential.graph(TOPOLOGY, group.positions)
        left = Residual(potential, Priors(), [TOPOLOGY])(group, graph)
        trained, _ = trained_terms(potential, graph)
        torch.testing.assert_close(left.energies, fixed)
        torch.testing.assert_close(trained - left.energies, energy)
        expected = fixed / group.positions[:, 1, 0]
        torch.testing.assert_close(left.forces.view(2, 3, 3)[:, 1, 0], expected)
        torch.testing.assert_close(left.virials[:, 0, 0], -fixed)


def test_gradients_reach_both_readouts() -> None:
    """Of every part but those that the charges or the dipoles do not enter."""
    random = np.random.default_rng(0)
    data = frames(
        charges=random.normal(size=(2, 3)), dipoles=random.normal(size=(2, 3, 3)), energies=random.normal(size=2),
        virials=random.normal(size=(2, 3, 3)),
    )  # fmt: skip
    potential = silent()
    charge = potential.network.charge_readout.charge[-1].weight
    gate = potential.network.dipole_readout.gates[-1].weight
    for name, (error, _) in errors(potential, data, create_graph=True).items():
        of_charge, of_gate = torch.autograd.grad(error, [charge, gate], allow_unused=True, retain_graph=True)
        assert (of_charge is not None and of_charge.any()) == (name != "dipoles"), name
        assert (of_gate is not None and of_gate.any()) == (name != "charges"), name


def test_balance() -> None:
    weights = LossWeights(forces=2.0, charges=0.5, dipoles=0.0, torques=0.0)
    parts = {"forces": torch.tensor(3.0), "charges": torch.tensor(8.0)}
    assert Balance(weights, learnt=False)(parts).item() == 10.0
    learnt = Balance(weights, learnt=True)
    assert learnt.names == ["forces", "charges"]
    assert learnt(parts).item() == 10.0
    with torch.no_grad():
        learnt.log_variance.copy_(torch.log(torch.tensor([3.0, 8.0])))
    loss = learnt(parts)
    assert loss.item() == pytest.approx(2 * (1 + math.log(3)) + 0.5 * (1 + math.log(8)))
    loss.backward()
    torch.testing.assert_close(learnt.log_variance.grad, torch.zeros(2), atol=1e-12, rtol=0)  # the best there is


def test_units() -> None:
    units = Units(force=500.0, energy=2.5)
    assert [units.of(part) for part in ("forces", "torques", "energies", "virials")] == [500.0, 500.0, 2.5, 2.5]
    assert [units.of(part) for part in ("charges", "dipoles", "molecular_dipoles", "total_dipole")] == [
        0.1, 0.01, 0.01, 0.01,
    ]  # fmt: skip
    assert set(LossWeights.model_fields) == {
        "forces", "charges", "dipoles", "molecular_dipoles", "total_dipole", "energies", "virials", "torques",
    }  # fmt: skip


def test_weights_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="all `weights` are zero"):
        TrainingConfig(weights=LossWeights(forces=0, charges=0, dipoles=0, torques=0))
    for part in ("energies", "virials"):
        with pytest.raises(ValueError, match=r"energies and virials are not those of displaced .*: set `noise` to 0"):
            TrainingConfig.parse({"noise": 0.01, "weights": {part: 1.0}}, "training.toml")
    assert TrainingConfig(noise=0.01, virials="equilibrium", weights=LossWeights(virials=1.0)).noise
    with pytest.raises(ValueError, match=r"`weights.forces`: .*greater than or equal to 0"):
        TrainingConfig.parse({"weights": {"forces": -1.0}}, "training.toml")
