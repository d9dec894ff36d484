"""Reading frames."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int

from cgenn.h5md.frames import Frames, held, open_checked

_CHUNKS_AT_ONCE = 64
"""Chunks read in one piece, however few of their frames are wanted."""


class H5MDFile:
    """Reads an H5MD file written by `H5MDWriter`; opened anew for each access, so it can be pickled and shared.

    Attributes:
        n_frames, n_particles: sizes.
        group: name of the group of particles, "beads" or "atoms".
        periodic, has_forces, has_velocities, has_charges, has_dipoles, has_energies, has_virials, has_orientations,
            has_torques, has_angular_velocities: what each of its frames has; `has_charges` are charges that change
            from frame to frame.
        metadata: what was given to the writer.
    """

    def __init__(self, path: str | Path):
        """Open and look into `path`.

        Raises:
            ValueError: if there is no such file, it is truncated, it is not H5MD, or holds more frames of positions
                than of something else.
        """
        self.path = Path(path)
        with self._open() as file:
            self.group = next(iter(file["particles"]))
            self.n_frames, self.n_particles, _ = file["particles"][self.group]["position/value"].shape
            self._paths = {quantity.name: f"{quantity.path(self.group)}/value" for quantity in held(file, self.group)}
            for name, place in self._paths.items():
                if len(file[place]) < self.n_frames:
                    raise ValueError(f"{path}: holds {self.n_frames} frames, but {name} of only {len(file[place])}")
            text = file["cgenn/metadata"][()] if "cgenn/metadata" in file else "{}"
        self.periodic = "box" in self._paths
        self.has_forces, self.has_velocities = "forces" in self._paths, "velocities" in self._paths
        self.has_charges, self.has_dipoles = "charges" in self._paths, "dipoles" in self._paths
        self.has_energies, self.has_virials = "energies" in self._paths, "virials" in self._paths
        self.has_orientations, self.has_torques = "orientations" in self._paths, "torques" in self._paths
        self.has_angular_velocities = "angular_velocities" in self._paths
        self.metadata: dict[str, Any] = json.loads(text)

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        with open_checked(self.path, "r") as file:
            yield file

    def _fixed(self, name: str) -> np.ndarray | None:
        with self._open() as file:
            particles = file["particles"][self.group]
            return particles[name][()] if particles.get(name, getclass=True) is h5py.Dataset else None

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Name of the type of each particle."""
        with self._open() as file:
            dataset = file["particles"][self.group]["species"]
            names = {number: name for name, number in h5py.check_enum_dtype(dataset.dtype).items()}
            return tuple(names[number] for number in dataset[()].tolist())

    @property
    def masses(self) -> np.ndarray | None:
        """[amu], shape (particles,)."""
        return self._fixed("mass")

    @property
    def charges(self) -> np.ndarray | None:
        """Those that never change, shape (particles,) [e], or None."""
        return self._fixed("charge")

    @property
    def times(self) -> np.ndarray:
        """[ps], shape (frames,)."""
        with self._open() as file:
            return file["particles"][self.group]["position/time"][()]

    @property
    def steps(self) -> np.ndarray:
        """Number of the time step of each frame, shape (frames,)."""
        with self._open() as file:
            return file["particles"][self.group]["position/step"][()]

    @property
    def bonds(self) -> Int[np.ndarray, "bonds 2"]:
        """Pairs of particle indices."""
        with self._open() as file:
            return file["connectivity/bonds"][()] if "connectivity/bonds" in file else np.empty((0, 2), np.int64)

    def read(self, frames: slice | Sequence[int] | np.ndarray = slice(None)) -> Frames:
        """The frames of a slice or an array of indices, in that order."""
        with self._open() as file:
            return self._read(file, frames)

    def iter_chunks(self, frames_per_chunk: int, stride: int = 1) -> Iterator[Frames]:
        """All frames, or every `stride`-th, `frames_per_chunk` at a time."""
        with self._open() as file:
            for start in range(0, self.n_frames, frames_per_chunk * stride):
                yield self._read(file, slice(start, start + frames_per_chunk * stride, stride))

    def _read(self, file: h5py.File, frames: slice | Sequence[int] | np.ndarray) -> Frames:
        wanted = np.arange(self.n_frames)[frames if isinstance(frames, slice) else np.asarray(frames, dtype=np.int64)]
        paths = self._paths | {"times": f"particles/{self.group}/position/time"}
        return Frames(**{name: _take(file[path], wanted) for name, path in paths.items() if path in file})


def _take(dataset: h5py.Dataset, wanted: Int[np.ndarray, " wanted"]) -> np.ndarray:
    """Rows of a dataset: those in a few neighbouring chunks are read in one piece, and each chunk once."""
    rows, where = np.unique(wanted, return_inverse=True)
    chunk = dataset.chunks[0] if dataset.chunks else 1  # other programs may have written it in one piece
    pieces = rows // (_CHUNKS_AT_ONCE * chunk)
    breaks = np.flatnonzero((np.diff(rows) > chunk) | (np.diff(pieces) > 0)) + 1
    result = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    for part in np.split(np.arange(len(rows)), breaks):
        if len(part):
            first, last = rows[part[0]], rows[part[-1]]
            result[part] = dataset[first : last + 1][rows[part] - first]
    return result if np.array_equal(rows, wanted) else result[where]
