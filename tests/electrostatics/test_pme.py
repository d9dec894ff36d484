from dataclasses import replace

import openmm
import pytest
import torch

from cgenn.electrostatics.charges import neutralise
from cgenn.electrostatics.settings import CoulombSettings, tune
from tests.electrostatics.conftest import Charges, join, random_charges, rock_salt
from tests.electrostatics.test_ewald import CRYSTALS, crystal


def openmm_pme(ions: Charges, alpha: float, points: int, cutoff: float) -> tuple[float, torch.Tensor]:
    """Energy and forces of OpenMM's PME, Reference platform."""
    assert ions.cell is not None
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*[openmm.Vec3(*row) for row in ions.cell[0].tolist()])
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(cutoff)
    force.setPMEParameters(alpha, points, points, points)
    for charge in ions.charges.tolist():
        system.addParticle(1.0)
        force.addParticle(charge, 1.0, 0.0)
    for first, second in [] if ions.excluded is None else ions.excluded.T.tolist():
        force.addException(first, second, 0.0, 1.0, 0.0)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(ions.positions.numpy())
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy()._value
    return energy, torch.from_numpy(state.getForces(asNumpy=True)._value.copy())


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("accuracy", [1e-4, 1e-6])
@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung(name: str, accuracy: float, tilted: bool) -> None:
    ions, expected = crystal(name, 3)
    if tilted:  # another cell of the same lattice
        ions = replace(ions, cell=torch.tensor([[1.0, 0, 0], [1, 1, 0], [-1, 1, 1]]) @ ions.cell)  # type: ignore[operator]
    settings = tune(ions.cell, len(ions.charges), accuracy=accuracy, method="pme")
    assert ions.energy(settings).item() == pytest.approx(expected, rel=accuracy)


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize("accuracy", [1e-4, 1e-6])
@pytest.mark.parametrize("kind", ["salt", "tilted"])
def test_forces_are_those_of_openmm(kind: str, accuracy: float, excluded: bool) -> None:
    if kind == "salt":
        ions = rock_salt(3)
    else:
        ions = random_charges(60, tilted=True)
        ions = replace(ions, positions=2 * ions.positions, cell=2 * ions.cell, charges=ions.charges + 0.1)  # type: ignore[operator]
    if excluded:  # neighbours in the same cell: OpenMM takes no image for them
        distances = torch.cdist(ions.positions, ions.positions)
        near = (distances < (0.3 if kind == "salt" else 0.5)).triu(1).nonzero()[:8].T
        ions = replace(ions, excluded=near)
    settings = tune(ions.cell, len(ions.charges), accuracy=accuracy, method="pme")
    cutoff = 0.84 if kind == "salt" else 0.98
    energy, forces = openmm_pme(ions, 4.35 / cutoff, 64 if accuracy > 1e-5 else 144, cutoff)
    assert (ions.forces(settings) - forces).norm() / forces.norm() < accuracy
    assert ions.energy(settings).item() == pytest.approx(energy, rel=accuracy)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("kind", ["salt", "tilted"])
def test_the_error_is_as_requested(kind: str, accuracy: float, dipoles: bool) -> None:
    ions = rock_salt(3) if kind == "salt" else random_charges(60, tilted=True, dipoles=dipoles)
    if dipoles and kind == "salt":
        ions = replace(
            ions, dipoles=0.03 * torch.randn(ions.positions.shape, generator=torch.Generator().manual_seed(1))
        )
    exact = ions.forces(tune(ions.cell, len(ions.charges), accuracy=1e-9, method="ewald"))
    settings = tune(ions.cell, len(ions.charges), accuracy=accuracy, method="pme", dipoles=dipoles)
    error = ions.forces(settings) - exact
    assert 0.03 * accuracy < error.norm() / exact.norm() < accuracy


TIGHT = CoulombSettings("pme", cutoff=1.6, alpha=3.4, mesh=(54, 54, 54), order=6)
EXACT = CoulombSettings("ewald", cutoff=1.6, alpha=3.4, k_cutoff=38.0)
"""The same split, so that what differs is the mesh."""


