"""Reads all-atom trajectories chunk by chunk; here, and only here, other units become nm and kJ/mol/nm."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import mdtraj
import numpy as np

from cgenn.data.topology import import_mdanalysis
from cgenn.h5md import Frames, H5MDFile
from cgenn.mapping.atoms import AtomTopology
from cgenn.units import factor, known_units

_WITH_FORCES = {".trr", ".tng"}
_HDF5 = {".h5", ".h5md", ".hdf5"}


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
    """

    path: Path
    n_atoms: int
    n_frames: int
    has_forces: bool
    periodic: bool
    _chunks: Callable[[int, int], Iterator[Frames]]
    metadata: dict[str, Any] = field(default_factory=dict)
    atoms: dict[str, Any] = field(default_factory=dict)

    def iter_chunks(self, frames_per_chunk: int, stride: int = 1) -> Iterator[Frames]:
        """All frames, or every `stride`-th, `frames_per_chunk` at a time, in nm and kJ/mol/nm.

        Raises:
            ValueError: if a number is not finite or a frame lacks its box; names the frame.
        """
        done = 0
        for chunk in self._chunks(frames_per_chunk, stride):
            for label, values in {"position": chunk.positions, "force": chunk.forces}.items():
                if values is not None and not np.isfinite(values).all():
                    frame, atom = np.argwhere(~np.isfinite(values).all(axis=-1))[0].tolist()
                    value = values[frame, atom].tolist()
                    raise ValueError(f"{self.path}: frame {(done + frame) * stride}, atom {atom}: {label} is {value}")
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
    size = (file.n_particles, file.n_frames)
    return Trajectory(path, *size, file.has_forces, file.periodic, file.iter_chunks, file.metadata, known)


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
            yield Frames(part.xyz, box=None if box is None or not np.linalg.det(box).all() else box)

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
            positions, forces, boxes = [], [], []
            for step in reader[start : start + frames_per_chunk * stride : stride]:
                if step.has_forces != has_forces:
                    raise ValueError(f"{path}: frame {step.frame}: forces are in some of the frames only")
                positions.append(step.positions.astype(float) * length)
                if has_forces:
                    forces.append(step.forces.astype(float) * force)
                if step.dimensions is not None:
                    boxes.append(step.triclinic_dimensions.astype(float) * length)
            whole = len(boxes) == len(positions)
            yield Frames(
                np.stack(positions), np.stack(forces) if has_forces else None, np.stack(boxes) if whole else None
            )

    return Trajectory(path, reader.n_atoms, reader.n_frames, has_forces, periodic, chunks)


def _open_npz(path: Path) -> Trajectory:
    """Arrays `positions`, and where there are any `forces`, `box` and `constraints`, with an entry `units`.

    The file is read into memory. Positions may have the shape (frames, molecules, atoms, 3).
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            entries = {key: file[key] for key in ("positions", "forces", "box", "constraints", "units") if key in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz file: {error}") from None
    if "positions" not in entries:
        raise ValueError(f"{path}: no entry `positions`")
    length, force = _npz_units(path, entries)
    shape = entries["positions"].shape
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise ValueError(f"{path}: `positions` must have shape (frames, atoms, 3), got {shape}")
    if "forces" in entries and entries["forces"].shape != shape:
        raise ValueError(f"{path}: `forces` has shape {entries['forces'].shape}, `positions` {shape}")
    flat = (shape[0], int(np.prod(shape[1:-1])), 3)
    positions, forces = entries["positions"].reshape(flat), entries.get("forces")
    box = _npz_box(path, entries["box"], shape[0]) * length if "box" in entries else None

    def chunks(frames_per_chunk: int, stride: int) -> Iterator[Frames]:
        for start in range(0, len(positions), frames_per_chunk * stride):
            part = slice(start, start + frames_per_chunk * stride, stride)
            yield Frames(
                positions[part].astype(float) * length,
                None if forces is None else forces.reshape(flat)[part].astype(float) * force,
                None if box is None else box[part],
            )

    known = {"constraints": entries["constraints"]} if "constraints" in entries else {}
    return Trajectory(path, flat[1], flat[0], forces is not None, box is not None, chunks, atoms=known)


def _npz_units(path: Path, entries: dict[str, np.ndarray]) -> tuple[float, float]:
    """Factors of lengths and forces, from the text before the first semicolon of `units`, such as "A, kcal/mol/A"."""
    if "units" not in entries:
        raise ValueError(f'{path}: no entry `units`, expected text such as "A, kcal/mol/A" or "nm, kJ/mol/nm"')
    text = str(entries["units"]).split(";")[0]
    words = set(re.split(r"[\s,]+", text))
    lengths, forces = words & known_units("length"), words & known_units("force")
    if len(lengths) > 1 or len(forces) > 1:
        raise ValueError(f"{path}: mixed units, `units` is {text!r}: expected one of length and one of force")
    if not lengths or ("forces" in entries and not forces):
        missing = "force" if lengths else "length"
        raise ValueError(f"{path}: no unit of {missing} in `units`, which is {text!r}")
    length = lengths.pop()
    if forces and factor("length", next(iter(forces)).rsplit("/", 1)[1]) != factor("length", length):
        raise ValueError(f"{path}: mixed units, `units` is {text!r}: forces must be per {length}, as the positions")
    return factor("length", length), factor("force", forces.pop()) if forces else 1.0


def _npz_box(path: Path, box: np.ndarray, n_frames: int) -> np.ndarray:
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
