"""A five-bead molecule with a random smooth network and stiff enough priors to be simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.body import Body, rotation_matrices
from cgenn.potential.config import PotentialConfig
from cgenn.potential.derivatives import energy_and_forces, energy_forces_torques
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
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


def _ring() -> Body:
    """Benzene: carbon at 0.139 nm, hydrogen at 0.247 nm from the centre."""
    atoms = [(name, mass, radius) for name, mass, radius in (("C", 12.011, 0.139), ("H", 1.008, 0.247))]
    moment = 6 * sum(mass * radius**2 for _, mass, radius in atoms)
    corners = [(math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)) for k in range(6)]
    return Body(
        symmetry="D6h",
        inertia=(moment / 2, moment / 2, moment),
        names=tuple(f"{name}{k + 1}" for name, _, _ in atoms for k in range(6)),
        masses=tuple(mass for _, mass, _ in atoms for _ in range(6)),
        coordinates=tuple((radius * x, radius * y, 0.0) for _, _, radius in atoms for x, y in corners),
    )


BENZENE = _ring()


@pytest.fixture(scope="session")
def discs() -> tuple[Potential, BeadTopology, np.ndarray, np.ndarray, np.ndarray]:
    """Oriented beads, some bonded in pairs to beads without an orientation, under a random network and priors.

    The potential, the topology, positions [nm], orientations (w, x, y, z), and a tilted box.
    """
    types = ["BNZ", "TAIL", "ROD", "BNZ", "BNZ", "TAIL", "TOP", "BNZ"] * 2
    rod, top = Body(symmetry="Dinfh", inertia=(0.3, 0.3, 0.0)), Body(inertia=(0.6, 0.9, 1.2))
    masses = {"BNZ": 78.1, "TAIL": 30.0, "ROD": 44.0, "TOP": 60.0}
    bodies = {"BNZ": BENZENE, "ROD": rod, "TOP": top}
    bonds = [(0, 1), (4, 5), (8, 9), (12, 13)]
    topology = BeadTopology.build(types, [masses[name] for name in types], bonds=bonds, bodies=bodies)
    random = np.random.default_rng(4)
    positions = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(4)]) * [0.75, 0.75, 0.5]
    positions = positions + random.normal(scale=0.02, size=positions.shape)
    orientations = Rotation.random(16, rng=random).as_quat(scalar_first=True)
    torch.manual_seed(5)
    config = PotentialConfig(
        types=tuple(masses), cutoff=0.8, channels=8, radial_width=8, average_neighbors=6.0, energy_scale=1.0,
        temperature=300.0, bodies=bodies,
    )  # fmt: skip
    priors = Priors(
        bonds={"BNZ|TAIL": BondPrior(length=0.5, k=3000.0)},
        repulsion={"BNZ|BNZ": RepulsionPrior(sigma=0.45, epsilon=1)},
    )
    weights = Potential(config, priors).double().requires_grad_(False).eval()
    frames = torch.from_numpy(rotation_matrices(orientations))[None]
    graph = weights.graph(topology, torch.as_tensor(positions)[None], orientations=frames)
    _, forces, torques = energy_forces_torques(weights.network_energy, graph)
    strongest = max(forces.abs().max().item(), 5 * torques.abs().max().item())
    potential = Potential(config.model_copy(update={"energy_scale": 30.0 / strongest}), priors).double()
    potential.load_state_dict(weights.state_dict())
    box = np.array([[1.7, 0, 0], [0.2, 1.7, 0], [-0.1, 0.3, 2.1]])
    return potential.requires_grad_(False).eval(), topology, positions, orientations, box


@pytest.fixture(scope="session")
def molecules(topology: BeadTopology, positions: np.ndarray) -> tuple[BeadTopology, np.ndarray, np.ndarray]:
    """Six charged molecules in a tilted box, their positions, and the box."""
    random = np.random.default_rng(11)
    one = BeadTopology.from_dict({**topology.to_dict(), "charges": list(TYPE_CHARGES)})
    places = np.array([[i, j, k] for i in (0.0, 1.0) for j in (0.0, 0.8, 1.6) for k in (0.3,)])
    frames = places[:, None] + positions + random.normal(scale=0.01, size=(6, 5, 3))
    return one.repeat(6), frames.reshape(-1, 3), np.array([[2.2, 0, 0], [0.3, 2.4, 0], [-0.2, 0.4, 2.1]])
