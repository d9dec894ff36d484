"""Where a simulation starts: beads, positions and box, given or drawn from a dataset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from cgenn.h5md import H5MDFile
from cgenn.simulation.system import box_vectors, read_topology
from cgenn.topology import BeadTopology

StartSource: TypeAlias = str | Path | tuple[BeadTopology, np.ndarray] | tuple[BeadTopology, np.ndarray, object]


@dataclass(frozen=True, eq=False)
class Start:
    """The beads of one copy and the first positions of all.

    Attributes:
        topology: of one copy.
        positions: shape (replicas, beads, 3) [nm].
        box: box vectors in rows, (3, 3) [nm], or None.
    """

    topology: BeadTopology
    positions: Float[np.ndarray, "replicas beads 3"]
    box: Float[np.ndarray, "3 3"] | None

    @classmethod
    def read(cls, source: StartSource, replicas: int, seed: int) -> Start:
        """Take what is given, or draw as many frames of a dataset as there are replicas.

        Args:
            source: path of a bead dataset or of a run's trajectory.h5; or (topology, positions) or (topology,
                positions, box), with positions (beads, 3) or (frames, beads, 3) [nm].

        Raises:
            ValueError: if the number of beads differs, there are neither one nor as many frames as replicas, or a
                position is not finite.
        """
        if isinstance(source, (str, Path)):
            return cls._draw(Path(source), replicas, seed)
        topology, positions, *box = source
        frames = np.array(positions, dtype=float)
        frames = frames[None] if frames.ndim == 2 else frames
        if frames.ndim != 3 or frames.shape[1:] != (len(topology), 3):
            raise ValueError(f"positions must be those of {len(topology)} beads, got shape {np.shape(positions)}")
        if len(frames) not in (1, replicas):
            raise ValueError(f"positions must hold one frame or one for each of {replicas} replicas, got {len(frames)}")
        if not np.isfinite(frames).all():
            raise ValueError(f"the position of bead {int(np.argwhere(~np.isfinite(frames))[0, 1])} is not finite")
        return cls(
            topology, np.array(np.broadcast_to(frames, (replicas, *frames.shape[1:]))), box_vectors(*box or [None])
        )

    @classmethod
    def _draw(cls, path: Path, replicas: int, seed: int) -> Start:
        topology, _ = read_topology(path)
        file = H5MDFile(path)
        if file.n_frames == 0:
            raise ValueError(f"{path}: holds no frame to start from")
        chosen = np.random.default_rng(seed).choice(file.n_frames, replicas, replace=replicas > file.n_frames)
        frames = file.read(chosen)
        box = None if frames.box is None else box_vectors(frames.box[0])
        return cls(topology, frames.positions.astype(float), box)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        content = hashlib.sha256(json.dumps(self.topology.to_dict()).encode())
        content.update(self.positions.tobytes())
        content.update(b"" if self.box is None else self.box.tobytes())
        return content.hexdigest()
