"""Biases, restraints and replica exchange of OpenMM on beads, against what statistical mechanics says of them."""

from __future__ import annotations

import random

import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import BondPrior, Priors
from cgenn.simulation.backends import openmm_torch_problem
from cgenn.simulation.exchange import ExchangeReporter
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

LENGTH, STIFFNESS = 0.5, 1000.0
"""Of a bond [nm, kJ/mol/nm^2] beyond the reach of the network, whose energy is then a constant."""
COPIES = 20

BACKENDS = [
    "python",
    pytest.param(
        "openmm-torch", marks=pytest.mark.skipif(openmm_torch_problem() is not None, reason="no openmm-torch")
    ),
]


@pytest.fixture
def dimer() -> tuple[Potential, BeadTopology]:
    """Two beads on a spring, too far apart for the network."""
    config = PotentialConfig(
        types=("A",), cutoff=0.2, channels=4, radial_width=4, average_neighbors=1.0, energy_scale=1.0, temperature=300.0
    )
    priors = Priors(bonds={"A|A": BondPrior(length=LENGTH, k=STIFFNESS)})
    potential = Potential(config, priors).requires_grad_(False)
    return potential, BeadTopology.build(["A", "A"], [40.0, 40.0], bonds=[(0, 1)])


def averages(temperature: float, bias: float = 0.0, centre: float = 0.0) -> tuple[float, float]:
    """Mean distance [nm] and mean energy of the bond [kJ/mol], from the integral of r^2 exp(-U/kT) over r."""
    r = np.linspace(0.2, 0.9, 4000)
    energy = 0.5 * STIFFNESS * (r - LENGTH) ** 2
    weights = r**2 * np.exp(-(energy + 0.5 * bias * (r - centre) ** 2) / thermal_energy(temperature))
    return float(np.sum(weights * r) / weights.sum()), float(np.sum(weights * energy) / weights.sum())


def spread(distance: float, copies: int) -> np.ndarray:
    """Pairs of beads `distance` apart [nm]."""
    return np.tile([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]], (copies, 1))


def simulation(system: openmm.System, beads: BeadTopology, positions, temperature: float = 300.0):
    integrator = openmm.LangevinMiddleIntegrator(temperature, 5.0, 0.02)
    integrator.setRandomNumberSeed(5)
    platform = openmm.Platform.getPlatform("Reference")
    result = openmm.app.Simulation(beads.to_openmm(), system, integrator, platform)
    result.context.setPositions(positions)
    result.context.setVelocitiesToTemperature(temperature, 5)
    return result


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("collective", [False, True])
def test_umbrella(dimer, backend, collective):
    """A restraint on a distance, as a bond or of a collective variable, moves its mean by what the integral says."""
    bias, centre, copies = 3000.0, 0.6, 1 if collective else COPIES
    system, beads = create_system(*dimer, backend=backend, replicas=copies)
    expression = f"{bias}/2*(r-{centre})^2"
    distance = openmm.CustomBondForce("r" if collective else expression)
    for copy in range(copies):
        distance.addBond(2 * copy, 2 * copy + 1, [])
    if collective:
        umbrella = openmm.CustomCVForce(expression)
        umbrella.addCollectiveVariable("r", distance)
        system.addForce(umbrella)
    else:
        system.addForce(distance)
    running = simulation(system, beads, spread(centre, copies))
    found = []
    for _ in range(120):
        running.step(12 if collective else 8)
        pairs = running.context.getState(positions=True).getPositions(asNumpy=True)._value.reshape(-1, 2, 3)
        found.extend(np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1))
    expected, _ = averages(300.0, bias, centre)  # 0.574 nm; 0.510 nm without restraint
    assert np.mean(found[20:]) == pytest.approx(expected, abs=0.014 if collective else 0.003)
    deviation = np.sqrt(thermal_energy(300.0) / (STIFFNESS + bias))
    assert np.std(found[20:]) == pytest.approx(deviation, rel=0.4 if collective else 0.08)