def derivatives(ions: Charges, settings: CoulombSettings) -> list[torch.Tensor]:
    """Energies, and derivatives of a weighted sum of them with respect to positions, charges, cell and dipoles."""
    values = {name: getattr(ions, name) for name in ("positions", "charges", "cell", "dipoles")}
    inputs = {name: value.clone().requires_grad_() for name, value in values.items() if value is not None}
    energies = replace(ions, **inputs).energy(settings, ions.pairs(settings))
    weighted = energies @ torch.linspace(1.0, -0.5, ions.n_systems)
    return [energies.detach(), *torch.autograd.grad(weighted, list(inputs.values()))]


def test_derivatives_are_those_of_ewald(dipoles: bool) -> None:
    """Also those of a batch, by a cell and of charged systems."""
    ions = join([random_charges(10, dipoles=dipoles), random_charges(24, tilted=True, dipoles=dipoles)])
    ions = replace(ions, charges=ions.charges + 0.1)
    settings = replace(TIGHT, order=10 if dipoles else 6)
    for mesh, waves in zip(derivatives(ions, settings), derivatives(ions, EXACT), strict=True):
        assert (mesh - waves).norm() < 1e-6 * waves.norm()


def test_what_is_known_of_a_cell_is_not_used_for_another() -> None:
    """Nor is what was made where derivatives were not wanted in the way of those."""
    ions = random_charges(tilted=True)
    assert ions.cell is not None
    with torch.inference_mode():
        ions.energy(TIGHT)
    for scale in (1.0, 1.02, 1.0):
        scaled = replace(ions, positions=scale * ions.positions, cell=scale * ions.cell)
        for mesh, waves in zip(
            [*derivatives(scaled, TIGHT)[:1], scaled.forces(TIGHT)],
            (scaled.energy(EXACT).detach(), scaled.forces(EXACT)),
            strict=True,
        ):
            assert (mesh - waves).norm() < 1e-6 * waves.norm()


