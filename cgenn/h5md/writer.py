"""Writing frames, so that a killed process leaves a file that can be read and continued."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from cgenn.h5md.frames import QUANTITIES, Quantity, held, open_checked

_CHUNK_BYTES = 2**18
_MARGIN_BYTES = 2**22
"""What HDF5 may still have to write when a file is closed."""


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
        frame_charges: bool = False,
        dipoles: bool = False,
        energies: bool = False,
        virials: bool = False,
        orientations: bool = False,
        torques: bool = False,
        angular_velocities: bool = False,
        group: str = "beads",
        dtype: str = "float32",
        flushed: int | None = None,
        append: bool = False,
    ):
        """Open `path` for writing; with `append` it must exist already and hold the same particles and quantities.

        Args:
            metadata: anything JSON can hold.
            species: name of the type of each particle.
            masses: [amu], bonds: pairs of particle indices.
            charges: those that never change [e].
            periodic: whether each frame has a box.
            forces, velocities, frame_charges, dipoles, energies, virials, orientations, torques, angular_velocities:
                which of them each frame has.
            flushed: frames between calls of `flush`. Whole chunks are written then, and never again: a process that is
                killed while it writes a chunk for the second time spoils the frames that were there before.

        Raises:
            ValueError: if lengths differ, charges are given both for all frames and for each, or the file to append to
                holds something else.
        """
        for label, values in {"species": species, "masses": masses, "charges": charges}.items():
            if values is not None and len(values) != n_particles:
                raise ValueError(f"`{label}` must have one entry per particle ({n_particles}), got {len(values)}")
        if charges is not None and frame_charges:
            raise ValueError("`charges` are those of all frames: pass None where each frame has its own")
        self.path = Path(path)
        self.n_particles, self._group_name = n_particles, group
        wanted = {
            "positions": True, "forces": forces, "velocities": velocities, "box": periodic,
            "charges": frame_charges, "dipoles": dipoles, "energies": energies, "virials": virials,
            "orientations": orientations, "torques": torques, "angular_velocities": angular_velocities,
        }  # fmt: skip
        self._quantities = [quantity for quantity in QUANTITIES if wanted[quantity.name]]
        self._pending: list[dict[str, np.ndarray]] = []
        if append:
            self._file = _open_to_append(self.path, group, n_particles, self._quantities)
            self._group = self._file["particles"][group]
        else:
            self._file = h5py.File(self.path, "w")
            self._reserve(256 * n_particles)
            _write_preamble(self._file)
            self._group = self._file.create_group(f"particles/{group}")
            self._create_frames(dtype, periodic, flushed)
            self._create_particles(list(species), np.asarray(masses), charges, np.asarray(bonds))
            self.set_metadata(metadata)
        self._chunk = self._group["position/value"].chunks[0]

    def _create_frames(self, dtype: str, periodic: bool, flushed: int | None) -> None:
        box = self._group.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs.create("boundary", ["periodic" if periodic else "none"] * 3, dtype=h5py.string_dtype())
        per_chunk = int(np.clip(_CHUNK_BYTES // (12 * self.n_particles), 1, 4096))
        if flushed is not None:
            per_chunk = max(size for size in range(1, per_chunk + 1) if flushed % size == 0)
        for quantity in self._quantities:
            shape = quantity.frame_shape(self.n_particles)
            entry = self._file.create_group(quantity.path(self._group_name))
            value = entry.create_dataset(
                "value", (0, *shape), "float64" if quantity.exact else dtype, maxshape=(None, *shape),
                chunks=(per_chunk, *shape), compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            if quantity.unit:
                value.attrs["unit"] = quantity.unit
            if quantity.name == "positions":
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
        *,
        charges: np.ndarray | None = None,
        dipoles: np.ndarray | None = None,
        energies: float | np.ndarray | None = None,
        virials: np.ndarray | None = None,
        orientations: np.ndarray | None = None,
        torques: np.ndarray | None = None,
        angular_velocities: np.ndarray | None = None,
    ) -> None:
        """Add one frame, positions (particles, 3), or several, positions (frames, particles, 3).

        Args:
            positions: [nm].
            box: box vectors in rows, (3, 3) or (frames, 3, 3) [nm].
            forces: [kJ/mol/nm], velocities: [nm/ps], shaped as the positions.
            time: [ps], step: both default to the number of the frame.
            charges: (particles,) or (frames, particles) [e].
            dipoles: shaped as the positions [e nm].
            energies: a number or (frames,) [kJ/mol].
            virials: (3, 3) or (frames, 3, 3) [kJ/mol].
            orientations: unit quaternions (w, x, y, z), (particles, 4) or (frames, particles, 4).
            torques: [kJ/mol], angular_velocities: [1/ps], shaped as the positions.

        Raises:
            ValueError: if a quantity that the file holds is missing, one it does not hold is given, or shapes differ.
        """
        given = {
            "positions": positions, "forces": forces, "velocities": velocities, "box": box,
            "charges": charges, "dipoles": dipoles, "energies": energies, "virials": virials,
            "orientations": orientations, "torques": torques, "angular_velocities": angular_velocities,
        }  # fmt: skip
        single = np.ndim(positions) == 2
        frames = 1 if single else len(positions)
        entry = {}
        for quantity in QUANTITIES:
            values = given[quantity.name]
            if (values is not None) != (quantity in self._quantities):
                problem = "is missing" if values is None else "was given but the file does not hold it"
                raise ValueError(f"{self.path}: `{quantity.element}` {problem}")
            if values is not None:
                entry[quantity.path(self._group_name)] = self._checked(quantity, values, frames, single)
        numbers = np.arange(self.n_frames, self.n_frames + frames)
        entry["step"] = numbers if step is None else np.broadcast_to(step, (frames,)).copy()
        entry["time"] = numbers.astype(float) if time is None else np.broadcast_to(time, (frames,)).copy()
        self._pending.append(entry)
        if sum(len(entry["step"]) for entry in self._pending) >= self._chunk:
            self._write_pending(whole=True)

    def _checked(self, quantity: Quantity, values: float | np.ndarray, frames: int, single: bool) -> np.ndarray:
        array = np.array(values)[None] if single else np.array(values)
        shape = (frames, *quantity.frame_shape(self.n_particles))
        if array.shape != shape:
            raise ValueError(f"{self.path}: `{quantity.element}` must have shape {shape}, got {array.shape}")
        return array

    def _write_pending(self, *, whole: bool = False) -> None:
        """All that was collected; with `whole` only what fills chunks."""
        if not self._pending:
            return
        start = len(self._group["position/value"])
        columns = {key: np.concatenate([entry[key] for entry in self._pending]) for key in self._pending[0]}
        end = start + len(columns["step"])
        if whole:
            end = max(end // self._chunk * self._chunk, start)
        self._reserve(2 * sum(values.nbytes for values in columns.values()))
        for key, values in columns.items():
            dataset = self._group[f"position/{key}"] if key in ("step", "time") else self._file[f"{key}/value"]
            dataset.resize(end, axis=0)
            dataset[start:] = values[: end - start]
        self._file.flush()
        left = {key: values[end - start :] for key, values in columns.items()}
        self._pending = [left] if len(left["step"]) else []

    def flush(self) -> None:
        """Write everything to disk: a process killed after this leaves a file that can be read and appended to."""
        self._write_pending()

    def truncate(self, frames: int) -> None:
        """Drop all but the first `frames` frames."""
        self._write_pending()
        if frames > self.n_frames:
            raise ValueError(f"{self.path}: cannot keep {frames} frames, there are {self.n_frames}")
        values = [f"{quantity.path(self._group_name)}/value" for quantity in self._quantities]
        for dataset in [self._group["position/step"], self._group["position/time"], *(self._file[v] for v in values)]:
            dataset.resize(frames, axis=0)

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


def _open_to_append(path: Path, group: str, n_particles: int, quantities: list[Quantity]) -> h5py.File:
    file = open_checked(path, "r+")
    particles = file["particles"].get(group)
    present = [] if particles is None else held(file, group)
    found = None if particles is None else particles["position/value"].shape[1]
    if found != n_particles or present != quantities:
        file.close()
        wanted, there = ([quantity.element for quantity in entries] for entries in (quantities, present))
        raise ValueError(f"{path}: cannot append {wanted} of {n_particles} {group}, the file holds {there} of {found}")
    return file


def _write_preamble(file: h5py.File) -> None:
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1])
    h5md.create_group("author").attrs["name"] = "cgenn user"
    creator = h5md.create_group("creator")
    creator.attrs["name"], creator.attrs["version"] = "cgenn", "0.1"
