import math
from dataclasses import replace

import pytest
import torch

from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.units import COULOMB
from tests.electrostatics.conftest import Charges, join, random_charges

FACES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
CRYSTALS = {
    "NaCl": (FACES, [0.5, 0.5, 0.5], 0.5, 1.747564594633),
    "CsCl": ([[0, 0, 0]], [0.5, 0.5, 0.5], math.sqrt(3) / 2, 1.762674773071),
    "ZnS": (FACES, [0.25, 0.25, 0.25], math.sqrt(3) / 4, 1.638055053389),
}


def crystal(name: str, cells: int = 1, constant: float = 0.5) -> tuple[Charges, float]:
    """Ions at the places of a crystal, and their energy by the Madelung constant."""
    basis, offset, distance, madelung = CRYSTALS[name]
    sites = torch.tensor(basis)
    grid = torch.cartesian_prod(*[torch.arange(cells)] * 3)
    places = (grid[:, None] + torch.cat([sites, sites + torch.tensor(offset)])).reshape(-1, 3)
    charges = torch.tensor([1.0] * len(sites) + [-1.0] * len(sites)).repeat(cells**3)
    expected = -COULOMB * madelung / (distance * constant) * len(charges) / 2
    return Charges(constant * places, charges, constant * cells * torch.eye(3)[None]), expected


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung(name: str, tilted: bool) -> None:
    ions, expected = crystal(name)
    assert ions.cell is not None
    if tilted:  # another cell of the same lattice
        ions = replace(ions, cell=torch.tensor([[1.0, 0, 0], [1, 1, 0], [-1, 2, 1]]) @ ions.cell)
    settings = tune(ions.cell, len(ions.charges), accuracy=1e-11)
    assert ions.energy(settings).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tilted", [False, True])
def test_the_split_does_not_matter(tilted: bool, dipoles: bool) -> None:
    ions = random_charges(tilted=tilted, dipoles=dipoles)
    ions = replace(ions, charges=ions.charges + 0.1, excluded=torch.tensor([[0, 3, 4], [5, 2, 9]]))
    energies = [
        ions.energy(CoulombSettings("ewald", cutoff, alpha=6.0 / cutoff, k_cutoff=72.0 / cutoff))
        for cutoff in (0.9, 1.6)
    ]
    torch.testing.assert_close(energies[0], energies[1], rtol=1e-11, atol=0)


def test_a_batch_is_its_systems(dipoles: bool) -> None:
    parts = [random_charges(n, n, n % 2 == 1, dipoles) for n in (10, 24, 15)]
    settings = tune(parts[1].cell, 24, accuracy=1e-6)
    alone = torch.cat([part.energy(settings) for part in parts])
    torch.testing.assert_close(join(parts).energy(settings), alone, rtol=1e-12, atol=0)


def test_derivatives(dipoles: bool) -> None:
    """Of the energy and of its gradient, against finite differences."""
    ions = random_charges(4, tilted=True, dipoles=dipoles)
    ions = replace(ions, excluded=torch.tensor([[0], [2]]))
    settings = tune(ions.cell, 24, accuracy=1e-2, smearing=0.05, cutoff=0.6)
    pairs = ions.pairs(settings)

    def energy(positions, charges, cell, *vectors):
        return Charges(positions, charges, cell, *vectors).energy(settings, pairs)

    inputs = [ions.positions, ions.charges, ions.cell] + ([ions.dipoles] if dipoles else [])
    inputs = [value.clone().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(energy, inputs, eps=1e-5, rtol=1e-6)
    assert torch.autograd.gradgradcheck(energy, inputs, eps=1e-5, rtol=1e-5, atol=1e-3)


def test_dipoles_are_pairs_of_charges() -> None:
    """Two opposite charges a distance h apart, less the energy within each pair: the error falls as h^2."""
    ions = random_charges(8, tilted=True, dipoles=True)
    assert ions.dipoles is not None
    settings = tune(ions.cell, 24, accuracy=1e-9, cutoff=1.0)
    exact, errors = ions.energy(settings), []
    for step in (0.02, 0.01):
        half = 0.5 * step * ions.dipoles / ions.dipoles.norm(dim=1, keepdim=True)
        charges = ions.dipoles.norm(dim=1) / step
        ends = torch.arange(8)
        pairs = torch.cat([torch.stack([ends + 8 * a, ends + 8 * b]) for a, b in ((0, 1), (0, 2), (1, 2))], dim=1)
        finite = Charges(
            torch.cat([ions.positions, ions.positions + half, ions.positions - half]),
            torch.cat([ions.charges, charges, -charges]),
            ions.cell,
            excluded=pairs,
        )
        errors.append((finite.energy(settings) - exact).abs().item())
    assert errors[1] < 0.3 * errors[0] < 1e-2 * abs(exact.item())


def test_single_precision(dipoles: bool) -> None:
    ions = random_charges(tilted=True, dipoles=dipoles)
    settings = tune(ions.cell, 24)
    single = ions.single()
    assert single.forces(settings).dtype == torch.float32
    torch.testing.assert_close(single.energy(settings), ions.energy(settings), rtol=1e-5, atol=0)
    difference = single.forces(settings) - ions.forces(settings)
    assert difference.norm() < 1e-5 * ions.forces(settings).norm()
