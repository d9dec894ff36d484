"""Writing so that nothing half-written is ever left under a final name, and knowing a file by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at the end, remove it if anything failed.

    Raises:
        OSError: if there is no room, naming `path`.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(final.name + ".partial")
    try:
        with named(final):
            yield temporary
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def check_apart(written: Path, read: Iterable[Path]) -> None:
    """Refuse to write a result over a file that it is made from.

    Raises:
        ValueError: naming the file.
    """
    if written.resolve() in {path.resolve() for path in read}:
        raise ValueError(f"{written}: this file is read here and cannot be written too: give the result another name")


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Name `path` in an OSError that does not say which file could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: str | Path, entries: dict[str, Any]) -> None:
    """Write `entries` as JSON; NaN and infinity are refused."""
    text = json.dumps(entries, indent=2, allow_nan=False)
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
