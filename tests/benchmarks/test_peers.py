"""The benchmark against other packages, as far as it needs none of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from .peers import __main__ as driver
from .peers.cases import Job, cases
from .peers.graphs import CONTACT, melt, write_graph
from .peers.table import markdown
from .records import combined, table

KEYS = {"model", "lmax", "layers", "channels", "beads", "threads", "us_per_bead", "us_per_bead_model"}
KEYS |= {"peak_kb_per_bead", "versions", "hardware", "date"}


def test_what_is_there_is_measured_and_the_rest_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, name: str, timeout: float) -> Path:
        raise ValueError(f"{name} could not be installed")

    monkeypatch.setattr(driver, "python", refuse)
    named = {case.model: case for case in cases(quick=True)}
    chosen = [Job("peers", named[name], (100,), 1) for name in ("cgenn-e3nn", "nequip")]
    out = tmp_path / "bench.json"
    records, missing = driver.run(chosen, out, tmp_path / "work", quick=True, device="cpu")
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


def test_rounds_become_one_record() -> None:
    def record(model: str, cost: float, peak: float | None) -> dict:
        return {"table": "peers", "model": model, "beads": 100, "us_per_bead": cost, "peak_kb_per_bead": peak}

    rounds = [record("cgenn", 4.0, 10.0), record("nequip", 90.0, None), record("cgenn", 9.0, 12.0)]
    rounds += [record("nequip", 50.0, None), record("cgenn", 5.0, 11.0), record("nequip", 70.0, None)]
    rounds += [{**record("cgenn", 3.0, 10.0), "beads": 1000}, {**record("cgenn", 2.0, 10.0), "system": "villin"}]
    assert combined(rounds) == [
        {**record("cgenn", 5.0, 11.0), "rounds": 3},
        {**record("nequip", 70.0, None), "rounds": 3},
        {**record("cgenn", 3.0, 10.0), "beads": 1000},
        {**record("cgenn", 2.0, 10.0), "system": "villin"},
    ]


def test_what_all_records_share_stands_above_the_table() -> None:
    shared = {"model": "cgenn", "lmax": 1, "layers": 2, "channels": 32, "threads": 1, "peak_kb_per_bead": None}
    found = table([{**shared, "beads": beads, "us_per_bead": 0.01234 * beads} for beads in (100, 1000)])
    assert found.splitlines() == [
        "model cgenn, lmax 1, layers 2, channels 32, threads 1", "",
        "| beads | us_per_bead |", "|---|---|", "| 100 | 1.23 |", "| 1000 | 12.3 |",
    ]  # fmt: skip


def test_boxes_made_of_smaller_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pairs as if they had been searched in the large box."""
    monkeypatch.setattr("tests.benchmarks.peers.graphs.LARGEST", 200)
    with np.load(write_graph(tmp_path, 1600)) as file:
        positions, edge = file["positions"].astype(float), float(file["edge"])
        found = cKDTree(positions % edge, boxsize=edge).query_pairs(1.0, output_type="ndarray")
        assert len(positions) == len(file["types"]) == 1600
        assert 2 * len(found) == file["pairs"] > 0
