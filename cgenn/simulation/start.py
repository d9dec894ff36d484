"""Where a simulation starts: beads, positions and box, given or drawn from a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from cgenn.body import Body
from cgenn.h5md import H5MDFile
from cgenn.simulation.orientation_sites import checked_orientations
from cgenn.simulation.rigid import RigidBeads, with_bodies
from cgenn.simulation.system import box_vectors, read_topology
from cgenn.topology import BeadTopology

StartSource: TypeAlias = (
    str
    | Path
    | tuple[BeadTopology, np.ndarray]
    | tuple[BeadTopology, np.ndarray, object]
    | tuple[BeadTopology, np.ndarray, object, np.ndarray]
)


@dataclass(frozen=True, eq=False)
class Start:
    """The beads of one copy and the first positions of all.

    Attributes:
        topology: of one copy.
        positions: shape (replicas, beads, 3) [nm].
        box: box vectors in rows, (3, 3) [nm], or None.
        orientations: unit quaternions (w, x, y, z), shape (replicas, beads, 4); None where no bead is oriented.
    """

    topology: BeadTopology
    positions: Float[np.ndarray, "replicas beads 3"]
    box: Float[np.ndarray, "3 3"] | None
    orientations: Float[np.ndarray, "replicas beads 4"] | None = None

    @classmethod
    def read(cls, source: StartSource, replicas: int, seed: int, bodies: Mapping[str, Body] | None = None) -> Start:
        """Take what is given, or draw as many frames of a dataset as there are replicas.

        Args:
            source: path of a bead dataset or of a run's trajectory.h5; or (topology, positions), (topology, positions,
                box) or (topology, positions, box, orientations), with positions (beads, 3) or (frames, beads, 3) [nm]
                and unit quaternions (w, x, y, z) shaped alike.
            bodies: of the types that are oriented in the simulation, those of the potential.

        Raises:
            ValueError: if the number of beads differs, there are neither one nor as many frames as replicas, a
                position is not finite, or orientations are missing or not those of the beads.
        """
        if isinstance(source, (str, Path)):
            return cls._draw(Path(source), replicas, seed, bodies or {})
        topology, positions, *rest = source
        box, given = (*rest, None, None)[:2]
        orientations = None if given is None else np.array(given, dtype=float)
        frames = np.array(positions, dtype=float)
        frames = frames[None] if frames.ndim == 2 else frames
        if frames.ndim != 3 or frames.shape[1:] != (len(topology), 3):
            raise ValueError(f"positions must be those of {len(topology)} beads, got shape {np.shape(positions)}")
        if len(frames) not in (1, replicas):
            raise ValueError(f"positions must hold one frame or one for each of {replicas} replicas, got {len(frames)}")
        if not np.isfinite(frames).all():
            raise ValueError(f"the position of bead {int(np.argwhere(~np.isfinite(frames))[0, 1])} is not finite")
        everywhere = np.array(np.broadcast_to(frames, (replicas, *frames.shape[1:])))
        return cls._build(topology, everywhere, box_vectors(box), orientations, bodies or {})

    @classmethod
    def _draw(cls, path: Path, replicas: int, seed: int, bodies: Mapping[str, Body]) -> Start:
        topology, _ = read_topology(path)
        file = H5MDFile(path)
        if file.n_frames == 0:
            raise ValueError(f"{path}: holds no frame to start from")
        chosen = np.random.default_rng(seed).choice(file.n_frames, replicas, replace=replicas > file.n_frames)
        frames = file.read(chosen)
        box = None if frames.box is None else box_vectors(frames.box[0])
        return cls._build(topology, frames.positions.astype(float), box, frames.orientations, bodies)

    @classmethod
    def _build(
        cls,
        topology: BeadTopology,
        positions: np.ndarray,
        box: np.ndarray | None,
        orientations: np.ndarray | None,
        bodies: Mapping[str, Body],
    ) -> Start:
        topology = with_bodies(topology, bodies)
        if not topology.oriented.any():
            return cls(topology, positions, box)
        if orientations is None:
            bead = int(topology.oriented.argmax())
            raise ValueError(
                f"bead {bead} has type {topology.types[bead]!r}, which has an orientation in this model, but the start "
                "has none: give (topology, positions, box, orientations), or a dataset with orientations"
            )
        turned = checked_orientations(topology, orientations)
        if turned.ndim == 3 and len(turned) not in (1, len(positions)):
            raise ValueError(f"`orientations` must hold one frame or {len(positions)}, got {len(turned)}")
        return cls(topology, positions, box, np.array(np.broadcast_to(turned, (*positions.shape[:2], 4))))

    @property
    def particles(self) -> Float[np.ndarray, "replicas particles 3"]:
        """Of the System [nm]: the beads, with the sites of the oriented ones."""
        rigid = RigidBeads.of(self.topology)
        if rigid is None or self.orientations is None:
            return self.positions
        return rigid.to_sites(self.positions, self.orientations)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        content = hashlib.sha256(json.dumps(self.topology.to_dict()).encode())
        content.update(self.positions.tobytes())
        content.update(b"" if self.box is None else self.box.tobytes())
        content.update(b"" if self.orientations is None else self.orientations.tobytes())
        return content.hexdigest()
