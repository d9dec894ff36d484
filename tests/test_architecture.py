"""Who may import whom, and what no file may contain."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cgenn

ROOT = Path(__file__).parents[1] / "cgenn"
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in {"workflows", "systems"})
LEVELS = [
    {"units", "shipped", "files", "config", "threads", "symmetry"},
    {"body"},
    {"topology", "h5md", "settings", "provenance"},
    {"neighbors", "mapping", "nn"},
    {"electrostatics"},
    {"graph"},
    {"compiled"},
    {"data", "potential"},
    {"training", "simulation", "analysis", "reference", "chemistry"},
    {"testing", "comparison", "backmapping"},
    {"refinement"},
    {"cli", "__init__"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
NEVER = {"nn": set(LEVEL), "simulation": {"data"}, "analysis": {"data", "potential"}}


def imported(tree: ast.AST) -> Iterator[str]:
    """Parts of cgenn that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"cgenn.{alias.name}" for alias in node.names] if node.module == "cgenn" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("cgenn."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert part in LEVEL, f"give {part} a level"
    for other in set(imported(tree)) - {part}:
        assert LEVEL[other] < LEVEL[part], f"{part} (level {LEVEL[part]}) imports {other} (level {LEVEL[other]})"
        assert other not in NEVER.get(part, ()), f"{part} must not know of {other}"
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"print in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            caught = {name.id for name in ast.walk(node.type or ast.Name("Exception")) if isinstance(name, ast.Name)}
            broad = caught & {"Exception", "BaseException"}
            passed_on = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert not broad or (node.type and passed_on), f"catches everything in line {node.lineno}"


def test_public_names_are_not_hidden_by_modules() -> None:
    """Importing `cgenn.x` makes the module an attribute of `cgenn`: no module may have the name of a function."""
    assert not {path.stem for path in ROOT.iterdir()} & set(cgenn.__all__)
    for name in cgenn.__all__:
        assert callable(getattr(cgenn, name))


def test_importing_is_light() -> None:
    code = "import cgenn, sys; print(*{'torch', 'openmm', 'mdtraj', 'lightning', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
