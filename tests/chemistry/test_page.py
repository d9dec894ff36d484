"""What docs/mappings.md shows is run."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cgenn.chemistry.audit import audit_mapping
from cgenn.chemistry.polymer import build_polymer
from cgenn.cli import app

pytest.importorskip("rdkit")
PAGE = Path(__file__).parents[2] / "docs" / "mappings.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def blocks(language):
    return [text for found, text in BLOCKS if found == language]


def test_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["report"]["unmapped"] == {}


def test_commands(tmp_path, monkeypatch):
    """All but the last, which needs a trajectory."""
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("bash")
    for line in block.splitlines()[:-1]:
        result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "audit" / "view.html").exists()


def test_rules_by_smarts(tmp_path):
    (tmp_path / "own.toml").write_text(blocks("toml")[0])
    build_polymer("[*]CC(OC(=O)C)[*]", 5).save(tmp_path / "chain.pdb")
    report = audit_mapping(tmp_path / "chain.pdb", tmp_path / "own.toml")
    assert {row["type"]: row["number"] for row in report["types"]} == {"BB-end": 2, "BB-middle": 3, "AC": 5}


def test_rules_by_residue(tmp_path):
    (tmp_path / "own.toml").write_text(blocks("toml")[1])
    villin = Path(__file__).parents[2] / "systems" / "villin" / "structure.pdb"
    report = audit_mapping(villin, tmp_path / "own.toml")
    assert {row["type"] for row in report["types"]} == {"PHE-BB", "PHE-SC", "GLY-BB"}
