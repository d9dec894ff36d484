"""Constant charges in OpenMM against Ewald's sum and direct sums in double precision."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
import torch

from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import coulomb_pairs
from cgenn.electrostatics.settings import tune
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.simulation.electrostatics import (
    ELECTROSTATICS_GROUP,
    charge_forces,
    electrostatics_derivative,
    native_cutoff,
)
from cgenn.simulation.force import LAMBDA
from cgenn.simulation.placement import Placement
from cgenn.topology import BeadTopology

BOX = np.array([[2.4, 0, 0], [0.5, 2.2, 0], [-0.4, 0.6, 2.3]])


def chains(number: int) -> tuple[BeadTopology, np.ndarray]:
    """Chains of five beads and their charges, which do not quite add up to zero."""
    topology = BeadTopology.build("ABCDE", [10.0] * 5, bonds=[(0, 1), (1, 2), (2, 3), (3, 4)]).repeat(number)
    return topology, np.tile([0.5, -0.8, 0.3, 0.4, -0.35], number)


def walk(number: int, edge: float = 2.2) -> np.ndarray:
    """Positions: each chain starts somewhere and leaves the box now and then."""
    random = np.random.default_rng(number)
    steps = random.normal(size=(number, 5, 3))
    steps *= 0.2 / np.linalg.norm(steps, axis=2, keepdims=True)
    return (random.uniform(0, edge, size=(number, 1, 3)) + np.cumsum(steps, axis=1)).reshape(-1, 3)


def in_torch(topology, charges, positions, config, *, box=None, copies: int = 1) -> tuple[float, np.ndarray]:
    """Energy of all copies and forces."""
    cell = None if box is None else torch.from_numpy(box)[None]
    beads = len(topology)
    settings = tune(cell, beads, accuracy=1e-9, smearing=config.smearing, method=None if box is None else "ewald")
    batch = torch.arange(copies).repeat_interleave(beads)
    excluded = torch.from_numpy(topology.bonded_pairs(config.excluded_bonds).T.copy())
    excluded = (excluded[:, None] + beads * torch.arange(copies)[None, :, None]).flatten(1)
    moving = torch.from_numpy(positions).requires_grad_()
    pairs = coulomb_pairs(moving.detach(), settings, cell=cell, batch=batch, n_systems=copies, excluded=excluded)
    energy = coulomb_energy(
        moving,
        torch.from_numpy(charges).repeat(copies),
        None,
        pairs,
        settings,
        cell=cell,
        batch=batch,
        n_systems=copies,
    ).sum()
    energy.backward()
    return energy.item(), -moving.grad.numpy()


def in_openmm(forces, n_particles: int, positions, *, box=None, platform="Reference") -> openmm.Context:
    system = openmm.System()
    for _ in range(n_particles):
        system.addParticle(1.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box.tolist())
    for force in forces:
        system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(positions)
    return context


def evaluate(context: openmm.Context) -> tuple[float, np.ndarray]:
    state = context.getState(energy=True, forces=True, groups={ELECTROSTATICS_GROUP})
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def assert_same(found, expected, tolerance: float) -> None:
    scale = np.sqrt(np.mean(expected[1] ** 2))
    assert found[0] == pytest.approx(expected[0], abs=tolerance * abs(expected[0]) + tolerance * scale)
    assert np.sqrt(np.mean((found[1] - expected[1]) ** 2)) < tolerance * scale


@pytest.mark.parametrize("smearing", [0.0, 0.12])
@pytest.mark.parametrize("bonds", [0, 1, 3])
def test_box(bonds, smearing):
    topology, charges = chains(8)
    positions = walk(8)
    config = ElectrostaticsConfig(charges="types", excluded_bonds=bonds, smearing=smearing, accuracy=1e-6, cutoff=1.0)
    forces = charge_forces(charges, topology, Placement.replicas(40, periodic=True), config, BOX)
    found = evaluate(in_openmm(forces, 40, positions, box=BOX))
    assert_same(found, in_torch(topology, charges, positions, config, box=BOX), 3e-6)


def test_smeared_net_charge_in_a_box_that_changes():
    """As under a barostat: the background of smeared charges depends on the volume and is in no force."""
    topology, charges = chains(8)
    charges, positions = charges + 0.1, walk(8)
    config = ElectrostaticsConfig(charges="types", excluded_bonds=1, smearing=0.12, accuracy=1e-6, cutoff=0.95)
    forces = charge_forces(charges, topology, Placement.replicas(40, periodic=True), config, BOX)
    context = in_openmm(forces, 40, positions, box=BOX)
    for factor in (1.0, 1.05, 0.95):
        box, moved = factor * BOX, factor * positions
        context.setPeriodicBoxVectors(*box.tolist())
        context.setPositions(moved)
        assert_same(evaluate(context), in_torch(topology, charges, moved, config, box=box), 3e-6)


def test_accuracy_is_what_was_asked_for():
    topology, charges = chains(20)
    positions, box = walk(20, 2.8), 1.2 * BOX
    for accuracy in (1e-3, 1e-4, 1e-5):
        config = ElectrostaticsConfig(charges="types", excluded_bonds=3, accuracy=accuracy)
        forces = charge_forces(charges, topology, Placement.replicas(100, periodic=True), config, box)
        found = evaluate(in_openmm(forces, 100, positions, box=box))
        assert_same(found, in_torch(topology, charges, positions, config, box=box), accuracy)


@pytest.mark.parametrize(("number", "copies"), [(4, 1), (4, 3), (20, 1), (20, 2)])
@pytest.mark.parametrize("smearing", [0.0, 0.2])
def test_open_space_and_copies_that_do_not_feel_each_other(number, copies, smearing):
    topology, charges = chains(number)
    positions = np.concatenate([walk(number) + 0.01 * copy for copy in range(copies)])
    config = ElectrostaticsConfig(charges="types", excluded_bonds=2, smearing=smearing)
    forces = charge_forces(charges, topology, Placement.replicas(5 * number, copies), config)
    found = evaluate(in_openmm(forces, len(positions), positions))
    assert_same(found, in_torch(topology, charges, positions, config, copies=copies), 1e-6)


@pytest.mark.parametrize("box", [None, BOX])
def test_some_particles_of_a_system_with_other_charges(box):
    topology, charges = chains(16)
    others = np.random.default_rng(0).uniform(0, 2, size=(7, 3))
    order = np.random.default_rng(1).permutation(87)
    positions = np.concatenate([walk(16), others])[np.argsort(order)]
    config = ElectrostaticsConfig(charges="types", excluded_bonds=1, smearing=0.1, accuracy=1e-6, cutoff=1.0)
    placement = Placement.among(order[:80], 87, periodic=box is not None)
    expected = in_torch(topology, charges, positions[order[:80]], config, box=box)
    for platform, tolerance in {"Reference": 3e-6, "CPU": 1e-4}.items():
        forces = charge_forces(charges, topology, placement, config, box)
        host = openmm.NonbondedForce()
        host.setNonbondedMethod(openmm.NonbondedForce.NoCutoff if box is None else openmm.NonbondedForce.PME)
        for _ in range(87):
            host.addParticle(0.1, 0.1, 0.0)
        found = evaluate(in_openmm([*forces, host], 87, positions, box=box, platform=platform))
        np.testing.assert_array_equal(found[1][order[80:]], 0.0)
        assert_same((found[0], found[1][order[:80]]), expected, tolerance)


@pytest.mark.parametrize(("number", "box"), [(8, BOX), (8, None), (20, None)])
def test_lambda_scales_the_charges(number, box):
    topology, charges = chains(number)
    config = ElectrostaticsConfig(charges="types", excluded_bonds=1, smearing=0.1)
    placement = Placement.replicas(5 * number, periodic=box is not None)
    forces = charge_forces(charges, topology, placement, config, box)
    forces.append(openmm.CustomExternalForce("x^2"))
    forces[-1].addParticle(0)
    context = in_openmm(forces, 5 * number, walk(number), box=box)
    full = evaluate(context)
    for value in (0.0, 0.5, 1.3):
        context.setParameter(LAMBDA, value)
        scaled = evaluate(context)
        assert scaled[0] == pytest.approx(value**2 * full[0], rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(scaled[1], value**2 * full[1], rtol=1e-6, atol=1e-6)
        ends = []
        for step in (1e-4, -1e-4):
            context.setParameter(LAMBDA, value + step)
            ends.append(context.getState(energy=True).getPotentialEnergy()._value)
        context.setParameter(LAMBDA, value)
        derivative = electrostatics_derivative(context)
        assert derivative == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-6, abs=1e-5)
        assert derivative == pytest.approx(electrostatics_derivative(context, {ELECTROSTATICS_GROUP}), rel=1e-9)
        assert context.getParameter(LAMBDA) == value


def test_background_is_said_aloud(caplog):
    topology, charges = chains(2)
    placement = Placement.replicas(10, periodic=True)
    config = ElectrostaticsConfig(charges="types")
    charge_forces(charges, topology, placement, config, BOX)
    assert "add up to +0.1 e in a periodic box: a uniform background" in caplog.text
    caplog.clear()
    charge_forces(charges - 0.01, topology, placement, config, BOX)
    charge_forces(charges, topology, Placement.replicas(10), config)
    assert not caplog.records


def test_neutral_beads_have_no_force():
    topology, charges = chains(2)
    config = ElectrostaticsConfig(charges="types")
    assert charge_forces(0 * charges, topology, Placement.replicas(10), config) == []
    assert charge_forces(0 * charges, topology, Placement.replicas(10, periodic=True), config, BOX) == []


def test_bad_requests():
    topology, charges = chains(2)
    placement = Placement.replicas(10, periodic=True)
    with pytest.raises(ValueError, match="no slab"):
        charge_forces(charges, topology, placement, ElectrostaticsConfig(charges="types", slab=True), BOX)
    with pytest.raises(ValueError, match=r"1\.200 nm, but the box is 2\.200 nm wide"):
        native_cutoff(BOX, 10, ElectrostaticsConfig(cutoff=1.2))
    with pytest.raises(ValueError, match=r"smeared over 0\.300 nm need a cutoff of 1\.821 nm .* it is 0\.990 nm"):
        native_cutoff(BOX, 10, ElectrostaticsConfig(smearing=0.3))
    context = in_openmm([], 10, walk(2))
    with pytest.raises(ValueError, match="no parameter 'lambda_electrostatics'"):
        electrostatics_derivative(context)