def test_metadynamics(dimer):
    """The free energy of a distance that OpenMM's metadynamics finds is U(r) - 2 kT ln r."""
    system, beads = create_system(*dimer)
    distance = openmm.CustomBondForce("r")
    distance.addBond(0, 1, [])
    variable = openmm.app.BiasVariable(distance, 0.35, 0.65, 0.015, False)
    sampling = openmm.app.Metadynamics(system, [variable], 300.0, 4.0, 1.0, 15)
    running = simulation(system, beads, [[0, 0, 0], [LENGTH, 0, 0]])
    sampling.step(running, 3000)
    r = np.linspace(0.35, 0.65, variable.gridWidth)
    found = sampling.getFreeEnergy()._value
    expected = 0.5 * STIFFNESS * (r - LENGTH) ** 2 - 2 * thermal_energy(300.0) * np.log(r)
    near = expected - expected.min() < 2 * thermal_energy(300.0)
    difference = (found - expected)[near]
    assert np.std(difference) < 0.6 * thermal_energy(300.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dihedral_is_biased(potential, topology, positions, backend):
    """The force of a bias on a dihedral is that on the beads, beside those of the network and the priors."""
    plain, _ = create_system(potential, topology, backend=backend, precision="double")
    system, beads = create_system(potential, topology, backend=backend, precision="double")
    torsion = openmm.CustomTorsionForce("theta")
    torsion.addTorsion(0, 1, 2, 3, [])
    variable = openmm.app.BiasVariable(torsion, -np.pi, np.pi, 0.3, True)
    sampling = openmm.app.Metadynamics(system, [variable], 300.0, 5.0, 1.0, 5)
    running = simulation(system, beads, positions)
    running.integrator.setStepSize(0.001)
    sampling.step(running, 50)
    assert np.isfinite(sampling.getCollectiveVariables(running)).all()
    state = running.context.getState(positions=True, forces=True)
    there = simulation(plain, beads, state.getPositions())
    bias = running.context.getState(forces=True, groups={system.getForce(system.getNumForces() - 1).getForceGroup()})
    expected = there.context.getState(forces=True).getForces(asNumpy=True) + bias.getForces(asNumpy=True)
    np.testing.assert_allclose(state.getForces(asNumpy=True)._value, expected._value, rtol=1e-6, atol=1e-4)
    assert np.abs(bias.getForces(asNumpy=True)._value).max() > 0.1


def test_replica_exchange(dimer, tmp_path):
    """At each temperature the mean energy is that of the integral, and neighbours exchange as often as it says."""
    temperatures = [300.0, 360.0, 430.0]
    system, beads = create_system(*dimer, replicas=COPIES)
    running = simulation(system, beads, spread(LENGTH, COPIES))
    random.seed(3)
    sampler = openmm.app.ReplicaExchangeSampler([{"temperature": t} for t in temperatures], running, 10)
    reporter = ExchangeReporter(tmp_path, beads, temperatures, interval=2)
    sampler.reporters.append(reporter)
    for replica in range(3):
        sampler.simulateReplica(replica, 50)
    sampler.simulate(120)
    reporter.close()
    constant = running.context.getState(energy=True, groups={0}).getPotentialEnergy()._value
    found = reporter.energies.mean(axis=0) - constant
    expected = [COPIES * averages(temperature)[1] for temperature in temperatures]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    # the energy of springs is U/kT ~ Gamma(springs/2): the mean of min(1, exp(..)) of drawn ones
    rng = np.random.default_rng(0)
    drawn = rng.gamma(0.5 * COPIES, 1.0, (100_000, 3)) * thermal_energy(1.0) * np.array(temperatures)
    betas = 1 / (thermal_energy(1.0) * np.array(temperatures))
    ideal = np.exp(np.minimum(np.diff(betas) * np.diff(drawn, axis=1), 0)).mean(axis=0)
    np.testing.assert_allclose(reporter.acceptance, ideal, atol=0.14)
    assert len({state for state in sampler.replicaStateIndex}) == 3
    frames = BeadDataset.open(tmp_path / "state-2.h5")
    assert (len(frames), frames.temperature) == (60, 430.0)
    pairs = frames.read().positions.reshape(-1, 2, 3)
    assert np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1).mean() == pytest.approx(averages(430.0)[0], abs=0.008)


def test_replica_exchange_needs_temperatures(dimer, tmp_path):
    with pytest.raises(ValueError, match="at least two temperatures, got 1"):
        ExchangeReporter(tmp_path, dimer[1], [300.0])
    with pytest.raises(ValueError, match="`interval` must be at least 1, got 0"):
        ExchangeReporter(tmp_path, dimer[1], [300.0, 400.0], interval=0)


def test_replica_exchange_needs_the_temperatures_of_the_sampler(dimer, tmp_path):
    system, beads = create_system(*dimer)
    running = simulation(system, beads, spread(LENGTH, 1))
    sampler = openmm.app.ReplicaExchangeSampler([{"temperature": t} for t in (300.0, 360.0)], running, 1)
    sampler.reporters.append(ExchangeReporter(tmp_path, beads, [300.0, 360.0, 430.0]))
    with pytest.raises(ValueError, match="the reporter has 3 temperatures, the sampler 2 states"):
        sampler.simulate(1)
