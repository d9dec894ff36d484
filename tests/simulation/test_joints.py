"""Bonded terms of oriented beads in OpenMM against torch, and a chain that they hold together."""

import torch  # isort: skip
import numpy as np
import openmm
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.graph import build_graph
from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.linkage import Linkage
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors, type_key
from cgenn.simulation.bonded import prior_forces
from cgenn.simulation.joints import site_points
from cgenn.simulation.placement import Placement
from cgenn.simulation.rigid import RigidBeads
from cgenn.topology import BeadTopology


def body(geometry: dict[str, tuple[float, list[float]]], symmetry: str = "C1") -> Body:
    """Atoms with their masses, moved to their centre of mass and turned to principal axes."""
    masses = np.array([mass for mass, _ in geometry.values()])
    places = np.array([place for _, place in geometry.values()])
    places = places - masses @ places / masses.sum()
    spread = np.einsum("a,ai,aj->ij", masses, places, places)
    axes = np.linalg.eigh(spread)[1][:, ::-1]
    axes = axes[:, [1, 2, 0]] if symmetry == "Cinfv" else axes  # its line is z
    places = places @ axes * np.sign(np.linalg.det(axes))
    moments = np.einsum("a,ai->i", masses, places**2)
    inertia = tuple(np.maximum(moments.sum() - moments, 0.0).tolist())
    listed = tuple(map(tuple, places.tolist()))
    return Body(symmetry=symmetry, inertia=inertia, names=tuple(geometry), masses=tuple(masses), coordinates=listed)


PLANE = {"C": [0.0, 0.0, 0.0], "O": [0.06, 0.106, 0.0], "N": [0.073, -0.112, 0.0], "H": [0.17, -0.11, 0.0]}
MASS = {"C": 12.0, "O": 16.0, "N": 14.0, "H": 1.0}
FLAT = body({name: (MASS[name], place) for name, place in PLANE.items()})
BENT = body({name: (MASS[name], [*place[:2], 1e-3 * k]) for k, (name, place) in enumerate(PLANE.items())})
SOLID = body({name: (MASS[name], [*place[:2], 0.03 * k**2]) for k, (name, place) in enumerate(PLANE.items())})
ROD = body({"C": (12.0, [0.0, 0.0, 0.0]), "N": (14.0, [0.0, 0.0, 0.12])}, "Cinfv")
BODIES = {"FLAT": FLAT, "BENT": BENT, "SOLID": SOLID, "ROD": ROD}
SITES = {"FLAT": 3, "BENT": 3, "SOLID": 4, "ROD": 2}
TYPES = ["A", "FLAT", "SOLID", "B", "BENT", "BENT", "A", "B", "ROD"]
JOINTS = [(0, 1, -1, 0), (1, 2, 2, 0), (2, 3, 2, -1), (3, 4, -1, 0), (4, 5, 2, 0), (5, 6, 2, -1), (7, 8, -1, 1)]
WEIGHTS = [sum(BODIES[name].masses) if name in BODIES else 15.0 for name in TYPES]
CHAIN = BeadTopology.build(
    TYPES, WEIGHTS, bonds=[(k, k + 1) for k in range(len(TYPES) - 1)], bodies=BODIES, joints=JOINTS
)


def priors(topology: BeadTopology, strength: float = 1.0, *, several: bool = False) -> Priors:
    """Some term of each kind, wherever one can act."""
    linkage = Linkage.of(topology)

    def known(kind: str) -> list[str]:
        return sorted({type_key(linkage.names[point] for point in row) for row in getattr(linkage, kind).tolist()})

    dihedral = {"k": (strength, -0.5 * strength), "phase": (0.4, 1.9)}
    longer = {"kt": 2.5, "others": [{"length": 0.2, "k": 3e4 * strength, "energy": 1.0}]}
    wider = {"kt": 2.5, "others": [{"angle": 2.7, "k": 90.0 * strength, "energy": 2.0}]}
    bonds = {key: {"length": 0.15 + 0.001 * n, "k": 2e4 * strength} for n, key in enumerate(known("bonds"))}
    angles = {key: {"angle": 1.9 + 0.01 * n, "k": 200.0 * strength} for n, key in enumerate(known("angles"))}
    return Priors(
        bonds={key: entry | longer if several else entry for key, entry in bonds.items()},
        angles={key: entry | wider if several else entry for key, entry in angles.items()},
        dihedrals=dict.fromkeys(known("dihedrals"), dihedral),
    )


