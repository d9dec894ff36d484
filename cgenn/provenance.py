"""Where a result comes from: files by their content, and versions of packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cgenn.files import sha256


def describe_file(path: Path) -> dict[str, str]:
    """Name and content hash of a file."""
    return {"file": path.name, "sha256": sha256(path)}


def versions(*packages: str) -> dict[str, str | None]:
    """Version of each package, None for one that is not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