def charges_of(positions: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Charges that depend on where the others are, neutral in all."""
    squares = (positions[:, None] - positions).square().sum(2, keepdim=True)
    seen = torch.tanh(torch.exp(-squares * parameters[0]).sum(1)) @ parameters[1]
    groups = torch.zeros(len(positions), dtype=torch.int64)
    return neutralise(seen, torch.ones_like(seen), groups, seen.new_zeros(1))


def gradient_of_loss(ions: Charges, settings: CoulombSettings) -> torch.Tensor:
    """Of a loss on forces, with respect to the parameters of charges and dipoles."""
    parameters = ions.positions.new_tensor([[3.0, 5.0, 8.0], [2.0, -1.5, 3.0]], requires_grad=True)
    positions = ions.positions.clone().requires_grad_()
    moving = replace(ions, positions=positions, charges=charges_of(positions, parameters))
    if ions.dipoles is not None:
        moving = replace(moving, dipoles=0.02 * ions.dipoles + 0.02 * moving.charges[:, None] * positions)
    energy = moving.energy(settings, ions.pairs(settings)).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    wanted = torch.linspace(-1.0, 1.0, gradient.numel()).reshape(-1, 3).to(gradient)
    loss = (gradient / 100 - wanted).square().mean()
    return torch.autograd.grad(loss, parameters)[0]


@pytest.mark.parametrize("tilted", [False, True])
def test_a_loss_on_forces_sees_through_the_charges(tilted: bool, dipoles: bool) -> None:
    ions = random_charges(tilted=tilted, dipoles=dipoles)
    exact = gradient_of_loss(ions, EXACT)
    mesh = gradient_of_loss(ions, replace(TIGHT, order=10 if dipoles else 6))
    assert (mesh - exact).norm() < 1e-6 * exact.norm()


def test_forces_of_charges_that_follow() -> None:
    """dE/dq dq/dR counts once: with a graph for the next derivatives, without one, and by differences."""
    for ions, error in ((random_charges(tilted=True), 1e-12), (random_charges(tilted=True).single(), 2e-6)):
        pairs, parameters = ions.pairs(TIGHT), ions.positions.new_tensor([[3.0, 5.0, 8.0], [2.0, -1.5, 3.0]])

        def energy(positions: torch.Tensor) -> torch.Tensor:
            charges = charges_of(positions, parameters)  # noqa: B023
            return replace(ions, positions=positions, charges=charges).energy(TIGHT, pairs).sum()  # noqa: B023

        positions = ions.positions.clone().requires_grad_()
        (plain,) = torch.autograd.grad(energy(positions), positions)
        (graphed,) = torch.autograd.grad(energy(positions), positions, create_graph=True)
        assert (graphed.detach() - plain).norm() < error * plain.norm()
        if ions.positions.dtype == torch.float64:
            step = 1e-5 * torch.ones_like(positions).cumsum(0).sin()
            slope = (energy(positions + step) - energy(positions - step)).item() / 2
            assert slope == pytest.approx((plain * step).sum().item(), rel=1e-6)


def test_strain() -> None:
    """The derivative of the energy by a strain, by differences."""
    ions, settings = random_charges(tilted=True), replace(TIGHT, mesh=(30, 30, 30))
    ions = replace(ions, charges=ions.charges + 0.1, excluded=torch.tensor([[0], [1]]))
    pairs = ions.pairs(settings)

    def energy(strain: torch.Tensor) -> torch.Tensor:
        deformed = torch.eye(3) + strain
        return replace(ions, positions=ions.positions @ deformed, cell=ions.cell @ deformed).energy(settings, pairs)  # type: ignore[operator]

    strain = torch.zeros((3, 3), requires_grad=True)
    (virial,) = torch.autograd.grad(energy(strain).sum(), strain)
    step = 1e-4
    for a in range(3):
        for b in range(3):
            shift = torch.zeros((3, 3))
            shift[a, b] = step
            with torch.no_grad():
                slope = (8 * (energy(shift) - energy(-shift)) - energy(2 * shift) + energy(-2 * shift)) / (12 * step)
            assert abs(slope - virial[a, b]) < 1e-6 * virial.norm()


def test_nothing_jumps_where_a_charge_crosses_the_mesh() -> None:
    ions = rock_salt(2)
    settings = tune(ions.cell, 64, method="pme")
    assert settings.mesh is not None
    assert ions.cell is not None
    pairs, step = ions.pairs(settings), ions.cell[0, 0, 0] / settings.mesh[0]
    crossing = (ions.positions[0, 0] / step).ceil() * step
    energies = []
    for side in (-1e-11, 1e-11):
        positions = ions.positions.clone()
        positions[0, 0] = crossing + side
        energies.append(replace(ions, positions=positions).energy(settings, pairs).item())
    assert energies[0] == pytest.approx(energies[1], rel=1e-10)


@pytest.mark.parametrize("batched", [False, True])
def test_single_precision(batched: bool) -> None:
    ions = join([rock_salt(2), rock_salt(2, seed=1)]) if batched else rock_salt(3)
    settings = tune(ions.cell, 216, method="pme")
    exact, single = derivatives(ions, settings), derivatives(ions.single(), settings)
    for ours, expected, error in zip(single, exact, (1e-6, 3e-6, 1e-6, 1e-5), strict=True):
        assert (ours - expected).norm() < error * expected.norm()
    assert single[1].dtype == torch.float32
    gradient, expected = (gradient_of_loss(each, settings) for each in (random_charges().single(), random_charges()))
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("single", [False, True])
def test_a_gpu_gives_the_same(single: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    ions = join([rock_salt(2), rock_salt(2, seed=1)])
    ions = ions.single() if single else ions
    settings = tune(ions.cell, 64, method="pme")
    tensors = {name: value.cuda() for name, value in vars(ions).items() if isinstance(value, torch.Tensor)}
    for ours, expected in zip(
        derivatives(replace(ions, **tensors), settings), derivatives(ions, settings), strict=True
    ):
        assert (ours.cpu() - expected).norm() < (1e-5 if single else 1e-10) * expected.norm()
    assert gradient_of_loss(replace(ions, **tensors), settings).is_cuda
