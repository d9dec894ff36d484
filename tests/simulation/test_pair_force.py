"""Repulsion, splines and ramp as one force, against the same terms in torch and in OpenMM."""

import numpy as np
import openmm
import pytest
import torch

from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import PairPrior, Priors, RampPrior, RepulsionPrior
from cgenn.simulation.bonded import PRIOR_GROUP
from cgenn.simulation.pair_force import pair_forces
from cgenn.simulation.placement import Placement
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology
from tests.refinement.silent import silent

BOX = np.array([[1.5, 0, 0], [0.3, 1.5, 0], [0.1, -0.4, 1.6]])
CHAINS = BeadTopology.build(
    ("A", "B", "C", "A", "B"), [40.0, 50.0, 60.0, 40.0, 50.0], bonds=[(0, 1), (1, 2), (2, 3), (3, 4)]
).repeat(25)
REPULSION = {"A|A": RepulsionPrior(sigma=0.3, epsilon=1.0), "B|C": RepulsionPrior(sigma=0.25, epsilon=2.0)}
SPLINES = PairPrior(range=0.6, coefficients={"A|B": (3.0, 1.0, -1.0, 0.5, 0.2), "C|C": (0.0, 2.0, 0.5, -0.7, 0.1)})
RAMP = RampPrior(height=-1.3, range=0.45)
PRIORS = {
    "repulsion": Priors(repulsion=REPULSION),
    "splines": Priors(pairs=SPLINES),
    "ramp": Priors(ramp=RAMP),
    "all": Priors(repulsion=REPULSION, pairs=SPLINES, ramp=RAMP),
}


@pytest.fixture(scope="module")
def positions():
    """Beads in open order, some outside of the box."""
    places = np.stack(np.meshgrid(*[np.arange(5) * 0.3] * 3), axis=-1).reshape(-1, 3)
    return places @ (BOX / 1.5) + np.random.default_rng(5).normal(scale=0.03, size=places.shape) - 0.4


def whole(priors, precision="single", box=BOX):
    """A System of the chains, and a Context of it."""
    system, _ = create_system(silent(priors, ("A", "B", "C"), 0.5), CHAINS, box=box, precision=precision, device="cpu")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    return system, context


def found(context, positions, box=BOX):
    context.setPeriodicBoxVectors(*box.tolist())
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True, groups={PRIOR_GROUP})
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def expected(priors, positions, box=BOX):
    potential: Potential = silent(priors, ("A", "B", "C"), 0.5)
    graph = potential.graph(CHAINS, torch.from_numpy(positions)[None], torch.from_numpy(box)[None])
    terms = potential.prior_energy(CHAINS)
    energies, forces = energy_and_forces(lambda graph: sum(terms(graph).values()), graph)
    return energies.sum().item(), forces.numpy()


@pytest.mark.parametrize("terms", PRIORS)
def test_energy_and_forces_are_those_of_the_terms(positions, terms):
    """In a tilted box, wherever beads go and the box does: the list of neighbours follows."""
    system, context = whole(PRIORS[terms])
    assert [force.getName() for force in system.getForces() if force.getForceGroup() == PRIOR_GROUP] == ["pairs"]
    random = np.random.default_rng(1)
    for scale in (1.0, 1.02, 1.02, 0.97):
        moved = scale * (positions + random.normal(scale=0.05, size=positions.shape))
        energy, forces = found(context, moved, scale * BOX)
        wanted, slopes = expected(PRIORS[terms], moved, scale * BOX)
        assert abs(wanted) > 0.5
        assert energy == pytest.approx(wanted, abs=1e-9 * abs(wanted))
        np.testing.assert_allclose(forces, slopes, atol=1e-9 * np.abs(slopes).max())


def test_forces_are_the_slopes_of_the_energy(positions):
    _, context = whole(PRIORS["all"])
    _, forces = found(context, positions)
    random, step = np.random.default_rng(2), 1e-6
    for bead in random.integers(len(positions), size=5):
        along = np.zeros_like(positions)
        along[bead] = random.normal(size=3)
        ends = [found(context, positions + sign * step * along)[0] for sign in (1, -1)]
        assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(np.sum(forces * along), rel=1e-5, abs=1e-5)


def test_openmm_has_the_same_terms(positions):
    """Where its own forces are taken: in double precision."""
    system, context = whole(PRIORS["all"], "double")
    names = {force.getName() for force in system.getForces() if force.getForceGroup() == PRIOR_GROUP}
    assert names == {"repulsion", "pairs", "ramp"}
    energy, forces = found(context, positions)
    wanted, slopes = found(whole(PRIORS["all"])[1], positions)
    assert energy == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(forces, slopes, atol=1e-5 * np.abs(slopes).max())


def test_copies_and_xml_hold_the_same_force(positions):
    system, context = whole(PRIORS["all"])
    (pairs,) = (force for force in system.getForces() if force.getName() == "pairs")
    energy, forces = found(context, positions)
    again = openmm.System()
    for mass in CHAINS.masses.tolist():
        again.addParticle(mass)
    again.addForce(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(pairs)))
    again.setDefaultPeriodicBoxVectors(*BOX.tolist())
    other = openmm.Context(again, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    assert found(other, positions)[0] == energy
    np.testing.assert_array_equal(found(other, positions)[1], forces)
    assert pairs.usesPeriodicBoundaryConditions()


def test_what_is_no_position_has_no_energy(positions):
    """As for OpenMM's own forces; the next call goes on."""
    _, context = whole(PRIORS["all"])
    before = found(context, positions)[0]
    broken = positions.copy()
    broken[3, 1] = np.nan
    assert np.isnan(found(context, broken)[0])
    assert found(context, positions)[0] == before


def test_elsewhere_the_forces_are_those_of_openmm():
    priors, beads = PRIORS["all"], len(CHAINS)
    box = Placement.replicas(beads, periodic=True)
    assert len(pair_forces(priors, CHAINS, box, "single", "cpu")) == 1
    assert pair_forces(priors, CHAINS, box, "double", "cpu") == []
    assert pair_forces(priors, CHAINS, box, "single", "cuda") == []
    assert pair_forces(priors, CHAINS, Placement.replicas(beads), "single", "cpu") == []
    among = Placement.among(range(beads), beads + 1, periodic=True)
    assert pair_forces(priors, CHAINS, among, "single", "cpu") == []
    assert pair_forces(Priors(), CHAINS, box, "single", "cpu") == []
