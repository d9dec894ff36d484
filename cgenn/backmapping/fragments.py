"""Puts fragments of reference frames where the beads are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from cgenn.backmapping.units import Kind, find_kinds
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.superposition import is_collinear, superpose

_ARM = 0.1
"""Length of the axes whose tips, beside its centre, stand for an oriented bead [nm]."""
_CONFORMATIONS = 2000
"""Most conformations of a unit that are compared."""


@dataclass(frozen=True, eq=False)
class Library:
    """Conformations from reference frames.

    A bead stands for the fragment of its atoms. It is taken from the conformation whose beads around it, up to two
    bonds away, are superposed on those of the frame with the least deviation, and turned like the bead and those bonded
    to it where these are enough to tell, else like all of them. An oriented bead counts with the tips of its axes. A
    single bead without an orientation is turned at random. Molecules without a bead are those of the frame whose first
    unit is closest, moved along with it.

    Attributes:
        kinds: of units.
        free: atoms of molecules without a bead.
        positions: whole molecules, shape (frames, atoms, 3) [nm].
        points: centre and tips of each bead in these frames, shape (frames, beads, 4, 3) [nm].
        oriented: whether each bead has tips.
    """

    kinds: list[Kind]
    free: Int[np.ndarray, " free"]
    positions: Float[np.ndarray, "frames atoms 3"]
    points: Float[np.ndarray, "frames beads 4 3"]
    oriented: Bool[np.ndarray, " beads"]

    @classmethod
    def build(cls, frame_map: FrameMap, positions: Float[np.ndarray, "frames atoms 3"]) -> Self:
        """From frames with whole molecules [nm]."""
        mapping = frame_map.mapping
        orientations = frame_map(positions).orientations
        points = _points(mapping.linear(positions), orientations)
        return cls(*find_kinds(mapping), positions, points, mapping.oriented)

    def place(
        self,
        positions: Float[np.ndarray, "beads 3"],
        orientations: Float[np.ndarray, "beads 4"] | None,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "atoms 3"]:
        """Atoms for beads at `positions` [nm], molecules whole; where fragments meet, bonds are not yet right."""
        turned = np.tile([1.0, 0, 0, 0], (len(positions), 1)) if orientations is None else orientations
        points = _points(positions[None], turned[None])[0]
        atoms = np.zeros(self.positions.shape[1:])
        for kind in self.kinds:
            frames, units = self._drawn(kind, rng)
            for unit in range(len(kind.beads)):
                self._place_unit(kind, unit, points, frames, units, rng, atoms)
        if len(self.free):
            self._place_free(points, atoms)
        return atoms

    def _drawn(self, kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames and units of the conformations to be compared, in random order."""
        total = len(self.positions) * len(kind.beads)
        chosen = rng.choice(total, min(total, _CONFORMATIONS), replace=False)
        return np.divmod(chosen, len(kind.beads))

    def _place_unit(
        self,
        kind: Kind,
        unit: int,
        points: Float[np.ndarray, "beads 4 3"],
        frames: Int[np.ndarray, " conformations"],
        units: Int[np.ndarray, " conformations"],
        rng: np.random.Generator,
        atoms: Float[np.ndarray, "atoms 3"],
    ) -> None:
        for bead, around in enumerate(kind.surroundings):
            rows, places = self._marks(kind.beads[unit, around])
            tried = slice(None) if len(around) > 1 else rng.integers(len(frames), size=1)  # alone, all are alike
            beads = kind.beads[units[tried]]
            candidates = self.points[frames[tried, None], beads[:, around[rows]], places]
            target = points[kind.beads[unit, around[rows]], places]
            best, turn = _closest(target, candidates, rng)
            close = kind.bonded[bead][rows]
            if close.sum() > 2 and not is_collinear(target[close] - target[close].mean(axis=0)):
                turn = _closest(target[close], candidates[best : best + 1, close], rng)[1]
            frame, other = frames[tried][best], units[tried][best]
            members = np.flatnonzero(kind.homes == bead)
            arms = self.positions[frame, kind.atoms[other, members]] - self.points[frame, kind.beads[other, bead], 0]
            atoms[kind.atoms[unit, members]] = points[kind.beads[unit, bead], 0] + arms @ turn.T

    def _marks(self, beads: Int[np.ndarray, " beads"]) -> tuple[np.ndarray, np.ndarray]:
        """Which of the centre and tips of each of some beads count: row among the beads, and place among the four."""
        counted = np.repeat(self.oriented[beads][:, None], 4, axis=1)
        counted[:, 0] = True
        rows, places = np.nonzero(counted)
        return rows, places

    def _place_free(self, points: Float[np.ndarray, "beads 4 3"], atoms: Float[np.ndarray, "atoms 3"]) -> None:
        unit = self.kinds[0].beads[0]
        target, there = points[unit, 0], self.points[:, unit, 0]
        if len(unit) > 1:
            frame, _ = _closest(target, there, None)
        else:
            frame = 0
        shift = target.mean(axis=0) - there[frame].mean(axis=0)
        atoms[self.free] = self.positions[frame, self.free] + shift


def _points(
    positions: Float[np.ndarray, "frames beads 3"], orientations: Float[np.ndarray, "frames beads 4"]
) -> Float[np.ndarray, "frames beads 4 3"]:
    """Centres and tips of the axes."""
    matrices = Rotation.from_quat(orientations.reshape(-1, 4), scalar_first=True).as_matrix()
    tips = positions[:, :, None] + _ARM * np.swapaxes(matrices, 1, 2).reshape(*positions.shape[:2], 3, 3)
    return np.concatenate([positions[:, :, None], tips], axis=2)


def _closest(
    target: Float[np.ndarray, "points 3"],
    candidates: Float[np.ndarray, "candidates points 3"],
    rng: np.random.Generator | None,
) -> tuple[int, Float[np.ndarray, "3 3"]]:
    """The candidate of least deviation and the rotation that brings it onto the target; a random one of a point."""
    if len(target) == 1:
        return 0, Rotation.random(rng=rng).as_matrix()
    centred, others = target - target.mean(axis=0), candidates - candidates.mean(axis=1, keepdims=True)
    turns = superpose(centred, others)
    best = int(np.argmin(np.square(others @ turns - centred).sum(axis=(1, 2))))
    return best, turns[best].T
