"""Charges and dipoles that a simulation reports, against the potential itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm
import openmm.app
import pytest
import torch

from cgenn.analysis.dielectric import total_dipole
from cgenn.data.dataset import BeadDataset
from cgenn.potential.potential import Potential
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run
from cgenn.simulation.force import LAMBDA
from cgenn.simulation.moments import BeadMoments
from cgenn.simulation.reporters import CHARGES_COLUMN, DipoleReporter, StateReporter
from cgenn.simulation.run import simulate
from cgenn.simulation.system import create_system

from .conftest import TYPE_CHARGES, with_charges

SETTINGS = {
    "steps": 30, "report_interval": 10, "checkpoint_interval": 10, "timestep": 0.0005, "platform": "Reference",
    "backend": "python", "precision": "double", "device": "cpu",
}  # fmt: skip


def run(potential, start, out, **settings) -> Run:
    return simulate(potential, start, SimulationConfig(**{**SETTINGS, **settings}), out, progress=False)


def graph_of(potential, topology, frames):
    cell = None if frames.box is None else torch.from_numpy(frames.box.astype(float))
    return potential.graph(topology, torch.from_numpy(frames.positions.astype(float)), cell)


@pytest.fixture(params=["box", "replicas"])
def charged_run(request, potential, topology, molecules, tmp_path):
    """A potential with predicted charges and dipoles, the beads, and a run of one box or of three molecules."""
    charged = with_charges(potential, charges="predicted", dipoles=True, smearing=0.05)
    many, positions, box = molecules
    if request.param == "box":
        return charged, many, run(charged, (many, positions, box), tmp_path / "run")
    one = replace(topology, charges=np.array(TYPE_CHARGES))
    frames = positions.reshape(-1, 5, 3)[:3]
    return charged, one, run(charged, (one, frames), tmp_path / "run", replicas=3)


def test_every_frame_has_its_charges_and_dipoles(charged_run):
    charged, topology, result = charged_run
    dataset = BeadDataset.open(result.trajectory)
    assert dataset.has_charges
    assert dataset.has_dipoles
    frames = dataset.read()
    charges, dipoles = charged.moments(graph_of(charged, topology, frames))
    np.testing.assert_allclose(frames.charges.ravel(), charges.numpy(), atol=1e-5)
    np.testing.assert_allclose(frames.dipoles.reshape(-1, 3), dipoles.numpy(), atol=1e-5)
    assert np.ptp(frames.charges, axis=0).max() > 1e-4
    np.testing.assert_allclose(frames.charges.sum(axis=1), topology.charges.sum(), atol=1e-5)
    np.testing.assert_array_equal(dataset.topology.charges, topology.charges)


def test_energy_of_the_charges_is_in_a_column_of_its_own(charged_run):
    charged, topology, result = charged_run
    frames = result.read()
    terms = charged.learned_terms(graph_of(charged, topology, frames))
    states = result.states()
    for term, column in {"electrostatics": CHARGES_COLUMN, "network": "network [kJ/mol]"}.items():
        expected = terms[term].view(-1, result.replicas).sum(1).numpy()
        np.testing.assert_allclose(states[column], expected, rtol=1e-3, atol=1e-3)


def test_continued_run_is_bit_exact(potential, molecules, tmp_path):
    charged = with_charges(potential, charges="predicted", dipoles=True)
    often = {"dipole_interval": 3}
    run(charged, molecules, tmp_path / "parts", steps=20, **often)
    parts, whole = (run(charged, molecules, tmp_path / name, **often) for name in ("parts", "whole"))
    for name in ("positions", "charges", "dipoles"):
        np.testing.assert_array_equal(getattr(parts.read(), name), getattr(whole.read(), name))
    for name in ("state.csv", "dipole.csv"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_dipoles_of_a_run(potential, topology, positions, molecules, tmp_path):
    charged = with_charges(potential, charges="predicted")
    one = replace(topology, charges=np.array(TYPE_CHARGES))
    frames = np.stack([positions, positions[:, ::-1]])
    result = run(charged, (one, frames), tmp_path / "run", replicas=2, dipole_interval=5)
    times, dipoles = result.dipoles()
    np.testing.assert_allclose(times, 0.0005 * np.arange(5, 31, 5))
    written = result.read()
    expected = np.einsum("fb,fbx->fx", written.charges, written.positions)
    np.testing.assert_allclose(dipoles[1::2], expected.reshape(3, 2, 3), atol=1e-5)
    with pytest.raises(ValueError, match="but the potential has no electrostatics"):
        run(potential, (topology, positions), tmp_path / "none", dipole_interval=5)
    bare = run(potential, (topology, positions), tmp_path / "bare")
    with pytest.raises(ValueError, match=r"no dipole\.csv: simulate with `dipole_interval`"):
        bare.dipoles()


def test_constant_charges_are_those_of_the_topology(potential, molecules, tmp_path):
    charged = with_charges(potential, charges="types", accuracy=1e-5)
    many, positions, box = molecules
    other = replace(many, charges=np.zeros(30))  # the potential knows better
    result = run(charged, (other, positions, box), tmp_path / "run")
    dataset = BeadDataset.open(result.trajectory)
    assert not dataset.has_charges
    np.testing.assert_allclose(dataset.topology.charges, np.tile(TYPE_CHARGES, 6))
    expected = charged.electrostatic_energy(graph_of(charged, many, result.read()))
    np.testing.assert_allclose(result.states()[CHARGES_COLUMN], expected.numpy(), rtol=1e-3)


def test_a_slab_without_the_correction_is_noticed(potential, molecules, tmp_path, caplog):
    topology, positions, _ = molecules
    strong = replace(topology, charges=5 * topology.charges)
    boxes = {"vacuum": np.diag([2.0, 2.4, 4.1]), "droplet": np.diag([6.0, 6.0, 6.0])}
    told = {("types", "vacuum"), ("predicted", "vacuum")}
    for kind, name in [*told, ("types", "droplet"), ("slab", "vacuum")]:
        settings = {"charges": "types", "slab": True} if kind == "slab" else {"charges": kind}
        weak = with_charges(potential, **settings, accuracy=1e-3)
        update = {"type_charges": tuple(5 * charge for charge in TYPE_CHARGES)}
        charged = Potential(weak.config.model_copy(update=update), weak.priors).double().requires_grad_(False)
        charged.load_state_dict(weak.state_dict())
        caplog.clear()
        run(charged, (strong, positions, boxes[name]), tmp_path / f"{kind}-{name}", steps=1, report_interval=1)
        assert ("train the potential with `electrostatics.slab`" in caplog.text) == ((kind, name) in told)


@pytest.mark.parametrize("kind", ["types", "predicted"])
def test_reporters_in_a_script(potential, molecules, tmp_path, kind):
    charged = with_charges(potential, charges=kind)
    topology, positions, box = molecules
    options = {"precision": "double", "device": "cpu"}
    system, beads = create_system(charged, topology, box=box, backend="python", **options)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.0005)
    platform = openmm.Platform.getPlatform("Reference")
    simulation = openmm.app.Simulation(beads.to_openmm(), system, integrator, platform)
    simulation.context.setPositions(positions)
    moments = BeadMoments.build(charged, topology, periodic=True, **options)
    assert moments.predicted == (kind == "predicted")
    rows = StateReporter(tmp_path / "state.csv", 1, moments=moments)
    totals = DipoleReporter(tmp_path / "dipole.csv", 1, moments, periodic=True)
    simulation.reporters += [rows, totals]
    simulation.step(1)
    state = simulation.context.getState(positions=True, energy=True)
    simulation.context.setParameter(LAMBDA, 0.5)
    simulation.step(1)
    rows.close()
    totals.close()
    table = np.loadtxt(tmp_path / "dipole.csv", delimiter=",", skiprows=1)
    assert table[:, 0].tolist() == [1, 2]
    last = state.getPositions(asNumpy=True)._value
    charges, _ = moments(last[None], box)
    expected = total_dipole(last[None], charges[0], molecules=topology.molecules, bonds=topology.bonds, box=box[None])
    np.testing.assert_allclose(table[0, 2:], expected[0], atol=1e-6)
    energies = np.loadtxt(tmp_path / "state.csv", delimiter=",", skiprows=1)
    assert energies[0, 2:4].sum() + energies[0, -1] == pytest.approx(state.getPotentialEnergy()._value, rel=1e-7)
    assert energies[1, -1] == pytest.approx(0.25 * energies[0, -1], rel=0.05)


def test_no_charges(potential, topology):
    with pytest.raises(ValueError, match="no electrostatics: its beads have no charges"):
        BeadMoments.build(potential, topology)
