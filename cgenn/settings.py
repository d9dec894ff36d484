"""Settings on a command line: a TOML file, single values over it, and a table of what there is to set."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from cgenn.config import Config

Settings = TypeVar("Settings", bound=Config)


def read_settings(model: type[Settings], file: Path | None, overrides: Sequence[str]) -> Settings:
    """A configuration from a TOML file, if any, with `KEY=VALUE` overrides; VALUE is TOML, or taken as text.

    Raises:
        ValueError: if the file or an override is not valid, naming it.
    """
    entries: dict[str, Any] = model.read(file).model_dump(exclude_unset=True) if file else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        *parents, last = key.strip().split(".")
        if not equals or not last:
            raise ValueError(f"a setting is written KEY=VALUE, got {override!r}")
        place = entries
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"settings: unknown key `{key.strip()}`, `{parent}` has no parts")
        place[last] = _value(text)
    return model.parse(entries, "settings")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def describe(model: type[Config], prefix: str = "") -> str:
    """Every setting of a configuration: key, default, and what the docstring says of it, one a line."""
    meanings = _meanings(model)
    lines = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, Config):
            lines.append(describe(type(field.default), f"{prefix}{name}."))
            continue
        default = "required" if field.is_required() else f"default {field.default}"
        inner = [part for part in get_args(field.annotation) if isinstance(part, type) and issubclass(part, Config)]
        if inner:
            lines.append(f"{prefix}{name}: {meanings.get(name, '')} ({default}); any of its settings turns it on:")
            lines.append(describe(inner[0], f"{prefix}{name}."))
            continue
        choices = "".join(f"{choice} | " for choice in _choices(field.annotation)).removesuffix(" | ")
        lines.append(f"{prefix}{name}: {meanings.get(name, '')} ({choices and choices + '; '}{default})")
    return "\n\n".join(lines)


def _choices(annotation: Any) -> list[str]:
    """The values of a `Literal`, wherever in the annotation it stands."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(part) for part in parts]
    return [choice for part in parts for choice in _choices(part)]


def _meanings(model: type[Config]) -> dict[str, str]:
    """The `Attributes` section of a docstring."""
    text = inspect.cleandoc(model.__doc__ or "")
    _, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        stripped = line.strip()
        if line.startswith("    ") and not line.startswith("     "):
            name, _, meaning = stripped.partition(": ")
            found[name] = meaning
        elif name and stripped:
            found[name] += f" {stripped}"
    return {name: meaning.rstrip(".") for name, meaning in found.items()}
