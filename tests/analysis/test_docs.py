"""What docs/analysis.md shows is run."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cgenn.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")


def test_snippets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"<!-- tested: python -->\n```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/analysis.md", "exec"), names)
    assert names["size"] == pytest.approx(0.3 * (40 / 6) ** 0.5, rel=0.05)
    assert names["stiffness"] == pytest.approx(0.3, rel=0.15)
    assert names["moved"].coefficient == pytest.approx(0.0025, abs=4 * names["moved"].coefficient_error)
    assert names["report"].html.exists()


def test_the_command_is_the_one_of_the_help(pipeline):
    """Which the fixture has run."""
    command = re.search(r"cgenn (compare .*)", PAGE)[1]
    assert get_command(app).commands["compare"].epilog.endswith(command)
    assert (pipeline[0] / "report" / "report.html").exists()


def test_every_function_named_there_is_public():
    import cgenn.analysis

    named = {name for line in re.findall(r"^\*\*.*?\)\.", PAGE, re.M | re.S) for name in re.findall(r"`(\w+)`", line)}
    assert len(named) > 20
    assert named <= set(cgenn.analysis.__all__)
