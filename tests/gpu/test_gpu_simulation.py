"""Simulations on a CUDA device: `pytest -m gpu`."""

from __future__ import annotations

import torch  # isort: skip
import numpy as np
import openmm
import pytest

from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import BondPrior, PairPrior, Priors, RampPrior, RepulsionPrior
from cgenn.simulation.backends import openmm_torch_problem
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    """Skip where the GPU, or what pip has to install for it, is missing."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if "CUDA" not in names:
        pytest.skip("OpenMM has no CUDA platform: pip install 'openmm[cuda12]' (or cuda13)")


@pytest.fixture(params=["python", "openmm-torch"])
def backend(request) -> str:
    if request.param == "openmm-torch" and openmm_torch_problem() is not None:
        pytest.skip(f"openmm-torch: {openmm_torch_problem()}")
    return request.param


@pytest.fixture
def potential() -> Potential:
    torch.manual_seed(3)
    config = PotentialConfig(
        types=("A", "B"), cutoff=0.8, channels=16, average_neighbors=20.0, energy_scale=1.0, temperature=300.0,
        excluded_bonds=1,
    )  # fmt: skip
    priors = Priors(
        bonds={"A|B": BondPrior(length=0.3, k=2e4)},
        repulsion={key: RepulsionPrior(sigma=0.25, epsilon=1.0) for key in ("A|A", "A|B", "B|B")},
        pairs=PairPrior(range=0.7, coefficients={"A|A": (2.0, 1.0, -0.5, 0.2), "A|B": (0.0, 3.0, 1.0, -1.0)}),
        ramp=RampPrior(height=-0.5, range=0.8),
    )
    return Potential(config, priors).requires_grad_(False).eval()


@pytest.fixture
def liquid() -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """Dimers in a triclinic box [nm]."""
    places = np.stack(np.meshgrid(*[np.arange(6) * 0.45] * 3), axis=-1).reshape(-1, 3)
    ends = places[:, None] + [[[0.0, 0.0, 0.0], [0.3, 0.02, -0.01]]]
    positions = (ends + np.random.default_rng(1).normal(scale=0.01, size=ends.shape)).reshape(-1, 3)
    topology = BeadTopology.build(["A", "B"], [30.0, 40.0], bonds=[(0, 1)]).repeat(216)
    return topology, positions, np.array([[2.7, 0, 0], [0.3, 2.7, 0], [-0.2, 0.4, 2.7]])


def forces(potential, liquid, platform: str, **settings) -> tuple[float, np.ndarray]:
    topology, positions, box = liquid
    system, _ = create_system(potential, topology, box=box, **settings)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(positions)
    context.getIntegrator().step(0)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def test_forces_are_those_of_the_reference_platform(potential, liquid, backend):
    energy, found = forces(potential, liquid, "CUDA", backend=backend)
    right_energy, right = forces(potential, liquid, "Reference", backend="python", precision="double", device="cpu")
    assert energy == pytest.approx(right_energy, rel=1e-4)
    np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_runs_and_goes_on(potential, liquid, backend, ensemble, tmp_path):
    settings = {"report_interval": 50, "platform": "CUDA", "device": "cuda", "backend": backend, "ensemble": ensemble}
    simulate(potential, liquid, SimulationConfig(steps=500, **settings), tmp_path, progress=False)
    run = simulate(potential, liquid, SimulationConfig(steps=1000, **settings), tmp_path, progress=False)
    assert run.record["platform"] == "CUDA"
    assert run.n_frames == 20
    assert 200 < run.states()["temperature [K]"].mean() < 400


def test_replicas(potential, backend):
    topology = BeadTopology.build(["A", "B"], [30.0, 40.0], bonds=[(0, 1)])
    positions = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]])
    system, _ = create_system(potential, topology, replicas=200, backend=backend, device="cuda")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CUDA"))
    context.setPositions(np.tile(positions, (200, 1)))
    found = context.getState(forces=True).getForces(asNumpy=True)._value.reshape(200, 2, 3)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), atol=1e-2)


def test_two_contexts_do_not_disturb_each_other(potential, liquid, backend):
    topology, positions, box = liquid
    system, _ = create_system(potential, topology, box=box, backend=backend)
    contexts = []
    for shift in (0.0, 0.05):
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CUDA"))
        context.setPositions(positions + shift * np.sin(positions[:, ::-1]))
        contexts.append(context)
    alone = [context.getState(energy=True).getPotentialEnergy()._value for context in contexts]
    for _ in range(5):
        for context, energy in zip(contexts, alone, strict=True):
            assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(energy, rel=1e-6)
