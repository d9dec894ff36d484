"""The kernels for GPUs: what they compute, on a processor, and that they can be compiled where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import warp as wp

from cgenn.compiled.edges import ListedEdges
from cgenn.compiled.launch import kernel
from cgenn.compiled.network import CompiledNetwork
from cgenn.compiled.pairs import _SELECT
from cgenn.potential.compiled import CompiledPotential, compiled
from cgenn.potential.derivatives import energy_and_forces

from .conftest import close, open_graph, periodic_graph, random_potential
from .test_network import CHARGES, DIPOLES, agree

ARCHITECTURE = 90


@pytest.fixture(autouse=True)
def _threads(monkeypatch) -> None:
    """A thread for each channel, as on a GPU; here one follows the other."""
    for module in ("launch", "network"):
        monkeypatch.setattr(f"cgenn.compiled.{module}.has_threads", lambda device: True)
    monkeypatch.setattr("cgenn.compiled.radial.TOLERANCE", 1e-8)
    monkeypatch.setattr("cgenn.compiled.radial._MOST", 8192)


@pytest.mark.parametrize("place", [open_graph, periodic_graph])
@pytest.mark.parametrize(
    "options",
    [
        {"lmax": 0, "channels": 5},
        {"lmax": 1, "layers": 3, "channels": 40},
        {"lmax": 2, "reflection_invariant": True, "channels": 5, **DIPOLES},
        {"lmax": 2, "layers": 3, "bead_features": ("charge", "mass"), **CHARGES},
        pytest.param({"lmax": 3, **DIPOLES}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_agrees_with_the_network(options: dict, place) -> None:
    potential = random_potential(**options)
    agree(potential, place(potential), 1e-7)


def test_forces_of_a_simulation() -> None:
    """Without autograd, in single precision."""
    potential = random_potential()
    single = random_potential(torch.float32)
    graph, exact = periodic_graph(single), periodic_graph(potential)
    energies, forces, _ = compiled(single).network_energy_forces_torques(graph)
    right = energy_and_forces(potential.network_energy, exact)
    close(energies.unflatten(0, (2, -1)).sum(1), right[0], 1e-5)
    close(forces, right[1], 3e-5)


@pytest.mark.parametrize("lmax", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_all_kernels_compile_for_a_gpu(lmax: int, tmp_path: Path) -> None:
    """To machine code: no GPU is needed for that."""
    single = random_potential(torch.float32, lmax=lmax, channels=32)
    network = compiled(single).network
    assert isinstance(network, CompiledNetwork)
    graph = periodic_graph(single)
    edges = ListedEdges(graph.receivers, graph.senders, graph.shifts, graph.batch, 2, 0.8)
    kernels = [made for each in network.constants for made in each.kernels.values()]
    kernels += [edges._near.kernel, edges._shape.kernel, edges._collect.kernel, kernel(_SELECT, torch.float32, 8)]
    modules = {id(made.module): made.module for made in kernels}
    for number, module in enumerate(modules.values()):
        folder = tmp_path / str(number)
        wp.compile_aot_module(module, arch=ARCHITECTURE, module_dir=folder)
        assert list(folder.glob("*.cubin"))


@pytest.mark.parametrize("options", [{"bead_features": ("charge",)}, CHARGES], ids=str)
def test_kernels_that_are_wrong_are_not_relied_on(options: dict, monkeypatch, caplog) -> None:
    """On a GPU forces are compared; where they differ, the network itself is used, and the log says why."""
    potential = random_potential(torch.float32, **options)
    monkeypatch.setattr(CompiledPotential, "on_gpu", property(lambda potential: True))
    assert isinstance(compiled(potential), CompiledPotential)
    monkeypatch.setattr("cgenn.compiled.layer_constants.THIRD", 0.5)
    with caplog.at_level("WARNING"):
        assert compiled(potential) is potential
    assert "the forces of its kernels are off by" in caplog.text
