"""Energy of ions whose charges change as they move, without a thermostat."""

import torch  # isort: skip  (before openmm)
import numpy as np
import openmm
import pytest

from cgenn.graph import BeadGraph
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Moments, Potential
from cgenn.potential.priors import Priors, RepulsionPrior
from cgenn.simulation.conservation import Drift, energy_drift
from cgenn.simulation.system import create_system
from cgenn.topology import BeadTopology

EDGE = 1.4
IONS = BeadTopology.build(["P", "N"] * 8, [30.0] * 16, charges=[0.5, -0.5] * 8)
PRIORS = Priors(
    repulsion={
        "N|P": RepulsionPrior(sigma=0.3, epsilon=4.0),
        "N|N": RepulsionPrior(sigma=0.34, epsilon=2.0),
        "P|P": RepulsionPrior(sigma=0.34, epsilon=2.0),
    }
)


def salt() -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """Sixteen ions near places of a simple cubic lattice, signs alternating, in a box with some places free."""
    places = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
    odd = places.sum(axis=1) % 2
    positions = np.empty((16, 3))
    positions[::2], positions[1::2] = places[odd == 0][:8], places[odd == 1][:8]
    positions = positions * EDGE / 3 + 0.02 * np.random.default_rng(0).normal(size=(16, 3))
    return IONS, positions, EDGE * np.eye(3)


def potential(**electrostatics) -> Potential:
    torch.manual_seed(0)
    config = PotentialConfig(
        types=("N", "P"), average_neighbors=8.0, energy_scale=0.2, temperature=300.0, channels=4, radial_width=8,
        cutoff=0.6, layers=1, electrostatics=ElectrostaticsConfig(groups="system", **electrostatics),
        type_charges=(-0.5, 0.5),
    )  # fmt: skip
    result = Potential(config, PRIORS).requires_grad_(False)
    if result.network.charge_readout is not None:
        result.network.charge_readout.charge[-1].weight *= 3.0
    return result


def drift(model: Potential, timestep: float = 0.001, length: float = 0.3) -> Drift:
    return energy_drift(model, salt(), [timestep], length, backend="python")[0]


def change_in_a_run(result: Drift, length: float = 0.3) -> float:
    """Of the total energy, per degree of freedom [kT]."""
    return result.fluctuation + abs(result.drift) * length / 1000


def test_predicted_charges_conserve_energy_as_constant_ones_do() -> None:
    predicted, constant = drift(potential(accuracy=1e-6)), drift(potential(charges="types", accuracy=1e-4))
    assert change_in_a_run(predicted) < 2 * change_in_a_run(constant)
    assert change_in_a_run(predicted) < 1e-3
    coarse = drift(potential(accuracy=1e-6), timestep=0.002)
    assert 3.0 < coarse.fluctuation / predicted.fluctuation < 5.0  # the error of the integrator and no other


def test_without_the_change_of_the_charges_energy_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same energy, with dq/dR left out of the forces."""
    right = drift(potential(accuracy=1e-6))
    whole = Potential.moments

    def constant(model: Potential, graph: BeadGraph, outputs=None) -> Moments:
        return Moments(*(None if part is None else part.detach() for part in whole(model, graph, outputs)))

    monkeypatch.setattr(Potential, "moments", constant)
    wrong = drift(potential(accuracy=1e-6))
    assert change_in_a_run(wrong) > 30 * change_in_a_run(right)


def test_under_a_barostat() -> None:
    """After many changes of the box the energy in OpenMM is still that of the potential, to the accuracy asked for."""
    topology, positions, box = salt()
    model = potential(accuracy=1e-6)
    system, _ = create_system(model, topology, box=box, backend="python", precision="double")
    barostat = openmm.MonteCarloBarostat(2000.0, 300.0, 2)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 5.0, 0.001)
    integrator.setRandomNumberSeed(2)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    integrator.step(120)
    state = context.getState(energy=True, positions=True)
    cell = torch.tensor([list(row._value) for row in state.getPeriodicBoxVectors()])
    assert abs(float(cell[0, 0]) - EDGE) > 0.02
    graph = model.graph(topology, torch.from_numpy(state.getPositions(asNumpy=True)._value)[None], cell[None])
    assert state.getPotentialEnergy()._value == pytest.approx(model(graph, topology).item(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dipoles", [False, True], ids=["charges", "dipoles"])
def test_no_drift(dipoles: bool) -> None:
    result = drift(potential(accuracy=1e-6, dipoles=dipoles), timestep=0.001, length=4.0)
    assert abs(result.drift) < max(5 * result.error, 0.05)
