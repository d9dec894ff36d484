"""Forces are the derivatives of the energy that is said, and both are as symmetric as that of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from e3nn import o3

from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.compiled import compiled
from cgenn.potential.derivatives import energy_and_forces, virial
from cgenn.potential.potential import Potential

from .conftest import BEADS, CUTOFF, EXACT, close, open_graph, periodic_graph, places, random_potential

STEP = 1e-5
"""Of finite differences [nm]."""


def slope(energy, at: torch.Tensor, change: torch.Tensor) -> float:
    """dE/dt at t = 0 of the sum of energies at `at` + t `change`, to the fourth order of the step."""
    near, far = (energy(at + n * STEP * change).sum() - energy(at - n * STEP * change).sum() for n in (1, 2))
    return ((8 * near - far) / (12 * STEP)).item()


@pytest.mark.parametrize("place", [open_graph, periodic_graph])
@pytest.mark.parametrize(
    "options",
    [{"lmax": 0}, {"lmax": 1, "layers": 3}, {"lmax": 1, "electrostatics": {"dipoles": True}}, {"lmax": 2}],
    ids=str,
)
def test_forces_are_exact(options: dict, place) -> None:
    """Those of each bead, and of the cell, against finite differences."""
    model = compiled(random_potential(**options))
    graph = place(model)
    _, forces = energy_and_forces(model.learned_energy, graph)

    def energy(positions: torch.Tensor) -> torch.Tensor:
        return model.learned_energy(graph.with_positions(positions))

    largest = forces.abs().max().item()
    for number in range(0, forces.numel(), 5):
        change = torch.zeros(forces.numel())
        change[number] = 1.0
        found = -slope(energy, graph.positions, change.view_as(forces))
        assert found == pytest.approx(forces.flatten()[number].item(), abs=1e-7 * largest)
    if graph.cell is None:
        return
    found = virial(model.learned_energy, graph)
    largest = found.abs().max().item()
    for row, column in ((0, 0), (1, 1), (2, 0)):
        change = torch.zeros(2, 3, 3)
        change[0, row, column] = change[0, column, row] = 1.0

        def strained(strain: torch.Tensor) -> torch.Tensor:
            return model.learned_energy(graph.strained(strain))

        expected = (found[0] * change[0]).sum().item()
        assert slope(strained, torch.zeros(2, 3, 3), change) == pytest.approx(expected, abs=1e-7 * largest)


def moved(graph: BeadGraph, turn: torch.Tensor) -> BeadGraph:
    cell = None if graph.cell is None else graph.cell @ turn.T
    return replace(graph, positions=graph.positions @ turn.T + torch.tensor([0.3, -1.0, 0.5]), cell=cell)


@pytest.mark.parametrize("place", [open_graph, periodic_graph])
@pytest.mark.parametrize("lmax", [1, 2])
@pytest.mark.parametrize("reflection_invariant", [False, True])
def test_turns_with_the_beads(lmax: int, reflection_invariant: bool, place) -> None:
    """Rotations and translations; reflections, where the irreps are those of O(3)."""
    model = compiled(random_potential(lmax=lmax, reflection_invariant=reflection_invariant))
    graph, turn = place(model), o3.rand_matrix()
    for sign in (1, -1):
        energies, forces = energy_and_forces(model.network_energy, graph)
        found = energy_and_forces(model.network_energy, moved(graph, sign * turn))
        if sign == -1 and not reflection_invariant:
            assert (found[0] - energies).abs().max() > 1e-4 * energies.abs().max()
            continue
        close(found[0], energies, EXACT)
        close(found[1], forces @ (sign * turn).T, EXACT)


def test_dipoles_turn_with_the_beads() -> None:
    model = compiled(random_potential(electrostatics={"dipoles": True}))
    graph, turn = open_graph(model), o3.rand_matrix()
    found, expected = model.moments(moved(graph, turn)), model.moments(graph)
    close(found.charges, expected.charges, EXACT)
    close(found.dipoles, expected.dipoles @ turn.T, EXACT)


def test_order_of_the_beads_does_not_matter() -> None:
    model = compiled(random_potential())
    types, order = torch.arange(BEADS) % 3, torch.randperm(BEADS)
    energies, forces = energy_and_forces(model.network_energy, build_graph(places(), types, CUTOFF))
    found = energy_and_forces(model.network_energy, build_graph(places()[order], types[order], CUTOFF))
    close(found[0], energies, EXACT)
    close(found[1], forces[order], EXACT)


def pair(model: Potential, distance: float) -> tuple[float, float]:
    """Energy and force between two beads that list each other."""
    types, ends = torch.tensor([0, 1]), torch.tensor([[0.0, 0.0, 0.0], [0.48, 0.6, 0.64]])
    graph = build_graph(0.1 * ends, types, CUTOFF).with_positions(distance * ends)
    energies, forces = energy_and_forces(model.network_energy, graph)
    return energies.item(), forces[1].norm().item()


def test_energy_and_forces_end_smoothly_at_the_cutoff() -> None:
    """Like (cutoff - r)^3, and the force like its square."""
    model = compiled(random_potential())
    apart = pair(model, 2 * CUTOFF)
    assert apart[1] == 0.0
    assert pair(model, CUTOFF) == apart
    assert pair(model, 0.8 * CUTOFF)[1] > 1e-2
    energies, forces = zip(*(pair(model, CUTOFF - gap) for gap in (1e-2, 1e-3)), strict=True)
    first, second = (abs(energy - apart[0]) for energy in energies)
    assert second < 2e-3 * first
    assert forces[1] < 2e-2 * forces[0]
    assert pair(model, CUTOFF * (1 - 1e-6)) == pytest.approx(apart, abs=1e-6)
