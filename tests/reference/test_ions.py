"""Model ions: forces and virials by finite differences, neutral charges at the minimum, Madelung energies."""

import numpy as np
import openmm
import pytest
import torch

from cgenn.reference.charge_equilibration import EquilibratedIons
from cgenn.reference.crystals import STRUCTURES, Crystal
from cgenn.reference.ions import Ions, frames_of
from cgenn.reference.random_charges import RandomCharges
from cgenn.units import COULOMB

MADELUNG = {"rock-salt": 1.747564594633, "caesium-chloride": 1.762674773071}
"""Of the distance between neighbours (Sakamoto 1958, doi 10.1063/1.1744392)."""


@pytest.fixture(scope="module")
def crystal():
    """Eight ions of rock-salt, displaced, in a tilted cell."""
    random = np.random.default_rng(1)
    return Crystal.build("rock-salt", 1, 0.3).disturbed(3, displacement=0.02, strain=0.03, random=random)


@pytest.fixture(scope="module")
def gas():
    """Twelve charges at random."""
    model = RandomCharges(ions=12, edge=1.0)
    frames = model.frames(3, 0)
    return model, frames


def moved(model, types, frames, step):
    """Energies after the first ion moved along (1, 2, 2) / 3."""
    positions = frames.positions.copy()
    positions[:, 0] += step * np.array([1.0, 2.0, 2.0]) / 3
    return frames_of(model, types, positions, frames.box).energies


def sheared(model, types, frames, step):
    """Energies after a strain of xx and of xy + yx."""
    deformation = np.eye(3)
    deformation[0, 0], deformation[0, 1], deformation[1, 0] = 1 + step, step, step
    return frames_of(model, types, frames.positions @ deformation, frames.box @ deformation).energies


