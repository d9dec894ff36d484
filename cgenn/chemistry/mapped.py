"""A mapping with the atoms and conformations it is of: what audits and pictures start from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import mdtraj
import numpy as np
from jaxtyping import Float

from cgenn.data.topology import UNREADABLE, TopologyLike, check_topology, read_topology
from cgenn.data.trajectory import open_trajectory
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.whole import Tree

_WITH_POSITIONS = {".pdb", ".ent", ".cif", ".gro", ".h5"}
"""Topology files that hold a conformation too."""
_MOST_FRAMES = 100


@dataclass(frozen=True, eq=False)
class MappedAtoms:
    """Atoms, conformations and the beads they make.

    Attributes:
        mapping: of the atoms to beads.
        positions: with whole molecules, at most a hundred frames [nm]; None if no file has some.
    """

    mapping: Mapping
    positions: Float[np.ndarray, "frames atoms 3"] | None

    @classmethod
    def open(
        cls, topology: TopologyLike, mapping: str | Path | MappingDefinition, trajectory: str | Path | None = None
    ) -> MappedAtoms:
        """Read the atoms, and conformations from the trajectory, or from the topology file if it has one.

        Raises:
            ValueError: if a file cannot be read or the mapping does not fit the atoms.
        """
        if trajectory is None:
            atoms, positions, box = read_structure(topology)
        else:
            atoms = read_topology(topology)
            positions, box = _read_frames(Path(trajectory), atoms)
        if positions is not None and box is not None:
            tree = Tree.build(len(atoms), atoms.links)
            positions = tree.make_whole(positions, box)
        definition = mapping if isinstance(mapping, MappingDefinition) else load_mapping(mapping)
        return cls(Mapping.build(definition, atoms, None if positions is None else positions[0]), positions)


def read_structure(topology: TopologyLike) -> tuple[AtomTopology, np.ndarray | None, np.ndarray | None]:
    """Atoms, and conformations and boxes where the file has them."""
    if not isinstance(topology, str | Path) or Path(topology).suffix.lower() not in _WITH_POSITIONS:
        return read_topology(topology), None, None
    check_topology(Path(topology))
    try:
        frames = mdtraj.load(str(topology))
    except UNREADABLE as error:
        raise ValueError(f"{topology}: cannot read a structure from it: {str(error) or 'it is cut off'}") from None
    if not np.isfinite(frames.xyz).all():
        frame, atom = np.argwhere(~np.isfinite(frames.xyz))[0, :2].tolist()
        raise ValueError(f"{topology}: frame {frame}, atom {atom}: position is {frames.xyz[frame, atom].tolist()}")
    return AtomTopology.from_mdtraj(frames.topology), frames.xyz[:_MOST_FRAMES], frames.unitcell_vectors


def _read_frames(path: Path, atoms: AtomTopology) -> tuple[np.ndarray, np.ndarray | None]:
    """Some frames spread evenly, and their boxes."""
    source = open_trajectory(path, atoms, forces=False)
    chunks = list(islice(source.iter_chunks(1, max(1, source.n_frames // _MOST_FRAMES)), _MOST_FRAMES))
    boxes = [chunk.box for chunk in chunks if chunk.box is not None]
    return np.concatenate([chunk.positions for chunk in chunks]), np.concatenate(boxes) if boxes else None
