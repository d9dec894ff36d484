"""`reference.json`: what a reference run is a run of, so that it can be recognised, resumed and cited."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cgenn.files import write_json
from cgenn.provenance import versions
from cgenn.reference.settings import RunSettings
from cgenn.reference.system import AllAtomSystem, load_system

_NAME = "reference.json"


@dataclass(frozen=True)
class Manifest:
    """System, settings and input files of a run."""

    system: AllAtomSystem
    settings: RunSettings

    def metadata(self) -> dict[str, Any]:
        """What is said of the run in each trajectory file."""
        definition = self.system.definition
        return {
            "kind": "reference",
            "system": self.system.name,
            "temperature": self.settings.temperature,
            "settings": self.settings.model_dump(),
            "definition": definition.model_dump(mode="json"),
            "inputs": self.system.inputs,
            "versions": versions("cgenn", "openmm", "numpy", "h5py"),
            "forces": "of all terms of the force field, before constraints",
        }

    def write(self, folder: Path, results: dict[str, Any] | None) -> None:
        """Write it, with `results` if the run is finished."""
        status = "running" if results is None else "finished"
        path = str(self.system.folder.resolve())
        write_json(folder / _NAME, self.metadata() | {"folder": path, "status": status, "results": results or {}})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of the run in a folder."""
        entries = read_entries(folder)
        settings = RunSettings.parse(entries["settings"], str(folder / _NAME))
        return cls(load_system(entries["folder"]), settings)

    def check_same(self, folder: Path) -> str | None:
        """Compare with the run in `folder`; its status, or None if there is no run.

        Raises:
            ValueError: if it is a run of something else, naming what differs.
        """
        if not (folder / _NAME).exists():
            if stray := sorted(folder.glob("trajectory*.h5")):
                raise ValueError(f"{stray[0]} exists, but no {_NAME}: not a reference run, choose another folder")
            return None
        there, here = read_entries(folder), self.metadata()
        for key in ("system", "settings", "inputs"):
            differences = _differences(there.get(key), here[key], key)
            if differences:
                raise ValueError(
                    f"{folder} holds a run with other settings, {'; '.join(differences)}: "
                    f"repeat them to go on with it, or choose another folder"
                )
        return str(there["status"])


def read_entries(folder: Path) -> dict[str, Any]:
    """What `reference.json` says.

    Raises:
        ValueError: if there is none in `folder`, or it is not that of a reference run.
    """
    path = folder / _NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no reference run in {str(folder)!r}: {_NAME} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(entries, dict) or entries.get("kind") != "reference":
        raise ValueError(f"{path}: not that of a reference run")
    return entries


def _differences(there: Any, here: Any, key: str) -> list[str]:
    if not isinstance(here, dict) or not isinstance(there, dict):
        return [] if there == here else [f"`{key}` is {there!r} there, {here!r} was given"]
    if key == "inputs":
        changed = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
        return [f"the content of {name} has changed" for name in changed]
    return [
        f"`{name}` is {there.get(name)!r} there, {here.get(name)!r} was given"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
