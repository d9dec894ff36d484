"""Reads all-atom trajectories chunk by chunk; here, and only here, other units become nm and kJ/mol/nm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import h5py
import mdtraj
import numpy as np
from mdtraj.core.element import Element

from cgenn.data.npz import read_npz
from cgenn.data.topology import import_mdanalysis
from cgenn.h5md import Frames, H5MDFile
from cgenn.h5md.frames import check_finite
from cgenn.mapping.atoms import AtomTopology
from cgenn.units import factor

_WITH_FORCES = {".trr", ".tng"}
_HDF5 = {".h5", ".h5md", ".hdf5"}
_ELEMENTS = {element.symbol for element in Element._elements_by_symbol.values()}
"""Symbols; that of a virtual site is VS."""
_TIMED = {".xtc", ".trr"}
"""Formats that always hold times [ps]; MDTraj makes some up for others."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A trajectory on disk.

    Attributes:
        path: the file.
        n_atoms, n_frames: sizes.
        has_forces: whether its frames have forces.
        periodic: whether its frames have a box.
        metadata: what the file itself says, for instance of the temperature [K].
        atoms: what the file itself says of the masses, charges, bonds and constraints of its atoms.
        elements: of its atoms, where the file says so.
    """

    path: Path
    n_atoms: int
    n_frames: int
    has_forces: bool
    periodic: bool
    _chunks: Callable[[int, int], Iterator[Frames]]
    metadata: dict[str, Any] = field(default_factory=dict)
    atoms: dict[str, Any] = field(default_factory=dict)
    elements: tuple[str, ...] | None = None

    def iter_chunks(self, frames_per_chunk: int, stride: int = 1) -> Iterator[Frames]:
        """All frames, or every `stride`-th, `frames_per_chunk` at a time, in nm and kJ/mol/nm.

        Raises:
            ValueError: if a number is not finite or a frame lacks its box; names the frame.
        """
        done = 0
        for chunk in self._chunks(frames_per_chunk, stride):
            check_finite(chunk, str(self.path), "atom", done, stride)
            if self.periodic and chunk.box is None:
                raise ValueError(f"{self.path}: no box in frames from {done * stride} on, although the first has one")
            done += len(chunk)
            yield chunk if self.periodic else replace(chunk, box=None)


def open_trajectory(path: str | Path, atoms: AtomTopology | None = None, *, forces: bool = True) -> Trajectory:
    """Open an npz, H5MD, TRR or TNG file, or anything else that MDTraj reads.

    Args:
        atoms: needed where the file does not say by itself how many atoms it has.
        forces: whether forces are wanted; TRR, TNG and foreign H5MD files need MDAnalysis for them.

    Raises:
        ValueError: if the file cannot be read, its units are not clear, or it has not as many atoms as `atoms`.
        ImportError: if MDAnalysis is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no trajectory file {str(path)!r}")
    suffix = path.suffix.lower()
    hdf5 = _content_of_hdf5(path) if suffix in _HDF5 else ""
    if suffix == ".npz":
        result = _open_npz(path)
    elif hdf5 == "cgenn":
        result = _open_h5md(path)
    elif hdf5 == "h5md" or (forces and suffix in _WITH_FORCES):
        result = _open_mdanalysis(path)
    else:
        result = _open_mdtraj(path, atoms)
    if atoms is not None and result.n_atoms != len(atoms):
        raise ValueError(f"{path} has {result.n_atoms} atoms, the topology has {len(atoms)}")
    if result.n_frames == 0:
        raise ValueError(f"{path} has no frames")
    return result


def _content_of_hdf5(path: Path) -> str:
    try:
        with h5py.File(path, "r") as file:
            return "cgenn" if "cgenn" in file else "h5md" if "h5md" in file else "other"
    except OSError as error:
        raise ValueError(f"{path}: not a complete HDF5 file, perhaps cut off while it was written: {error}") from None


def _open_h5md(path: Path) -> Trajectory:
    file = H5MDFile(path)
    atoms = {"masses": file.masses, "charges": file.charges, "bonds": file.bonds if len(file.bonds) else None}
    known = {key: values for key, values in atoms.items() if values is not None}
    if "constraints" in file.metadata:
        known["constraints"] = np.asarray(file.metadata["constraints"], dtype=np.int64).reshape(-1, 2)
    size, timed = (file.n_particles, file.n_frames), file.metadata.get("dataset", {"has_times": True}).get("has_times")

    def chunks(frames_per_chunk: int, stride: int) -> Iterator[Frames]:
        frames = file.iter_chunks(frames_per_chunk, stride)
        return frames if timed else (replace(chunk, times=None) for chunk in frames)

    species = file.species if file.group == "atoms" else ("",)
    elements = species if set(species) <= _ELEMENTS else None
    return Trajectory(path, *size, file.has_forces, file.periodic, chunks, file.metadata, known, elements)