def conformation(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positions = np.cumsum(random.normal(size=(len(CHAIN), 3)) * 0.12 + [0.2, 0.0, 0.0], axis=0)
    turns = Rotation.random(len(CHAIN), rng=random).as_quat(scalar_first=True)
    return positions, np.where(CHAIN.oriented[:, None], turns, [1.0, 0.0, 0.0, 0.0])


def test_bodies_have_all_numbers_of_sites():
    rigid = RigidBeads.of(CHAIN)
    assert [rigid.counts[TYPES.index(name)] for name in SITES] == list(SITES.values())
    lifted = [point for point in site_points(CHAIN, Linkage.of(CHAIN)) if point.height is not None]
    assert lifted
    assert all(len(point.particles) == 3 for point in lifted)


def test_points_are_where_the_atoms_are():
    rigid, linkage = RigidBeads.of(CHAIN), Linkage.of(CHAIN)
    positions, turns = conformation(0)
    particles = rigid.to_sites(positions, turns)
    expected = linkage.points(positions[None], turns[None])[0].numpy()
    for point, place in zip(site_points(CHAIN, linkage), expected, strict=True):
        sites = particles[list(point.particles)]
        found = np.array(point.weights) @ sites
        if point.height is not None:
            found = found + point.height * np.cross(sites[1] - sites[0], sites[2] - sites[0])
        np.testing.assert_allclose(found, place, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "several"),
    [
        *((kind, False) for kind in ("bonds", "angles", "dihedrals")),
        *((kind, True) for kind in ("bonds", "dihedrals")),
        pytest.param("angles", True, marks=pytest.mark.slow),  # OpenMM takes a minute to differentiate it
    ],
)
def test_native_terms_are_those_of_torch(kind, several):
    """Energies, forces and torques of two copies, each to 1e-10."""
    rigid, known = RigidBeads.of(CHAIN), priors(CHAIN, several=several)
    system = openmm.System()
    for _ in range(2):
        rigid.add_to(system, CHAIN.masses)
    forces = prior_forces(known, CHAIN, Placement.replicas(len(CHAIN), 2, rigid=rigid))
    for force in [force for force in forces if force.getName() == kind]:
        system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    both = [conformation(seed) for seed in (1, 2)]
    particles = torch.from_numpy(np.stack([rigid.to_sites(*one) for one in both]))
    context.setPositions(particles.flatten(0, 1).numpy())
    state = context.getState(energy=True, forces=True)
    on_sites = torch.from_numpy(state.getForces(asNumpy=True)._value).view_as(particles)
    found = rigid.map.resultants(particles, on_sites)

    types = sorted(set(TYPES))
    positions, frames = rigid.map.to_beads(particles)
    graph = build_graph(
        positions.flatten(0, 1),
        torch.tensor([types.index(name) for name in TYPES] * 2),
        0.1,
        batch=torch.arange(2).repeat_interleave(len(TYPES)),
        n_systems=2,
        orientations=frames.flatten(0, 1),
    )
    terms = PriorEnergy(known, CHAIN, types)
    energies, *expected = energy_forces_torques(lambda at: terms(at)[kind], graph)
    assert state.getPotentialEnergy()._value == pytest.approx(energies.sum().item(), rel=1e-10)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1.0
        torch.testing.assert_close(ours.flatten(0, 1), theirs, rtol=0, atol=1e-10 * theirs.abs().max().item())


def test_torques_are_those_of_finite_rotations():
    types, step = sorted(set(TYPES)), 1e-4
    positions, turns = conformation(3)
    matrices = torch.from_numpy(Rotation.from_quat(turns, scalar_first=True).as_matrix())
    terms = PriorEnergy(priors(CHAIN), CHAIN, types)
    numbers = torch.tensor([types.index(name) for name in TYPES])

    def at(frames: torch.Tensor):
        return build_graph(torch.from_numpy(positions), numbers, 0.1, orientations=frames)

    def energy(graph):
        return torch.stack(list(terms(graph).values())).sum(0)

    forces, torques = energy_forces_torques(energy, at(matrices))[1:]
    axes = np.random.default_rng(4).normal(size=(len(TYPES), 3)) * CHAIN.oriented[:, None]
    up, down = (
        energy(at(torch.from_numpy(Rotation.from_rotvec(sign * step * axes).as_matrix()) @ matrices))
        for sign in (1, -1)
    )
    assert ((down - up) / (2 * step)).item() == pytest.approx(float((torques * torch.from_numpy(axes)).sum()), rel=1e-6)
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-8)
    turning = torch.linalg.cross(torch.from_numpy(positions), forces) + torques
    np.testing.assert_allclose(turning.sum(0), 0, atol=1e-8)  # nothing turns the whole chain


def test_energy_is_conserved():
    """A chain that starts anywhere near its shape keeps its total energy to a small part of its kinetic energy."""
    rigid, known = RigidBeads.of(CHAIN), priors(CHAIN, strength=0.3)
    system = openmm.System()
    rigid.add_to(system, CHAIN.masses)
    for force in prior_forces(known, CHAIN, Placement.replicas(len(CHAIN), rigid=rigid)):
        system.addForce(force)
    integrator = openmm.VerletIntegrator(0.001)
    integrator.setConstraintTolerance(1e-9)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(rigid.to_sites(*conformation(5)))
    openmm.LocalEnergyMinimizer.minimize(context, 10.0)
    context.setVelocitiesToTemperature(300.0, 1)
    integrator.step(200)
    totals, kinetic = [], []
    for _ in range(50):
        integrator.step(20)
        state = context.getState(energy=True)
        kinetic.append(state.getKineticEnergy()._value)
        totals.append(kinetic[-1] + state.getPotentialEnergy()._value)
    assert np.std(totals) < 0.01 * np.mean(kinetic)


def test_an_atom_off_the_line_of_a_linear_body_is_refused():
    linkage = Linkage.of(CHAIN)
    rod = TYPES.index("ROD")
    off = np.where(
        (linkage.beads == rod)[:, None], linkage.coordinates + np.array([0.01, 0.0, 0.0]), linkage.coordinates
    )
    moved = Linkage(linkage.names, linkage.beads, off, linkage.bonds, linkage.angles, linkage.dihedrals)
    with pytest.raises(ValueError, match=r"'ROD:N' is bonded, but 0.01 nm off the line of bead 8"):
        site_points(CHAIN, moved)
