"""What the README shows is run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cgenn.mapping.definition import load_mapping

README = Path(__file__).parents[1] / "README.md"


def _blocks(language: str, page: Path = README) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found, language
    return found


def test_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python"):
        exec(compile(block, str(README), "exec"), names)
    assert names["report"].html.exists()
    assert names["simulation"].currentStep == 100


def test_electrostatics_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python", README.parent / "docs" / "electrostatics.md"):
        exec(compile(block, "docs/electrostatics.md", "exec"), names)
    assert names["gradient"].abs().max() > 0


def test_oriented_beads_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python", README.parent / "docs" / "oriented-beads.md"):
        exec(compile(block, "docs/oriented-beads.md", "exec"), names)
    assert names["turned"].shape == (2, 216, 4)
    assert names["momenta"].any(2).all()
    assert abs(names["found"]["torques"]).max() > 0


def test_speed_page():
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python", README.parent / "docs" / "speed.md"):
        exec(compile(block, "docs/speed.md", "exec"), names)
    assert names["fast"] is not names["potential"]
    assert names["forces"].abs().max() > 0


@pytest.mark.slow
def test_command_line(tmp_path):
    """Every `cgenn` command of the README, in order, as a shell would run it."""
    (block,) = (text for text in _blocks("bash") if "cgenn list" in text)
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "report" / "report.html").exists()


def test_mapping(tmp_path):
    for block in _blocks("toml"):
        (tmp_path / "own.toml").write_text(block, encoding="utf-8")
        assert load_mapping(tmp_path / "own.toml").beads


def test_make_targets_exist():
    if shutil.which("make") is None:
        pytest.skip("no make")
    for block in _blocks("bash"):
        for target in re.findall(r"^make (\S+)", block, re.MULTILINE):
            assert re.search(rf"^{target}:", (README.parent / "Makefile").read_text(), re.MULTILINE), target


def test_polymers_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python", README.parent / "docs" / "polymers.md"):
        exec(compile(block, "docs/polymers.md", "exec"), names)
    assert names["potential"].config.types == ("END-COM", "MID-COM")
    assert names["potential"].provenance["frames"] == [9, 9]
    entries = json.loads((tmp_path / "matched" / "pressure.json").read_text())
    assert entries["chosen"] == names["potential"].provenance["volume"]["chosen"]
    assert [len(entry["values"]) for entry in entries["rounds"]] == [2, 2]
    assert entries["quantity"] == "volume"
    assert entries["rounds"][1]["height"] != entries["rounds"][0]["height"]
    assert names["potential"].config.excluded_bonds == 3
    paired = json.loads((tmp_path / "paired" / "pairs.json").read_text())
    assert [len(entry["reading"]["values"]) for entry in paired["rounds"]] == [2, 2]
    assert names["potential"].provenance["pairs"]["chosen"] == paired["chosen"]
    mixture = names["together"]
    assert len(mixture.topology) == 32 * 6 + 24 * 8
    assert np.isfinite(mixture.read().positions).all()
    assert names["tempered"].config.temperatures == (300.0, 500.0)
    assert names["warm"].config.temperature == 400.0


def test_proteins_page(tmp_path, monkeypatch):
    """The beads start from the crystal structure, which the atoms are still close to."""
    pytest.importorskip("deeptime")
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in _blocks("python", README.parent / "docs" / "proteins.md"):
        exec(compile(block, "docs/proteins.md", "exec"), names)
    found = names["report"].numbers["protein"]
    assert 0.01 < found["rmsd"]["reference"] < 0.1
    assert found["native_contacts"]["reference"] > 0.9
    assert names["report"].html.exists()
