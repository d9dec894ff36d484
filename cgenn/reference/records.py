"""Frames of a run in progress: a file of records of equal size, so that it can be cut after any frame.

A process may be killed at any time. HDF5 can then be left unreadable, such a file cannot: what was written after the
last checkpoint is cut off, and the rest is converted to H5MD when the run is complete.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Self

import numpy as np

from cgenn.files import atomic
from cgenn.h5md import H5MDWriter
from cgenn.units import AMU_PER_NM3

_CHUNK = 1000


def record_type(n_atoms: int) -> np.dtype:
    """One frame: step, time [ps], energy [kJ/mol], temperature [K], box and positions [nm], forces [kJ/mol/nm], virial
    [kJ/mol]."""
    return np.dtype(
        [
            ("step", "<i8"),
            ("time", "<f8"),
            ("potential", "<f8"),
            ("temperature", "<f8"),
            ("box", "<f8", (3, 3)),
            ("virial", "<f8", (3, 3)),
            ("positions", "<f4", (n_atoms, 3)),
            ("forces", "<f4", (n_atoms, 3)),
        ]
    )


class FrameLog:
    """Appends records to a file."""

    def __init__(self, path: Path, n_atoms: int, keep: int):
        """Open `path` and keep the first `keep` records of it.

        Raises:
            ValueError: if it holds fewer.
        """
        self._type = record_type(n_atoms)
        self._file = open(path, "r+b" if keep else "w+b")  # noqa: SIM115
        size = self._file.seek(0, os.SEEK_END)
        if size < keep * self._type.itemsize:
            self._file.close()
            found = size // self._type.itemsize
            raise ValueError(f"{path}: the checkpoint was written after {keep} frames, but there are {found}")
        self._file.truncate(keep * self._type.itemsize)
        self._file.seek(0, os.SEEK_END)
        self.n_frames = keep

    def append(self, record: np.ndarray) -> None:
        """Add one record."""
        self._file.write(record.tobytes())
        self.n_frames += 1

    def flush(self) -> None:
        """Make sure that all records are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: Path, n_atoms: int) -> np.ndarray:
    """The records of a file, not read into memory before they are used."""
    return np.memmap(path, dtype=record_type(n_atoms), mode="r")


def write_state(records: np.ndarray, path: Path, mass: float, periodic: bool) -> None:
    """Write energies, temperature and density as CSV; `mass` is that of all atoms [amu]."""
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        columns = ["step", "time [ps]", "potential energy [kJ/mol]", "temperature [K]"]
        rows.writerow(columns + ["volume [nm^3]", "density [g/cm^3]"] * periodic)
        for record in records:
            row = [int(record["step"]), *(f"{record[key]:.6f}" for key in ("time", "potential", "temperature"))]
            volume = abs(np.linalg.det(record["box"])) if periodic else 1.0
            rows.writerow(row + [f"{volume:.6f}", f"{mass * AMU_PER_NM3 / volume:.6f}"] * periodic)


def write_trajectory(records: np.ndarray, path: Path, *, virials: bool = False, **particles: object) -> None:
    """Write positions, forces, energies and box as H5MD; `particles` as `H5MDWriter` takes them."""
    holds = {"forces": True, "energies": True, "virials": virials, "group": "atoms"}
    with atomic(path) as temporary, H5MDWriter(temporary, **holds, **particles) as writer:  # type: ignore[arg-type]
        for start in range(0, len(records), _CHUNK):
            chunk = records[start : start + _CHUNK]
            writer.write(
                chunk["positions"],
                box=chunk["box"] if particles["periodic"] else None,
                forces=chunk["forces"],
                energies=chunk["potential"],
                virials=chunk["virial"] if virials else None,
                time=chunk["time"],
                step=chunk["step"],
            )
