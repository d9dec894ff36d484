"""Numbers and figures of ions in three ensembles whose structure is known."""

from dataclasses import replace

import numpy as np
import pytest

from cgenn.analysis import Ensemble, compare_ions
from cgenn.topology import BeadTopology
from cgenn.units import COULOMB, thermal_energy

TOPOLOGY = BeadTopology.build(["K", "A"] * 60, np.ones(120), charges=[0.8, -0.8] * 60)
EDGE, TEMPERATURE = 3.0, 400.0


def ensemble(spread: float, frames: int = 60) -> Ensemble:
    """Ions of opposite charge in pairs, `spread` [nm] apart on average, pairs at random."""
    random = np.random.default_rng(int(100 * spread))
    centres = random.uniform(0, EDGE, (frames, 60, 1, 3))
    positions = centres + np.array([0.5, -0.5])[:, None] * random.normal(0, spread, (frames, 60, 1, 3))
    return Ensemble(positions.reshape(frames, 120, 3), np.tile(EDGE * np.eye(3), (frames, 1, 1)))


def test_numbers(tmp_path):
    """S_zz of pairs that do not know of each other is 1 - <cos k.d> = 1 - exp(-(k spread)^2 / 2)."""
    spreads = (0.1, 0.1, 0.4)
    found = compare_ions(TOPOLOGY, *map(ensemble, spreads), TEMPERATURE, tmp_path, k_max=20.0)
    k = found["k_min"]
    assert k == pytest.approx(2 * np.pi / EDGE, rel=0.2)
    for name, spread in zip(("reference", "long_range", "short_range"), spreads, strict=True):
        expected = 1 - np.exp(-((k * spread) ** 2) / 2)
        assert found[f"s_zz_at_k_min_{name}"] == pytest.approx(expected, rel=0.4)
    debye = 4 * np.pi * COULOMB * 120 / EDGE**3 * 0.8**2 / thermal_energy(TEMPERATURE)
    assert found["s_zz_screening_limit"] == pytest.approx(k**2 / debye)
    assert found["rdf_error_long_range"] == 0.0 < 0.05 < found["rdf_error_short_range"]
    numbers = {key for key, value in found.items() if isinstance(value, float)}
    assert numbers == set(found["units"])
    assert [(tmp_path / name).read_bytes()[:4] for name in ("radial.png", "charge-structure.png")] == [b"\x89PNG"] * 2
    assert len(found["figures"]) == len(list(tmp_path.iterdir())) == 2


def test_no_charges_or_no_box(tmp_path):
    three = [ensemble(0.1, 2)] * 3
    with pytest.raises(ValueError, match="no bead has a charge"):
        compare_ions(BeadTopology.build(["K"] * 120, np.ones(120)), *three, TEMPERATURE, tmp_path)
    with pytest.raises(ValueError, match="there is no box"):
        compare_ions(TOPOLOGY, replace(three[0], box=None), *three[1:], TEMPERATURE, tmp_path)
