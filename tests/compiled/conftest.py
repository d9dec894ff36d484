"""Random potentials, compiled ones, and beads for them."""

from __future__ import annotations

import torch

from cgenn.graph import BeadGraph
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

BEADS = 18
TOPOLOGY = BeadTopology.build(
    ["A", "B", "C"] * 6, [10.0, 20.0, 30.0] * 6, charges=[0.4, -0.5, 0.1] * 6, residue_index=[0] * 9 + [1] * 9
)
CUTOFF = 0.8
EXACT = 1e-10


def random_potential(dtype: torch.dtype = torch.float64, **options) -> Potential:
    """Random weights; charges vary by some 0.1 e, and dipoles are about 0.01 e nm."""
    torch.manual_seed(2)
    chosen = dict(
        types=("A", "B", "C"), cutoff=CUTOFF, channels=8, radial_width=8, average_neighbors=12.0, energy_scale=10.0,
        temperature=300.0,
    )  # fmt: skip
    if electrostatics := options.pop("electrostatics", None):
        chosen |= {
            "electrostatics": ElectrostaticsConfig(groups="residue", accuracy=1e-8, **electrostatics),
            "type_charges": (0.4, -0.5, 0.1),
        }
    return Potential(PotentialConfig(**{**chosen, **options}), Priors()).to(dtype).requires_grad_(False).eval()


def places(seed: int = 0) -> torch.Tensor:
    """Beads about 0.45 nm from each other, in no order [nm]."""
    generator = torch.Generator().manual_seed(seed)
    lattice = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0), torch.arange(3.0))
    shaken = 0.45 * lattice + 0.04 * torch.randn(BEADS, 3, generator=generator)
    return shaken[torch.randperm(BEADS, generator=generator)]


def open_graph(potential: Potential) -> BeadGraph:
    """Two systems, the last bead of which has no neighbours."""
    positions = torch.stack([places(0), places(1)])
    positions[:, -1] += 3.0
    return potential.graph(TOPOLOGY, positions.to(potential.dtype))


def periodic_graph(potential: Potential) -> BeadGraph:
    """Two triclinic cells, one of them with edges from a bead to its own images."""
    cells = torch.tensor(
        [[[0.9, 0, 0], [0.2, 1.4, 0], [-0.1, 0.3, 1.35]], [[0.78, 0, 0], [-0.3, 1.5, 0], [0.1, 0.4, 2]]]
    )
    graph = potential.graph(
        TOPOLOGY, torch.stack([places(0), places(1)]).to(potential.dtype), cells.to(potential.dtype)
    )
    assert (graph.receivers == graph.senders).any()
    return graph


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Equal, but for a tolerance times the largest number expected."""
    largest = expected.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance * largest)
