"""Batches of frames from one or several datasets, in an order that depends on the seed and the epoch only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset

from cgenn.body import rotation_matrices
from cgenn.data.dataset import BeadDataset
from cgenn.graph import BeadGraph
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.topology import BeadTopology

BUFFERED_BEADS = 20_000_000
"""Beads held in memory at a time; a larger training set is shuffled window by window."""

BLOCK = 64
"""Consecutive frames that are read together when a training set is larger than the buffer."""


class FrameGroup(NamedTuple):
    """Frames of one dataset within a batch: its number, and what `Frames` has of them, in the same units.

    Orientations are matrices, whose columns are the axes of the frames.
    """

    dataset: int
    positions: Float[Tensor, "frames beads 3"]
    forces: Float[Tensor, "frames beads 3"]
    box: Float[Tensor, "frames 3 3"] | None = None
    charges: Float[Tensor, "frames beads"] | None = None
    dipoles: Float[Tensor, "frames beads 3"] | None = None
    energies: Float[Tensor, " frames"] | None = None
    virials: Float[Tensor, "frames 3 3"] | None = None
    orientations: Float[Tensor, "frames beads 3 3"] | None = None
    torques: Float[Tensor, "frames beads 3"] | None = None

    @classmethod
    def of(cls, dataset: int, frames: Frames, dtype: torch.dtype) -> FrameGroup:
        """Frames with forces, as tensors."""
        parts = {name: getattr(frames, name) for name in cls._fields[1:]}
        if frames.orientations is not None:
            parts["orientations"] = rotation_matrices(frames.orientations)
        return cls(
            dataset, **{name: torch.from_numpy(part).to(dtype) for name, part in parts.items() if part is not None}
        )

    def graph(self, potential: Potential, topology: BeadTopology) -> BeadGraph:
        """The frames as a potential sees them: with orientations if its energy depends on any."""
        turned = self.orientations if potential.config.bodies else None
        return potential.graph(topology, self.positions, self.box, turned)

    def some(self, frames: Tensor) -> FrameGroup:
        """Those of the frames."""
        parts = self._asdict() | {"dataset": None}
        return self._replace(**{name: part[frames] for name, part in parts.items() if part is not None})


class Batches(IterableDataset):
    """The batches of one epoch; each is a list of frame groups, one for each dataset that has frames in it.

    With several processes every batch is divided among them, so that their mean gradient is that of the whole batch.
    A last batch that is not full is left out; another order brings its frames in.
    """

    def __init__(
        self,
        datasets: Sequence[BeadDataset],
        frames: Sequence[np.ndarray],
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        shuffle: bool = True,
        dtype: torch.dtype = torch.float32,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.datasets, self.frames = list(datasets), [np.asarray(chosen) for chosen in frames]
        self.total = sum(len(chosen) for chosen in self.frames)
        self.batch_size = min(batch_size, self.total)
        self.seed, self.epoch, self.shuffle, self.dtype = seed, epoch, shuffle, dtype
        self.rank, self.world_size = rank, world_size
        largest = max(len(dataset.topology) for dataset in self.datasets)
        self.window = max(self.batch_size, BUFFERED_BEADS // largest // self.batch_size * self.batch_size)

    def __len__(self) -> int:
        return self.total // self.batch_size if self.shuffle else -(-self.total // self.batch_size)

    def order(self) -> np.ndarray:
        """Numbers of the frames, counted through all datasets, in the order of this epoch."""
        numbers = np.arange(self.total)
        if not self.shuffle:
            return numbers
        random = np.random.default_rng((self.seed, self.epoch))
        if self.total <= self.window:
            return random.permutation(numbers)
        blocks = [numbers[start : start + BLOCK] for start in range(0, self.total, BLOCK)]
        shuffled = np.concatenate([blocks[index] for index in random.permutation(len(blocks))])
        windows = [shuffled[start : start + self.window] for start in range(0, self.total, self.window)]
        return np.concatenate([random.permutation(window) for window in windows])

    def __iter__(self) -> Iterator[list[FrameGroup]]:
        order = self.order()
        for start in range(0, len(order), self.window):
            chosen = order[start : start + self.window]
            held = self._read(np.sort(chosen))
            for first in range(0, len(chosen), self.batch_size):
                batch = chosen[first : first + self.batch_size]
                if self.shuffle and len(batch) < self.batch_size:
                    return
                share = batch[self.rank :: self.world_size]
                if len(share):
                    yield self._groups(np.sort(share), held)

    def _owners(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each dataset that has some of the (sorted) numbers, with their places within its own list of frames."""
        offsets = np.concatenate([[0], np.cumsum([len(chosen) for chosen in self.frames])])
        borders = np.searchsorted(numbers, offsets)
        for index in range(len(self.datasets)):
            if borders[index + 1] > borders[index]:
                yield index, numbers[borders[index] : borders[index + 1]] - offsets[index]

    def _read(self, numbers: np.ndarray) -> dict[int, tuple[np.ndarray, FrameGroup]]:
        held = {}
        for index, places in self._owners(numbers):
            frames = self.datasets[index].read(self.frames[index][places])
            held[index] = places, FrameGroup.of(index, frames, self.dtype)
        return held

    def _groups(self, numbers: np.ndarray, held: dict[int, tuple[np.ndarray, FrameGroup]]) -> list[FrameGroup]:
        groups = []
        for index, places in self._owners(numbers):
            stored, group = held[index]
            groups.append(group.some(torch.from_numpy(np.searchsorted(stored, places))))
        return groups
