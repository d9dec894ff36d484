"""The compiled network says what the network says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cgenn.compiled.network import CompiledNetwork
from cgenn.compiled.pairs import Order
from cgenn.graph import BeadGraph, build_graph
from cgenn.potential.compiled import compiled
from cgenn.potential.derivatives import energy_and_forces, virial
from cgenn.potential.potential import Potential

from .conftest import BEADS, CUTOFF, close, open_graph, periodic_graph, places, random_potential

CHARGES, DIPOLES = {"electrostatics": {"charges": "predicted"}}, {"electrostatics": {"dipoles": True}}
KERNELS = 1e-7
"""How far kernels in double precision may be off, with fine tables."""


@pytest.fixture
def _fine(monkeypatch) -> None:
    """Tables so fine that what differs is the fault of the kernels."""
    monkeypatch.setattr("cgenn.compiled.radial.TOLERANCE", 1e-8)
    monkeypatch.setattr("cgenn.compiled.radial._MOST", 8192)


def agree(potential: Potential, graph: BeadGraph, tolerance: float) -> None:
    """Energies of beads and systems, forces, virial, charges and dipoles, each relative to the largest number."""
    other = compiled(potential)
    assert isinstance(other.network, CompiledNetwork)
    found, expected = other.outputs(graph), potential.outputs(graph)
    for name, right in expected._asdict().items():
        assert (getattr(found, name) is None) == (right is None), name
        if right is not None:
            assert getattr(found, name).dtype == potential.dtype
            close(getattr(found, name), right, tolerance)
    (energies, forces), right = (energy_and_forces(each.learned_energy, graph) for each in (other, potential))
    assert energies.dtype == forces.dtype == potential.dtype
    close(energies, right[0], tolerance)
    close(forces, right[1], tolerance)
    if graph.cell is not None:
        close(virial(other.learned_energy, graph), virial(potential.learned_energy, graph), tolerance)
    energies, forces, _ = other.network_energy_forces_torques(graph)  # without autograd
    right = energy_and_forces(potential.network_energy, graph)
    close(energies.unflatten(0, (graph.n_systems, -1)).sum(1), right[0], tolerance)
    close(forces, right[1], tolerance)


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("place", [open_graph, periodic_graph])
@pytest.mark.parametrize(
    "options",
    [
        {"lmax": 0, "channels": 5},
        {"lmax": 1, "layers": 1},
        {"lmax": 1, "layers": 3, "channels": 40},
        {"lmax": 1, "reflection_invariant": True, "channels": 5, **DIPOLES},
        {"lmax": 2, "reflection_invariant": True, "channels": 5},
        {"lmax": 2, "layers": 3, "bead_features": ("charge", "mass"), **CHARGES},
        {"lmax": 3, **DIPOLES},
        pytest.param({"lmax": 2, "channels": 64, **DIPOLES}, marks=pytest.mark.slow),
        pytest.param({"lmax": 3, "reflection_invariant": True}, marks=pytest.mark.slow),
        pytest.param({"lmax": 4, "reflection_invariant": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_agrees_in_double_precision(options: dict, place) -> None:
    potential = random_potential(**options)
    agree(potential, place(potential), KERNELS)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"bead_features": ("charge",)}, torch.float64),
        (DIPOLES, torch.float64),
        ({"bead_features": ("charge",)}, torch.float32),
        (DIPOLES, torch.float32),
        ({"channels": 32}, torch.float32),
        pytest.param({"lmax": 2, "channels": 32, "layers": 3}, torch.float32, marks=pytest.mark.slow),
        pytest.param({"lmax": 3, "channels": 32}, torch.float32, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_agrees_as_far_as_tables_and_precision_allow(options: dict, dtype: torch.dtype) -> None:
    """With a network in double precision, which is rougher than a trained one."""
    energies, forces = (1e-6, 1e-5) if dtype == torch.float64 else (1e-5, 3e-5)
    single = random_potential(dtype, **options)
    double = random_potential(**options)
    double.load_state_dict(single.state_dict())
    graph, exact = periodic_graph(single), periodic_graph(double)
    found, expected = compiled(single).outputs(graph), double.outputs(exact)
    for name, right in expected._asdict().items():
        if right is not None:
            close(getattr(found, name), right, energies)
    found, expected = (
        energy_and_forces(model.network_energy, at) for model, at in ((compiled(single), graph), (double, exact))
    )
    assert found[1].dtype == dtype
    close(found[0], expected[0], energies)
    close(found[1], expected[1], forces)


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("lmax", [1, 2])
def test_edges_along_the_axes(lmax: int) -> None:
    """The frame of the edge has no pole where it breaks down: a perfect lattice, with edges along y and against it."""
    potential = random_potential(lmax=lmax)
    positions = 0.5 * torch.cartesian_prod(*[torch.arange(3.0)] * 3)
    nearly = positions + 1e-9 * torch.randn(27, 3)
    for at in (positions, nearly):
        agree(potential, build_graph(at, torch.arange(27) % 3 % 2, CUTOFF), KERNELS)


@pytest.mark.usefixtures("_fine")
def test_edges_beyond_the_cutoff_add_nothing() -> None:
    """Those of a list of neighbours with a skin."""
    potential = random_potential()
    other, near = compiled(potential), open_graph(potential)
    wide = build_graph(near.positions, near.types, CUTOFF + 0.25, batch=near.batch, n_systems=2)
    assert len(wide.receivers) > 1.2 * len(near.receivers)
    agree(potential, wide, KERNELS)
    for found, expected in zip(
        *(energy_and_forces(other.network_energy, graph) for graph in (wide, near)), strict=True
    ):
        close(found, expected, 1e-14)


def test_beads_without_neighbours() -> None:
    potential = random_potential()
    graph = build_graph(3.0 * places(), torch.arange(BEADS) % 3, CUTOFF)
    assert len(graph.receivers) == 0
    found, expected = (each.outputs(graph).energies for each in (compiled(potential), potential))
    close(found, expected, 1e-12)
    _, forces = energy_and_forces(compiled(potential).network_energy, graph)
    assert not forces.any()


@pytest.mark.usefixtures("_fine")
def test_types_and_features_matter() -> None:
    """Beads of other types at the same places, one after the other."""
    potential = random_potential(bead_features=("charge",), channels=8)
    graph = open_graph(potential)
    seen = []
    for types in (graph.types, (graph.types + 1) % 3):
        for features in (graph.features, 2 * graph.features):
            other = replace(graph, types=types, features=features)
            agree(potential, other, KERNELS)
            seen.append(compiled(potential).network_energy(other))
    assert len({round(float(energies.sum()), 6) for energies in seen}) == 4


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("place", [open_graph, periodic_graph])
def test_each_pair_counts_once(place, threads: int, monkeypatch) -> None:
    """Pairs of beads of one thread, of two, and of a bead with its image, with beads in another order."""
    monkeypatch.setattr("cgenn.compiled.network._FEW", 0)
    monkeypatch.setattr("cgenn.compiled.launch._FEWEST", 5)
    potential, before = (
        random_potential(lmax=1, layers=3, bead_features=("charge",), **DIPOLES),
        torch.get_num_threads(),
    )
    graph = place(potential)
    order = Order.of(graph.positions, graph.cell, graph.batch)
    assert not torch.equal(order.there, torch.arange(2 * BEADS))
    try:
        torch.set_num_threads(threads)
        agree(potential, graph, KERNELS)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [6, 10])
def test_some_beads_at_a_time(size: int, monkeypatch) -> None:
    """Whole sixes of beads, and what is left over."""
    potential = random_potential(lmax=1)
    graph = periodic_graph(potential)
    expected = energy_and_forces(compiled(potential).learned_energy, graph)
    monkeypatch.setattr("cgenn.compiled.network.CHUNK", size)
    for found, right in zip(energy_and_forces(compiled(potential).learned_energy, graph), expected, strict=True):
        close(found, right, 1e-12)


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("place", [open_graph, periodic_graph])
@pytest.mark.parametrize(("lmax", "channels", "wide"), [(2, 24, True), (2, 24, False), (1, 32, True), (1, 32, False)])
def test_on_processors_with_many_and_few_registers(lmax: int, channels: int, wide: bool, place, monkeypatch) -> None:
    """Kernels for both, whatever this processor is, with channels in several blocks."""
    monkeypatch.setattr("cgenn.compiled.layer_constants.has_wide_registers", lambda device: wide)
    potential = random_potential(lmax=lmax, channels=channels)
    agree(potential, place(potential), KERNELS)
    assert all(each.inside != wide for each in compiled(potential).network.constants)


@pytest.mark.parametrize("wide", [True, False])
def test_edges_that_are_not_numbers_or_far_too_long(wide: bool, monkeypatch) -> None:
    """What cannot be computed is seen in the energies, and does not crash; what is far away adds nothing."""
    monkeypatch.setattr("cgenn.compiled.layer_constants.has_wide_registers", lambda device: wide)
    potential = random_potential(torch.float32)
    graph, network = open_graph(potential), compiled(potential).network

    def energies(first: float) -> torch.Tensor:
        vectors = graph.edge_vectors().clone()
        back = (graph.receivers == graph.senders[0]) & (graph.senders == graph.receivers[0])
        vectors[0], vectors[back] = first, -first
        return network(vectors, graph.types, graph.receivers, graph.senders).energies

    assert energies(math.nan)[torch.stack([graph.receivers[0], graph.senders[0]])].isnan().all()
    far = energies(10.0)
    for longer in (1e6, 1e12, 1e18):
        close(energies(longer), far, 1e-6)
