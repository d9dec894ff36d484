"""Which network a simulation uses, and that it shows in nothing."""

from __future__ import annotations

import torch  # isort: skip
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import openmm
import pytest

from cgenn.compiled.network import CompiledNetwork
from cgenn.nn.network import EquivariantNetwork
from cgenn.potential.compiled import compiled
from cgenn.simulation import force
from cgenn.simulation.conservation import Drift, energy_drift
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.system import create_system
from tests.compiled.conftest import random_potential
from tests.simulation.conftest import discs, molecules, positions, potential, topology, with_charges  # noqa: F401


def network_of(built: LearnedForce, *call) -> torch.nn.Module:
    """The network that a force calls."""
    built.evaluate(*call)
    return built._memory.memory.potential.network


def test_the_original_stays_as_it_is(potential, topology, positions):  # noqa: F811
    other = compiled(potential)
    assert isinstance(other.network, CompiledNetwork)
    assert isinstance(potential.network, EquivariantNetwork)
    assert other.dtype == potential.dtype
    assert other.config is potential.config
    graph = potential.graph(topology, torch.as_tensor(positions)[None])
    torch.testing.assert_close(other(graph, topology), potential(graph, topology), rtol=1e-6, atol=1e-6)


def test_what_is_refused_runs_as_it_is(potential, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr("cgenn.compiled.network.refusal", lambda network: "it is of no use")
    with caplog.at_level(logging.INFO, logger="cgenn"):
        assert compiled(potential) is potential
    assert "the network is not compiled: it is of no use" in caplog.text
    with pytest.raises(ValueError, match="this network cannot be compiled: it is of no use"):
        CompiledNetwork(potential.network)


def test_degree_five_runs_as_it_is(caplog):
    deep = random_potential(lmax=5)
    with caplog.at_level(logging.INFO, logger="cgenn"):
        assert compiled(deep) is deep
    assert "would take minutes to compile" in caplog.text


def test_what_warp_cannot_compile_runs_as_it_is(potential, monkeypatch, caplog):  # noqa: F811
    def fail(*arguments, **options):
        raise Exception("CPU kernel build failed")

    monkeypatch.setattr("warp.force_load", fail)
    with caplog.at_level(logging.WARNING, logger="cgenn"):
        assert compiled(potential) is potential
    assert "the kernels of the network cannot be compiled: CPU kernel build failed" in caplog.text


def test_saving_is_left_to_the_original(potential, tmp_path):  # noqa: F811
    with pytest.raises(TypeError, match="save the potential it was compiled from"):
        compiled(potential).save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("precision", "kind"), [("single", CompiledNetwork), ("double", EquivariantNetwork)])
def test_in_single_precision_only(potential, topology, positions, precision, kind):  # noqa: F811
    built = LearnedForce.build(potential, topology, precision=precision, device="cpu")
    assert type(network_of(built, torch.as_tensor(positions))) is kind


def forces_of(system: openmm.System, places: np.ndarray) -> tuple[float, np.ndarray]:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU"))
    context.setPositions(places)
    state = context.getState(energy=True, forces=True, groups={0})
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


@pytest.mark.parametrize("electrostatics", [None, {"charges": "predicted", "dipoles": True}], ids=str)
def test_forces_in_openmm(potential, molecules, electrostatics):  # noqa: F811
    """Of the network and the charges that it predicts, in a tilted box.

    In single precision the network itself is off by 1.15e-5.
    """
    model = potential if electrostatics is None else with_charges(potential, **electrostatics, accuracy=1e-6)
    beads, places, box = molecules
    found, expected = (
        forces_of(create_system(model, beads, box=box, precision=precision, device="cpu")[0], places)
        for precision in ("single", "double")
    )
    largest = np.abs(expected[1]).max()
    assert largest > 1
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1.5e-5 * largest)


def test_beads_in_the_same_place_are_named(potential, topology, positions):  # noqa: F811
    built = LearnedForce.build(potential, topology, device="cpu")
    together = positions.copy()
    together[2] = together[1]
    with pytest.raises(FloatingPointError, match="beads 1 and 2 are in the same place"):
        built.evaluate(torch.as_tensor(together))


@contextlib.contextmanager
def nothing_compiled() -> Iterator[None]:
    """Single precision with the network itself, in forces that are built from now on."""
    force._potential.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(force, "compiled", lambda potential: potential)
        patch.setattr(force, "_LIVE", OrderedDict())
        yield
    force._potential.cache_clear()


@pytest.mark.parametrize("length", [0.1, pytest.param(3.0, marks=pytest.mark.slow)])
def test_energy_is_conserved_as_well(potential, topology, positions, length):  # noqa: F811
    """As with the network itself in the same precision: without a thermostat, from the same start."""

    def drift() -> Drift:
        settings = {"replicas": 8, "backend": "python", "precision": "single"}
        return energy_drift(potential, (topology, positions), [0.0005], length, **settings)[0]

    found = drift()
    with nothing_compiled():
        built = LearnedForce.build(potential, topology, device="cpu")
        assert type(network_of(built, torch.as_tensor(positions))) is EquivariantNetwork
        expected = drift()
    assert found.fluctuation < 1.5 * expected.fluctuation
    assert abs(found.drift) < 2 * abs(expected.drift) + 5 * (found.error + expected.error)
