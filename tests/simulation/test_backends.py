"""The learned force inside OpenMM: both backends, copies, exceptions, import order."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from cgenn.simulation import backends
from cgenn.simulation.force import LearnedForce

BACKENDS = ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)]


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    if request.param == "openmm-torch":
        pytest.importorskip("openmmtorch")
    return request.param


@pytest.fixture
def force(potential, topology) -> LearnedForce:
    force = LearnedForce.build(potential, topology, replicas=3, precision="double", device="cpu")
    force.error = None
    return force


@pytest.fixture
def start(positions) -> np.ndarray:
    return (positions + np.random.default_rng(0).normal(scale=0.005, size=(3, 5, 3))).reshape(-1, 3)


def make_system(force: LearnedForce, backend: str) -> openmm.System:
    system = openmm.System()
    for _ in range(15):
        system.addParticle(12.0)
    system.addForce(backends.openmm_force(force, backend))
    return system


def make_context(system: openmm.System, start: np.ndarray, platform: str = "Reference") -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.0005)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform(platform))
    context.setPositions(start)
    return context


def energy_and_forces(context: openmm.Context) -> tuple[float, np.ndarray]:
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_gives_the_numbers_of_the_callable(force, backend, start, platform):
    context = make_context(make_system(force, backend), start, platform)
    energy, forces = energy_and_forces(context)
    right_energy, right_forces = force.evaluate(torch.as_tensor(start))
    assert energy == pytest.approx(right_energy.item(), rel=1e-6)
    np.testing.assert_allclose(forces, right_forces.numpy(), rtol=1e-6, atol=1e-5)
    assert np.abs(forces).max() > 1


@pytest.mark.openmmtorch
def test_backends_follow_the_same_path(force, start):
    pytest.importorskip("openmmtorch")
    ends = []
    for backend in ("python", "openmm-torch"):
        context = make_context(make_system(force, backend), start)
        context.getIntegrator().step(100)
        ends.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


def test_box_reaches_the_network(potential, topology, positions, backend):
    force = LearnedForce.build(potential, topology, periodic=True, precision="double", device="cpu")
    system = openmm.System()
    for _ in range(5):
        system.addParticle(12.0)
    system.addForce(backends.openmm_force(force, backend))
    assert system.usesPeriodicBoundaryConditions()
    box = np.array([[0.9, 0, 0], [0.2, 0.9, 0], [-0.1, 0.3, 0.9]])
    system.setDefaultPeriodicBoxVectors(*(2 * box).tolist())
    context = make_context(system, positions)
    context.setPeriodicBoxVectors(*box.tolist())
    energy, forces = energy_and_forces(context)
    right_energy, right_forces = force.evaluate(torch.as_tensor(positions), torch.as_tensor(box))
    assert energy == pytest.approx(right_energy.item(), rel=1e-9)
    np.testing.assert_allclose(forces, right_forces.numpy(), rtol=1e-6, atol=1e-6)


def test_copies_of_a_system_share_one_force(force, start):
    system = make_system(force, "python")
    right = energy_and_forces(make_context(system, start))
    text = openmm.XmlSerializer.serialize(system)
    for other in (copy.deepcopy(system), openmm.XmlSerializer.deserialize(text)):
        found = energy_and_forces(make_context(other, start))
        assert found[0] == right[0]
        np.testing.assert_array_equal(found[1], right[1])


def test_xml_opens_in_another_process_that_imported_openmm_first(force, start, tmp_path):
    system = make_system(force, "python")
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    np.save(tmp_path / "start.npy", start)
    script = """
        import openmm.app
        import numpy as np
        import torch
        from cgenn.simulation.backends import choose_backend
        system = openmm.XmlSerializer.deserialize(open("system.xml").read())
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions(np.load("start.npy"))
        print(context.getState(energy=True).getPotentialEnergy()._value, choose_backend("auto"))
    """
    energy, backend = run_script(script, tmp_path).split()
    assert float(energy) == pytest.approx(energy_and_forces(make_context(system, start))[0], rel=1e-12)
    assert backend == backends.choose_backend("auto")


@pytest.mark.openmmtorch
def test_system_with_openmm_torch_can_be_written(force):
    pytest.importorskip("openmmtorch")
    assert "TorchForce" in openmm.XmlSerializer.serialize(make_system(force, "openmm-torch"))


@pytest.mark.openmmtorch
def test_operator_finds_the_force_again(force, start, monkeypatch):
    pytest.importorskip("openmmtorch")
    context = make_context(make_system(force, "openmm-torch"), start)
    right = energy_and_forces(context)
    monkeypatch.setattr("cgenn.simulation.force._LIVE", OrderedDict())
    found = energy_and_forces(context)
    assert found[0] == right[0]


def run_script(script: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exception_keeps_type_and_place(force, backend, start):
    context = make_context(make_system(force, backend), start)
    context.setPositions(np.where(np.arange(45).reshape(15, 3) == 20, np.nan, start))
    with pytest.raises(openmm.OpenMMException, match=r"ValueError in the learned force: bead 6 has gone to"):
        context.getState(energy=True)
    assert isinstance(force.error, ValueError)
    context.setPositions(start)
    assert np.isfinite(energy_and_forces(context)[0])


def test_keyboard_interrupt_is_kept(force, backend, start):
    context = make_context(make_system(force, backend), start)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises((openmm.OpenMMException, KeyboardInterrupt)) as caught:
        context.getIntegrator().step(2_000)
    assert isinstance(caught.value, KeyboardInterrupt) or isinstance(force.error, KeyboardInterrupt)


def test_several_contexts_and_modes(force, backend, start):
    system = make_system(force, backend)
    contexts = [make_context(system, start + 0.01 * i) for i in range(2)]
    for context in contexts:
        with torch.inference_mode():
            energy, _ = energy_and_forces(context)
        assert energy == pytest.approx(force.evaluate(torch.as_tensor(start))[0].item(), rel=1e-9)
        context.reinitialize(preserveState=True)
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=3)
        assert energy_and_forces(context)[0] < energy


def test_unknown_backend(force):
    with pytest.raises(ValueError, match="unknown backend 'tensorflow'"):
        backends.openmm_force(force, "tensorflow")


def test_reason_why_openmm_torch_is_not_used(caplog):
    if backends.openmm_torch_problem() is None:
        assert backends.choose_backend("auto") == "openmm-torch"
        return
    with caplog.at_level("INFO", logger="cgenn"):
        assert backends.choose_backend("auto") == "python"
    assert "openmm-torch is not used" in caplog.text
    with pytest.raises(ImportError, match="'python' needs nothing more"):
        backends.choose_backend("openmm-torch")


def test_backend_is_named_in_the_log(force, backend, caplog):
    with caplog.at_level("INFO", logger="cgenn"):
        backends.openmm_force(force, backend)
    assert f"backend {backend}" in caplog.text
