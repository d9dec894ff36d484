"""A five-bead molecule with a random smooth network and stiff enough priors to be simulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential, PotentialConfig
from cgenn.potential.priors import AnglePrior, BondPrior, DihedralPrior, Priors, RepulsionPrior
from cgenn.topology import BeadTopology

TYPES = ("ACE-C", "ALA-N", "ALA-CA", "ALA-C", "NME-N")

PRIORS = Priors(
    bonds={
        "ACE-C|ALA-N": BondPrior(length=0.133, k=8e4),
        "ALA-CA|ALA-N": BondPrior(length=0.146, k=8e4),
        "ALA-C|ALA-CA": BondPrior(length=0.153, k=8e4),
        "ALA-C|NME-N": BondPrior(length=0.133, k=8e4),
    },
    angles={
        "ACE-C|ALA-N|ALA-CA": AnglePrior(angle=2.12, k=300.0),
        "ALA-C|ALA-CA|ALA-N": AnglePrior(angle=1.95, k=300.0),
        "ALA-CA|ALA-C|NME-N": AnglePrior(angle=2.05, k=300.0),
    },
    dihedrals={
        "ACE-C|ALA-N|ALA-CA|ALA-C": DihedralPrior(k=(2.0, 1.0, 0.5), phase=(0.3, -1.1, 2.0)),
        "ALA-N|ALA-CA|ALA-C|NME-N": DihedralPrior(k=(1.0, 3.0), phase=(-2.0, 0.7)),
    },
    repulsion={"ACE-C|NME-N": RepulsionPrior(sigma=0.4, epsilon=1.5)},
)


@pytest.fixture(scope="session")
def topology() -> BeadTopology:
    return BeadTopology.build(
        TYPES,
        [12.011, 14.007, 12.011, 12.011, 14.007],
        bonds=[(0, 1), (1, 2), (2, 3), (3, 4)],
        names=("C", "N", "CA", "C", "N"),
        residue_names=("ACE", "ALA", "ALA", "ALA", "NME"),
        residue_index=(0, 1, 1, 1, 2),
    )


@pytest.fixture(scope="session")
def positions() -> np.ndarray:
    """One conformation [nm]."""
    return np.array(
        [[0.0, 0.0, 0.0], [0.133, 0.0, 0.0], [0.2092, 0.1245, 0.0], [0.2948, 0.1224, 0.1268], [0.3891, 0.0298, 0.1433]]
    )


@pytest.fixture(scope="session")
def potential(topology: BeadTopology, positions: np.ndarray) -> Potential:
    """Random weights, in double precision, scaled to gentle forces; small enough to be quick."""
    torch.manual_seed(7)
    config = PotentialConfig(
        types=TYPES, cutoff=0.8, channels=8, radial_width=8, average_neighbors=4.0, energy_scale=1.0, temperature=300.0
    )
    weights = Potential(config, PRIORS).double().requires_grad_(False).eval()
    graph = weights.graph(topology, torch.as_tensor(positions)[None])
    strongest = energy_and_forces(weights.network_energy, graph)[1].abs().max().item()
    result = Potential(config.model_copy(update={"energy_scale": 30.0 / strongest}), PRIORS).double()
    result.load_state_dict(weights.state_dict())
    return result.requires_grad_(False).eval()


TYPE_CHARGES = (0.4, -0.6, 0.25, 0.3, -0.35)


def with_charges(potential: Potential, **electrostatics) -> Potential:
    """The same priors, and a random network whose electrostatics has these settings."""
    update = {"electrostatics": ElectrostaticsConfig(**electrostatics), "type_charges": TYPE_CHARGES}
    torch.manual_seed(3)
    result = Potential(potential.config.model_copy(update=update), potential.priors).double().requires_grad_(False)
    if result.network.charge_readout is not None:
        result.network.charge_readout.charge[-1].weight *= 0.003  # charges that change by about 0.1 e
    if result.network.dipole_readout is not None:
        result.network.dipole_readout.gates[-1].weight *= 1e-5  # and dipoles of about 0.01 e nm
    return result.eval()


@pytest.fixture(scope="session")
def molecules(topology: BeadTopology, positions: np.ndarray) -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """Six charged molecules in a tilted box, their positions, and the box."""
    random = np.random.default_rng(11)
    one = BeadTopology.from_dict({**topology.to_dict(), "charges": list(TYPE_CHARGES)})
    places = np.array([[i, j, k] for i in (0.0, 1.0) for j in (0.0, 0.8, 1.6) for k in (0.3,)])
    frames = places[:, None] + positions + random.normal(scale=0.01, size=(6, 5, 3))
    return one.repeat(6), frames.reshape(-1, 3), np.array([[2.2, 0, 0], [0.3, 2.4, 0], [-0.2, 0.4, 2.1]])
