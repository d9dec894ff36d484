"""Oriented beads in a System: the fused force on sites, native forces on centres, and what OpenMM does with them."""

from __future__ import annotations

import copy
import math
import pickle
from collections import OrderedDict

import torch  # isort: skip
import numpy as np
import openmm
import openmm.app
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body, rotation_matrices
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.potential import Potential
from cgenn.potential.priors import RampPrior
from cgenn.simulation.conservation import energy_drift
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.memory import PATIENCE
from cgenn.simulation.orientation_sites import add_orientation_sites
from cgenn.simulation.rigid import RigidBeads
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology

BACKENDS = ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)]


def learned_force(potential, topology, **options) -> LearnedForce:
    return LearnedForce.build(potential, topology, **{"precision": "double", "device": "cpu", **options})


def exact(potential, topology, positions, orientations, box=None):
    frames = torch.from_numpy(rotation_matrices(orientations)).view(-1, len(topology), 3, 3)
    places = torch.as_tensor(positions).view(-1, len(topology), 3)
    graph = potential.graph(topology, places, None if box is None else torch.as_tensor(box)[None], frames)
    return energy_forces_torques(potential.network_energy, graph)


def make_context(system, particles, integrator=None, platform="Reference") -> openmm.Context:
    integrator = integrator or openmm.VerletIntegrator(0.005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform(platform))
    context.setPositions(particles)
    return context


def centres(context, rigid) -> np.ndarray:
    return rigid.to_beads(context.getState(positions=True).getPositions(asNumpy=True)._value)[0]


