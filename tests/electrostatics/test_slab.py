import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.electrostatics.slab import dipole_along_z, joined_slab, uncorrected_slab
from cgenn.units import COULOMB
from tests.electrostatics.conftest import Charges, random_charges

WIDTH = 1.2


def in_a_plane(ions: Charges) -> float:
    """The sum that is periodic in two directions (Parry, Surf. Sci. 49, 433, 1975), for charges in a square cell."""
    alpha, area = 3.5 / WIDTH, WIDTH**2
    apart = ions.positions[:, None] - ions.positions
    products = ions.charges[:, None] * ions.charges
    heights, n = apart[..., 2], torch.arange(-3.0, 4.0)
    energy = torch.zeros(())
    for shift in torch.cartesian_prod(n, n, torch.zeros(1)):
        r = (apart + WIDTH * shift).norm(dim=2)
        kernel = torch.erfc(alpha * r) / r
        energy = energy + 0.5 * (products * torch.where(r > 1e-9, kernel, torch.zeros(()))).sum()
    for wave in 2 * math.pi / WIDTH * torch.cartesian_prod(n, n, torch.zeros(1)):
        k = wave.norm()
        if k > 0:
            up = torch.exp(k * heights) * torch.erfc(k / (2 * alpha) + alpha * heights)
            down = torch.exp(-k * heights) * torch.erfc(k / (2 * alpha) - alpha * heights)
            energy = energy + math.pi / (2 * area) * (products * torch.cos(apart @ wave) * (up + down) / k).sum()
    sheets = heights * torch.erf(alpha * heights) + torch.exp(-((alpha * heights) ** 2)) / (alpha * math.sqrt(math.pi))
    energy = energy - math.pi / area * (products * sheets).sum()
    return float(COULOMB * (energy - alpha / math.sqrt(math.pi) * ions.charges.square().sum()))


def slab(charge: float = 0.0, dipoles: bool = False, height: float = 5.0) -> Charges:
    ions = random_charges(10, dipoles=dipoles)
    cell = torch.diag(torch.tensor([WIDTH, WIDTH, height]))[None]
    return replace(ions, positions=ions.positions + torch.tensor([0, 0, 0.7]), charges=ions.charges + charge, cell=cell)


def settings_of(ions: Charges) -> CoulombSettings:
    return tune(ions.cell, 10, accuracy=1e-8, cutoff=1.2, slab=True, method="ewald")


@pytest.mark.parametrize("charge", [0.0, 0.1])
def test_a_slab_is_periodic_in_two_directions(charge: float) -> None:
    ions = slab(charge)
    assert ions.energy(settings_of(ions)).item() == pytest.approx(in_a_plane(ions), rel=1e-6)


@pytest.mark.parametrize("smearing", [0.0, 0.06])
@pytest.mark.parametrize("charge", [0.0, 0.1])
def test_the_height_of_the_cell_does_not_matter(charge: float, smearing: float, dipoles: bool) -> None:
    ions = [slab(charge, dipoles, height) for height in (5.0, 7.0)]
    low, high = (each.energy(replace(settings_of(each), smearing=smearing)) for each in ions)
    torch.testing.assert_close(low, high, rtol=1e-6, atol=0)


def test_a_slab_on_a_mesh() -> None:
    ions = slab(0.1)
    settings = tune(ions.cell, 10, accuracy=1e-6, cutoff=1.2, slab=True, method="pme")
    exact = ions.forces(settings_of(ions))
    assert (ions.forces(settings) - exact).norm() < 1e-6 * exact.norm()


def test_the_dipole_tells_whether_a_correction_is_needed() -> None:
    ions = slab(dipoles=True)
    common = {"batch": torch.zeros(10, dtype=torch.int64), "n_systems": 1}
    moment = dipole_along_z(ions.positions, ions.charges, ions.dipoles, **common)
    assert isinstance(ions.cell, Tensor)
    missing = 2 * math.pi * COULOMB / torch.linalg.det(ions.cell) * moment**2
    settings = settings_of(ions)
    torch.testing.assert_close(ions.energy(settings) - ions.energy(replace(settings, slab=False)), missing)


def test_a_slab_is_found_in_whatever_cell_its_beads_are() -> None:
    ions = slab()
    assert isinstance(ions.cell, Tensor)
    cell = ions.cell[0]
    for height in (-0.6, -0.7123, 0.0, 1.9, -12.3):
        moved = ions.positions + torch.tensor([0.4, 0.0, height])
        fractional = moved @ torch.linalg.inv(cell)
        for places in (moved, (fractional - fractional.floor()) @ cell):
            found = uncorrected_slab(places, cell)
            assert found is not None
            heights = (each[:, 2] - each[:, 2].min() for each in (found, ions.positions))
            torch.testing.assert_close(*heights)
        for precision in (torch.float32, torch.float64):
            joined = joined_slab(moved.to(precision), cell.to(precision))[:, 2]
            assert joined.max() - joined.min() < WIDTH
    lost = torch.cat([ions.positions, torch.tensor([[torch.nan, 0.0, torch.inf]])])
    assert joined_slab(lost, cell)[:-1].isfinite().all()
    assert uncorrected_slab(ions.positions, torch.diag(torch.tensor([WIDTH, WIDTH, 1.3]))) is None
    assert uncorrected_slab(ions.positions, 5.0 * torch.eye(3)) is None


def test_too_little_vacuum() -> None:
    ions = slab(height=2.0)
    with pytest.raises(ValueError, match=r"at least 1.200 nm of vacuum along z.* wrapped into the cell"):
        ions.energy(settings_of(ions))
