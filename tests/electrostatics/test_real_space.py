from dataclasses import replace

import pytest
import torch

from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.units import COULOMB
from tests.electrostatics.conftest import Charges, random_charges


def test_open_systems_are_a_double_loop(dipoles: bool) -> None:
    ions = replace(random_charges(7, dipoles=dipoles), cell=None, excluded=torch.tensor([[3], [1]]))
    expected = 0.0
    for i in range(7):
        for j in range(i):
            if (i, j) != (3, 1):
                r = ions.positions[j] - ions.positions[i]
                field = ions.charges[j] / r.norm()
                if ions.dipoles is not None:  # the potential and the field of bead j where bead i is
                    field = field - ions.dipoles[j] @ r / r.norm() ** 3
                    gradient = ions.charges[j] * r / r.norm() ** 3 + ions.dipoles[j] / r.norm() ** 3
                    gradient = gradient - 3 * r * (ions.dipoles[j] @ r) / r.norm() ** 5
                    expected += ions.dipoles[i] @ gradient
                expected += ions.charges[i] * field
    torch.testing.assert_close(ions.energy(CoulombSettings("open")), COULOMB * torch.as_tensor([expected]))


def test_excluded_pairs_do_not_interact(dipoles: bool) -> None:
    """What an exclusion takes away is the interaction of the pair in open space."""
    ions = replace(random_charges(6, dipoles=dipoles), cell=5.0 * torch.eye(3)[None])
    settings = CoulombSettings("ewald", cutoff=2.0, alpha=3.0, k_cutoff=36.0)
    everything = ions.energy(settings)
    without = replace(ions, excluded=torch.tensor([[0, 1], [1, 4]])).energy(settings)
    pairs = [
        Charges(
            *[part[[i, j]] for part in (ions.positions, ions.charges)], None, ions.dipoles[[i, j]] if dipoles else None
        )  # type: ignore[index]
        for i, j in ((0, 1), (1, 4))
    ]
    torch.testing.assert_close(everything - without, sum(pair.energy(CoulombSettings("open")) for pair in pairs))


@pytest.mark.parametrize("periodic", [False, True])
def test_smeared_charges(periodic: bool, dipoles: bool) -> None:
    """Far apart they are points, on top of each other their energy is finite: q q / (sigma sqrt(pi))."""
    positions = torch.tensor([[0.0, 0, 0], [0.3, 0.2, 0.1]])
    vectors = torch.tensor([[0.1, 0.0, 0.02], [0.0, -0.05, 0.1]]) if dipoles else None
    charges, cell = torch.tensor([0.8, -0.8]), 3.0 * torch.eye(3)[None] if periodic else None
    pair = Charges(positions, charges, cell, vectors)
    method = CoulombSettings("ewald", 1.4, 4.5, 54.0) if periodic else CoulombSettings("open")
    torch.testing.assert_close(pair.energy(replace(method, smearing=0.02)), pair.energy(method))
    if dipoles:
        return
    together = replace(pair, positions=positions * 1e-7)
    apart = replace(together, excluded=torch.tensor([[0], [1]]))
    energy = together.energy(replace(method, smearing=0.1)) - apart.energy(method)
    torch.testing.assert_close(energy, torch.tensor([COULOMB * -0.64 / (0.1 * torch.pi**0.5)]))


def test_smeared_charges_at_any_split(dipoles: bool) -> None:
    ions = replace(random_charges(tilted=True, dipoles=dipoles), excluded=torch.tensor([[0], [1]]))
    ions = replace(ions, charges=ions.charges + 0.1)
    first = ions.energy(tune(ions.cell, 24, accuracy=1e-9, cutoff=1.0, smearing=0.08))
    torch.testing.assert_close(ions.energy(tune(ions.cell, 24, accuracy=1e-9, cutoff=1.5, smearing=0.08)), first)


@pytest.mark.parametrize("method", ["ewald", "pme"])
@pytest.mark.parametrize("edge", [2.0, 2.2])
def test_smeared_charges_with_a_net_charge(edge: float, method: str) -> None:
    """Gaussians in a uniform background: (2 pi / V) sum_(k != 0) exp(-sigma^2 k^2) / k^2 |S(k)|^2, less each's own.

    Energy and virial, the derivative with respect to a strain.
    """
    sigma, numbers = 0.1, torch.cartesian_prod(*[torch.arange(-24.0, 25.0)] * 3)
    numbers = numbers[numbers.abs().sum(1) > 0]
    positions, charges = torch.tensor([[0.1, 0.2, 0.3], [0.7, 1.1, 0.6]]), torch.tensor([1.0, 0.5])
    settings = tune(edge * torch.eye(3), 2, accuracy=1e-7, cutoff=0.9, smearing=sigma, method=method)

    def summed(strain: torch.Tensor) -> torch.Tensor:
        cell = edge * (torch.eye(3) + strain)
        waves = 2 * torch.pi * numbers @ torch.linalg.inv(cell).T
        k2, phase = waves.square().sum(1), waves @ (positions @ (torch.eye(3) + strain)).T
        power = (phase.cos() @ charges).square() + (phase.sin() @ charges).square()
        sums = 2 * torch.pi / torch.linalg.det(cell) * (torch.exp(-(sigma**2) * k2) / k2 * power).sum()
        return COULOMB * (sums - charges.square().sum() / (2 * sigma * torch.pi**0.5))

    def found(strain: torch.Tensor) -> torch.Tensor:
        change = torch.eye(3) + strain
        return Charges(positions @ change, charges, edge * change[None]).energy(settings).squeeze(0)

    strain = torch.zeros(3, 3, requires_grad=True)
    energies = found(strain), summed(strain)
    torch.testing.assert_close(*energies, rtol=1e-6, atol=0)
    virial, expected = (torch.autograd.grad(energy, strain)[0] for energy in energies)
    assert (virial - expected).norm() < 1e-5 * expected.norm()


def test_wrong_shapes() -> None:
    ions, method = random_charges(5), CoulombSettings("open")
    with pytest.raises(ValueError, match="method 'open' is without a cell"):
        ions.energy(method, replace(ions, cell=None).pairs(method))
    ions = replace(ions, cell=None)
    with pytest.raises(ValueError, match=r"precision of the positions, torch\.float64"):
        replace(ions, charges=ions.charges.float()).energy(method)
    with pytest.raises(ValueError, match=r"one charge for each of 5 beads, got shape \(4,\)"):
        replace(ions, charges=ions.charges[:4]).energy(method)
    with pytest.raises(ValueError, match=r"dipoles of shape \(5, 3\), got \(5,\)"):
        replace(ions, dipoles=ions.charges).energy(method)
