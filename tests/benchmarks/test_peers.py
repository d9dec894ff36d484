"""The benchmark against other packages, as far as it needs none of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from .peers import __main__ as driver
from .peers.graphs import CONTACT, melt
from .peers.table import markdown

KEYS = {"model", "lmax", "layers", "channels", "beads", "threads", "us_per_bead", "us_per_bead_model"}
KEYS |= {"peak_kb_per_bead", "versions", "hardware", "date"}


def test_what_is_there_is_measured_and_the_rest_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, name: str, timeout: float) -> Path:
        raise ValueError(f"{name} could not be installed")

    monkeypatch.setattr(driver, "python", refuse)
    chosen = [case for case in driver.cases(quick=True) if case.model in ("cgenn-e3nn", "nequip")]
    out = tmp_path / "bench.json"
    records, missing = driver.run(chosen, (100,), out, tmp_path / "work", threads=1, repeats=1, device="cpu")
    assert missing == ["nequip could not be installed"]
    assert records == json.loads(out.read_text())
    (record,) = records
    assert record.keys() >= KEYS
    assert (record["model"], record["lmax"], record["beads"]) == ("cgenn-e3nn", 1, 100)
    assert 0 < record["us_per_bead_model"] < record["us_per_bead"]
    assert "| cgenn-e3nn | 1 | 2 | 32 |" in markdown(records)


def test_beads_of_a_melt_do_not_overlap() -> None:
    positions = melt(200, 3.0, np.random.default_rng(0))
    vectors = positions[:, None] - positions
    vectors -= 3.0 * np.round(vectors / 3.0)
    assert np.linalg.norm(vectors, axis=2)[~np.eye(200, dtype=bool)].min() > 0.99 * CONTACT


def test_others_are_compared_with_the_same_size_of_ours() -> None:
    def record(model: str, lmax: int, cost: float) -> dict:
        size = {"lmax": lmax, "layers": 2, "channels": 32, "beads": 1000}
        return {"model": model, **size, "us_per_bead": cost, "peak_kb_per_bead": 10.0}

    lines = markdown([record("cgenn", 1, 4.0), record("schnet", 0, 30.0), record("nequip", 2, 200.0)]).splitlines()
    assert lines[2:] == [
        "| cgenn | 1 | 2 | 32 | 4.0 | 10 |",
        "| schnet | 0 | 2 | 32 | 30.0 (7.5x) | 10 |",
        "| nequip | 2 | 2 | 32 | 200 | 10 |",
    ]
