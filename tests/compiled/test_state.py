"""What the compiled network keeps between calls never shows."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.compiled import compiled
from cgenn.potential.derivatives import energy_and_forces, hessian_vector_product
from cgenn.potential.potential import Potential

from .conftest import CUTOFF, close, open_graph, periodic_graph, random_potential

DIPOLES = {"electrostatics": {"dipoles": True}}


@pytest.fixture
def model() -> Potential:
    return compiled(random_potential())


def result(model: Potential, graph: BeadGraph) -> tuple[torch.Tensor, torch.Tensor]:
    return energy_and_forces(model.learned_energy, graph)


def equal(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    """To the last bit."""
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def shaken(graph: BeadGraph, seed: int = 5) -> BeadGraph:
    """The same edges at other positions."""
    noise = torch.randn(graph.positions.shape, generator=torch.Generator().manual_seed(seed))
    return graph.with_positions(graph.positions + 0.02 * noise)


def other_beads(graph: BeadGraph, count: int) -> BeadGraph:
    return build_graph(graph.positions[:count], graph.types[:count], CUTOFF)


@pytest.mark.parametrize("options", [{}, DIPOLES], ids=["energies", "dipoles"])
def test_repeated_calls_give_the_same_bits(options: dict) -> None:
    model = compiled(random_potential(**options))
    graph = periodic_graph(model)
    first = result(model, graph)
    for _ in range(3):
        equal(result(model, graph), first)
    equal(result(compiled(random_potential(**options)), graph), first)


def test_results_are_not_overwritten(model) -> None:
    graph = open_graph(model)
    first = model.outputs(graph).energies, *result(model, graph)
    kept = [part.clone() for part in first]
    result(model, shaken(graph))
    equal(first, kept)


def test_calls_for_other_positions_and_beads_change_nothing(model) -> None:
    graph = open_graph(model)
    first = result(model, graph)
    assert not torch.equal(result(model, shaken(graph))[1], first[1])
    equal(result(model, graph), first)
    result(model, replace(graph, types=(graph.types + 1) % 3))
    for count in range(3, 12):  # more than are kept
        result(model, other_beads(graph, count))
    equal(result(model, graph), first)


def test_edges_may_change(model) -> None:
    graph = open_graph(model)
    first = result(model, graph)
    near = graph.within(0.6 * CUTOFF)
    assert 0 < len(near.receivers) < len(graph.receivers)
    close(result(model, near)[1], result(random_potential(), near)[1], 1e-5)
    equal(result(model, graph), first)


@pytest.mark.parametrize("evict", [False, True])
@pytest.mark.parametrize("options", [{}, DIPOLES], ids=["energies", "dipoles"])
def test_backward_after_another_forward(options: dict, evict: bool) -> None:
    """Derivatives are those at the positions that they belong to, in any order and more than once."""
    model = compiled(random_potential(**options))
    graphs = [open_graph(model), shaken(open_graph(model))]
    expected = [result(model, graph)[1] for graph in graphs]
    positions = [graph.positions.clone().requires_grad_(True) for graph in graphs]
    energies = [
        model.learned_energy(graph.with_positions(at)).sum() for graph, at in zip(graphs, positions, strict=True)
    ]
    if evict:
        for count in range(3, 12):
            model.network_energy(other_beads(graphs[0], count))
    for number in (0, 1, 0, 1, 1):
        (slope,) = torch.autograd.grad(energies[number], positions[number], retain_graph=True)
        assert torch.equal(-slope, expected[number])


def test_derivatives_of_some_of_the_outputs() -> None:
    """By the dipoles or charges alone, which are read from the last layer, and by both."""
    potential = random_potential(**DIPOLES)
    model, graph = compiled(potential), open_graph(potential)

    def slopes(each: Potential) -> list[torch.Tensor]:
        positions = graph.positions.clone().requires_grad_(True)
        out = each.outputs(graph.with_positions(positions))
        wanted = [
            out.dipoles[:, 0].sum(),
            out.charges.square().sum(),
            out.energies[3],
            out.energies[4] * out.weights[5],
        ]
        return [torch.autograd.grad(one, positions, retain_graph=True)[0] for one in wanted]

    for found, expected in zip(slopes(model), slopes(potential), strict=True):
        close(found, expected, 5e-5)


def test_threads_at_once(model) -> None:
    """They share the weights, not what is computed."""
    graph = periodic_graph(model)
    graphs = [shaken(graph, seed) for seed in range(3)]
    expected = [result(model, graph) for graph in graphs]
    found: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    start = threading.Barrier(len(graphs))

    def work(number: int) -> None:
        start.wait()
        found[number] = [result(model, graphs[number]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(graphs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, right in enumerate(expected):
        assert len(found[number]) == 20
        for each in found[number]:
            equal(each, right)


def test_derivatives_in_another_thread(model) -> None:
    graph = open_graph(model)
    expected = result(model, graph)[1]
    positions = graph.positions.clone().requires_grad_(True)
    energy = model.learned_energy(graph.with_positions(positions)).sum()
    thread = threading.Thread(target=energy.backward)
    thread.start()
    thread.join()
    assert torch.equal(-positions.grad, expected)


def test_several_threads_for_one_call() -> None:
    """Beads are shared out among threads of torch, if there are enough of them: the results are those of one thread."""
    potential = random_potential()
    positions = 0.45 * torch.cartesian_prod(*[torch.arange(7.0)] * 3) + 0.04 * torch.randn(343, 3)
    graph = build_graph(positions, torch.arange(343) % 3, CUTOFF)
    one, other = compiled(potential), compiled(potential)
    expected, before = result(one, graph), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = result(other, graph)
    finally:
        torch.set_num_threads(before)
    for part, right in zip(found, expected, strict=True):
        close(part, right, 1e-13)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", [{}, DIPOLES], ids=["energies", "dipoles"])
def test_mode_of_the_caller_does_not_matter(options: dict, mode) -> None:
    """Neither where it is called nor where it is compiled."""
    potential = random_potential(**options)
    graph = open_graph(potential)
    expected = result(compiled(potential), graph)
    with mode():
        inside = compiled(potential)
        assert torch.equal(inside.learned_energy(graph), expected[0])
        equal(result(inside, graph), expected)
    equal(result(inside, graph), expected)


@pytest.mark.parametrize("options", [{}, {"electrostatics": {"charges": "types"}}, DIPOLES], ids=str)
def test_second_derivatives_are_refused(options: dict) -> None:
    """Also where charges have some, which alone would be wrong."""
    model = compiled(random_potential(**options))
    graph = open_graph(model)
    with pytest.raises(NotImplementedError, match="a compiled network has no second derivatives"):
        hessian_vector_product(model.learned_energy, graph, torch.ones_like(graph.positions))
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        energy_and_forces(model.learned_energy, graph, create_graph=True)
