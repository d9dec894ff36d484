"""Geometry against mdtraj, energies at places where they are known, gradients where they are hard."""

import math

import mdtraj
import numpy as np
import pytest
import torch

from cgenn.potential.bonded import (
    angle_energy,
    angle_well_energy,
    angles,
    bond_energy,
    bond_well_energy,
    dihedral_energy,
    dihedrals,
    distances,
)
from cgenn.potential.priors import AnglePrior, BondPrior

BOND = BondPrior(length=0.9, k=300.0, kt=2.5, others=[{"length": 1.1, "k": 500.0, "energy": 1.0}])
ANGLE = AnglePrior(angle=3.0, k=90.0, kt=2.5, others=[{"angle": 2.1, "k": 60.0, "energy": 4.0}])
INDEX = {size: torch.arange(size)[None] for size in (2, 3, 4)}


def chain(torsion: float) -> torch.Tensor:
    """Four beads about the z axis: looked at along it, the last is turned clockwise from the first by `torsion`."""
    return torch.tensor(
        [[1.0, 0.0, 0.3], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [math.cos(torsion), math.sin(torsion), 1.2]]
    )


def test_geometry_is_that_of_mdtraj() -> None:
    positions = np.random.default_rng(0).normal(size=(12, 3))
    index = {
        size: np.random.default_rng(size).permuted(np.tile(np.arange(12), (20, 1)), axis=1)[:, :size] for size in INDEX
    }
    frame = mdtraj.Trajectory(positions, None)
    here = torch.from_numpy(positions.astype(np.float32)).double()
    oracles = [
        (distances, mdtraj.compute_distances, 2),
        (angles, mdtraj.compute_angles, 3),
        (dihedrals, mdtraj.compute_dihedrals, 4),
    ]
    for ours, theirs, size in oracles:
        expected = theirs(frame, index[size], periodic=False)[0]
        np.testing.assert_allclose(ours(here, torch.from_numpy(index[size])).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("torsion", [0.0, 0.5, 2.0, -0.5, -3.0])
def test_torsion_has_the_iupac_sign(torsion: float) -> None:
    """Clockwise from the front bead to the rear bead is positive; the mirror image has the opposite sign."""
    assert dihedrals(chain(torsion), INDEX[4]).item() == pytest.approx(torsion)
    mirrored = chain(torsion) * torch.tensor([1.0, -1.0, 1.0])
    assert dihedrals(mirrored, INDEX[4]).item() == pytest.approx(-torsion)


def test_energies_where_they_are_known() -> None:
    two = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.4]])
    assert bond_energy(two, INDEX[2], torch.tensor([[0.4, 200.0]])).item() == pytest.approx(1.0)
    right = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    parameters = torch.tensor([[math.pi / 2 - 0.1, 50.0]])
    assert angle_energy(right, INDEX[3], parameters).item() == pytest.approx(0.25)
    parameters = torch.tensor([[3.0, 0.2, 5.0]])
    assert dihedral_energy(chain(1.1), INDEX[4], parameters).item() == pytest.approx(5 * (1 + math.cos(3.3 - 0.2)))


@pytest.mark.parametrize(
    ("energy", "parameters"),
    [(bond_energy, [0.9, 300.0]), (angle_energy, [1.8, 40.0]), (dihedral_energy, [2.0, 0.4, 6.0])],
    ids=["bond", "angle", "dihedral"],
)
def test_gradients(energy, parameters: list[float]) -> None:
    size = {2: 2, 3: 4}[len(parameters)] if energy is not angle_energy else 3
    positions = chain(0.7).requires_grad_(True)

    def total(at: torch.Tensor) -> torch.Tensor:
        return energy(at, INDEX[size], torch.tensor([parameters]))

    assert torch.autograd.gradcheck(total, positions)
    assert torch.autograd.gradgradcheck(total, positions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("straightness", [0.0, 1e-12, 1e-5])
def test_straight_chain_has_finite_forces(straightness: float, dtype: torch.dtype) -> None:
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, straightness, 0], [3.0, 0, 0]], dtype=dtype)
    positions.requires_grad_(True)
    triples = torch.tensor([[0, 1, 2], [1, 2, 3]])
    values = angle_energy(positions, triples, torch.tensor([[2.0, 50.0], [math.pi, 50.0]], dtype=dtype))
    (gradient,) = torch.autograd.grad(values.sum(), positions)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() < 500


def parameters_of(prior: BondPrior | AnglePrior, terms: int = 1) -> torch.Tensor:
    return torch.tensor([[prior.kt, *prior.wells.ravel()]]).repeat(terms, 1)


@pytest.mark.parametrize(("energy", "prior"), [(bond_well_energy, BOND), (angle_well_energy, ANGLE)])
def test_gradients_of_several_wells(energy, prior) -> None:
    positions, index = chain(0.7)[: 3 if prior is ANGLE else 2].requires_grad_(True), INDEX[3 if prior is ANGLE else 2]
    assert torch.autograd.gradcheck(lambda at: energy(at, index, parameters_of(prior)), positions)
    assert torch.autograd.gradgradcheck(lambda at: energy(at, index, parameters_of(prior)), positions)


def test_wells_are_densities_that_add_up() -> None:
    """exp(-E / kT) is the sum of the Gaussians; far from all wells the energy still rises like the nearest."""
    lengths = torch.linspace(0.05, 3.0, 50)
    positions = torch.stack([torch.zeros(50, 3), lengths[:, None] * torch.tensor([0.0, 0.6, 0.8])], dim=1).flatten(0, 1)
    found = bond_well_energy(positions, torch.arange(100).view(50, 2), parameters_of(BOND, 50))
    one, other = 150 * (lengths - 0.9) ** 2, 1.0 + 250 * (lengths - 1.1) ** 2
    near = (lengths > 0.6) & (lengths < 1.4)
    expected = torch.exp(-one / 2.5) + torch.exp(-other / 2.5)
    torch.testing.assert_close(torch.exp(-found / 2.5)[near], expected[near])
    below = torch.minimum(one, other) - found
    assert (below > -1e-9).all()
    assert (below < 2.5 * math.log(2) + 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_wells_exert_no_force_on_a_straight_chain(dtype: torch.dtype) -> None:
    """The wells and their mirror images meet at pi: the force goes to zero there, though no well lies there."""
    forces = []
    for bend in (0.0, 1e-7, 1e-3, 2e-3):
        positions = torch.tensor([[1.0, 0, 0], [0, 0, 0], [-math.cos(bend), math.sin(bend), 0]], dtype=dtype)
        positions.requires_grad_(True)
        values = angle_well_energy(positions, INDEX[3], parameters_of(ANGLE).to(dtype))
        forces.append(torch.autograd.grad(values.sum(), positions)[0].abs().max().item())
    assert forces[0] < 1e-3
    assert forces[1] < 1e-3
    assert forces[3] == pytest.approx(2 * forces[2], rel=0.02)


def test_three_beads_on_a_line_have_no_torsion() -> None:
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [3.0, 1.0, 0]], requires_grad=True)
    energy = dihedral_energy(positions, INDEX[4], torch.tensor([[1.0, 0.5, 5.0]]))
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    assert torch.isfinite(gradient).all()
