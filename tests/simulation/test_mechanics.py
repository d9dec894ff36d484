"""Physics of oriented beads in OpenMM under energies that are known: conservation, sampling, what reporters say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch  # isort: skip
import numpy as np
import openmm
import openmm.app
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.data.dataset import BeadDataset
from cgenn.graph import BeadGraph, build_graph
from cgenn.h5md import Frames
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.simulation.mechanics import Thermometer, angular_momenta, bead_state
from cgenn.simulation.orientation_sites import add_orientation_sites
from cgenn.simulation.reporters import H5MDReporter, StateReporter
from cgenn.simulation.rigid import RigidBeads
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

BODIES = {
    "plane": Body(inertia=(0.7, 1.2, 1.9)),
    "full": Body(inertia=(1.05, 1.55, 1.9)),
    "rod": Body(symmetry="Dinfh", inertia=(1.2, 1.2, 0.0)),
}
MASS = 72.0


def pairs(graph: BeadGraph, axis: int) -> torch.Tensor:
    """Beads that repel and attract, with dipoles along z and an axis that lies across that of others; in a well."""
    edge = graph.edge_vectors()
    distance = edge.norm(dim=1)
    unit = edge / distance[:, None]
    first, second = (graph.orientations[index] for index in (graph.receivers, graph.senders))
    power = (0.5 / distance) ** 6
    along = (first[:, :, 2] * unit).sum(1) * (second[:, :, 2] * unit).sum(1)
    dipoles = ((first[:, :, 2] * second[:, :, 2]).sum(1) - 3 * along) / (distance**3 + 0.05)
    crossed = (first[:, :, axis] * second[:, :, axis]).sum(1) ** 2 * torch.exp(-2 * distance.square())
    edges = 8.0 * (power.square() - power) + 0.375 * dipoles + 1.5 * crossed
    held = 10.0 * graph.positions.square().sum(1)
    return graph.per_system(held).index_add(0, graph.batch[graph.receivers], 0.5 * edges)


def field(graph: BeadGraph) -> torch.Tensor:
    """Dipoles of 2 kT in a field along z, in a harmonic well."""
    kt = thermal_energy(300.0)
    return graph.per_system(25.0 * graph.positions.square().sum(1) - 2 * kt * graph.orientations[:, 2, 2])


class Sites:
    """Any energy of a bead graph as a PythonForce on sites; the last forces and torques are kept."""

    def __init__(self, energy: Callable, rigid: RigidBeads, reach: float) -> None:
        self.energy, self.rigid, self.reach = energy, rigid, reach

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        particles = torch.tensor(state.getPositions(asNumpy=True)._value)
        positions, frames = self.rigid.map.to_beads(particles)
        graph = build_graph(positions, torch.zeros(len(positions), dtype=torch.int64), self.reach)
        energy, *self.last = energy_forces_torques(self.energy, graph.with_frames(positions, frames))
        return energy.item(), self.rigid.map.site_forces(*self.last, frames).numpy()


PAIRS = {name: partial(pairs, axis=2 if name == "rod" else 0) for name in BODIES}
"""Of a rod only the axis z is known."""


def simulation(name: str, energy: Callable, beads: int, integrator: openmm.Integrator, spacing: float = 0.6):
    """Beads of one kind at random orientations on a grid of this spacing [nm], at 300 K."""
    topology = BeadTopology.build([name] * beads, [MASS] * beads, bodies={name: BODIES[name]})
    rigid = RigidBeads.of(topology)
    system = openmm.System()
    rigid.add_to(system, topology.masses)
    force = Sites(energy, rigid, reach=9.0 if spacing > 0.5 else 1e-6)
    system.addForce(openmm.PythonForce(force))
    side = math.ceil(beads ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side) * spacing] * 3), axis=-1).reshape(-1, 3)[:beads]
    quaternions = Rotation.random(beads, rng=3).as_quat(scalar_first=True)
    names, particles = add_orientation_sites(topology, grid - grid.mean(0), quaternions)
    integrator.setConstraintTolerance(1e-6)
    result = openmm.app.Simulation(names, system, integrator, openmm.Platform.getPlatform("Reference"))
    result.context.setPositions(particles)
    result.context.setVelocitiesToTemperature(300, 2)
    return result, topology, rigid, force


def total_energies(run: openmm.app.Simulation, samples: int, interval: int) -> np.ndarray:
    found = []
    for _ in range(samples):
        run.step(interval)
        state = run.context.getState(energy=True)
        found.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    return np.array(found)


@pytest.mark.parametrize("name", BODIES)
def test_energy_without_a_thermostat(name):
    """Eight beads after a short thermostat: the error falls with the square of the time step."""
    spread = {}
    for timestep in (0.01, 0.005):
        run, *_ = simulation(name, PAIRS[name], 8, openmm.VerletIntegrator(timestep))
        energies = total_energies(run, 40, round(0.05 / timestep))
        spread[timestep] = (energies - np.polyval(np.polyfit(np.arange(40), energies, 1), np.arange(40))).std()
    assert spread[0.01] < 0.02
    assert spread[0.005] < 0.3 * spread[0.01]


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_energy_at_long_time_steps(name):
    """27 beads, 15 ps: error of the total energy [kJ/mol], and a drift that is within its own error."""
    run, *_ = simulation(name, PAIRS[name], 27, openmm.LangevinMiddleIntegrator(300, 5.0, 0.002))
    run.minimizeEnergy(maxIterations=100)
    run.context.setVelocitiesToTemperature(300, 2)
    run.step(1000)
    state = run.context.getState(positions=True, velocities=True)
    for timestep, error in ((0.01, 0.02), (0.02, 0.08)):
        free, *_ = simulation(name, PAIRS[name], 27, openmm.VerletIntegrator(timestep))
        free.context.setPositions(state.getPositions())
        free.context.setVelocities(state.getVelocities())
        energies = total_energies(free, 150, round(0.1 / timestep))
        times = 0.1 * np.arange(150)
        line, covariance = np.polyfit(times, energies, 1, cov=True)
        assert (energies - np.polyval(line, times)).std() < error
        assert abs(line[0]) < 4 * covariance[0, 0] ** 0.5


@pytest.mark.parametrize("name", BODIES)
def test_temperature_and_alignment_in_a_field(name):
    """Equipartition of translation and rotation, and <cos> = coth x - 1/x, for x = 2 (Langevin 1905)."""
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, 0.01)
    integrator.setRandomNumberSeed(1)
    run, _, rigid, _ = simulation(name, field, 300, integrator, spacing=0.09)
    thermometer = Thermometer.of(run.system, rigid)
    tilt = np.arccos(1 + np.log1p(np.linspace(0, 1, 302)[1:-1] * np.expm1(-4)) / 2)  # as they are in equilibrium
    tilted = Rotation.from_rotvec(tilt[:, None] * [1.0, 0, 0]) * Rotation.from_rotvec(tilt[::-1, None] * [0, 0, 9.0])
    grid = rigid.to_beads(run.context.getState(positions=True).getPositions(asNumpy=True)._value)[0]
    run.context.setPositions(rigid.to_sites(grid, tilted.as_quat(scalar_first=True)))
    run.context.setVelocitiesToTemperature(300, 2)
    run.step(200)
    found, cosines = [], []
    for _ in range(40):
        run.step(10)
        state = run.context.getState(positions=True, velocities=True)
        found.append(thermometer(state))
        frames = bead_state(state, 1, rigid)["orientations"]
        axis = Rotation.from_quat(frames[0], scalar_first=True).as_matrix()[:, 2, 2]
        cosines.append(axis.mean())
    _, translation, rotation = np.mean(found, axis=0)
    assert translation == pytest.approx(300, rel=0.04)
    assert rotation == pytest.approx(300, rel=0.04)
    assert np.mean(cosines) == pytest.approx(1 / math.tanh(2) - 1 / 2, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("timestep", [0.01, 0.02])
@pytest.mark.parametrize("name", BODIES)
def test_equipartition_to_one_per_cent(name, timestep):
    """600 beads in a field and a well, 60 ps: translation and rotation at 300 K, with an error of 0.3 % at most."""
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, timestep)
    integrator.setRandomNumberSeed(1)
    run, _, rigid, _ = simulation(name, field, 600, integrator, spacing=0.09)
    thermometer = Thermometer.of(run.system, rigid)
    run.step(round(2 / timestep))
    found = []
    for _ in range(1000):
        run.step(round(0.06 / timestep))
        found.append(thermometer(run.context.getState(positions=True, velocities=True)))
    blocks = np.reshape(found, (20, 50, 3)).mean(axis=1)
    assert np.all(blocks.std(axis=0) / 20**0.5 < 0.003 * 300)
    np.testing.assert_allclose(blocks.mean(axis=0), 300, rtol=0.01)


def test_barostat_moves_whole_beads():
    """An ideal gas of N oriented beads: <V> = (N + 1) kT / P, if OpenMM takes each with its sites for one molecule."""
    beads, pressure = 40, 40.0
    rigid = RigidBeads.of(BeadTopology.build(["full"] * beads, [MASS] * beads, bodies={"full": BODIES["full"]}))
    system = openmm.System()
    rigid.add_to(system, np.full(beads, MASS))
    expected = (beads + 1) * thermal_energy(300.0) / (pressure * 0.0602214)
    edge = expected ** (1 / 3)
    system.setDefaultPeriodicBoxVectors(*np.diag([edge] * 3).tolist())
    barostat = openmm.MonteCarloBarostat(pressure, 300.0, 1)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    nothing = openmm.CustomBondForce("0")  # but periodic
    nothing.setUsesPeriodicBoundaryConditions(True)
    system.addForce(nothing)
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, 0.01)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    places = edge * np.random.default_rng(0).random((beads, 3))
    context.setPositions(rigid.to_sites(places, Rotation.random(beads, rng=1).as_quat(scalar_first=True)))
    volumes = []
    for _ in range(1000):
        integrator.step(8)
        volumes.append(context.getState().getPeriodicBoxVolume()._value)
    assert np.mean(volumes[100:]) == pytest.approx(expected, rel=0.05)
    assert np.std(volumes[100:]) == pytest.approx(expected / (beads + 1) ** 0.5, rel=0.25)


def test_reporters(tmp_path):
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.005)
    run, topology, rigid, force = simulation("plane", PAIRS["plane"], 8, integrator)
    frames = H5MDReporter(tmp_path / "cg.h5", 5, topology, temperature=300.0, velocities=True, forces=True)
    rows = StateReporter(tmp_path / "state.csv", 5, rigid=rigid)
    run.reporters += [frames, rows]
    run.step(20)
    state = run.context.getState(positions=True, velocities=True, forces=True)
    frames.close()
    rows.close()
    dataset = BeadDataset.open(tmp_path / "cg.h5")
    assert dataset.has_torques
    assert dataset.has_angular_velocities
    last = dataset.read(slice(-1, None))
    np.testing.assert_allclose(last.forces[0], force.last[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(last.torques[0], force.last[1], rtol=1e-4, atol=1e-3)
    exact = bead_state(state, 1, rigid, velocities=True)
    np.testing.assert_allclose(last.angular_velocities, exact["angular_velocities"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(last.orientations, exact["orientations"], atol=1e-6)
    header, *lines = (tmp_path / "state.csv").read_text().splitlines()
    assert header.split(",")[-3:] == ["translation [K]", "rotation [K]", "angular momentum [amu nm^2/ps]"]
    last_row = [float(value) for value in lines[-1].split(",") if value]
    np.testing.assert_allclose([last_row[-4], *last_row[-3:-1]], Thermometer.of(run.system, rigid)(state), rtol=1e-8)
    momenta = angular_momenta(topology, last)
    assert last_row[-1] == pytest.approx(np.linalg.norm(momenta.sum((0, 1))), rel=1e-4)


@pytest.mark.parametrize("name", BODIES)
def test_angular_momenta_are_those_of_the_sites(name):
    """From orientations and angular velocities the same as sum_i m_i (x_i - R) x (v_i - V) over the particles."""
    run, topology, rigid, _ = simulation(name, PAIRS[name], 8, openmm.VerletIntegrator(0.002))
    run.step(20)
    state = run.context.getState(positions=True, velocities=True)
    found = angular_momenta(topology, Frames(**bead_state(state, 1, rigid, velocities=True)))[0]
    x, v = (part(asNumpy=True)._value for part in (state.getPositions, state.getVelocities))
    for bead in range(8):
        sites = list(rigid.sites(bead))
        arms, moving = (values[sites] - values[sites].mean(0) for values in (x, v))
        exact = MASS / len(sites) * np.cross(arms, moving).sum(0)
        np.testing.assert_allclose(found[bead], exact, atol=1e-5 * np.abs(found).max())
    with pytest.raises(ValueError, match="the frames hold no angular velocities"):
        angular_momenta(topology, Frames(**bead_state(state, 1, rigid)))


def test_thermometer_counts_what_is_free():
    """With and without a fixed centre of mass."""
    bodies = {name: BODIES[name] for name in ("rod", "full")}
    topology = BeadTopology.build(["rod", "point", "full"], [MASS, 10.0, MASS], bodies=bodies)
    rigid = RigidBeads.of(topology)
    system = openmm.System()
    rigid.add_to(system, topology.masses)
    assert Thermometer.of(system, rigid).free == (9, 5)
    system.addForce(openmm.CMMotionRemover())
    thermometer = Thermometer.of(system, rigid)
    assert thermometer.free == (6, 5)
    np.testing.assert_allclose(thermometer.masses, topology.masses)


def test_particles_of_other_beads_are_refused():
    integrator = openmm.VerletIntegrator(0.005)
    run, _, rigid, _ = simulation("plane", field, 3, integrator)
    state = run.context.getState(positions=True)
    with pytest.raises(ValueError, match=r"must hold 2 copies of 12 particles, .* got 12 particles"):
        bead_state(state, 2, rigid)
    with pytest.raises(ValueError, match="holds 12 particles, not those of 5 copies"):
        bead_state(state, 5, rigid)
    other = RigidBeads.of(BeadTopology.build(["full"], [MASS], bodies={"full": BODIES["full"]}))
    with pytest.raises(ValueError, match=r"must hold copies of 5 particles, .* got 12 particles"):
        Thermometer.of(run.system, other)
