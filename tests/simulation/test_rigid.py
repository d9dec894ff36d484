"""Oriented beads as point masses: mass, inertia, frames, forces and torques; free rotation in OpenMM."""

from __future__ import annotations

import torch  # isort: skip
import numpy as np
import openmm
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body, rotation_matrices
from cgenn.simulation.rigid import RigidBeads, RigidKind, as_quaternions
from cgenn.topology import BeadTopology

BODIES = {
    "disc": Body(symmetry="D6h", inertia=(0.89, 0.89, 1.78)),
    "plane": Body(symmetry="C2v", inertia=(2.0, 0.7, 1.3)),
    "full": Body(inertia=(0.5, 1.2, 1.0)),
    "rod": Body(symmetry="Dinfh", inertia=(1.0, 1.0, 0.0)),
}
TOPOLOGY = BeadTopology.build(
    ["point", "disc", "full", "rod", "point", "plane", "disc"], [10, 78, 50, 30, 20, 40, 78], bodies=BODIES
)
RIGID = RigidBeads.of(TOPOLOGY)


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    """Positions [nm] and orientations of five frames."""
    random = np.random.default_rng(0)
    quaternions = Rotation.random(35, rng=random).as_quat(canonical=True, scalar_first=True).reshape(5, 7, 4)
    quaternions[:, ~TOPOLOGY.oriented] = (1, 0, 0, 0)
    return random.normal(size=(5, 7, 3)), quaternions


@pytest.mark.parametrize("name", BODIES)
def test_mass_centre_and_inertia_are_exact(name):
    kind = RigidKind.of(BODIES[name], 78.0)
    masses, points = np.array(kind.masses), np.array(kind.coordinates)
    second = np.einsum("i,ij,ik->jk", masses, points, points)
    np.testing.assert_allclose(np.trace(second) * np.eye(3) - second, np.diag(BODIES[name].inertia), atol=1e-14)
    np.testing.assert_allclose(masses @ points, 0, atol=1e-14)
    assert masses.sum() == pytest.approx(78.0, rel=1e-15)
    assert len(set(kind.masses)) == 1, "a triangle with unequal masses breaks SETTLE"
    if len(masses) == 3:
        lengths = [length for _, _, length in kind.constraints]
        assert len(set(lengths)) < 3, "two sides must be equal to the last bit"


def test_layout():
    assert RIGID.counts.tolist() == [0, 3, 4, 2, 0, 3, 3]
    assert RIGID.centers.tolist() == [0, 1, 5, 10, 13, 14, 18]
    assert RIGID.n_particles == RIGID.map.n_particles == 22
    assert list(RIGID.sites(2)) == [6, 7, 8, 9]
    system = openmm.System()
    RIGID.add_to(system, TOPOLOGY.masses)
    assert (system.getNumParticles(), system.getNumConstraints()) == (22, 3 * 3 + 6 + 1)
    assert [index for index in range(22) if system.isVirtualSite(index)] == [1, 5, 10, 14, 18]
    assert sum(system.getParticleMass(i)._value for i in range(22)) == pytest.approx(TOPOLOGY.masses.sum())
    assert RigidBeads.of(BeadTopology.build(["point"], [1.0])) is None


def test_there_and_back(frames):
    positions, quaternions = frames
    found, turned = RIGID.to_beads(RIGID.to_sites(positions, quaternions))
    np.testing.assert_allclose(found, positions, atol=1e-15)
    exact = np.array(TOPOLOGY.types) != "rod"
    np.testing.assert_allclose(turned[:, exact], quaternions[:, exact], atol=1e-14)
    axes = rotation_matrices(turned)[:, 3, :, 2], rotation_matrices(quaternions)[:, 3, :, 2]
    np.testing.assert_allclose(*axes, atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(rotation_matrices(turned)), 1, atol=1e-14)


def test_virtual_sites_are_the_centres(frames):
    system = openmm.System()
    RIGID.add_to(system, TOPOLOGY.masses)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    particles = RIGID.to_sites(*frames)[0]
    context.setPositions(np.where(np.isin(np.arange(22), RIGID.centers[TOPOLOGY.oriented])[:, None], 9.0, particles))
    context.computeVirtualSites()
    np.testing.assert_allclose(context.getState(positions=True).getPositions(asNumpy=True)._value, particles, atol=1e-7)


def test_site_forces_add_up_and_load_no_constraint(frames):
    positions, quaternions = frames
    random, matrices = np.random.default_rng(1), torch.tensor(rotation_matrices(quaternions))
    forces, torques = torch.tensor(random.normal(size=(2, 5, 7, 3)))
    torques *= torch.tensor(TOPOLOGY.oriented)[:, None]
    axis = matrices[:, 3, :, 2]
    torques[:, 3] -= (torques[:, 3] * axis).sum(1, keepdim=True) * axis
    particles = torch.tensor(RIGID.to_sites(positions, quaternions))
    on_sites = RIGID.map.site_forces(forces, torques, matrices)
    for bead in range(7):
        chosen = list(RIGID.sites(bead)) or [int(RIGID.centers[bead])]
        arms = particles[:, chosen] - torch.tensor(positions)[:, bead, None]
        torch.testing.assert_close(on_sites[:, chosen].sum(1), forces[:, bead], rtol=0, atol=1e-12)
        turning = torch.linalg.cross(arms, on_sites[:, chosen]).sum(1)
        torch.testing.assert_close(turning, torques[:, bead], rtol=0, atol=1e-12)
        masses = RIGID.kinds[RIGID.beads[bead]].masses if RIGID.beads[bead] >= 0 else (1.0,)
        accelerations = on_sites[:, chosen] / torch.tensor(masses)[:, None]
        for i in range(len(chosen)):  # of a rigid motion: nothing along the distances
            apart, relative = arms[:, i, None] - arms, accelerations[:, i, None] - accelerations
            assert (apart * relative).sum(-1).abs().max() < 1e-12


