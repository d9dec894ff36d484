"""What a dataset says of where it comes from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cgenn.files import sha256


def describe_file(path: Path) -> dict[str, str]:
    """Name and content hash of a file."""
    return {"file": path.name, "sha256": sha256(path)}


def versions() -> dict[str, str | None]:
    """Versions of the packages that a dataset depends on."""
    found: dict[str, str | None] = {}
    for package in ("cgenn", "mdtraj", "MDAnalysis", "numpy", "scipy", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
