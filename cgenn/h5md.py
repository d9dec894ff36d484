"""H5MD files (de Buyl et al. 2014, https://h5md.org): frames of positions, forces and box vectors on disk.

All-atom reference runs, bead datasets and coarse-grained runs are all stored like this, in nm, ps and kJ/mol/nm, and
open in MDAnalysis and other H5MD readers. What H5MD has no place for is JSON text in the dataset `/cgenn/metadata`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from jaxtyping import Float, Int

_UNITS = {"position": "nm", "force": "kJ mol-1 nm-1", "velocity": "nm ps-1", "box/edges": "nm"}
_CHUNK_BYTES = 2**18
_CHUNKS_AT_ONCE = 64
"""Chunks read in one piece, however few of their frames are wanted."""
_MARGIN_BYTES = 2**22
"""What HDF5 may still have to write when a file is closed."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a trajectory.

    Attributes:
        positions: shape (frames, particles, 3) [nm].
        forces: shape (frames, particles, 3) [kJ/mol/nm], or None.
        box: box vectors in rows, shape (frames, 3, 3) [nm], or None if not periodic.
        velocities: shape (frames, particles, 3) [nm/ps], or None.
    """

    positions: Float[np.ndarray, "frames particles 3"]
    forces: Float[np.ndarray, "frames particles 3"] | None = None
    box: Float[np.ndarray, "frames 3 3"] | None = None
    velocities: Float[np.ndarray, "frames particles 3"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, frames: slice | np.ndarray) -> Frames:
        """Those of the frames, as a slice or an array of indices."""
        parts = (self.positions, self.forces, self.box, self.velocities)
        return Frames(*(None if part is None else part[frames] for part in parts))  # type: ignore[arg-type]


class H5MDWriter:
    """Writes frames one after another; `flush` makes sure that all of them are on disk.

    Frames are collected until a chunk of the file is full, so writing them one by one costs no more than in chunks.
    """

    def __init__(
        self,
        path: str | Path,
        n_particles: int,
        *,
        metadata: dict[str, Any],
        species: Sequence[str],
        masses: Sequence[float] | np.ndarray,
        charges: Sequence[float] | np.ndarray | None = None,
        bonds: Sequence[tuple[int, int]] | np.ndarray = (),
        periodic: bool,
        forces: bool,
        velocities: bool = False,
        group: str = "beads",
        dtype: str = "float32",
        append: bool = False,
    ):
        """Open `path` for writing; with `append` it must exist already and hold the same particles and quantities.

        Args:
            metadata: anything JSON can hold.
            species: name of the type of each particle.
            masses: [amu], charges: [e], bonds: pairs of particle indices.

        Raises:
            ValueError: if lengths differ, or the file to append to holds something else.
        """
        for label, values in {"species": species, "masses": masses, "charges": charges}.items():
            if values is not None and len(values) != n_particles:
                raise ValueError(f"`{label}` must have one entry per particle ({n_particles}), got {len(values)}")
        self.path = Path(path)
        self.n_particles = n_particles
        self._quantities = ["position", *["force"] * forces, *["velocity"] * velocities, *["box/edges"] * periodic]
        self._pending: list[dict[str, np.ndarray]] = []
        if append:
            self._file = _open_to_append(self.path, group, n_particles, self._quantities)
            self._group = self._file["particles"][group]
        else:
            self._file = h5py.File(self.path, "w")
            self._reserve(256 * n_particles)
            _write_preamble(self._file)
            self._group = self._file.create_group(f"particles/{group}")
            self._create_frames(dtype, periodic)
            self._create_particles(list(species), np.asarray(masses), charges, np.asarray(bonds))
            self.set_metadata(metadata)
        self._chunk = self._group["position/value"].chunks[0]

    def _create_frames(self, dtype: str, periodic: bool) -> None:
        box = self._group.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs.create("boundary", ["periodic" if periodic else "none"] * 3, dtype=h5py.string_dtype())
        per_chunk = int(np.clip(_CHUNK_BYTES // (12 * self.n_particles), 1, 4096))
        for quantity in self._quantities:
            shape = (3, 3) if quantity == "box/edges" else (self.n_particles, 3)
            kind = "float64" if quantity == "box/edges" else dtype
            entry = self._group.create_group(quantity)
            value = entry.create_dataset(
                "value", (0, *shape), kind, maxshape=(None, *shape), chunks=(per_chunk, *shape),
                compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            value.attrs["unit"] = _UNITS[quantity]
            if quantity == "position":
                entry.create_dataset("step", (0,), "int64", maxshape=(None,), chunks=(4096,))
                entry.create_dataset("time", (0,), "float64", maxshape=(None,), chunks=(4096,)).attrs["unit"] = "ps"
            else:
                entry["step"], entry["time"] = self._group["position/step"], self._group["position/time"]

    def _create_particles(
        self, species: list[str], masses: np.ndarray, charges: Sequence[float] | np.ndarray | None, bonds: np.ndarray
    ) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(species))}
        kind = h5py.enum_dtype(numbers, basetype="int32")
        self._group.create_dataset("species", data=np.array([numbers[name] for name in species], "int32"), dtype=kind)
        self._group.create_dataset("mass", data=masses.astype(float)).attrs["unit"] = "amu"
        if charges is not None:
            self._group.create_dataset("charge", data=np.asarray(charges, dtype=float)).attrs["unit"] = "e"
        pairs = self._file.create_dataset("connectivity/bonds", data=bonds.astype("int64").reshape(-1, 2))
        pairs.attrs["particles_group"] = self._group.ref

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Replace the metadata."""
        text = json.dumps(metadata, allow_nan=False)
        self._reserve(len(text))
        if "cgenn/metadata" in self._file:
            del self._file["cgenn/metadata"]
        self._file["cgenn/metadata"] = text

    def _reserve(self, size: int) -> None:
        """Make sure of room for `size` more bytes: HDF5 crashes the process if it finds the disk full by itself.

        Raises:
            OSError: if there is no room; the file can still be closed, and what was flushed is safe.
        """
        if not hasattr(os, "posix_fallocate"):
            return
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, self._file.id.get_filesize(), size + _MARGIN_BYTES)
        except OSError as error:
            raise OSError(
                error.errno, f"no room to write {size} more bytes: {error.strerror}", str(self.path)
            ) from None
        finally:
            os.close(descriptor)

    @property
    def n_frames(self) -> int:
        """Frames written so far."""
        return len(self._group["position/value"]) + sum(len(entry["step"]) for entry in self._pending)

    def write(
        self,
        positions: np.ndarray,
        box: np.ndarray | None = None,
        forces: np.ndarray | None = None,
        velocities: np.ndarray | None = None,
        time: float | np.ndarray | None = None,
        step: int | np.ndarray | None = None,
    ) -> None:
        """Add one frame, positions (particles, 3), or several, positions (frames, particles, 3).

        Args:
            positions: [nm].
            box: box vectors in rows, (3, 3) or (frames, 3, 3) [nm].
            forces: [kJ/mol/nm], velocities: [nm/ps], shaped as the positions.
            time: [ps], step: both default to the number of the frame.

        Raises:
            ValueError: if a quantity that the file holds is missing, one it does not hold is given, or shapes differ.
        """
        given = {"position": positions, "force": forces, "velocity": velocities, "box/edges": box}
        single = np.ndim(positions) == 2
        frames = 1 if single else len(positions)
        entry: dict[str, np.ndarray] = {}
        for quantity, values in given.items():
            if (values is not None) != (quantity in self._quantities):
                problem = "is missing" if values is None else "was given but the file does not hold it"
                raise ValueError(f"{self.path}: `{quantity}` {problem}")
            if values is None:
                continue
            shape = (frames, 3, 3) if quantity == "box/edges" else (frames, self.n_particles, 3)
            array = np.array(values)[None] if single else np.array(values)
            if array.shape != shape:
                raise ValueError(f"{self.path}: `{quantity}` must have shape {shape}, got {array.shape}")
            entry[quantity] = array
        numbers = np.arange(self.n_frames, self.n_frames + frames)
        entry["step"] = numbers if step is None else np.broadcast_to(step, (frames,)).copy()
        entry["time"] = numbers.astype(float) if time is None else np.broadcast_to(time, (frames,)).copy()
        self._pending.append(entry)
        if sum(len(entry["step"]) for entry in self._pending) >= self._chunk:
            self._write_pending()

    def _write_pending(self) -> None:
        if not self._pending:
            return
        start = len(self._group["position/value"])
        columns = {key: np.concatenate([entry[key] for entry in self._pending]) for key in self._pending[0]}
        self._reserve(2 * sum(values.nbytes for values in columns.values()))
        for key, values in columns.items():
            dataset = self._group[f"position/{key}" if key in ("step", "time") else f"{key}/value"]
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values
        self._file.flush()
        self._pending.clear()

    def flush(self) -> None:
        """Write everything to disk: a process killed after this leaves a file that can be read and appended to."""
        self._write_pending()

    def truncate(self, frames: int) -> None:
        """Drop all but the first `frames` frames."""
        self._write_pending()
        if frames > self.n_frames:
            raise ValueError(f"{self.path}: cannot keep {frames} frames, there are {self.n_frames}")
        for name in ["position/step", "position/time", *(f"{quantity}/value" for quantity in self._quantities)]:
            self._group[name].resize(frames, axis=0)

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            self._write_pending()
        finally:
            self._file.close()
        with h5py.File(self.path, "r+"):
            pass  # opening and closing it again gives back the room that was reserved

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._pending.clear()
        self.close()