def test_velocities_of_a_rigid_motion(frames):
    positions, quaternions = frames
    random = np.random.default_rng(2)
    linear, angular = torch.tensor(random.normal(size=(2, 5, 7, 3)))
    angular *= torch.tensor(TOPOLOGY.oriented)[:, None]
    axis = torch.tensor(rotation_matrices(quaternions))[:, 3, :, 2]
    angular[:, 3] -= (angular[:, 3] * axis).sum(1, keepdim=True) * axis
    particles = torch.tensor(RIGID.to_sites(positions, quaternions))
    velocities = torch.zeros_like(particles)
    for bead in range(7):
        center = int(RIGID.centers[bead])
        for site in [center, *RIGID.sites(bead)]:
            arm = particles[:, site] - particles[:, center]
            velocities[:, site] = linear[:, bead] + torch.linalg.cross(angular[:, bead], arm)
    found = RIGID.map.velocities(particles, velocities)
    torch.testing.assert_close(found[0], linear)
    torch.testing.assert_close(found[1], angular)
    frame = torch.tensor(rotation_matrices(quaternions))[:, 2]
    inner = torch.einsum("bxk,bx->bk", frame, found[2][:, 2]) / torch.tensor(BODIES["full"].inertia)
    torch.testing.assert_close(torch.einsum("bxk,bk->bx", frame, inner), angular[:, 2])


def test_strain_tells_when_sites_drift_apart(frames):
    positions, matrices = torch.tensor(frames[0]), torch.tensor(rotation_matrices(frames[1]))
    particles = torch.tensor(RIGID.to_sites(*frames))
    assert RIGID.map.strain(particles, positions, matrices).max() < 1e-14
    particles[0, 6] += 0.05
    found = RIGID.map.strain(particles, *RIGID.map.to_beads(particles))
    assert found[0, 1] > 0.1
    assert (found > 1e-12).sum() == 1


@pytest.mark.parametrize("name", BODIES)
def test_free_rotation_in_openmm_keeps_momentum_and_energy(name):
    """Euler's equations of a free body: angular momentum and energy stay, the axes tumble."""
    rigid = RigidBeads.of(BeadTopology.build([name], [78.0], bodies={name: BODIES[name]}))
    system = openmm.System()
    rigid.add_to(system, np.array([78.0]))
    integrator = openmm.VerletIntegrator(0.005)
    integrator.setConstraintTolerance(1e-9)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    particles = rigid.to_sites(np.zeros((1, 3)), np.array([[1.0, 0, 0, 0]]))
    context.setPositions(particles)
    spin = np.array([0.9, -1.3, 0.0 if name == "rod" else 0.7])
    context.setVelocities(np.cross(spin, particles))
    momenta, energies = [], []
    for _ in range(40):
        integrator.step(10)
        state = context.getState(positions=True, velocities=True)
        x, v = (torch.tensor(part(asNumpy=True)._value) for part in (state.getPositions, state.getVelocities))
        _, omega, momentum = rigid.map.velocities(x, v)
        momenta.append(momentum[0].numpy())
        energies.append(0.5 * float((omega * momentum).sum()))
    exact = np.array(BODIES[name].inertia) * spin
    np.testing.assert_allclose(momenta, np.broadcast_to(exact, (40, 3)), rtol=0, atol=2e-4 * np.abs(exact).max())
    np.testing.assert_allclose(energies, 0.5 * exact @ spin, rtol=2e-3)
    turned = rotation_matrices(rigid.to_beads(x.numpy())[1])[0]
    assert np.abs(turned - np.eye(3)).max() > 0.5


def test_quaternions_are_scalar_first_and_canonical():
    half = as_quaternions(Rotation.from_rotvec([[0, 0, 1.5 * np.pi]]).as_matrix()[None])
    np.testing.assert_allclose(half, [[[np.sqrt(0.5), 0, 0, -np.sqrt(0.5)]]], atol=1e-15)


def test_bad_bodies():
    with pytest.raises(ValueError, match=r"'N2': a body with the moments .* is linear, which its symmetry 'C1'"):
        RigidKind.of(Body(inertia=(1.0, 1.0, 0.0)), 28.0, "N2")
    with pytest.raises(ValueError, match="a moment of zero about z"):
        RigidKind.of(Body(symmetry="C2v", inertia=(0.0, 1.0, 1.0)), 28.0, "N2")
    with pytest.raises(ValueError, match=r"bead 1 has a mass of 2\.0 amu, others of its type 'full' of 1\.0 amu"):
        RigidBeads.of(BeadTopology.build(["full", "full"], [1.0, 2.0], bodies={"full": BODIES["full"]}))
    RigidBeads.of(BeadTopology.build(["full", "full"], [1.0, 1.0 + 1e-7], bodies={"full": BODIES["full"]}))