def _open_mdtraj(path: Path, atoms: AtomTopology | None) -> Trajectory:
    """Whatever MDTraj reads: positions in nm and the box, no forces."""
    try:
        with mdtraj.open(str(path)) as file:
            n_frames = len(file)
            first = file.read(1)
        n_atoms = (first[0] if isinstance(first, tuple) else first).shape[-2]
    except (OSError, ValueError, TypeError, NotImplementedError, AttributeError):
        whole = _load_whole(path, atoms)
        n_atoms, n_frames = whole.n_atoms, whole.n_frames
    topology = None if atoms is None else atoms.topology

    def chunks(frames_per_chunk: int, stride: int) -> Iterator[Frames]:
        for part in mdtraj.iterload(str(path), chunk=frames_per_chunk, stride=stride, top=topology):
            box = part.unitcell_vectors
            times = part.time.astype(float) if path.suffix.lower() in _TIMED else None
            yield Frames(part.xyz, box=None if box is None or not np.linalg.det(box).all() else box, times=times)

    if atoms is not None and n_atoms != len(atoms):
        return Trajectory(path, n_atoms, n_frames, False, False, chunks)
    return Trajectory(path, n_atoms, n_frames, False, next(chunks(1, 1)).box is not None, chunks)


def _load_whole(path: Path, atoms: AtomTopology | None) -> mdtraj.Trajectory:
    """Formats that MDTraj only reads as a whole, such as PDB."""
    needs_topology = atoms is not None and path.suffix.lower() not in {".pdb", ".gro", ".h5"}
    try:
        return mdtraj.load(str(path), **({"top": atoms.topology} if atoms is not None and needs_topology else {}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: cannot read a trajectory from it: {error}") from None


def _open_mdanalysis(path: Path) -> Trajectory:
    """Positions, forces and box through MDAnalysis, which gives A and kJ/mol/A."""
    length, force = factor("length", "A"), factor("force", "kJ/mol/A")
    try:
        reader = import_mdanalysis(path).coordinates.core.reader(str(path))
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot read a trajectory from it: {error}") from None
    has_forces, periodic = reader.ts.has_forces, reader.ts.dimensions is not None

    def chunks(frames_per_chunk: int, stride: int) -> Iterator[Frames]:
        for start in range(0, reader.n_frames, frames_per_chunk * stride):
            positions, forces, boxes, times = [], [], [], []
            for step in reader[start : start + frames_per_chunk * stride : stride]:
                if step.has_forces != has_forces:
                    raise ValueError(f"{path}: frame {step.frame}: forces are in some of the frames only")
                positions.append(step.positions.astype(float) * length)
                times.append(step.time)
                if has_forces:
                    forces.append(step.forces.astype(float) * force)
                if step.dimensions is not None:
                    boxes.append(step.triclinic_dimensions.astype(float) * length)
            whole = len(boxes) == len(positions)
            yield Frames(
                np.stack(positions),
                np.stack(forces) if has_forces else None,
                np.stack(boxes) if whole else None,
                times=np.array(times, dtype=float),
            )

    return Trajectory(path, reader.n_atoms, reader.n_frames, has_forces, periodic, chunks)


def _open_npz(path: Path) -> Trajectory:
    """Read into memory, and converted chunk by chunk."""
    frames, factors, known = read_npz(path)

    def chunks(frames_per_chunk: int, stride: int) -> Iterator[Frames]:
        for start in range(0, len(frames), frames_per_chunk * stride):
            part = frames[start : start + frames_per_chunk * stride : stride]
            present = {entry.name: getattr(part, entry.name) for entry in fields(part)}
            values = {key: array.astype(float) for key, array in present.items() if array is not None}
            yield Frames(**{key: array * factors.get(key, 1.0) for key, array in values.items()})

    size = (frames.positions.shape[1], len(frames))
    return Trajectory(path, *size, frames.forces is not None, frames.box is not None, chunks, atoms=known)
