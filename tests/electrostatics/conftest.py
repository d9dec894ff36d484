"""Charges whose energy is known, and charges anywhere."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import CoulombPairs, coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings


@dataclass(frozen=True, eq=False)
class Charges:
    """Beads, and what may go with them; `energy` finds the pairs and sums."""

    positions: Tensor
    charges: Tensor
    cell: Tensor | None = None
    dipoles: Tensor | None = None
    excluded: Tensor | None = None
    batch: Tensor | None = None
    n_systems: int = 1

    def pairs(self, settings: CoulombSettings) -> CoulombPairs:
        common = {"cell": self.cell, "batch": self.batch, "n_systems": self.n_systems}
        return coulomb_pairs(self.positions, settings, excluded=self.excluded, **common)

    def energy(self, settings: CoulombSettings, pairs: CoulombPairs | None = None) -> Tensor:
        common = {"cell": self.cell, "batch": self.batch, "n_systems": self.n_systems}
        pairs = pairs or self.pairs(settings)
        return coulomb_energy(self.positions, self.charges, self.dipoles, pairs, settings, **common)

    def forces(self, settings: CoulombSettings) -> Tensor:
        moving = replace(self, positions=self.positions.clone().requires_grad_())
        return -torch.autograd.grad(moving.energy(settings).sum(), moving.positions)[0]

    def single(self) -> "Charges":
        """The same in single precision."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.float() for name, value in tensors.items() if value.is_floating_point()})


def random_charges(n_beads: int = 24, seed: int = 0, tilted: bool = False, dipoles: bool = False) -> Charges:
    """Neutral charges not closer than about 0.2 nm in a cell of 1.2 nm."""
    random = torch.Generator().manual_seed(seed)
    cell = 1.2 * torch.eye(3)
    if tilted:
        cell = torch.tensor([[1.2, 0.0, 0.0], [0.5, 1.1, 0.0], [-0.5, 0.4, 1.0]])
    grid = torch.cartesian_prod(*[torch.arange(4)] * 3)[torch.randperm(64, generator=random)[:n_beads]]
    fractional = (grid + 0.3 * torch.rand((n_beads, 3), generator=random)) / 4
    charges = torch.randn(n_beads, generator=random)
    vectors = 0.05 * torch.randn((n_beads, 3), generator=random) if dipoles else None
    return Charges(fractional @ cell, charges - charges.mean(), cell[None], vectors)


def rock_salt(cells: int, jitter: float = 0.03, seed: int = 0) -> Charges:
    """Jittered rock salt [nm], 8 ions for each cell."""
    random = torch.Generator().manual_seed(seed)
    constant = (8 / 44.6) ** (1 / 3)
    grid = torch.cartesian_prod(*[torch.arange(2 * cells)] * 3)
    positions = grid * constant / 2 + jitter * torch.randn((len(grid), 3), generator=random)
    return Charges(positions, 1.0 - 2.0 * (grid.sum(1) % 2), cells * constant * torch.eye(3)[None])


def join(parts: list[Charges]) -> Charges:
    """Several periodic systems as one batch."""
    sizes = torch.tensor([len(part.positions) for part in parts])
    return Charges(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.charges for part in parts]),
        torch.cat([part.cell for part in parts if part.cell is not None]),
        torch.cat([part.dipoles for part in parts if part.dipoles is not None])
        if parts[0].dipoles is not None
        else None,
        batch=torch.repeat_interleave(torch.arange(len(parts)), sizes),
        n_systems=len(parts),
    )


@pytest.fixture(params=[False, True], ids=["charges", "dipoles"])
def dipoles(request: pytest.FixtureRequest) -> bool:
    return request.param
