"""What is compared: bead positions over frames, and which of the frames are independent of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Real

_CHUNK_BEADS = 400_000
"""Beads (frames x beads) in memory at a time: about 10 MB of float64 positions."""

_UNEVEN = 0.05
"""Times between frames that differ by more of their mean are not equal."""


@runtime_checkable
class Positions(Protocol):
    """Anything with a shape (frames, beads, 3) that slices to arrays: NumPy, a memory map, an HDF5 dataset."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, frames: Any, /) -> Any: ...


class Chunk(NamedTuple):
    """Some frames of an ensemble, in memory."""

    positions: Float[np.ndarray, "frames beads 3"]
    box: Float[np.ndarray, "frames 3 3"] | None
    blocks: Int[np.ndarray, " frames"]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Frames of one system.

    Attributes:
        positions: shape (frames, beads, 3) [nm]; may lie in a file, it is read in pieces.
        box: box vectors as rows, shape (frames, 3, 3) [nm], or None where nothing is periodic.
        blocks: which independent piece (replica, trajectory) each frame belongs to, shape (frames,); None means that
            all frames come from one. Frames of one piece are in the order of time.
        label: what the figures call it.
        times: of each frame, shape (frames,) [ps]; None where they are not known.

    Raises:
        ValueError: if a shape is wrong, there are no frames, or a box has no volume.
    """

    positions: Positions
    box: np.ndarray | None = None
    blocks: np.ndarray | None = None
    label: str = "reference"
    times: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.positions.shape)
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"{self.label}: positions must have the shape (frames, beads, 3), got {shape}")
        if 0 in shape:
            raise ValueError(f"{self.label}: there are no frames or no beads, the positions have the shape {shape}")
        for name, values in (("blocks", self.blocks), ("times", self.times)):
            if values is not None and np.shape(values) != shape[:1]:
                got = np.shape(values)
                raise ValueError(
                    f"{self.label}: `{name}` must have one entry per frame, {shape[0]}, got the shape {got}"
                )
        if self.box is not None:
            self._check_box(self.box, shape[0])

    def _check_box(self, box: np.ndarray, n_frames: int) -> None:
        if np.shape(box) != (n_frames, 3, 3):
            raise ValueError(f"{self.label}: box must have the shape ({n_frames}, 3, 3), got {np.shape(box)}")
        volumes = np.abs(np.linalg.det(np.asarray(box, dtype=float)))
        if not np.all(volumes > 0):
            frame = int(np.argmin(volumes > 0))
            raise ValueError(f"{self.label}: the box of frame {frame} has the volume {volumes[frame]} nm^3")

    @property
    def number_density(self) -> float:
        """Beads per mean volume [1/nm^3].

        Raises:
            ValueError: if there is no box.
        """
        if self.box is None:
            raise ValueError(f"{self.label}: there is no box, and so no density")
        return self.n_beads / float(np.abs(np.linalg.det(np.asarray(self.box, dtype=float))).mean())

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.positions.shape[0]

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return self.positions.shape[1]

    @cached_property
    def pieces(self) -> tuple[Int[np.ndarray, " part"], ...]:
        """The frames of each replica or trajectory, in the order of time; what the errors use is `block_index`."""
        if self.blocks is None:
            return (np.arange(self.n_frames),)
        return tuple(np.flatnonzero(self.blocks == label) for label in np.unique(self.blocks))

    @cached_property
    def interval(self) -> float | None:
        """Time between frames [ps]; None where it is not known or not always the same."""
        if self.times is None:
            return None
        steps = np.concatenate([np.diff(np.asarray(self.times, dtype=float)[piece]) for piece in self.pieces])
        if not len(steps) or not steps.min() > 0 or np.ptp(steps) > _UNEVEN * steps.mean():
            return None
        return float(steps.mean())

    @cached_property
    def block_index(self) -> Int[np.ndarray, " frames"]:
        """Index of the block of each frame, 0 ... n_blocks-1, as the errors use them: see `independent_blocks`."""
        return independent_blocks(np.zeros(self.n_frames, dtype=np.int64) if self.blocks is None else self.blocks)

    @property
    def n_blocks(self) -> int:
        """Number of blocks that the errors are estimated from."""
        return int(self.block_index.max()) + 1

    def chunks(self, per_frame: int = 0, frames: Bool[np.ndarray, " frames"] | None = None) -> Iterator[Chunk]:
        """Go through the ensemble with bounded memory.

        Args:
            per_frame: numbers that the caller makes out of one frame; the number of beads if larger.
            frames: which frames are wanted; all if None.

        Raises:
            ValueError: if a position is not finite; names the frame and the bead.
        """
        step = max(1, _CHUNK_BEADS // max(self.n_beads, per_frame))
        for start in range(0, self.n_frames, step):
            part = slice(start, min(start + step, self.n_frames))
            wanted = np.ones(part.stop - start, dtype=bool) if frames is None else frames[part]
            if not wanted.any():
                continue
            positions = np.asarray(self.positions[part], dtype=np.float64)
            self._check_finite(positions, start)
            box = None if self.box is None else np.asarray(self.box[part], dtype=np.float64)[wanted]
            yield Chunk(positions[wanted], box, self.block_index[part][wanted])

    def _check_finite(self, positions: Real[np.ndarray, "frames beads 3"], start: int) -> None:
        finite = np.isfinite(positions).all(axis=2)
        if not finite.all():
            frame, bead = (int(index) for index in np.argwhere(~finite)[0])
            value = positions[frame, bead].tolist()
            raise ValueError(f"{self.label}: the position of bead {bead} in frame {start + frame} is {value}")


def independent_blocks(
    blocks: Int[np.ndarray, " frames"], fewest: int = 10, most: int = 32
) -> Int[np.ndarray, " frames"]:
    """Block index 0 ... n-1 of each frame, with at least `fewest` and at most `most` blocks if there are enough frames.

    Too few pieces are cut into stretches of equal length, too many are merged, so that an error bar rests on enough
    blocks and memory stays bounded.
    """
    _, index, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    if len(sizes) > most:
        return index * most // len(sizes)
    if len(sizes) >= fewest:
        return index
    parts = -(-fewest // len(sizes))
    order = np.argsort(index, kind="stable")
    rank = np.empty(len(index), dtype=np.int64)
    rank[order] = np.arange(len(index)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.unique(index * parts + rank * parts // sizes[index], return_inverse=True)[1]


def some_frames(ensemble: Ensemble, wanted: float) -> Bool[np.ndarray, " frames"] | None:
    """A random choice of about `wanted` frames, at least two of each block; None means all."""
    fraction = wanted / ensemble.n_frames
    if fraction >= 1:
        return None
    order = np.random.default_rng(0).permutation(ensemble.n_frames)
    chosen = np.zeros(ensemble.n_frames, dtype=bool)
    for block in range(ensemble.n_blocks):
        members = order[ensemble.block_index[order] == block]
        chosen[members[: max(2, round(fraction * len(members)))]] = True
    return chosen