class H5MDFile:
    """Reads an H5MD file written by `H5MDWriter`; opened anew for each access, so it can be pickled and shared.

    Attributes:
        n_frames, n_particles: sizes.
        group: name of the group of particles, "beads" or "atoms".
        periodic, has_forces, has_velocities: what it holds.
        metadata: what was given to the writer.
    """

    def __init__(self, path: str | Path):
        """Open and look into `path`.

        Raises:
            ValueError: if there is no such file, it is truncated, or it is not H5MD.
        """
        self.path = Path(path)
        with self._open() as file:
            self.group = next(iter(file["particles"]))
            particles = file["particles"][self.group]
            self.n_frames, self.n_particles, _ = particles["position/value"].shape
            self.has_forces = "force" in particles
            self.has_velocities = "velocity" in particles
            self.periodic = "edges" in particles["box"]
            text = file["cgenn/metadata"][()] if "cgenn/metadata" in file else "{}"
        self.metadata: dict[str, Any] = json.loads(text)

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        with _open_checked(self.path, "r") as file:
            yield file

    def _fixed(self, name: str) -> np.ndarray | None:
        with self._open() as file:
            particles = file["particles"][self.group]
            return particles[name][()] if name in particles else None

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
        """[e], shape (particles,), or None."""
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
        particles = file["particles"][self.group]
        wanted = np.arange(self.n_frames)[frames if isinstance(frames, slice) else np.asarray(frames, dtype=np.int64)]
        names = {"positions": "position", "forces": "force", "velocities": "velocity", "box": "box/edges"}
        present = {key: particles[name]["value"] for key, name in names.items() if name in particles}
        return Frames(**{key: _take(dataset, wanted) for key, dataset in present.items()})


