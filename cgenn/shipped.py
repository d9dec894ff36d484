"""Finds the mappings, systems and workflows that come with cgenn, by name or by path."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SUFFIX = {"mappings": ".toml", "systems": "", "workflows": ".py"}


def folder(kind: str) -> Path:
    """The folder of the shipped "mappings", "systems" or "workflows".

    In an installed wheel they lie inside the package, in a checkout beside it.
    """
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def names(kind: str) -> list[str]:
    """The names of everything shipped of one kind, sorted."""
    suffix = _SUFFIX[kind]
    entries = (entry for entry in folder(kind).iterdir() if not entry.name.startswith((".", "_")))
    if suffix:
        return sorted(entry.stem for entry in entries if entry.suffix == suffix)
    return sorted(entry.name for entry in entries if entry.is_dir())


def find(kind: str, name_or_path: str | Path) -> Path:
    """The path of a shipped file or folder given by name, or of the caller's own given by path.

    A name comes first: a folder of results may be called like the system it is of. `./name` is a path.

    Raises:
        ValueError: if there is neither.
    """
    path, suffix = Path(name_or_path), _SUFFIX[kind]
    if str(name_or_path) in names(kind):
        return folder(kind) / f"{name_or_path}{suffix}"
    if path.is_file() and path.suffix == suffix if suffix else path.is_dir():
        return path
    raise ValueError(
        f"no {kind.removesuffix('s')} {str(name_or_path)!r}: expected a path or one of {', '.join(names(kind))}"
    )
