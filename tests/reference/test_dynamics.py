import numpy as np
import openmm
import pytest

from cgenn.reference.dynamics import FrameReader, Seeds, add_barostat, advance, energy_terms, equilibrate, make_context
from cgenn.reference.settings import RunSettings
from cgenn.units import GAS_CONSTANT

SEEDS = Seeds.of(0, 0)


def make_settings(**entries):
    defaults = {
        "temperature": 300.0, "pressure": None, "timestep": 0.002, "friction": 1.0, "equilibration": 1.0,
        "length": 10.0, "interval": 0.1, "platform": "Reference", "seed": 0, "replicas": 1,
    }  # fmt: skip
    return RunSettings(**defaults | entries)


def make_periodic(system):
    """With a force that does nothing: barostats need one in a box."""
    nothing = openmm.CustomExternalForce("0 * periodicdistance(x, 0, 0, 0, 0, 0)")
    system.addForce(nothing)


def test_seeds_differ_between_replicas_and_are_never_zero():
    seeds = [Seeds.of(seed, replica) for seed in range(3) for replica in range(3)]
    values = [value for entry in seeds for value in vars(entry).values()]
    assert len(set(values)) == len(values)
    assert min(values) > 0
    assert max(values) < 2**31


def test_energy_terms_add_up(vacuum):
    _, system, positions = vacuum.build()
    context = make_context(system, make_settings(), SEEDS)
    context.setPositions(positions)
    terms = energy_terms(context)
    assert terms.keys() == {"HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce"}
    total = context.getState(energy=True).getPotentialEnergy()._value
    assert sum(terms.values()) == pytest.approx(total, abs=1e-9)


def test_minimisation_as_far_as_wanted(vacuum):
    """After one short step: none leaves the structure where it is, more iterations lower the energy further."""
    _, system, positions = vacuum.build()
    rough = positions + np.random.default_rng(0).normal(scale=0.002, size=positions.shape)
    settings = make_settings(timestep=1e-6, equilibration=1e-6)
    found = [equilibrate(system, rough, settings, SEEDS, minimization=wanted) for wanted in (0, 2, None)]
    moved = [np.abs(state.getPositions(asNumpy=True)._value - rough).max() for state in found]
    assert moved[0] < 0.008  # which constraints take
    context, energies = make_context(system, settings, SEEDS), []
    for state in found:
        context.setPositions(state.getPositions())
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert energies[0] > energies[1] + 1 > energies[2] + 2


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_divergence_names_step_atom_and_energies(vacuum, platform):
    _, system, positions = vacuum.build()
    context = make_context(system, make_settings(timestep=0.05, platform=platform), SEEDS)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300.0, 1)
    message = r"diverged between steps 0 and \d+: atom \d+ .*\[kJ/mol\] at step 0: .*NonbondedForce "
    with pytest.raises(FloatingPointError, match=message):
        advance(context, 10000)


def test_virtual_sites_carry_no_force():
    field = openmm.app.ForceField("amber14/tip4pew.xml")
    modeller = openmm.app.Modeller(openmm.app.Topology(), [])
    modeller.addSolvent(field, model="tip4pew", numAdded=27)
    system = field.createSystem(modeller.topology)
    context = make_context(system, make_settings(), SEEDS)
    context.setPositions(modeller.positions)
    context.computeVirtualSites()
    record = FrameReader(system, periodic=False).read(context)
    forces = record["forces"].reshape(27, 4, 3)
    assert np.all(forces[:, 3] == 0)
    assert np.abs(forces[:, 0]).max() > 100
    np.testing.assert_allclose(forces.sum((0, 1)), 0, atol=1e-2)  # Newton's third law, in kJ/mol/nm


def test_ideal_gas_temperature_and_box():
    """Free particles: <T> = T, and the spread of their velocities is that of Maxwell and Boltzmann."""
    system = openmm.System()
    for _ in range(40):
        system.addParticle(20.0)
    system.setDefaultPeriodicBoxVectors((3, 0, 0), (0, 3, 0), (0, 0, 3))
    context = make_context(system, make_settings(friction=10.0, timestep=0.01), SEEDS)
    context.setPositions(np.random.default_rng(0).uniform(0, 3, (40, 3)))
    context.setVelocitiesToTemperature(300.0, 1)
    reader = FrameReader(system, periodic=True)
    records = []
    for _ in range(1000):
        advance(context, 50)
        records.append(reader.read(context))
    temperatures = [record["temperature"] for record in records]
    spread = 300.0 * np.sqrt(2 / 120)
    assert np.mean(temperatures) == pytest.approx(300.0, abs=4 * spread / np.sqrt(1000))
    assert np.std(temperatures) == pytest.approx(spread, rel=0.1)
    np.testing.assert_array_equal(records[0]["box"], 3 * np.eye(3))
    assert all(record["potential"] == 0 for record in records)


def test_volume_of_an_ideal_gas_between_membranes():
    """V = (N + 1) kT / p for N free particles whatever the shape of the box, which is square across z and changes."""
    system, n, pressure = openmm.System(), 20, 100.0
    for _ in range(n):
        system.addParticle(20.0)
    system.setDefaultPeriodicBoxVectors((2, 0, 0), (0, 2, 0), (0, 0, 2))
    make_periodic(system)
    settings = make_settings(pressure=pressure, timestep=0.01)
    add_barostat(system, settings, SEEDS, membrane=True)
    context = make_context(system, settings, SEEDS)
    context.setPositions(np.random.default_rng(0).uniform(0, 2, (n, 3)))
    advance(context, 2500)
    boxes = []
    for _ in range(2000):
        context.getIntegrator().step(50)
        boxes.append(np.diag(context.getState().getPeriodicBoxVectors(asNumpy=True)._value))
    x, y, z = np.array(boxes).T
    np.testing.assert_allclose(x, y, rtol=1e-9)
    assert np.std(np.log(z / x)) > 0.1
    expected = (n + 1) * GAS_CONSTANT * 300.0 / (pressure * 0.0602214)
    assert np.mean(x * y * z) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_box_of_an_ideal_gas_at_constant_pressure():
    """V = (N + 1) kT / p for N free particles."""
    system = openmm.System()
    n = 100
    for _ in range(n):
        system.addParticle(20.0)
    system.setDefaultPeriodicBoxVectors((6, 0, 0), (0, 6, 0), (0, 0, 6))
    make_periodic(system)
    pressure = 20.0  # bar
    settings = make_settings(pressure=pressure, timestep=0.01, interval=1.0, equilibration=10000.0)
    state = equilibrate(system, np.random.default_rng(0).uniform(0, 6, (n, 3)), settings, SEEDS)
    expected = (n + 1) * GAS_CONSTANT * 300.0 / (pressure * 0.0602214)  # nm^3; 1 bar = 0.0602214 kJ/mol/nm^3
    assert state.getPeriodicBoxVolume()._value == pytest.approx(expected, rel=0.1)