@pytest.mark.parametrize("periodic", [False, True])
def test_force_on_sites_is_that_on_frames(discs, periodic):
    potential, topology, positions, orientations, box = discs
    cell = box if periodic else None
    force = learned_force(potential, topology, periodic=periodic)
    particles = torch.tensor(force.rigid.to_sites(positions, orientations))
    tensor = None if cell is None else torch.as_tensor(cell)
    energy, on_sites = force.evaluate(particles, tensor)
    right = exact(potential, topology, positions, orientations, cell)
    torch.testing.assert_close(energy, right[0].sum())
    found = force.rigid.map.resultants(particles, on_sites)
    torch.testing.assert_close(found[0], right[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1], right[2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(force.forces_and_torques(particles, tensor), right[1:])
    assert found[0].abs().max() > 1


def test_sites_follow_the_gradient_of_the_energy(discs):
    """Moving and turning a bead as a whole changes the energy by the work of the forces on its sites."""
    potential, topology, positions, orientations, _ = discs
    force = learned_force(potential, topology)
    _, forces = force.evaluate(torch.tensor(force.rigid.to_sites(positions, orientations)))
    step, turns = 1e-4, Rotation.from_quat(orientations, scalar_first=True)
    for bead in (0, 2, 6):
        for axis in range(3):
            energies, particles = [], []
            for sign in (1, -1):
                about = np.zeros((16, 3))
                about[bead, axis] = sign * step
                moved, turned = positions + about, (Rotation.from_rotvec(about) * turns).as_quat(scalar_first=True)
                particles.append(force.rigid.to_sites(moved, turned))
                energies.append(force.evaluate(torch.tensor(particles[-1]))[0].item())
            work = (forces.numpy() * (particles[0] - particles[1])).sum()
            assert energies[1] - energies[0] == pytest.approx(work, rel=1e-5, abs=1e-8)


def test_replicas_and_single_precision(discs):
    potential, topology, positions, orientations, _ = discs
    frames = positions + np.random.default_rng(0).normal(scale=0.01, size=(3, 16, 3))
    turned = np.stack([np.roll(orientations, shift, axis=0) for shift in range(3)])
    energies, forces, _ = exact(potential, topology, frames, turned)
    for precision, tolerance in (("double", 1e-9), ("single", 3e-3)):
        force = learned_force(potential, topology, replicas=3, precision=precision)
        particles = torch.tensor(force.rigid.to_sites(frames, turned))
        energy, on_sites = force.evaluate(particles.flatten(0, 1))
        assert energy.item() == pytest.approx(energies.sum().item(), rel=1e-4)
        found = force.rigid.map.resultants(particles, on_sites.unflatten(0, (3, -1)))[0]
        torch.testing.assert_close(found.flatten(0, 1), forces, rtol=tolerance, atol=tolerance)


def test_content_survives_a_pickle(discs, monkeypatch):
    potential, topology, positions, orientations, _ = discs
    force = learned_force(potential, topology)
    before = force.evaluate(torch.tensor(force.rigid.to_sites(positions, orientations)))
    text = pickle.dumps(force)
    assert copy.deepcopy(force) is force
    monkeypatch.setattr("cgenn.simulation.force._LIVE", OrderedDict())
    again = pickle.loads(text)
    assert again is not force
    after = again.evaluate(torch.tensor(again.rigid.to_sites(positions, orientations)))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_missing_constraints_are_noticed(discs):
    potential, topology, positions, orientations, _ = discs
    force = learned_force(potential, topology)
    particles = torch.tensor(force.rigid.to_sites(positions, orientations))
    particles[force.rigid.sites(6)[0]] += 0.1
    for _ in range(PATIENCE):
        force.evaluate(particles)
    with pytest.raises(ValueError, match="the sites of the oriented bead 6 have drifted apart: their constraints"):
        force.evaluate(particles)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sites_wrapped_one_by_one_are_noticed_before_the_first_step(discs, backend):
    """Whole molecules in other images are as good as those that were given."""
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    potential, topology, positions, orientations, box = discs
    system, beads = create_system(potential, topology, box=box, backend=backend, precision="double")
    particles = add_orientation_sites(beads, positions, orientations)[1]._value
    rigid = RigidBeads.of(beads)
    cells = np.floor(particles @ np.linalg.inv(box))
    wrapped = particles - cells @ box
    context = make_context(system, particles)
    energy = context.getState(energy=True).getPotentialEnergy()._value
    first = np.unique(topology.molecules, return_index=True)[1][topology.molecules]
    context.setPositions(particles - np.repeat(cells[rigid.centers[first]], 1 + rigid.counts, axis=0) @ box)
    assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(energy, rel=1e-6)
    context.setPositions(wrapped)
    split = next(bead for bead in range(16) if np.ptp(cells[list(rigid.sites(bead))], axis=0).any())
    with pytest.raises(openmm.OpenMMException, match=f"oriented bead {split} are in different images of the box"):
        context.getIntegrator().step(1)
    assert context.getStepCount() == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("periodic", [False, True])
def test_system_has_the_energy_of_the_potential(discs, backend, periodic):
    """With a ramp, which acts between the centres of beads and not on their sites."""
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    given, topology, positions, orientations, box = discs
    priors = given.priors.model_copy(update={"ramp": RampPrior(height=-3.0, range=0.8)})
    potential = Potential(given.config, priors).double().requires_grad_(False).eval()
    potential.load_state_dict(given.state_dict())
    cell = box if periodic else None
    system, beads = create_system(potential, topology, box=cell, backend=backend, precision="double")
    names, particles = add_orientation_sites(beads, positions, orientations)
    assert names.getNumAtoms() == system.getNumParticles() == 16 + 8 * 3 + 2 * 2 + 2 * 4
    assert beads.oriented.sum() == 12
    again = create_system(potential, names, masses=np.repeat(beads.masses, 1 + RigidBeads.of(beads).counts), box=cell)
    assert again[1].types == beads.types  # the sites of an OpenMM topology are no beads
    assert again[0].getNumConstraints() == system.getNumConstraints()
    context = make_context(system, particles)
    graph = potential.graph(
        topology, torch.as_tensor(positions)[None], None if cell is None else torch.as_tensor(cell)[None],
        torch.from_numpy(rotation_matrices(orientations))[None],
    )  # fmt: skip
    assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(
        potential(graph, topology).item(), rel=1e-6
    )


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_minimisation_langevin_barostat_checkpoint_and_xml(discs, platform):
    potential, topology, positions, orientations, box = discs
    system, beads = create_system(potential, topology, box=box, backend="python", precision="double")
    system.addForce(openmm.MonteCarloBarostat(1.0, 300.0, 2))
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(copy.deepcopy(system)))
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, 0.01)
    _, particles = add_orientation_sites(beads, positions, orientations)
    context = make_context(system, particles, integrator, platform)
    before = context.getState(energy=True).getPotentialEnergy()._value
    openmm.LocalEnergyMinimizer.minimize(context, 10, 50)
    assert context.getState(energy=True).getPotentialEnergy()._value < before
    context.setVelocitiesToTemperature(300, 1)
    integrator.step(60)
    state = context.getState(positions=True, energy=True)
    assert state.getPeriodicBoxVolume()._value != pytest.approx(np.linalg.det(box), rel=1e-6)
    found = torch.tensor(state.getPositions(asNumpy=True)._value)
    rigid = RigidBeads.of(topology)
    assert rigid.map.strain(found, *rigid.map.to_beads(found)).max() < 1e-4
    checkpoint = context.createCheckpoint()
    context.setPositions(particles)
    context.loadCheckpoint(checkpoint)
    np.testing.assert_allclose(context.getState(positions=True).getPositions(asNumpy=True)._value, found, atol=1e-6)


