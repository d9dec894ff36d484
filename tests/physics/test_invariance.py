"""Symmetries and derivatives of many random potentials on many random conformations, in float64."""

import pytest
import torch

from cgenn.potential.config import PotentialConfig
from cgenn.potential.conformation import random_conformation
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.testing import CHECKS

PRIORS = Priors(
    bonds={"A|A": {"length": 0.4, "k": 8000.0}, "A|B": {"length": 0.35, "k": 20000.0}},
    angles={"A|A|B": {"angle": 2.0, "k": 100.0}, "A|A|A": {"angle": 3.0, "k": 100.0}},
    dihedrals={"A|A|A|B": {"k": (3.0, 1.0), "phase": (0.5, 2.0)}},
    repulsion={"A|W": {"sigma": 0.4, "epsilon": 1.0}, "A|B": {"sigma": 0.35, "epsilon": 2.0}},
)
BOX = [[1.6, 0.0, 0.0], [0.7, 1.5, 0.0], [-0.6, 0.4, 1.3]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("periodic", [False, True], ids=["open", "periodic"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lmax": 2, "layers": 3, "bead_features": ("charge", "mass")},
        {"lmax": 3, "layers": 1, "reflection_invariant": True},
        {"lmax": 0, "cutoff": 0.3},
        {"electrostatics": ElectrostaticsConfig(dipoles=True, smearing=0.03), "type_charges": (0.3, -0.4, 0.1)},
    ],
    ids=str,
)
def test_potential(check, options: dict, periodic: bool) -> None:
    torch.manual_seed(len(options))
    chosen = {"channels": 4, "cutoff": 0.9, **options}
    config = PotentialConfig(
        types=("A", "B", "W"), average_neighbors=4.0, energy_scale=300.0, temperature=300.0, **chosen
    )
    potential = Potential(config, PRIORS)
    topology, positions = random_conformation(potential, seed=len(options))
    result = check(potential, topology, positions, BOX if periodic else None)
    assert result.passed, result
