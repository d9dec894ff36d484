"""Priors in torch against OpenMM's own forces, term by term."""

import numpy as np
import pytest
import torch

import openmm  # isort: skip

from cgenn.graph import build_graph
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

TYPES = ["A", "B", "C"]
PRIORS = Priors(
    bonds={"A|B": {"length": 0.35, "k": 2000.0}, "B|C": {"length": 0.4, "k": 3000.0}},
    angles={"A|B|C": {"angle": 1.9, "k": 50.0}, "B|C|B": {"angle": 2.2, "k": 70.0}},
    dihedrals={"A|B|C|B": {"k": (1.0, -2.0, 0.5), "phase": (0.4, 1.0, -0.7)}},
    repulsion={"A|A": {"sigma": 0.5, "epsilon": 1.0}, "A|C": {"sigma": 0.45, "epsilon": 2.0}},
    ramp={"height": -0.7, "range": 0.58},
)
TOPOLOGY = BeadTopology.build(["A", "B", "C", "B", "A", "A", "C"], [12.0] * 7, bonds=[(0, 1), (1, 2), (2, 3), (3, 4)])
BOX = np.array([[1.5, 0.0, 0.0], [0.4, 1.5, 0.0], [-0.3, 0.5, 1.4]])


def positions() -> torch.Tensor:
    chain = [[0.0, 0.0, 0.0], [0.3, 0.15, 0.0], [0.6, 0.0, 0.2], [0.95, 0.2, 0.1], [1.1, 0.0, -0.15]]
    return torch.tensor([*chain, [1.45, 0.1, 0.05], [0.3, 0.4, 0.3]]) + 0.02 * torch.randn(7, 3)


def in_openmm(term: str, box: np.ndarray | None) -> openmm.Force:
    if term == "bonds":
        force = openmm.HarmonicBondForce()
        for (i, j), (length, k) in zip(*terms(PRIORS.bond_terms(TOPOLOGY)), strict=True):
            force.addBond(i, j, length, k)
    elif term == "angles":
        force = openmm.HarmonicAngleForce()
        for (i, j, k), (angle, strength) in zip(*terms(PRIORS.angle_terms(TOPOLOGY)), strict=True):
            force.addAngle(i, j, k, angle, strength)
    elif term == "dihedrals":
        force = openmm.PeriodicTorsionForce()
        for row, (n, phase, k) in zip(*terms(PRIORS.dihedral_terms(TOPOLOGY)), strict=True):
            force.addTorsion(*row, int(n), phase, k)
    else:
        force = pair_force(term)
        for pair in TOPOLOGY.excluded_pairs.tolist():
            force.addExclusion(*pair)
        force.setNonbondedMethod(force.NoCutoff if box is None else force.CutoffPeriodic)
        force.setCutoffDistance(0.6)
    return force


def pair_force(term: str) -> openmm.CustomNonbondedForce:
    if term == "ramp":
        force = openmm.CustomNonbondedForce("select(step(0.58 - r), -0.7 * (1 - r / 0.58), 0)")
        for _ in TOPOLOGY.types:
            force.addParticle([])
    else:
        force = openmm.CustomNonbondedForce(
            "select(step(1.122462048309373*s - r), 4*e*((s/r)^12 - (s/r)^6) + e, 0);s = size(t1, t2); e = depth(t1, t2)"
        )
        for name, table in zip(("size", "depth"), PRIORS.repulsion_table(TYPES), strict=True):
            force.addTabulatedFunction(name, openmm.Discrete2DFunction(3, 3, table.T.flatten().tolist()))
        force.addPerParticleParameter("t")
        for name in TOPOLOGY.types:
            force.addParticle([TYPES.index(name)])
    return force


def terms(found) -> tuple[list, list]:
    return found.index.tolist(), found.parameters.tolist()


@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
@pytest.mark.parametrize("term", ["bonds", "angles", "dihedrals", "repulsion", "ramp"])
def test_equal_to_openmm(term: str, box: np.ndarray | None) -> None:
    torch.manual_seed(0)
    here = positions()
    system = openmm.System()
    for mass in TOPOLOGY.masses:
        system.addParticle(mass)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(in_openmm(term, box))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(here.numpy())
    state = context.getState(energy=True, forces=True)

    priors = PriorEnergy(PRIORS, TOPOLOGY, TYPES)
    types = torch.tensor([TYPES.index(name) for name in TOPOLOGY.types])
    graph = build_graph(here, types, 0.6, cell=None if box is None else torch.from_numpy(box)[None])
    energies, forces = energy_and_forces(lambda at: priors(at)[term], graph)
    assert energies.item() == pytest.approx(state.getPotentialEnergy()._value, rel=1e-8)
    assert abs(energies.item()) > 0.1
    np.testing.assert_allclose(forces.numpy(), state.getForces(asNumpy=True)._value, rtol=1e-7, atol=1e-7)


def test_excluded_pairs_do_not_repel() -> None:
    types = torch.zeros(2, dtype=torch.int64)
    graph = build_graph(torch.tensor([[0.0, 0, 0], [0.3, 0, 0]]), types, 0.6)
    for bonds, expected in (((), True), (((0, 1),), False)):
        topology = BeadTopology.build(["A", "A"], [1.0, 1.0], bonds=bonds)
        assert bool(PriorEnergy(PRIORS, topology, TYPES)(graph)["repulsion"] > 0) is expected


def test_copies_add_nothing_to_each_other() -> None:
    priors = PriorEnergy(PRIORS, TOPOLOGY, TYPES)
    types = torch.tensor([TYPES.index(name) for name in TOPOLOGY.types])
    torch.manual_seed(1)
    two = torch.stack([positions(), positions()])
    batch = torch.arange(2).repeat_interleave(7)
    together = priors(build_graph(two.flatten(0, 1), types.repeat(2), 0.6, batch=batch, n_systems=2))
    for system in range(2):
        alone = priors(build_graph(two[system], types, 0.6))
        for term, value in alone.items():
            torch.testing.assert_close(together[term][system], value[0], msg=term)


def test_float32() -> None:
    priors = PriorEnergy(PRIORS, TOPOLOGY, TYPES)
    types = torch.tensor([TYPES.index(name) for name in TOPOLOGY.types])
    here = positions()
    double, single = priors(build_graph(here, types, 0.6)), priors(build_graph(here.float(), types, 0.6))
    for term in double:
        assert single[term].dtype == torch.float32
        torch.testing.assert_close(single[term].double(), double[term], rtol=1e-4, atol=1e-4)