def test_multiple_time_steps(discs):
    """The network in the slow group, native priors in the fast one: the same energy as with short steps."""
    potential, topology, positions, orientations, _ = discs
    system, beads = create_system(potential, topology, backend="python", precision="double", removeCMMotion=False)
    _, particles = add_orientation_sites(beads, positions, orientations)
    integrator = openmm.MTSIntegrator(0.004, [(0, 1), (1, 4)])
    context = make_context(system, particles, integrator)
    context.setVelocitiesToTemperature(100, 2)
    energies = []
    for _ in range(20):
        integrator.step(5)
        state = context.getState(energy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    assert np.ptp(energies) < 0.02 * state.getKineticEnergy()._value


def test_energy_is_conserved(discs):
    potential, topology, positions, orientations, _ = discs
    start = (topology, positions, None, orientations)
    coarse, fine = energy_drift(potential, start, [0.008, 0.004], 0.8, backend="python")
    assert fine.fluctuation < 0.5 * coarse.fluctuation < 0.05


def test_beads_without_an_orientation_in_the_model_are_points(potential):
    plain = BeadTopology.build(["ALA-CA"], [40.0], bodies={"ALA-CA": Body(inertia=(1.0, 1.0, 1.0))})
    system, beads = create_system(potential, plain)
    assert system.getNumParticles() == 1
    assert not beads.oriented.any()


def test_bad_requests(discs):
    potential, topology, positions, orientations, _ = discs
    with pytest.raises(ValueError, match="positions` must be those of 16 beads"):
        add_orientation_sites(topology, positions[:3])
    with pytest.raises(ValueError, match=r"quaternions \(w, x, y, z\) of 16 beads, got shape \(16, 3\)"):
        add_orientation_sites(topology, positions, orientations[:, :3])
    broken = orientations.copy()
    broken[3] = 0.0
    with pytest.raises(ValueError, match="the orientation of bead 3 must be a unit quaternion"):
        add_orientation_sites(topology, positions, broken)
    with pytest.raises(ValueError, match=r"one frame, 16 quaternions, got \(2, 16, 4\)"):
        add_orientation_sites(topology, positions, np.stack([orientations] * 2))
    names, _ = add_orientation_sites(topology, positions, orientations)
    with pytest.raises(ValueError, match=r"`masses` must have one entry per atom \(52\), got 16"):
        create_system(potential, names, masses=topology.masses)
    force = learned_force(potential, topology)
    with pytest.raises(ValueError, match="for 52 particles"):
        force.evaluate(torch.zeros(16, 3))
    other = {**topology.to_dict()["bodies"]["BNZ"], "coordinates": 1.2 * np.array(topology.bodies["BNZ"].coordinates)}
    other["inertia"] = 1.2**2 * np.array(other["inertia"])
    moved = BeadTopology.from_dict({**topology.to_dict(), "bodies": {**topology.bodies, "BNZ": other}} | {
        "bodies": {"BNZ": other}
    })  # fmt: skip
    with pytest.raises(ValueError, match="the body of bead type 'BNZ' has other atoms or axes"):
        create_system(potential, moved)
    system = openmm.System()
    for _ in range(16):
        system.addParticle(1.0)
    with pytest.raises(ValueError, match="cannot be put into an existing System"):
        create_system(potential, topology, system=system, particles=range(16))


def test_openmmml(discs):
    """Through MLPotential, from a topology with sites; without its constraints it says so."""
    openmmml = pytest.importorskip("openmmml")
    from cgenn.simulation.mlpotential import BeadPotential

    potential, topology, positions, orientations, _ = discs
    names, particles = add_orientation_sites(topology, positions, orientations)
    wrapped = openmmml.MLPotential.__new__(openmmml.MLPotential)
    wrapped._impl = BeadPotential(potential)
    masses = dict(zip(topology.types, topology.masses.tolist(), strict=True))
    options = {"masses": masses, "backend": "python", "precision": "double", "device": "cpu"}
    system = wrapped.createSystem(names, **options)
    ours, _ = create_system(potential, topology, backend="python", precision="double", device="cpu")
    energies = [
        make_context(one, particles).getState(energy=True).getPotentialEnergy()._value for one in (system, ours)
    ]
    assert energies[0] == pytest.approx(energies[1], rel=1e-9)
    assert system.getNumConstraints() == ours.getNumConstraints()
    while system.getNumConstraints():
        system.removeConstraint(0)
    context = make_context(system, particles)
    context.setVelocitiesToTemperature(300, 1)
    with pytest.raises(openmm.OpenMMException, match="their constraints are missing in the System"):
        context.getIntegrator().step(200)
    with pytest.raises(ValueError, match=r"atom 0 \(BNZ\) is a bead .* the 3 sites that should follow it are missing"):
        wrapped.createSystem(topology.to_openmm(), **options)


def test_only_other_beads_of_a_model_with_bodies(discs):
    potential, *_ = discs
    alone = BeadTopology.build(["TAIL"] * 2, [30.0] * 2)
    force = learned_force(potential, alone)
    assert force.rigid is None
    energy, forces = force.evaluate(torch.tensor([[0.0, 0, 0], [0.4, 0, 0]]))
    assert math.isfinite(energy)
    torch.testing.assert_close(forces.sum(0), torch.zeros(3))