def check_derivatives(model, types, frames):
    step = 1e-5
    slope = (moved(model, types, frames, step) - moved(model, types, frames, -step)) / (2 * step)
    np.testing.assert_allclose(-slope, frames.forces[:, 0] @ np.array([1.0, 2.0, 2.0]) / 3, rtol=1e-6, atol=1e-4)
    slope = (sheared(model, types, frames, step) - sheared(model, types, frames, -step)) / (2 * step)
    np.testing.assert_allclose(slope, frames.virials[:, 0, 0] + 2 * frames.virials[:, 0, 1], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(frames.forces.sum(1), 0, atol=1e-7)


def test_derivatives_at_charges_that_follow(crystal):
    """The charges are solved anew at each displacement: the forces at constant charges are the whole derivative."""
    types, positions, box = crystal
    model = EquilibratedIons()
    frames = frames_of(model, types, positions, box)
    check_derivatives(model, types, frames)
    assert np.abs(frames.charges[-1] - frames.charges[0]).max() > 1e-3  # e


def test_derivatives_of_random_charges(gas):
    model, frames = gas
    check_derivatives(model, np.arange(12) % 2, frames)


def test_charges_are_neutral_and_lie_at_the_minimum(crystal):
    types, positions, box = crystal
    model = EquilibratedIons()
    ions = Ions.of(positions, box, types, model.smearing)
    charges = model.charges(ions)
    assert float(ions.sum_ions(charges).abs().max()) < 1e-14
    energy = model.energy(ions, charges)
    random = torch.Generator().manual_seed(2)
    for size in (1e-3, -1e-3, 0.1):
        change = size * torch.randn(3, 8, generator=random)
        other = charges + (change - change.mean(1, keepdim=True)).flatten()
        assert bool((model.energy(ions, other) > energy).all())
    leaning = charges.clone().requires_grad_()
    (chemical,) = torch.autograd.grad(model.energy(ions, leaning).sum(), leaning)
    spread = chemical.view(3, 8).max(1).values - chemical.view(3, 8).min(1).values
    assert float(spread.max()) < 1e-8  # one chemical potential in each frame [kJ/mol/e]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_crystal_has_its_madelung_energy(structure):
    """Of points: q = dchi / (J1 + J2 - 2 C M / r), E = -dchi q / 2 for each pair of ions."""
    distance, difference, hardness = 0.3, 1000.0, (2000.0, 3000.0)
    model = EquilibratedIons((0.0, difference), hardness, smearing=0.01, repulsion=(0.0, 0.0, 0.0))
    crystal = Crystal.build(structure, 2, distance)
    frames = frames_of(model, crystal.types, crystal.positions[None], crystal.box[None])
    charge = difference / (sum(hardness) - 2 * COULOMB * MADELUNG[structure] / distance)
    np.testing.assert_allclose(frames.charges[0], np.where(crystal.types == 0, charge, -charge), rtol=1e-8)
    pairs = len(crystal.types) / 2
    assert frames.energies[0] / pairs == pytest.approx(-difference * charge / 2, rel=1e-8)
    np.testing.assert_allclose(frames.forces, 0, atol=1e-6)


def test_two_ions_far_apart_are_as_in_vacuum():
    """dE/dq of a pair at a distance r: (J1 + J2) q - 2 q C erf(r / 2 sigma) / r = dchi."""
    model = EquilibratedIons(repulsion=(0.0, 0.0, 0.0))
    positions, box = np.array([[[0.0, 0, 0], [0.25, 0, 0]]]), 30 * np.eye(3)[None]
    frames = frames_of(model, np.array([0, 1]), positions, box)
    bond = COULOMB * torch.erf(torch.tensor(0.25 / 0.2)).item() / 0.25
    assert frames.charges[0, 0] == pytest.approx(5600.0 / (8000.0 - 2 * bond), rel=1e-4)


def test_soft_ions_have_no_charges():
    crystal = Crystal.build("rock-salt", 1, 0.2)
    with pytest.raises(ValueError, match="the charges have no minimum"):
        frames_of(EquilibratedIons(hardness=(400.0, 400.0)), crystal.types, crystal.positions[None], crystal.box[None])


def test_charges_differ_between_the_polymorphs():
    """What docs/ion-models.md says of the two crystals."""
    found = {}
    for structure in STRUCTURES:
        crystal = Crystal.relaxed(structure, 1, EquilibratedIons())
        frames = frames_of(EquilibratedIons(), *crystal.scaled([1.0]))
        distance = np.linalg.norm(crystal.positions - crystal.positions[0], axis=1)[crystal.types == 1].min()
        found[structure] = (distance, frames.charges[0, 0], frames.energies[0] / (len(crystal.types) / 2))
    np.testing.assert_allclose(found["rock-salt"], (0.3048, 0.8536, -2363.9), rtol=2e-4)
    np.testing.assert_allclose(found["caesium-chloride"], (0.3133, 0.8516, -2357.5), rtol=2e-4)


def test_vacancies():
    """As many cations as anions are left out, at other sites in each frame; nobody moves without a displacement."""
    crystal = Crystal.build("caesium-chloride", 2, 0.3)
    random = np.random.default_rng(0)
    types, positions, box = crystal.disturbed(5, displacement=0.0, strain=0.0, vacancies=3, random=random)
    assert types.tolist() == [0] * 5 + [1] * 5 == [name == "ANION" for name in crystal.topology(3).types]
    np.testing.assert_array_equal(box, np.tile(crystal.box, (5, 1, 1)))
    sites = [{tuple(place) for place in frame} for frame in positions]
    assert all(frame < {tuple(place) for place in crystal.positions} for frame in sites)
    assert sites[0] != sites[1]
    with pytest.raises(ValueError, match="`vacancies` must be 0 to 7, got 8"):
        crystal.disturbed(1, displacement=0.0, strain=0.0, vacancies=8, random=random)


def test_no_crystal_without_attraction():
    free = EquilibratedIons(electronegativity=(0.0, 0.0))
    with pytest.raises(
        ValueError, match=r"rock-salt: the energy is not least at any distance between 0\.25 and 0\.4 nm"
    ):
        Crystal.relaxed("rock-salt", 1, free)


def test_random_charges_are_those_of_openmm(gas):
    _, frames = gas
    system, coulomb = openmm.System(), openmm.NonbondedForce()
    repulsion = openmm.CustomNonbondedForce("20*(0.2/r)^12")
    for ion in range(12):
        system.addParticle(1.0)
        coulomb.addParticle(1 - 2 * (ion % 2), 0.1, 0.0)
        repulsion.addParticle([])
    coulomb.setNonbondedMethod(openmm.NonbondedForce.Ewald)
    coulomb.setEwaldErrorTolerance(1e-7)
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    for force in (coulomb, repulsion):
        force.setCutoffDistance(0.49)
        system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*np.eye(3))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    for frame in range(len(frames)):
        context.setPositions(frames.positions[frame])
        state = context.getState(energy=True, forces=True)
        assert state.getPotentialEnergy()._value == pytest.approx(frames.energies[frame], rel=1e-5)
        np.testing.assert_allclose(state.getForces(asNumpy=True)._value, frames.forces[frame], rtol=1e-4, atol=0.5)


def test_random_charges_keep_their_distance(gas):
    model, frames = gas
    ions = Ions.of(frames.positions, frames.box, np.arange(12) % 2)
    assert float(ions.distances().min()) > model.closest
    np.testing.assert_array_equal(frames.charges, np.tile([1.0, -1.0], (3, 6)))
    np.testing.assert_array_equal(frames.positions, RandomCharges(ions=12, edge=1.0).frames(3, 0).positions)
    assert model.topology.types[:2] == ("CATION", "ANION")


def test_too_many_ions():
    with pytest.raises(ValueError, match=r"100 ions do not fit into a box of 0\.6 nm"):
        RandomCharges(ions=100, edge=0.6).frames(1, 0)


def test_unknown_crystal():
    with pytest.raises(ValueError, match="unknown structure 'diamond', expected one of rock-salt, caesium-chloride"):
        Crystal.build("diamond", 1, 0.3)
    with pytest.raises(ValueError, match="`cells` and `distance` must be positive, got 0 and"):
        Crystal.build("rock-salt", 0, 0.3)
