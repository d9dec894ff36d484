"""Whole runs with oriented beads: what is in the folder, going on after an interruption, and where they start."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
from safetensors.torch import save

from cgenn.body import Body, rotation_matrices
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run, model_digest
from cgenn.simulation.mechanics import WIDE_TURN, check_turns
from cgenn.simulation.run import simulate
from cgenn.simulation.watch import SimulationError
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

from .conftest import BENZENE

QUICK = {
    "steps": 40, "report_interval": 10, "checkpoint_interval": 20, "platform": "Reference", "backend": "python",
    "timestep": 0.005,
}  # fmt: skip


def run(potential, start, out: Path, **settings) -> Run:
    return simulate(potential, start, SimulationConfig(**{**QUICK, **settings}), out, progress=False)


@pytest.fixture(scope="module")
def dataset(discs, tmp_path_factory) -> Path:
    """Twenty frames in open space."""
    _, topology, positions, orientations, _ = discs
    path = tmp_path_factory.mktemp("discs") / "cg.h5"
    shifted = positions + np.random.default_rng(0).normal(scale=0.003, size=(20, 16, 3))
    still = np.where(topology.oriented[:, None], orientations, (1.0, 0, 0, 0))
    frames = Frames(shifted, orientations=np.broadcast_to(still, (20, 16, 4)).copy())
    BeadDataset.write(path, topology, frames, temperature=300.0)
    return path


def test_folder_holds_frames_of_beads(discs, dataset, tmp_path):
    potential, topology, _, orientations, _ = discs
    result = run(potential, dataset, tmp_path / "run", replicas=2, formats=("dcd", "xtc"))
    frames = result.read()
    assert frames.positions.shape == (8, 16, 3)
    assert frames.orientations.shape == (8, 16, 4)
    assert result.topology.to_dict() == topology.to_dict()
    first = rotation_matrices(frames.orientations[0].astype(float))
    before = rotation_matrices(orientations)
    turned = np.arccos(np.clip((np.einsum("bxz,bxz->b", first[..., 2:], before[..., 2:])), -1, 1))
    assert 0.001 < turned[topology.oriented].max() < 0.5
    np.testing.assert_array_equal(frames.orientations[:, ~topology.oriented], [[[1, 0, 0, 0]] * 4] * 8)
    states = result.states()
    parts = states["translation [K]"], states["rotation [K]"]
    freedom = 2 * 16 * 3 - 3, 2 * (10 * 3 + 2 * 2)
    np.testing.assert_allclose(states["temperature [K]"], np.average(parts, axis=0, weights=freedom), rtol=1e-6)
    for name in ("dcd", "xtc"):
        read = mdtraj.load(tmp_path / f"run/trajectory.{name}", top=tmp_path / "run/topology.pdb")
        assert read.n_atoms == 8 * 12 + 8
        ring = read.xyz[:, :6]  # the carbon atoms of the first bead
        np.testing.assert_allclose(ring.mean(axis=1), frames.positions[:, 0], atol=2e-3)
        apart = np.linalg.norm(ring - np.roll(ring, 1, axis=1), axis=2)
        np.testing.assert_allclose(apart, 0.139, atol=2e-3)


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_extended_run_is_bit_exact(discs, tmp_path, ensemble):
    potential, topology, positions, orientations, box = discs
    start = (topology, positions, box, orientations)
    whole = run(potential, start, tmp_path / "whole", ensemble=ensemble, minimize=True)
    run(potential, start, tmp_path / "parts", ensemble=ensemble, minimize=True, steps=20)
    parts = run(potential, start, tmp_path / "parts", ensemble=ensemble, minimize=True)
    np.testing.assert_array_equal(parts.positions, whole.positions)
    np.testing.assert_array_equal(parts.read().orientations, whole.read().orientations)
    assert (tmp_path / "parts/state.csv").read_text() == (tmp_path / "whole/state.csv").read_text()


def test_start_is_what_was_given(discs, tmp_path):
    potential, topology, positions, orientations, _ = discs
    settings = {"ensemble": "nve", "timestep": 1e-5, "steps": 10}
    result = run(potential, (topology, positions, None, orientations), tmp_path / "run", **settings)
    frames = result.read()
    np.testing.assert_allclose(frames.positions[0], positions, atol=1e-3)
    found = rotation_matrices(frames.orientations[0].astype(float))
    exact = topology.oriented & (np.array(topology.types) != "ROD")
    np.testing.assert_allclose(found[exact], rotation_matrices(orientations)[exact], atol=5e-3)
    again = run(potential, result.trajectory, tmp_path / "again", **settings)  # a run's frames are a start
    np.testing.assert_allclose(again.positions[0], positions, atol=2e-3)
    with pytest.raises(ValueError, match="start_sha256"):
        run(potential, (topology, positions, None, orientations[::-1]), tmp_path / "run", **settings)


def test_bad_starts(discs, dataset, tmp_path):
    potential, topology, positions, orientations, _ = discs
    with pytest.raises(ValueError, match=r"bead 0 has type 'BNZ', which has an orientation .* the start has none"):
        run(potential, (topology, positions), tmp_path)
    with pytest.raises(ValueError, match=r"bead 0 has type 'BNZ', which has an orientation .* the start has none"):
        run(potential, (topology, positions, None, None), tmp_path)
    for wrong in (0.0, 7.0, np.nan):
        turned = np.where(np.arange(16)[:, None] == 3, wrong, orientations)
        with pytest.raises(ValueError, match=r"bead 3 must be a unit quaternion \(w, x, y, z\), got \["):
            run(potential, (topology, positions, None, turned), tmp_path)
    with pytest.raises(ValueError, match="quaternions"):
        run(potential, (topology, positions, None, orientations[:3]), tmp_path)
    with pytest.raises(ValueError, match="one frame or 3, got 2"):
        run(potential, (topology, positions, None, np.stack([orientations] * 2)), tmp_path, replicas=3)
    plain = BeadTopology.from_dict({**topology.to_dict(), "bodies": {}})
    BeadDataset.write(tmp_path / "plain.h5", plain, Frames(positions[None]), temperature=300.0)
    with pytest.raises(ValueError, match="the start has none"):
        run(potential, tmp_path / "plain.h5", tmp_path)


def test_velocities_forces_and_torques_are_stored(discs, dataset, tmp_path):
    potential, topology, *_ = discs
    settings = {"replicas": 2, "store": ("velocities", "forces"), "ensemble": "nve"}
    result = run(potential, dataset, tmp_path / "run", **settings)
    frames, momenta = result.read(), result.angular_momenta(slice(-2, None))
    right = bead_forces(potential, topology, frames)
    np.testing.assert_allclose(frames.forces, right[0], atol=2e-2)
    np.testing.assert_allclose(frames.torques, right[1], atol=2e-2)
    assert not frames.torques[:, ~topology.oriented].any()
    assert frames.velocities.std() > 0.1
    assert frames.angular_velocities[:, topology.oriented].std() > 0.1
    assert not momenta[:, ~topology.oriented].any()
    assert result.states()["angular momentum [amu nm^2/ps]"][-1] == pytest.approx(
        np.linalg.norm(momenta.sum((0, 1))), rel=1e-3
    )
    with pytest.raises(ValueError, match="other settings"):
        run(potential, dataset, tmp_path / "run", **{**settings, "store": ("velocities",)})


def bead_forces(potential, topology, frames) -> tuple[np.ndarray, np.ndarray]:
    positions, turned = (torch.from_numpy(part.astype(float)) for part in (frames.positions, frames.orientations))
    graph = potential.graph(topology, positions, None, torch.from_numpy(rotation_matrices(turned.numpy())))
    _, forces, torques = energy_forces_torques(lambda graph: potential(graph, topology), graph)
    return forces.numpy().reshape(frames.positions.shape), torques.numpy().reshape(frames.positions.shape)


def test_predicted_charges_of_oriented_beads(discs, tmp_path):
    plain, topology, positions, orientations, box = discs
    electrostatics = {"electrostatics": ElectrostaticsConfig(dipoles=True), "type_charges": (0.3, -0.3, 0.2, -0.2)}
    torch.manual_seed(3)
    potential = Potential(plain.config.model_copy(update=electrostatics), plain.priors).double().requires_grad_(False)
    potential.network.charge_readout.charge[-1].weight *= 0.003
    potential.network.dipole_readout.gates[-1].weight *= 1e-5
    settings = {"ensemble": "nve", "timestep": 1e-4, "dipole_interval": 5, "precision": "double", "replicas": 1}
    result = run(potential.eval(), (topology, positions, box, orientations), tmp_path / "run", **settings)
    frames = result.read()
    _, dipoles = result.dipoles()
    exact = np.einsum("tb,tbx->tx", frames.charges, frames.positions) + frames.dipoles.sum(1)
    np.testing.assert_allclose(dipoles[1::2, 0], exact, atol=1e-5)
    assert np.ptp(result.states()["total [kJ/mol]"]) < 1e-3 * result.states()["kinetic [kJ/mol]"].mean()


def test_broken_network_names_the_bead(discs, tmp_path):
    plain, topology, positions, orientations, _ = discs
    broken = Potential(plain.config, plain.priors).requires_grad_(False)
    next(broken.network.parameters()).fill_(float("nan"))
    with pytest.raises(SimulationError, match=r"step 0: .*`network` on bead 0 \(BNZ, type 'BNZ'\)") as caught:
        run(broken, (topology, positions, None, orientations), tmp_path)
    assert (caught.value.bead, caught.value.term) == (0, "network")


def test_time_step_too_long_for_a_light_axis(discs, tmp_path, caplog):
    """Water molecules far apart: warned of at first, named when the run fails, refused where nothing can come of it."""
    plain, *_ = discs
    water = Body(symmetry="C2v", inertia=(0.00614, 0.01769, 0.01155))
    config = plain.config.model_copy(update={"bodies": {**plain.config.bodies, "TOP": water}})
    potential = Potential(config, plain.priors).requires_grad_(False).eval()
    beads = BeadTopology.build(["TOP"] * 60, [18.015] * 60, bodies={"TOP": water})
    start = (beads, 2.0 * np.arange(180).reshape(60, 3), None, np.tile([1.0, 0, 0, 0], (60, 1)))
    run(potential, start, tmp_path / "short")
    assert not caplog.records
    settings = {"timestep": 0.014, "steps": 2000, "friction": 5.0}
    said = (
        r"a time step of 0.014 ps is too long for bead type 'TOP': its moment of inertia about x is 0.00614 amu nm\^2, "
        r"so at 300 K it turns by 0.28 rad in a step. Use at most 0.0074 ps"
    )
    with pytest.raises(SimulationError, match=said):
        run(potential, start, tmp_path / "long", **settings)
    assert re.search(said, caplog.records[0].message)
    with pytest.raises(ValueError, match=r"a time step of 0.02 ps is too long for bead type 'TOP': .* by 0.4 rad"):
        run(potential, start, tmp_path / "far", timestep=0.02)
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize(("name", "axis"), [("ROD", "x"), ("TOP", "x"), ("BNZ", "x")])
def test_turns_are_those_of_the_lightest_axis(discs, name, axis):
    """The moment of zero about the axis of a rod does not count."""
    body = discs[1].bodies[name]
    beads = BeadTopology.build([name], [60.0], bodies={name: body})
    limit = WIDE_TURN * (min(moment for moment in body.inertia if moment) / thermal_energy(300.0)) ** 0.5
    assert check_turns(beads, 0.99 * limit, 300.0) is None
    assert f"type {name!r}: its moment of inertia about {axis}" in check_turns(beads, 1.01 * limit, 300.0)
    assert check_turns(BeadTopology.build(["A"], [1.0]), 1.0, 300.0) is None


def test_digest_of_a_model_without_bodies_is_what_it_was(discs, potential):
    """Runs that began before there were orientations go on."""
    config = {
        name: value for name, value in potential.config.model_dump().items() if name not in ("bodies", "oriented")
    }
    content = json.dumps([config, potential.priors.model_dump()], sort_keys=True).encode()
    weights = {name: value.contiguous() for name, value in potential.network.state_dict().items()}
    assert model_digest(potential) == hashlib.sha256(content + save(weights)).hexdigest()
    assert not {"excluded_bonds", "pairs", "ramp"} & {*config, *potential.priors.model_dump()}
    other = {**discs[0].config.bodies, "TOP": BENZENE}
    changed = Potential(discs[0].config.model_copy(update={"bodies": other}), discs[0].priors)
    assert model_digest(changed) != model_digest(discs[0])