def _take(dataset: h5py.Dataset, wanted: Int[np.ndarray, " wanted"]) -> np.ndarray:
    """Rows of a chunked dataset: those in a few neighbouring chunks are read in one piece, and each chunk once."""
    rows, where = np.unique(wanted, return_inverse=True)
    pieces = rows // (_CHUNKS_AT_ONCE * dataset.chunks[0])
    breaks = np.flatnonzero((np.diff(rows) > dataset.chunks[0]) | (np.diff(pieces) > 0)) + 1
    result = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    for part in np.split(np.arange(len(rows)), breaks):
        if len(part):
            first, last = rows[part[0]], rows[part[-1]]
            result[part] = dataset[first : last + 1][rows[part] - first]
    return result if np.array_equal(rows, wanted) else result[where]


def _open_checked(path: Path, mode: str) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise ValueError(f"{path}: not a complete HDF5 file, perhaps cut off while it was written: {error}") from None
    if "h5md" not in file or len(file.get("particles", ())) == 0:
        file.close()
        raise ValueError(f"{path}: an HDF5 file, but not H5MD with a group of particles")
    return file


def _open_to_append(path: Path, group: str, n_particles: int, quantities: list[str]) -> h5py.File:
    file = _open_checked(path, "r+")
    particles = file["particles"].get(group)
    present = [] if particles is None else [name for name in _UNITS if name in particles]
    found = None if particles is None else particles["position/value"].shape[1]
    if found != n_particles or set(present) != set(quantities):
        file.close()
        raise ValueError(
            f"{path}: cannot append {quantities} of {n_particles} {group}, the file holds {present} of {found}"
        )
    return file


def _write_preamble(file: h5py.File) -> None:
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1])
    h5md.create_group("author").attrs["name"] = "cgenn user"
    creator = h5md.create_group("creator")
    creator.attrs["name"], creator.attrs["version"] = "cgenn", "0.1"
