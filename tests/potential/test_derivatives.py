from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.derivatives import energy_and_forces, energy_forces_torques, hessian_vector_product, virial


def springs(graph: BeadGraph) -> torch.Tensor:
    """k / 2 r^2 between all neighbours, k = 3 kJ/mol/nm^2."""
    edges = 0.25 * 3.0 * graph.edge_vectors().square().sum(1)
    return edges.new_zeros(graph.n_systems).index_add(0, graph.batch[graph.receivers], edges)


def two_systems() -> BeadGraph:
    torch.manual_seed(0)
    batch = torch.tensor([0, 0, 1, 1, 1])
    return build_graph(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64), 5.0, batch=batch, n_systems=2)


def turned() -> BeadGraph:
    """The same beads, with orientations."""
    return replace(two_systems(), orientations=torch.from_numpy(Rotation.random(5, rng=0).as_matrix()))


def dipoles(graph: BeadGraph) -> torch.Tensor:
    """(u_i u_j - 3 (u_i r)(u_j r) / r^2) / r^3, u = x + 2 z of each frame."""
    r = graph.edge_vectors()
    axis = graph.orientations @ torch.tensor([1.0, 0.0, 2.0])
    first, second, distance = axis[graph.receivers], axis[graph.senders], r.norm(dim=1)
    along = (first * r).sum(1) * (second * r).sum(1) / distance.square()
    edges = 0.5 * ((first * second).sum(1) - 3 * along) / distance**3
    return edges.new_zeros(graph.n_systems).index_add(0, graph.batch[graph.receivers], edges)


def test_torque_in_a_field() -> None:
    """tau = mu x E, and nothing on the beads of a system without a field."""
    graph, field = turned(), torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])

    def energy(graph: BeadGraph) -> torch.Tensor:
        return graph.per_system(-(graph.orientations[:, :, 2] * field[graph.batch]).sum(1))

    energies, forces, torques = energy_forces_torques(energy, graph)
    torch.testing.assert_close(torques, torch.linalg.cross(graph.orientations[:, :, 2], field[graph.batch]))
    torch.testing.assert_close(energies, energy(graph))
    assert not forces.any()


def test_torque_is_the_slope_of_a_finite_rotation() -> None:
    graph = turned()
    energies, forces, torques = energy_forces_torques(dipoles, graph)
    torch.testing.assert_close((energies, forces), energy_and_forces(dipoles, graph))
    for bead in range(5):
        for axis in range(3):

            def at(angle: float, bead: int = bead, axis: int = axis) -> torch.Tensor:
                frames = graph.orientations.clone()
                about = torch.from_numpy(Rotation.from_rotvec(angle * torch.eye(3)[axis].numpy()).as_matrix())
                frames[bead] = about @ frames[bead]
                return dipoles(graph.with_frames(graph.positions, frames)).sum()

            slope = (8 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3
            assert -torques[bead, axis].item() == pytest.approx(slope.item(), rel=1e-8, abs=1e-8)


def test_angular_momentum_is_conserved() -> None:
    """sum_i (tau_i + R_i x F_i) = 0: the energy does not change when the whole system turns."""
    graph = turned()
    _, forces, torques = energy_forces_torques(dipoles, graph)
    total = torques + torch.linalg.cross(graph.positions, forces)
    for axis in range(3):
        torch.testing.assert_close(graph.per_system(total[:, axis]), torch.zeros(2), atol=1e-9, rtol=0)


def test_torques_without_orientations_or_without_gradient_mode() -> None:
    energies, forces, torques = energy_forces_torques(springs, two_systems())
    torch.testing.assert_close((energies, forces), energy_and_forces(springs, two_systems()))
    assert not torques.any()
    assert not energy_forces_torques(springs, turned())[2].any()
    graph = turned()
    expected = energy_forces_torques(dipoles, graph)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(energy_forces_torques(dipoles, graph), expected)


def test_a_loss_on_torques_can_be_differentiated() -> None:
    k = torch.tensor(2.0, requires_grad=True)
    _, _, torques = energy_forces_torques(lambda at: k * dipoles(at), turned(), create_graph=True)
    torques.square().sum().backward()
    assert k.grad.item() == pytest.approx(2 * torques.square().sum().item() / 2)


def test_forces_of_springs() -> None:
    graph = two_systems()
    energies, forces = energy_and_forces(springs, graph)
    first, second = graph.positions[:2]
    assert energies[0].item() == pytest.approx(1.5 * (first - second).square().sum().item())
    torch.testing.assert_close(forces[0], 3.0 * (second - first))
    torch.testing.assert_close(forces[2:].sum(0), torch.zeros(3))


def test_virial_of_springs() -> None:
    """sum over pairs of k r r^T; twice the energy on the trace."""
    graph = two_systems()
    found = virial(springs, graph)
    apart = graph.positions[1] - graph.positions[0]
    torch.testing.assert_close(found[0], 3.0 * torch.outer(apart, apart))
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2).sum(1), 2 * springs(graph))


def test_pressure_of_a_periodic_system() -> None:
    """dE/dV by a small uniform change of the box is trace / (3 V)."""
    torch.manual_seed(1)
    cell = torch.tensor([[[1.0, 0.0, 0.0], [0.3, 1.1, 0.0], [0.1, -0.4, 0.9]]])
    graph = build_graph(torch.rand(4, 3), torch.zeros(4, dtype=torch.int64), 0.7, cell=cell)

    def energy(graph: BeadGraph) -> torch.Tensor:
        return torch.exp(-graph.edge_vectors().norm(dim=1)).sum()[None]

    uniform = torch.eye(3)[None] * 1e-5
    slope = (energy(graph.strained(uniform)) - energy(graph.strained(-uniform))).item() / 6e-5
    assert virial(energy, graph)[0].trace().item() / 3 == pytest.approx(slope, rel=1e-8)


def test_hessian_vector_product() -> None:
    """Springs: k (n v_i - sum_j v_j) in each system."""
    graph = two_systems()
    vectors = torch.randn(5, 3)
    product = hessian_vector_product(springs, graph, vectors)
    torch.testing.assert_close(product[:2], 3.0 * (2 * vectors[:2] - vectors[:2].sum(0)))
    torch.testing.assert_close(product[2:], 3.0 * (3 * vectors[2:] - vectors[2:].sum(0)))


def test_gradients_are_on_whatever_the_mode_of_the_caller() -> None:
    graph = two_systems()
    expected = energy_and_forces(springs, graph)[1]
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(energy_and_forces(springs, graph)[1], expected)
            assert virial(springs, graph).any()
            assert hessian_vector_product(springs, graph, torch.ones(5, 3)).shape == (5, 3)


def test_a_loss_on_forces_can_be_differentiated() -> None:
    k = torch.tensor(2.0, requires_grad=True)
    graph = two_systems()
    _, forces = energy_and_forces(lambda at: k * springs(at), graph, create_graph=True)
    forces.square().sum().backward()
    assert k.grad.item() == pytest.approx(2 * forces.square().sum().item() / 2)


def test_a_lone_bead_feels_nothing() -> None:
    graph = build_graph(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 1.0)
    energies, forces = energy_and_forces(springs, graph)
    assert energies.tolist() == [0.0]
    assert forces.tolist() == [[0.0, 0.0, 0.0]]
    assert not hessian_vector_product(springs, graph, torch.ones(1, 3)).any()
