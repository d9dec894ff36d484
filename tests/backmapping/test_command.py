"""`cgenn backmap` as a user gives it, and docs/backmapping.md."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import cgenn
from cgenn.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "backmapping.md"


@pytest.fixture
def command(peptide_run, tmp_path):
    """Runs the command on beads of the reference run itself."""
    cgenn.map_trajectory(peptide_run, None, "backbone", tmp_path / "cg.h5", forces=False)

    def run(*words):
        given = ["backmap", tmp_path / "cg.h5", "--dataset", tmp_path / "cg.h5", "--reference", peptide_run]
        quick = ["--out", tmp_path / "atoms.h5", "--dynamics", 0, "--compare", 1]
        return CliRunner().invoke(app, [str(word) for word in (*given, *quick, *words)])

    return run


@pytest.mark.parametrize(("frames", "count"), [("0:9:4", 3), ("7", 1), ("-2:", 2)])
def test_frames(command, tmp_path, frames, count):
    result = command(f"--frames={frames}", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["frames"], said["reference_energy"]["n"]) == (count, 1)
    assert said["deviation"]["unit"] == "nm"
    assert Path(said["topology"]) == tmp_path / "atoms.pdb"


@pytest.mark.parametrize("frames", ["first", "1:2:3:4", "::0", ":100:x", ""])
def test_frames_that_mean_nothing(command, tmp_path, frames):
    result = command(f"--frames={frames}")
    assert result.exit_code == 2
    assert f"--frames must be START:STOP:STEP, such as 0:100:10, or one number, got {frames!r}" in result.stderr
    assert not (tmp_path / "atoms.h5").exists()


def test_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["made"].record["deviation"]["max"] < 1e-3
    assert (tmp_path / "atoms.xtc").exists()
