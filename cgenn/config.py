"""What a user writes: TOML read into frozen models that refuse keys they do not know."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """Base of everything that is configured: immutable; an unknown key or a number that is not finite is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, entries: dict[str, Any], source: str) -> Self:
        """Build from plain entries; `source` says in an error where they came from.

        Raises:
            ValueError: naming the source, the key and what was expected.
        """
        if not isinstance(entries, dict):
            raise ValueError(f"{source}: expected named entries, got {entries!r}")
        try:
            return cls(**entries)
        except ValidationError as error:
            found = error.errors()
            deepest = [one for one in found if not any(_inside(other["loc"], one["loc"]) for other in found)]
            problems = "; ".join(_sentence(problem) for problem in deepest)
            raise ValueError(f"{source}: {problems}") from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Build from a TOML file.

        Raises:
            ValueError: if there is no such file, it is not TOML, or an entry is not valid; names the file and the key.
        """
        try:
            entries = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"no file {str(path)!r}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid TOML: {error}") from None
        return cls.parse(entries, str(path))


def _inside(place: tuple, other: tuple) -> bool:
    """Whether a place lies within another one, which is then wrong only because of it."""
    return len(place) > len(other) and place[: len(other)] == other


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return message
    return f"`{key}`: {message}" if ", got " in message else f"`{key}`: {message}, got {problem['input']!r}"
