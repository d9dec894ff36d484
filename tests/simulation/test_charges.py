"""Potentials with charges in OpenMM: constant ones as native forces, predicted ones in the learned force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch

from cgenn.graph import BeadGraph
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.simulation.backends import NETWORK_GROUP
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.electrostatics import ELECTROSTATICS_GROUP, electrostatics_derivative
from cgenn.simulation.force import LAMBDA
from cgenn.simulation.run import simulate
from cgenn.simulation.system import create_system
from cgenn.simulation.watch import SimulationError

from .conftest import with_charges

BACKENDS = ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)]
KINDS = {
    "types": {"charges": "types", "excluded_bonds": 1, "smearing": 0.05, "accuracy": 1e-6},
    "predicted": {"charges": "predicted", "excluded_bonds": 2, "accuracy": 1e-7},
    "dipoles": {"charges": "predicted", "dipoles": True, "smearing": 0.1, "accuracy": 1e-7},
    "slab": {"charges": "types", "slab": True, "accuracy": 1e-7},
}


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    if request.param == "openmm-torch":
        pytest.importorskip("openmmtorch")
    return request.param


def make_context(system: openmm.System, positions: np.ndarray, platform: str = "Reference") -> openmm.Context:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(positions)
    return context


def evaluate(context: openmm.Context) -> tuple[float, np.ndarray]:
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def graph_of(potential: Potential, topology, positions, box) -> BeadGraph:
    cell = None if box is None else torch.from_numpy(box)[None]
    return potential.graph(topology, torch.from_numpy(positions)[None], cell)


def in_torch(potential: Potential, topology, positions, box) -> tuple[float, np.ndarray]:
    graph = graph_of(potential, topology, positions, box)
    energy, forces = energy_and_forces(lambda graph: potential(graph, topology), graph)
    return energy.item(), forces.numpy()


@pytest.mark.parametrize(
    ("kind", "periodic"),
    [("types", True), ("types", False), ("predicted", True), ("predicted", False), ("dipoles", True), ("slab", True)],
)
def test_energy_and_forces_are_those_of_the_potential(potential, molecules, kind, periodic, backend):
    charged = with_charges(potential, **KINDS[kind])
    topology, positions, box = molecules
    box = np.diag([2.2, 2.4, 4.1]) if kind == "slab" else box if periodic else None
    system, _ = create_system(charged, topology, box=box, backend=backend, precision="double", device="cpu")
    groups = {force.getForceGroup() for force in system.getForces() if "electrostatics" in force.getName()}
    assert groups == ({ELECTROSTATICS_GROUP} if kind == "types" else set())
    expected = in_torch(charged, topology, positions, box)
    for platform, tolerance in {"Reference": 3e-6, "CPU": 1e-4}.items():
        energy, forces = evaluate(make_context(system, positions, platform))
        assert energy == pytest.approx(expected[0], rel=tolerance)
        np.testing.assert_allclose(forces, expected[1], atol=tolerance * np.abs(expected[1]).max())
    assert abs(charged.electrostatic_energy(graph_of(charged, topology, positions, box)).item()) > 0.5


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("kind", ["types", "dipoles"])
def test_lambda_and_its_derivative(potential, molecules, kind, periodic, backend):
    charged = with_charges(potential, **KINDS[kind])
    topology, positions, box = molecules
    system, _ = create_system(
        charged, topology, box=box if periodic else None, backend=backend, precision="double", device="cpu"
    )
    context = make_context(system, positions)
    energies, forces = {}, {}
    for value in (0.0, 1.0, 0.7, 0.7001, 0.6999):
        context.setParameter(LAMBDA, value)
        energies[value], forces[value] = evaluate(context)
    assert energies[0.7] == pytest.approx(0.49 * energies[1.0] + 0.51 * energies[0.0], rel=1e-7)
    mixed = 0.49 * forces[1.0] + 0.51 * forces[0.0]
    np.testing.assert_allclose(forces[0.7], mixed, atol=1e-7 * np.abs(mixed).max())
    context.setParameter(LAMBDA, 0.7)
    slope = (energies[0.7001] - energies[0.6999]) / 2e-4
    assert electrostatics_derivative(context) == pytest.approx(slope, rel=1e-5)
    group = ELECTROSTATICS_GROUP if kind == "types" else NETWORK_GROUP
    assert electrostatics_derivative(context, {group}) == pytest.approx(slope, rel=1e-5)
    context.setParameter(LAMBDA, 0.0)
    assert electrostatics_derivative(context) == 0


def test_background_is_said_aloud(potential, molecules, caplog):
    charged = with_charges(potential, **KINDS["predicted"])
    topology, _, box = molecules
    create_system(charged, topology, box=box)
    assert "background" not in caplog.text
    create_system(charged, replace(topology, charges=topology.charges + 0.1), box=box)
    assert "add up to +3 e in a periodic box" in caplog.text


def test_a_topology_without_its_charges_is_noticed(potential, molecules, caplog):
    """Predicted charges would add up to nothing."""
    topology, _, box = molecules
    for kind, told in (("types", False), ("predicted", True)):
        charged = with_charges(potential, **KINDS[kind])
        many = {"type_charges": tuple(charge + 0.2 for charge in charged.config.type_charges)}
        charged.config = charged.config.model_copy(update=many)
        create_system(charged, replace(topology, charges=topology.charges + 0.2), box=box)
        assert "does the topology have its charges" not in caplog.text
        create_system(charged, replace(topology, charges=np.zeros(30)), box=box)
        message = "molecule 0, which begins with bead 0, add up to +0 e in the topology, but those of its bead types"
        assert (message in caplog.text) == told


def test_constant_charges_that_miss_the_totals_are_noticed(potential, molecules, caplog):
    """The topology says +1 of the second molecule; the types know nothing of it."""
    topology, _, box = molecules
    charged = with_charges(potential, **KINDS["types"])
    create_system(charged, replace(topology, charges=topology.charges + 0.005), box=box)
    assert not caplog.records
    other = topology.charges + 0.2 * (topology.molecules == 1)
    create_system(charged, replace(topology, charges=other), box=box)
    message = "molecule 1, which begins with bead 5, add up to +1 e in the topology, but the constant charges"
    assert message in caplog.text


@pytest.mark.parametrize("reads", [False, True])
def test_charges_beside_an_openmm_topology(potential, molecules, reads, caplog):
    """Totals and what the network reads are those of the beads; mean ones of the types may be parts of charges."""
    topology, positions, box = molecules
    charged = with_charges(potential, **KINDS["predicted"])
    means = tuple(charge + 0.06 for charge in charged.config.type_charges)
    update = {"type_charges": means, "bead_features": ("charge",) if reads else ()}
    charged = Potential(charged.config.model_copy(update=update), charged.priors).double().requires_grad_(False)
    right = replace(topology, charges=topology.charges + 0.2 * (topology.molecules == 1))
    options = {"box": box, "precision": "double", "device": "cpu", "masses": topology.masses}
    for charges in (right.charges, right.charges * openmm.unit.elementary_charge):
        system, beads = create_system(charged, topology.to_openmm(), charges=charges, **options)
        np.testing.assert_array_equal(beads.charges, right.charges)
        energy = evaluate(make_context(system, positions))[0]
        assert energy == pytest.approx(in_torch(charged, right, positions, box)[0], rel=1e-6)
    assert "whole number" not in caplog.text
    create_system(charged, topology.to_openmm(), **options)
    assert "add up to +0.3 e, not to a whole number, in molecule 0, which begins with bead 0 (6 such)" in caplog.text
    with pytest.raises(ValueError, match=r"`charges` needs a number for each of 30 beads, got shape \(5,\)"):
        create_system(charged, topology.to_openmm(), charges=np.zeros(5), **options)
    with pytest.raises(ValueError, match="`charges` are for an OpenMM topology"):
        create_system(charged, topology, box=box, charges=right.charges)


def test_forces_hold_the_change_of_the_charges(potential, molecules, backend):
    """-dE/dR along a line; without dq/dR they are visibly wrong."""
    charged = with_charges(potential, **KINDS["dipoles"])
    topology, positions, box = molecules
    system, _ = create_system(charged, topology, box=box, backend=backend, precision="double", device="cpu")
    context = make_context(system, positions)
    along = np.random.default_rng(2).normal(size=positions.shape)
    slope = (evaluate(context)[1] * along).sum()
    energies = []
    for step in (1e-6, -1e-6):
        context.setPositions(positions + step * along)
        energies.append(evaluate(context)[0])
    numerical = -(energies[0] - energies[1]) / 2e-6
    assert slope == pytest.approx(numerical, rel=1e-6)
    graph = graph_of(charged, topology, positions, box)
    frozen = charged.moments(graph)
    change = (
        energy_and_forces(charged.electrostatic_energy, graph)[1]
        - energy_and_forces(lambda graph: charged.electrostatic_energy(graph, frozen), graph)[1]
    )
    assert abs((change.numpy() * along).sum()) > 0.01 * abs(numerical)


def test_potentials_without_charges_have_no_parameter(potential, topology, positions, backend):
    system, _ = create_system(potential, topology, backend=backend)
    assert LAMBDA not in make_context(system, positions).getParameters()


@pytest.mark.parametrize("kind", ["types", "predicted"])
def test_beside_a_force_field_charges_count_once(potential, molecules, kind, backend):
    charged = with_charges(potential, **KINDS[kind])
    topology, positions, box = molecules
    ions = np.random.default_rng(5).uniform(0, 2, size=(4, 3))
    everything, particles = np.concatenate([ions, positions]), range(4, 34)
    charges = np.r_[[1.0, -1.0, 1.0, -1.0], -topology.charges]  # not those of the model

    def host(factors: np.ndarray, method: int = openmm.NonbondedForce.PME) -> openmm.System:
        system, force = openmm.System(), openmm.NonbondedForce()
        system.setDefaultPeriodicBoxVectors(*box.tolist())
        for charge in charges * factors:
            system.addParticle(10.0)
            force.addParticle(charge, 0.1, 0.0)
        force.setNonbondedMethod(method)
        force.setEwaldErrorTolerance(1e-6)
        system.addForce(force)
        return system

    inner = np.arange(34) >= 4
    parts = [evaluate(make_context(host(factors), everything)) for factors in (np.ones(34), inner)]
    model = in_torch(charged, topology, positions, box)
    options = {"backend": backend, "precision": "double", "device": "cpu"}
    system, _ = create_system(charged, topology, system=host(np.ones(34)), particles=particles, **options)
    for platform, tolerance in {"Reference": 3e-6, "CPU": 1e-4}.items():
        energy, forces = evaluate(make_context(system, everything, platform))
        assert energy == pytest.approx(parts[0][0] - parts[1][0] + model[0], rel=tolerance)
        expected = parts[0][1] - parts[1][1]
        expected[4:] += model[1]
        np.testing.assert_allclose(forces, expected, atol=tolerance * np.abs(expected).max())
    cut = host(np.ones(34), openmm.NonbondedForce.CutoffPeriodic)
    with pytest.raises(ValueError, match=r"long-range electrostatics \(PME\), but the NonbondedForce"):
        create_system(charged, topology, system=cut, particles=particles)


def test_pressure_on_a_slab_is_refused(potential, molecules, tmp_path):
    topology, positions, box = molecules
    slab = with_charges(potential, charges="types", slab=True)
    with pytest.raises(ValueError, match='"npt" would squeeze the vacuum of a slab'):
        simulate(slab, (topology, positions, box), SimulationConfig(ensemble="npt", steps=500), tmp_path / "run")


def test_box_that_became_too_small_is_named(potential, molecules, tmp_path):
    """The cutoff of native charges is that of the box at the start, a tenth below half its width."""
    topology, positions, box = molecules
    charged = with_charges(potential, charges="types")
    config = SimulationConfig(
        ensemble="npt", pressure=1e6, steps=20000, timestep=0.0005, report_interval=1000, backend="python"
    )
    with pytest.raises(
        SimulationError, match=r"box has become too small for the cutoff .* new run from the last frame"
    ):
        simulate(charged, (topology, positions, box), config, tmp_path / "run", progress=False)
