import pytest
import torch

from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.derivatives import energy_and_forces, hessian_vector_product, virial


def springs(graph: BeadGraph) -> torch.Tensor:
    """k / 2 r^2 between all neighbours, k = 3 kJ/mol/nm^2."""
    edges = 0.25 * 3.0 * graph.edge_vectors().square().sum(1)
    return edges.new_zeros(graph.n_systems).index_add(0, graph.batch[graph.receivers], edges)


def two_systems() -> BeadGraph:
    torch.manual_seed(0)
    batch = torch.tensor([0, 0, 1, 1, 1])
    return build_graph(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64), 5.0, batch=batch, n_systems=2)


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
