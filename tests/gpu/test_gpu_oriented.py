"""Oriented beads on a CUDA device: `pytest -m gpu`."""

from __future__ import annotations

import torch  # isort: skip
import numpy as np
import openmm
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, RepulsionPrior
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.orientation_sites import add_orientation_sites
from cgenn.simulation.rigid import RigidBeads
from cgenn.simulation.run import simulate
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology

from .test_gpu_simulation import _needs_a_gpu, backend  # noqa: F401

pytestmark = pytest.mark.gpu

BODIES = {
    "flat": Body(symmetry="D2h", inertia=(0.7, 1.2, 1.9)),
    "full": Body(inertia=(0.6, 0.9, 1.2)),
    "rod": Body(symmetry="Dinfh", inertia=(0.3, 0.3, 0.0)),
}


@pytest.fixture
def liquid() -> tuple[Potential, BeadTopology, np.ndarray, np.ndarray, np.ndarray]:
    """Three kinds of oriented beads and points in a tilted box: potential, topology, positions, box, orientations."""
    torch.manual_seed(2)
    types = (*BODIES, "point")
    config = PotentialConfig(
        types=types, cutoff=0.9, channels=8, average_neighbors=20.0, energy_scale=1.0, temperature=300.0, bodies=BODIES
    )
    priors = Priors(repulsion={"flat|flat": RepulsionPrior(sigma=0.4, epsilon=1.0)})
    places = np.stack(np.meshgrid(*[np.arange(6) * 0.5] * 3), axis=-1).reshape(-1, 3)
    positions = places + np.random.default_rng(1).normal(scale=0.02, size=places.shape)
    topology = BeadTopology.build([*types] * 54, [60.0, 50.0, 40.0, 30.0] * 54, bodies=BODIES)
    orientations = Rotation.random(216, rng=3).as_quat(scalar_first=True)
    box = np.array([[3.0, 0, 0], [0.3, 3.0, 0], [-0.2, 0.4, 3.0]])
    return Potential(config, priors).requires_grad_(False).eval(), topology, positions, box, orientations


def resultants(liquid, platform: str, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    potential, topology, positions, box, orientations = liquid
    system, beads = create_system(potential, topology, box=box, **settings)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(add_orientation_sites(beads, positions, orientations)[1])
    state = context.getState(positions=True, forces=True)
    particles, forces = (torch.tensor(part(asNumpy=True)._value) for part in (state.getPositions, state.getForces))
    return RigidBeads.of(topology).map.resultants(particles, forces)


def test_forces_and_torques_are_those_of_the_reference_platform(liquid, backend):  # noqa: F811
    found = resultants(liquid, "CUDA", backend=backend)
    right = resultants(liquid, "Reference", backend="python", precision="double", device="cpu")
    for part, exact in zip(found, right, strict=True):
        torch.testing.assert_close(part, exact, rtol=1e-3, atol=1e-3 * exact.abs().max().item())


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_runs_and_goes_on(liquid, backend, ensemble, tmp_path):  # noqa: F811
    potential, topology, positions, box, orientations = liquid
    settings = {"report_interval": 50, "platform": "CUDA", "device": "cuda", "backend": backend, "ensemble": ensemble}
    start = (topology, positions, box, orientations)
    simulate(potential, start, SimulationConfig(steps=500, minimize=True, **settings), tmp_path, progress=False)
    run = simulate(potential, start, SimulationConfig(steps=1000, minimize=True, **settings), tmp_path, progress=False)
    assert run.n_frames == 20
    states = run.states()
    assert 200 < states["translation [K]"].mean() < 400
    assert 200 < states["rotation [K]"].mean() < 400
