"""The bead dataset: frames of beads on disk together with what the beads are and where the frames come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from cgenn.body import Body
from cgenn.files import atomic
from cgenn.h5md import Frames, H5MDFile, H5MDWriter
from cgenn.h5md.frames import check_finite
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

PACKAGES = ("cgenn", "mdtraj", "MDAnalysis", "numpy", "scipy", "h5py")
"""Those whose versions a dataset names."""

_VERSION = 1
_NORM_TOLERANCE = 1e-4


class BeadDataset:
    """Frames of beads in an H5MD file; only what is asked for is read, so it may be larger than memory.

    Attributes:
        path: the file.
        topology: what the beads are.
        temperature: that of the ensemble the frames were drawn from [K].
        segments: (start, stop) frames of each source trajectory.
        provenance: where the frames come from.
        has_times: whether it is known at which times the frames were taken.
    """

    def __init__(self, file: H5MDFile, entries: dict[str, Any]):
        """Use `open` instead."""
        self._file = file
        self.path = file.path
        self.topology = BeadTopology.from_dict(entries.get("topology", {}))
        self.temperature: float = entries["temperature"]
        segments = entries["segments"] or [(0, file.n_frames)]  # a run that was killed has not noted any
        self.segments: list[tuple[int, int]] = [(start, stop) for start, stop in segments]
        self.provenance: dict[str, Any] = entries["provenance"]
        self.has_times: bool = entries.get("has_times", False)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an existing dataset.

        Raises:
            ValueError: if there is no such file, or it is not a bead dataset.
        """
        file = H5MDFile(path)
        entries = file.metadata.get("dataset")
        if entries is None:
            raise ValueError(f"{path}: an H5MD file of {file.group}, but not a bead dataset: make one with `cgenn map`")
        if entries["version"] != _VERSION:
            raise ValueError(f"{path}: a bead dataset of version {entries['version']}, expected {_VERSION}")
        try:
            return cls(file, entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def write(
        cls,
        path: str | Path,
        topology: BeadTopology,
        frames: Frames | Iterable[Frames],
        *,
        temperature: float,
        provenance: dict[str, Any] | None = None,
        segments: Sequence[tuple[int, int]] | None = None,
    ) -> Self:
        """Write frames of beads, all at once or chunk by chunk; nothing is left under `path` if that fails.

        Args:
            temperature: [K].
            provenance: where they come from; anything JSON can hold.
            segments: (start, stop) of each source trajectory, by default a single one.
        """
        chunks = iter([frames] if isinstance(frames, Frames) else frames)
        with atomic(path) as partial, DatasetWriter(partial, topology, temperature) as writer:
            for chunk in chunks:
                writer.write(chunk)
            writer.finish(provenance or {}, segments)
        return cls.open(path)

    def __len__(self) -> int:
        return self._file.n_frames

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._file.n_frames

    @property
    def has_forces(self) -> bool:
        """Whether the frames have forces."""
        return self._file.has_forces

    @property
    def has_charges(self) -> bool:
        """Whether each frame has charges of its own; charges that never change are those of the topology."""
        return self._file.has_charges

    @property
    def has_dipoles(self) -> bool:
        """Whether the frames have dipoles of the beads."""
        return self._file.has_dipoles

    @property
    def has_energies(self) -> bool:
        """Whether the frames have potential energies."""
        return self._file.has_energies

    @property
    def has_virials(self) -> bool:
        """Whether the frames have virials."""
        return self._file.has_virials

    @property
    def has_orientations(self) -> bool:
        """Whether the frames have orientations of the beads."""
        return self._file.has_orientations

    @property
    def has_torques(self) -> bool:
        """Whether the frames have torques on the beads."""
        return self._file.has_torques

    @property
    def has_velocities(self) -> bool:
        """Whether the frames have velocities."""
        return self._file.has_velocities

    @property
    def has_angular_velocities(self) -> bool:
        """Whether the frames have angular velocities of the beads."""
        return self._file.has_angular_velocities

    @property
    def periodic(self) -> bool:
        """Whether the frames have a box."""
        return self._file.periodic

    @property
    def times(self) -> np.ndarray | None:
        """Of all frames, shape (frames,) [ps], or None where they are not known."""
        return self._file.times if self.has_times else None

    def read(self, frames: slice | Sequence[int] | np.ndarray = slice(None)) -> Frames:
        """The frames of a slice or an array of indices, in that order."""
        return self._timed(self._file.read(frames))

    def iter_chunks(self, frames_per_chunk: int) -> Iterator[Frames]:
        """All frames, `frames_per_chunk` at a time."""
        return map(self._timed, self._file.iter_chunks(frames_per_chunk))

    def _timed(self, frames: Frames) -> Frames:
        return frames if self.has_times else replace(frames, times=None)


class DatasetWriter:
    """Writes a bead dataset chunk by chunk; the first chunk decides which quantities it holds."""

    def __init__(self, path: Path, topology: BeadTopology, temperature: float):
        thermal_energy(temperature)
        self._path, self._topology, self._temperature = path, topology, float(temperature)
        self._file: H5MDWriter | None = None
        self._written, self._has_times = 0, True

    def write(self, frames: Frames) -> None:
        """Add frames.

        Raises:
            ValueError: if a number is not finite, a virial is not symmetric, an orientation is not a unit quaternion,
                or two bonded beads are not next to each other but one of them next to an image of the other; names
                frame and bead. If beads have bodies and the frames no orientations, or the reverse.
        """
        check_finite(frames, str(self._path).removesuffix(".partial"), "bead", self._written)
        self._check_frames(frames)
        self._written += len(frames)
        self._has_times &= frames.times is not None
        if self._file is None:
            self._file = H5MDWriter(
                self._path,
                len(self._topology),
                metadata={},
                species=self._topology.types,
                masses=self._topology.masses,
                charges=self._topology.charges if frames.charges is None else None,
                bonds=self._topology.bonds,
                periodic=frames.box is not None,
                forces=frames.forces is not None,
                frame_charges=frames.charges is not None,
                dipoles=frames.dipoles is not None,
                energies=frames.energies is not None,
                virials=frames.virials is not None,
                velocities=frames.velocities is not None,
                orientations=frames.orientations is not None,
                torques=frames.torques is not None,
                angular_velocities=frames.angular_velocities is not None,
            )
        self._file.write(
            frames.positions,
            box=frames.box,
            forces=frames.forces,
            charges=frames.charges,
            dipoles=frames.dipoles,
            energies=frames.energies,
            virials=frames.virials,
            velocities=frames.velocities,
            orientations=frames.orientations,
            torques=frames.torques,
            angular_velocities=frames.angular_velocities,
            time=frames.times,
        )

    def _check_orientations(self, name: str, orientations: np.ndarray | None) -> None:
        if (orientations is not None) != self._topology.oriented.any():
            which = "orientations, but no bead" if orientations is not None else "no orientations, but a bead"
            raise ValueError(f"{name}: the frames have {which} of the topology has a body")
        if orientations is not None:
            norms = np.linalg.norm(np.asarray(orientations, dtype=float), axis=-1)
            if len(wrong := np.argwhere(np.abs(norms - 1) > _NORM_TOLERANCE)):
                frame, bead = wrong[0].tolist()
                found = f"{orientations[frame, bead].tolist()} of norm {norms[frame, bead]:.6g}"
                place = f"{name}: frame {self._written + frame}, bead {bead}"
                raise ValueError(f"{place}: an orientation must be a unit quaternion (w, x, y, z), got {found}")

    def _check_frames(self, frames: Frames) -> None:
        name, (first, second) = str(self._path).removesuffix(".partial"), self._topology.bonds.T
        self._check_orientations(name, frames.orientations)
        if frames.virials is not None:
            uneven = np.abs(frames.virials - frames.virials.transpose(0, 2, 1)).max((1, 2))
            wrong = uneven > 1e-3 * np.abs(frames.virials).max((1, 2)) + 1e-6
            if wrong.any():
                frame = int(np.argmax(wrong))
                raise ValueError(
                    f"{name}: frame {self._written + frame}: the virial is not symmetric: "
                    f"{frames.virials[frame].tolist()} kJ/mol"
                )
        if frames.box is not None and len(first) and frames.box.shape[1:] == (3, 3):
            apart = frames.positions[:, second] - frames.positions[:, first]
            cut = np.abs(apart @ np.linalg.inv(frames.box)).max(2) > 0.5 + 1e-3
            if cut.any():
                frame, bond = np.argwhere(cut)[0].tolist()
                raise ValueError(
                    f"{name}: frame {self._written + frame}: bonded beads {first[bond]} and {second[bond]} are "
                    f"{np.linalg.norm(apart[frame, bond]):.3f} nm apart, more than half the box: make molecules whole"
                )

    def finish(self, provenance: dict[str, Any], segments: Sequence[tuple[int, int]] | None = None) -> None:
        """Add what is known only at the end.

        Raises:
            ValueError: if there are no frames, or the segments do not cover all of them in order.
        """
        frames = 0 if self._file is None else self._file.n_frames
        if self._file is None or frames == 0:
            raise ValueError(f"{self._path.name.removesuffix('.partial')}: there are no frames to write")
        segments = [(0, frames)] if segments is None else [(int(start), int(stop)) for start, stop in segments]
        borders = [0, *(stop for _, stop in segments)]
        if [start for start, _ in segments] != borders[:-1] or borders[-1] != frames or sorted(borders) != borders:
            raise ValueError(f"`segments` must follow one another from 0 to {frames}, got {segments}")
        entries = {
            "version": _VERSION,
            "topology": self._topology.to_dict(),
            "temperature": self._temperature,
            "segments": segments,
            "provenance": provenance,
            "has_times": self._has_times,
        }
        self._file.set_metadata({"dataset": entries})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._file is not None:
            self._file.__exit__(*error)


def read_bodies(path: str | Path) -> Mapping[str, Body]:
    """Geometries of the oriented beads of a dataset, by type.

    Raises:
        ValueError: if it is not a dataset.
    """
    try:
        return BeadDataset.open(path).topology.bodies
    except ValueError as error:
        said = "expected a bead dataset, whose geometries of oriented beads are to be used"
        raise ValueError(f"--bodies: {said}: {error}") from None
