"""Whole runs: what is in the folder, going on after an interruption, and stopping when something breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
import torch

from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.potential.priors import BondPrior, Priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run
from cgenn.simulation.run import make_barostat, simulate
from cgenn.simulation.watch import SimulationError
from cgenn.topology import BeadTopology
from cgenn.units import BAR, thermal_energy

QUICK = {"steps": 60, "report_interval": 10, "checkpoint_interval": 20, "platform": "Reference", "backend": "python"}


def run(potential, start, out: Path, **settings) -> Run:
    return simulate(potential, start, SimulationConfig(**{**QUICK, **settings}), out, progress=False)


def with_priors(potential: Potential, priors: Priors) -> Potential:
    """The same network on other priors."""
    other = Potential(potential.config, priors).requires_grad_(False)
    other.load_state_dict(potential.state_dict())
    return other


@pytest.fixture
def start(topology, positions) -> tuple[BeadTopology, np.ndarray]:
    return topology, positions


@pytest.fixture(scope="module")
def dataset(topology, positions, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "cg.h5"
    frames = positions + np.random.default_rng(0).normal(scale=0.003, size=(30, 5, 3))
    BeadDataset.write(path, topology, Frames(frames), temperature=280.0)
    return path


def test_folder(potential, topology, dataset, tmp_path):
    result = run(potential, dataset, tmp_path / "run", replicas=3, formats=("dcd", "xtc"), minimize=True)
    assert result.finished
    assert (result.n_frames, result.replicas, result.temperature) == (18, 3, 300.0)
    frames = BeadDataset.open(result.trajectory)
    assert (frames.n_frames, frames.temperature, frames.segments) == (18, 300.0, [(0, 18)])
    assert frames.topology.to_dict() == topology.to_dict()
    for name in ("dcd", "xtc"):
        read = mdtraj.load(tmp_path / f"run/trajectory.{name}", top=tmp_path / "run/topology.pdb")
        np.testing.assert_allclose(read.xyz, result.positions, atol=2e-3)
    states = result.states()
    np.testing.assert_array_equal(states["step"], np.arange(10, 61, 10))
    np.testing.assert_allclose(states["time [ps]"], 0.002 * states["step"])
    total = sum(states[f"{name} [kJ/mol]"] for name in ("network", "priors", "kinetic"))
    np.testing.assert_allclose(states["total [kJ/mol]"], total, rtol=1e-8)
    assert np.isnan(states["volume [nm^3]"]).all()
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["ns_per_day"] > 0
    assert record["backend"] == "python"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or record["versions"]["torch"]


def test_same_seed_same_path_other_seed_another(potential, dataset, tmp_path):
    first, again, other = (
        run(potential, dataset, tmp_path / name, seed=seed, steps=20).positions
        for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("backend", ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)])
def test_extended_run_is_bit_exact(potential, dataset, tmp_path, backend):
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    settings = {"replicas": 2, "backend": backend, "equilibration": 15}
    whole = run(potential, dataset, tmp_path / "whole", **settings)
    run(potential, dataset, tmp_path / "parts", **settings, steps=20)
    parts = run(potential, dataset, tmp_path / "parts", **settings)
    np.testing.assert_array_equal(parts.positions, whole.positions)
    assert (tmp_path / "parts/state.csv").read_text() == (tmp_path / "whole/state.csv").read_text()


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_killed_run_goes_on_bit_exactly(potential, dataset, tmp_path, kind):
    potential.save(tmp_path / "model.safetensors")
    settings = {**QUICK, "steps": 20000, "report_interval": 10, "checkpoint_interval": 40}
    script = (
        "from cgenn.simulation.run import simulate; from cgenn.simulation.config import SimulationConfig; "
        f"simulate('model.safetensors', {str(dataset)!r}, SimulationConfig(**{settings}), 'run')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    record = tmp_path / "run/run.json"
    deadline = time.monotonic() + 120
    while not record.exists() or json.loads(record.read_text())["steps"] < 80:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(kind)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    if process.poll() is None:  # Python loses an interrupt that comes while an object is deallocated
        process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if kind == signal.SIGINT:
        assert errors.decode().strip().endswith("KeyboardInterrupt")
    reached = json.loads(record.read_text())["steps"]
    assert 80 <= reached < 20000
    target = reached + 80
    settings["steps"] = target
    continued = run(potential, dataset, tmp_path / "run", **settings)
    whole = run(potential, dataset, tmp_path / "whole", **settings)
    np.testing.assert_array_equal(continued.positions, whole.positions)
    assert (tmp_path / "run/state.csv").read_text() == (tmp_path / "whole/state.csv").read_text()
    assert continued.finished


def test_finished_run_is_not_redone(potential, start, tmp_path):
    run(potential, start, tmp_path, steps=20, formats=())
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    run(potential, start, tmp_path, steps=20, formats=())
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_settings_are_refused(potential, start, tmp_path):
    run(potential, start, tmp_path / "run", steps=20)
    with pytest.raises(ValueError, match=r"other settings \(timestep was 0.002, now 0.001\)"):
        run(potential, start, tmp_path / "run", timestep=0.001)
    with pytest.raises(ValueError, match="model_sha256"):
        run(Potential(potential.config, potential.priors), start, tmp_path / "run")
    with pytest.raises(ValueError, match="start_sha256"):
        run(potential, (start[0], start[1] + 0.001), tmp_path / "run")
    with pytest.raises(ValueError, match=r"20 steps already, more than `steps` = 10"):
        run(potential, start, tmp_path / "run", steps=10, checkpoint_interval=20)
    (tmp_path / "run/run.json").unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        run(potential, start, tmp_path / "run")


@pytest.mark.parametrize("ensemble", ["nve", "npt", "membrane", "area"])
def test_ensembles(potential, tmp_path, ensemble):
    box = np.diag([1.6] * 3)
    if ensemble in ("nve", "npt"):
        box[1, 0] = 0.2  # a membrane's box is not tilted
    places = np.stack(np.meshgrid(*[np.arange(4) * 0.4] * 3), axis=-1).reshape(-1, 3)
    topology = BeadTopology.build(["ALA-CA"] * 64, [40.0] * 64)
    settings = {"ensemble": ensemble, "pressure": 500.0, "steps": 80, "checkpoint_interval": 40, "formats": ("dcd",)}
    whole = run(potential, (topology, places, box), tmp_path / "whole", **settings)
    boxes = whole.read().box
    states = whole.states()
    np.testing.assert_allclose(states["volume [nm^3]"], np.linalg.det(boxes), rtol=1e-6)
    if ensemble == "nve":
        assert np.ptp(states["total [kJ/mol]"]) < 0.02 * states["kinetic [kJ/mol]"].mean()
    else:
        assert np.ptp(states["volume [nm^3]"]) > 0
        assert ensemble != "area" or np.ptp(boxes[:, 2, 2]) == 0
    read = mdtraj.load(tmp_path / "whole/trajectory.dcd", top=tmp_path / "whole/topology.pdb")
    np.testing.assert_allclose(read.unitcell_vectors, boxes, atol=1e-4)
    run(potential, (topology, places, box), tmp_path / "parts", **{**settings, "steps": 40})
    parts = run(potential, (topology, places, box), tmp_path / "parts", **settings)
    assert parts.n_frames == whole.n_frames
    if ensemble in ("nve", "npt"):
        np.testing.assert_array_equal(parts.positions, whole.positions)


def test_area_of_an_ideal_gas():
    """A = (N + 1) kT / -tension for N free particles in a box of constant height, whatever the pressure."""
    system, n, tension = openmm.System(), 20, -100.0
    for _ in range(n):
        system.addParticle(20.0)
    system.setDefaultPeriodicBoxVectors((3, 0, 0), (0, 3, 0), (0, 0, 2))
    system.addForce(openmm.CustomExternalForce("0 * periodicdistance(x, 0, 0, 0, 0, 0)"))  # barostats need a box
    system.addForce(make_barostat(SimulationConfig(ensemble="area", tension=tension, pressure=500.0), 300.0))
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.01)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.random.default_rng(0).uniform(0, 3, (n, 3)))
    boxes = []
    for _ in range(2000):
        integrator.step(50)
        boxes.append(np.diag(context.getState().getPeriodicBoxVectors(asNumpy=True)._value))
    x, y, z = np.array(boxes).T
    assert (z == 2).all()
    free = make_barostat(SimulationConfig(ensemble="membrane", tension=tension, pressure=500.0), 300.0)
    assert (free.getZMode(), free.getDefaultPressure()._value) == (openmm.MonteCarloMembraneBarostat.ZFree, 500.0)
    assert np.mean(x * y) == pytest.approx((n + 1) * thermal_energy(300.0) / (-tension * BAR), rel=0.1)


def test_bad_requests(potential, start, tmp_path):
    for ensemble in ("npt", "membrane", "area"):
        with pytest.raises(ValueError, match=f'ensemble "{ensemble}" needs a box'):
            run(potential, start, tmp_path, ensemble=ensemble)
    with pytest.raises(ValueError, match=r"`cutoff` is 1.5 nm, larger than the 0.8 nm that the network"):
        run(potential, start, tmp_path, cutoff=1.5)
    with pytest.raises(ValueError, match="platform 'HIP' is not available here"):
        run(potential, start, tmp_path, platform="HIP")
    with pytest.raises(ValueError, match="one for each of 3 replicas, got 2"):
        run(potential, (start[0], np.stack([start[1]] * 2)), tmp_path, replicas=3)
    with pytest.raises(ValueError, match="positions must be those of 5 beads"):
        run(potential, (start[0], start[1][:4]), tmp_path)
    with pytest.raises(ValueError, match="bead 2 is not finite"):
        run(potential, (start[0], np.where(np.arange(5)[:, None] == 2, np.inf, start[1])), tmp_path)
    with pytest.raises(ValueError, match="multiple of `report_interval`"):
        SimulationConfig(steps=15, report_interval=10)
    with pytest.raises(ValueError, match="not the folder of a run"):
        Run.open(tmp_path)
    assert not (tmp_path / "trajectory.h5").exists()


@pytest.mark.parametrize("backend", ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)])
def test_broken_network_stops_with_step_bead_and_term(potential, start, tmp_path, backend):
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    broken = Potential(potential.config, potential.priors).requires_grad_(False)
    next(broken.network.parameters()).fill_(float("nan"))
    with pytest.raises(SimulationError, match=r"step 0: .*`network`") as caught:
        run(broken, start, tmp_path, backend=backend)
    assert (caught.value.step, caught.value.term) == (0, "network")
    assert isinstance(caught.value.__cause__, FloatingPointError)


def test_run_away_bond_is_named_and_the_last_checkpoint_kept(potential, start, tmp_path):
    priors = potential.priors.model_dump()
    priors["bonds"]["ALA-C|NME-N"] = {"length": 0.02, "k": 0.0}
    loose = with_priors(potential, Priors(**priors))
    with pytest.raises(SimulationError, match=r"step 10: the bond of bead 3 \(C, type 'ALA-C'\) and bead 4") as caught:
        run(loose, start, tmp_path)
    assert (caught.value.step, caught.value.bead) == (10, 3)


@pytest.mark.parametrize("backend", ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)])
def test_explosion_names_the_term(potential, start, tmp_path, backend):
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    priors = Priors(bonds={**potential.priors.bonds, "ALA-CA|ALA-N": BondPrior(length=0.146, k=1e9)})
    stiff = with_priors(potential, priors)
    with pytest.raises(SimulationError) as caught:
        run(stiff, start, tmp_path, steps=2000, report_interval=1000, checkpoint_interval=1000, backend=backend)
    assert caught.value.term == "bonds"
    assert caught.value.bead in (1, 2)
