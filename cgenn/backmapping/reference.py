"""The all-atom system that atoms are put back into: its force field, and frames to take fragments from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import openmm
import openmm.app

from cgenn.data.trajectory import Trajectory, open_trajectory
from cgenn.h5md import Frames
from cgenn.mapping.atoms import AtomTopology
from cgenn.reference.manifest import Manifest
from cgenn.reference.run import ReferenceRun


@dataclass(frozen=True, eq=False)
class AtomReference:
    """An all-atom system and frames of it.

    Attributes:
        name: for messages.
        topology: its atoms.
        system: the force field, with a force for each term; barostats are not used.
        atoms: the same atoms with the masses, charges and bonds that a mapping needs.
        sources: trajectories, in equilibrium at the temperature.
        temperature: [K].
    """

    name: str
    topology: openmm.app.Topology
    system: openmm.System
    atoms: AtomTopology
    sources: tuple[Trajectory, ...]
    temperature: float

    @classmethod
    def of(
        cls,
        topology: openmm.app.Topology,
        system: openmm.System,
        trajectories: Sequence[str | Path],
        temperature: float,
        name: str = "reference",
    ) -> Self:
        """From a topology, a System made with any force field, and files of frames [nm] at `temperature` [K].

        Raises:
            ValueError: if the numbers of atoms differ, or a trajectory cannot be read.
        """
        atoms = AtomTopology.from_openmm(topology, system)
        sources = tuple(open_trajectory(path, atoms, forces=False) for path in trajectories)
        if not sources:
            raise ValueError("a reference needs at least one trajectory to take fragments from")
        return cls(
            name,
            topology,
            system,
            AtomTopology.from_mdtraj(atoms.topology, **_known(atoms, sources[0])),
            sources,
            temperature,
        )

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """From the folder of a finished reference run.

        Raises:
            ValueError: if it is none, or the system that it is of, with its force field, is no longer there or has
                changed.
        """
        run = ReferenceRun.open(folder)
        built = Manifest.read(run.folder).system
        Manifest.read(run.folder).check_same(run.folder)
        topology, system, _ = built.build()
        there = openmm.app.PDBFile(str(run.topology)).topology
        names = [[atom.name for atom in found.atoms()] for found in (there, topology)]
        if names[0] != names[1]:
            raise ValueError(
                f"{run.folder}: its topology.pdb has {len(names[0])} atoms, the system {run.system!r} is built with "
                f"{len(names[1])} or others: it has changed since"
            )
        return cls.of(topology, system, run.trajectories, run.temperature, run.system)

    @property
    def periodic(self) -> bool:
        """Whether there is a box."""
        return self.system.usesPeriodicBoundaryConditions()

    def read(self, limit: int) -> Frames:
        """At most `limit` frames, spread evenly."""
        total = sum(source.n_frames for source in self.sources)
        stride = max(1, -(-total // limit))
        chunks = [
            chunk
            for source in self.sources
            for chunk in source.iter_chunks(max(1, 1_000_000 // len(self.atoms)), stride)
        ]
        box = (
            None if chunks[0].box is None else np.concatenate([chunk.box for chunk in chunks if chunk.box is not None])
        )
        return Frames(np.concatenate([chunk.positions for chunk in chunks]).astype(float), box=box)[:limit]


def _known(atoms: AtomTopology, source: Trajectory) -> dict:
    """Masses without repartitioned hydrogens where the file names them, as `map_trajectory` takes them."""
    own = {"masses": atoms.masses, "charges": atoms.charges, "bonds": atoms.bonds, "constraints": atoms.constraints}
    return {**own, **source.atoms}
