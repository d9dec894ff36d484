"""Reads npz files: named arrays and an entry `units` that says what they are in."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cgenn.h5md import Frames
from cgenn.units import factor, known_units

_KINDS = {
    "positions": "length", "box": "length", "forces": "force", "dipoles": "dipole", "energies": "energy",
    "virials": "energy", "torques": "energy",
}  # fmt: skip
_ENTRIES = (*_KINDS, "charges", "orientations", "constraints", "units")


def read_npz(path: Path) -> tuple[Frames, dict[str, float], dict[str, Any]]:
    """Frames as they are in the file, the factors that turn them into nm, kJ/mol and e nm, and what it says of atoms.

    The arrays are `positions` and, where there are any, `forces`, `box`, `charges` (always in e; of the atoms, or of
    the atoms in each frame), `dipoles`, `energies`, `virials`, `orientations` (unit quaternions w, x, y, z), `torques`
    (in the unit of energy) and `constraints`. Positions may have the shape (frames, molecules, atoms, 3). Virials are
    derivatives of the energy by a strain of positions and box, dE/de, symmetric, in the unit of energy; the pressure
    without its kinetic part is -trace/(3 V). Some programs call -dE/de the virial.

    Raises:
        ValueError: if the file cannot be read, an array has the wrong shape, or its unit is missing.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            entries = {key: file[key] for key in _ENTRIES if key in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz file: {error}") from None
    if "positions" not in entries:
        raise ValueError(f"{path}: no entry `positions`")
    factors = _factors(path, entries)
    shape = entries["positions"].shape
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise ValueError(f"{path}: `positions` must have shape (frames, atoms, 3), got {shape}")
    n_frames, flat = shape[0], (shape[0], int(np.prod(shape[1:-1])), 3)
    shapes = {
        "forces": shape, "dipoles": shape, "energies": (n_frames,), "virials": (n_frames, 3, 3), "torques": shape,
        "orientations": (*shape[:-1], 4),
    }  # fmt: skip
    for key, expected in shapes.items():
        if key in entries and entries[key].shape != expected:
            raise ValueError(
                f"{path}: `{key}` has shape {entries[key].shape}, `positions` {shape}: expected {expected}"
            )
    known = {"constraints": entries["constraints"]} if "constraints" in entries else {}
    if "charges" in entries and (charges := _charges(path, entries["charges"], shape)).ndim == 1:
        known["charges"] = charges
    frames = Frames(
        entries["positions"].reshape(flat),
        entries["forces"].reshape(flat) if "forces" in entries else None,
        _box(path, entries["box"], n_frames) if "box" in entries else None,
        charges=charges if "charges" in entries and "charges" not in known else None,
        dipoles=entries["dipoles"].reshape(flat) if "dipoles" in entries else None,
        energies=entries.get("energies"),
        virials=entries.get("virials"),
        orientations=entries["orientations"].reshape(*flat[:2], 4) if "orientations" in entries else None,
        torques=entries["torques"].reshape(flat) if "torques" in entries else None,
    )
    return frames, factors, known


def _charges(path: Path, charges: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Charges of the atoms, (atoms,), or of each frame, (frames, atoms)."""
    n_atoms = int(np.prod(shape[1:-1]))
    if charges.shape in {(n_atoms,), shape[1:-1]}:
        return charges.reshape(n_atoms)
    if charges.shape not in {shape[:-1], (shape[0], n_atoms)}:
        expected = f"({n_atoms},) or {shape[:-1]}"
        raise ValueError(f"{path}: `charges` has shape {charges.shape}, `positions` {shape}: expected {expected}")
    return charges.reshape(shape[0], n_atoms)


def _factors(path: Path, entries: dict[str, np.ndarray]) -> dict[str, float]:
    """Factors of what is there, from the text before the first semicolon of `units`, such as "A, kcal/mol/A, e A"."""
    if "units" not in entries:
        raise ValueError(f'{path}: no entry `units`, expected text such as "A, kcal/mol/A" or "nm, kJ/mol/nm"')
    text = str(entries["units"]).split(";")[0]
    joined = re.sub(r"\be[ *]+(nm|A)\b", r"e_\1", text)
    words = {re.sub("^e_", "e ", word) for word in re.split(r"[\s,]+", joined)}
    needed = {_KINDS[key]: key for key in _KINDS if key in entries}
    units = {}
    for kind, key in needed.items():
        found = sorted(words & known_units(kind))
        if len(found) > 1:
            raise ValueError(f"{path}: mixed units, `units` is {text!r}: expected one of {kind}, got {found}")
        if not found:
            raise ValueError(f"{path}: no unit of {kind} in `units`, which is {text!r}, for `{key}`")
        units[kind] = found[0]
    length = units["length"]
    if "force" in units and factor("length", units["force"].rsplit("/", 1)[1]) != factor("length", length):
        raise ValueError(f"{path}: mixed units, `units` is {text!r}: forces must be per {length}, as the positions")
    return {key: factor(kind, units[kind]) for key, kind in _KINDS.items() if key in entries}


def _box(path: Path, box: np.ndarray, n_frames: int) -> np.ndarray:
    """Box vectors of each frame from edges or vectors, for all frames or each: (), (3,), (3, 3), (frames, ...)."""
    if n_frames == 3 and box.shape in {(3,), (3, 3)}:
        raise ValueError(f"{path}: with three frames a `box` of shape {box.shape} is ambiguous, expected (3, 3, 3)")
    if box.shape in {(), (3,)}:
        box = np.broadcast_to(box, (3,)) * np.eye(3)
    elif box.shape == (n_frames,):
        box = box[:, None, None] * np.eye(3)
    elif box.shape == (n_frames, 3):
        box = box[:, :, None] * np.eye(3)
    if box.shape not in {(3, 3), (n_frames, 3, 3)}:
        raise ValueError(
            f"{path}: `box` must be edges or box vectors, of all or of each of the frames, got {box.shape}"
        )
    return np.broadcast_to(box, (n_frames, 3, 3)).astype(float)
