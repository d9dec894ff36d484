"""A mapping with the atoms and conformations it is of: what audits and pictures start from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cgenn.data.topology import TopologyLike, read_topology
from cgenn.data.trajectory import open_trajectory
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
        atoms = read_topology(topology)
        if trajectory is None and isinstance(topology, str | Path) and Path(topology).suffix.lower() in _WITH_POSITIONS:
            trajectory = topology
        whole = None
        if trajectory is not None:
            source = open_trajectory(Path(trajectory), atoms, forces=False)
            chunks = source.iter_chunks(1, max(1, source.n_frames // _MOST_FRAMES))
            frames = list(islice(chunks, _MOST_FRAMES))
            whole = np.concatenate([frame.positions for frame in frames])
            if source.periodic:
                tree = Tree.build(len(atoms), atoms.links, np.empty((0, 2), dtype=np.int64))
                whole = tree.make_whole(whole, np.concatenate([frame.box for frame in frames]))
        definition = mapping if isinstance(mapping, MappingDefinition) else load_mapping(mapping)
        return cls(Mapping.build(definition, atoms, None if whole is None else whole[0]), whole)
