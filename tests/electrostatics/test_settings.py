from dataclasses import replace
from typing import Any

import pytest
import torch

from cgenn.electrostatics.settings import tune
from tests.electrostatics.conftest import random_charges, rock_salt


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("kind", ["salt", "tilted"])
def test_the_error_is_as_requested(kind: str, accuracy: float, dipoles: bool) -> None:
    ions = rock_salt(2) if kind == "salt" else random_charges(60, tilted=True, dipoles=dipoles)
    if dipoles and kind == "salt":
        ions = replace(ions, dipoles=0.1 * (ions.positions - ions.positions.roll(1, 0)).clamp(-0.3, 0.3))
    exact = ions.forces(tune(ions.cell, len(ions.charges), accuracy=1e-9))
    error = ions.forces(tune(ions.cell, len(ions.charges), accuracy=accuracy, dipoles=dipoles)) - exact
    assert 0.03 * accuracy < error.norm() / exact.norm() < accuracy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 0.5}, "`accuracy` must be between 1e-12 and 0.1, got 0.5"),
        ({"cutoff": 0.0}, "`cutoff` must be positive"),
        ({"cutoff": 0.5, "smearing": 0.2}, "a smearing of 0.2 nm needs a cutoff of at least 1.2"),
        ({"smearing": -0.1}, "`smearing` must not be negative"),
        ({"n_beads": 0}, "`n_beads` must be at least 1"),
        ({"method": "p3m"}, "`method` must be 'open', 'ewald' or 'pme', got 'p3m'"),
        ({"accuracy": 1e-10, "cutoff": 0.1, "method": "pme"}, "takes arrays of .* a longer cutoff, or method 'pme'"),
        ({"method": "open"}, "method 'open' is for systems without a cell"),
        ({"cell": None, "method": "ewald"}, "method 'ewald' needs a cell"),
        ({"cell": None, "slab": True}, "a slab needs a cell"),
        ({"cell": torch.ones((3, 3))}, "the cell of system 0 has no volume"),
        ({"cell": random_charges(tilted=True).cell, "slab": True}, "a slab needs .* the third along z"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(**{"cell": 2.0 * torch.eye(3), "n_beads": 10} | changes)
