"""From beads back to atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import openmm.app
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress

from cgenn.backmapping.checks import Deviation, Findings, summary
from cgenn.backmapping.fragments import Library
from cgenn.backmapping.reference import AtomReference
from cgenn.backmapping.relaxation import Relaxation
from cgenn.backmapping.stereo import Contacts, Rings, Stereocentres
from cgenn.backmapping.turning import Turning
from cgenn.data.dataset import BeadDataset
from cgenn.files import atomic, check_apart, write_json
from cgenn.h5md import Frames, H5MDWriter
from cgenn.h5md.frames import check_finite
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.whole import Tree
from cgenn.provenance import versions
from cgenn.simulation.folder import Run
from cgenn.simulation.system import box_vectors

FrameSource: TypeAlias = Run | BeadDataset | Frames | str | Path

_LIBRARY_FRAMES, _LIBRARY_ATOMS = 1000, 5_000_000
"""Most reference frames held in memory, and most of their atoms together."""
_CONTACT_FRAMES = 10
"""Reference frames in which the closest contacts are looked for."""
_BOX = 0.05
"""Largest relative difference of two boxes into which the same molecules without beads are put."""


def backmap(
    frames: FrameSource,
    dataset: BeadDataset | str | Path,
    reference: AtomReference | str | Path,
    out: str | Path,
    *,
    select: slice | Sequence[int] = slice(None),
    dynamics: float = 1.0,
    compare: int = 5,
    seed: int = 0,
    platform: str | None = None,
    progress: bool = True,
) -> Backmapped:
    """Put atoms back into frames of beads.

    Fragments of reference frames are put where the beads are (see `Library`), joined under bonded terms and a soft
    repulsion, minimised in the force field of the reference, moved by short dynamics and minimised again; all the while
    beads stay where they are, oriented ones as they are turned, and stereocentres keep their hand. Mapping the result
    gives the beads again. Molecules that no bead is of, such as a solvent that was left out, are those of a reference
    frame. Every frame goes through this alone.

    `out` holds the atoms as H5MD, with the energy of each frame; beside it are the topology (`.pdb`, the first frame)
    and what was found (`.json`).

    Args:
        frames: a run or its folder, a bead dataset or its file, or frames in memory.
        dataset: that the beads were defined by: its provenance holds the mapping and its topology the bodies.
        reference: folder of a reference run of the same atoms, or an `AtomReference` of one's own System.
        select: which of the frames.
        dynamics: length of the restrained dynamics, which cools from three times the temperature of the reference down
            to it [ps]; 0 for none.
        compare: how many reference frames are relaxed likewise, from their own atoms, to compare energies.
        seed: of everything random.
        platform: of OpenMM; None for the fastest.
        progress: show a bar.

    Raises:
        ValueError: if the beads are not those of the mapping, the atoms not those it was made for, a position is not
            finite, there is no force field, box or frame, or `out` is one of the files that are read.
        FloatingPointError: if the relaxation of a frame fails or leaves a stereocentre with the wrong hand.
    """
    if dynamics < 0 or compare < 0:
        raise ValueError(f"`dynamics` and `compare` must not be negative, got {dynamics} ps and {compare}")
    if not np.isfinite(dynamics) or not 0 <= seed < 2**31 - 1:
        raise ValueError(f"expected finite `dynamics` and `seed` from 0 to 2147483646, got {dynamics} ps and {seed}")
    path = Path(out)
    if path.suffix not in (".h5", ".h5md"):
        raise ValueError(f"`out` must be the name of an H5MD file, such as atoms.h5, got {str(out)!r}")
    maker = _Maker.build(dataset, reference, dynamics, platform, seed)
    source = frames if isinstance(frames, Frames) else _opened(frames)
    read = [maker.dataset.path, *(one.path for one in maker.reference.sources)]
    check_apart(path, read if isinstance(source, Frames) else [*read, source.path])
    given = maker.read(source, select)
    findings: list[Findings] = []
    with atomic(path) as partial, maker.writer(partial, given) as writer, _bar(progress) as bar:
        task = bar.add_task("backmapping", total=len(given))
        for index in range(len(given)):
            atoms, found = maker.make(given[index : index + 1], index)
            writer.write(atoms, box=found.box, energies=found.energy)
            findings.append(found)
            if index == 0:
                first = atoms
            bar.update(task, advance=1)
        relaxed = [maker.relax_reference(frame) for frame in bar.track(maker.chosen(compare), description="reference")]
    maker.write_topology(path.with_suffix(".pdb"), first, findings[0].box)
    record = maker.describe() | summary(findings, relaxed)
    write_json(path.with_suffix(".json"), record)
    return Backmapped(path, path.with_suffix(".pdb"), record)


@dataclass(frozen=True)
class Backmapped:
    """Atoms on disk.

    Attributes:
        path: the frames, H5MD.
        topology: PDB file of the atoms, those of the first frame.
        record: what was found, in nm, kJ/mol and degrees: `deviation` of mapped beads, `orientation_deviation`,
            `energy` and `reference_energy` after relaxation, `clashes`, `pierced_rings`; frames are numbered within
            those selected.
    """

    path: Path
    topology: Path
    record: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Maker:
    """Everything that does not change from frame to frame."""

    dataset: BeadDataset
    reference: AtomReference
    frame_map: FrameMap
    library: Library
    boxes: Float[np.ndarray, "frames 3 3"] | None
    relaxation: Relaxation
    turning: Turning
    centres: Stereocentres
    rings: Rings
    contacts: Contacts
    tree: Tree
    seed: int

    @classmethod
    def build(
        cls, dataset: BeadDataset | str | Path, reference: AtomReference | str | Path,
        dynamics: float, platform: str | None, seed: int,
    ) -> Self:  # fmt: skip
        data = dataset if isinstance(dataset, BeadDataset) else BeadDataset.open(dataset)
        atoms = reference if isinstance(reference, AtomReference) else AtomReference.open(reference)
        mapping = Mapping.build(_definition(data), atoms.atoms)
        _check_beads(mapping, data)
        frames = atoms.read(min(_LIBRARY_FRAMES, max(1, _LIBRARY_ATOMS // len(atoms.atoms))))
        whole = frames.positions if frames.box is None else mapping.tree.make_whole(frames.positions, frames.box)
        frame_map = FrameMap.build(mapping, whole, data.topology.bodies)
        centres = Stereocentres.find(atoms.atoms, whole)
        few = slice(None, None, max(1, len(whole) // _CONTACT_FRAMES))
        beads, library = mapping.topology, Library.build(frame_map, whole)
        relaxation = Relaxation(atoms, frame_map, centres, dynamics, platform, seed)
        turning = Turning.build(atoms.system, library, relaxation.homes, atoms.temperature)
        return cls(
            data, atoms, frame_map, library, frames.box, relaxation, turning, centres, Rings.find(atoms.atoms),
            Contacts.find(atoms.atoms, whole[few], None if frames.box is None else frames.box[few]),
            Tree.build(len(beads), beads.bonds), seed,
        )  # fmt: skip

    def read(self, source: BeadDataset | Frames, select: slice | Sequence[int]) -> Frames:
        """The frames asked for, checked; with boxes where there are some, and chains of beads whole."""
        name, beads = "the frames", self.frame_map.topology
        if not isinstance(source, Frames):
            name = str(source.path)
            if source.topology.types != beads.types or not np.array_equal(source.topology.bonds, beads.bonds):
                raise ValueError(f"{name}: {_differences(source.topology.types, beads.types)}")
            frames = source.read(select)
        else:
            frames = source[select if isinstance(select, slice) else np.asarray(select, dtype=np.int64)]
        if len(frames) == 0:
            raise ValueError(f"{name}: no frame was selected")
        if frames.positions.shape[1:] != (len(beads), 3):
            raise ValueError(f"{name}: {_differences(range(frames.positions.shape[1]), beads.types)}")
        check_finite(frames, name, "bead")
        if beads.oriented.any() and frames.orientations is None:
            raise ValueError(f"{name}: no orientations, but beads of type {next(iter(beads.bodies))!r} have one")
        frames = replace(frames, positions=frames.positions.astype(float), box=self._boxes(frames, name))
        if frames.box is None:
            return frames
        return replace(frames, positions=self.tree.make_whole(frames.positions, frames.box))

    def _boxes(self, frames: Frames, name: str) -> np.ndarray | None:
        """Boxes of the frames, or the reference's where only molecules without beads need one."""
        if not self.reference.periodic:
            return None
        free = len(self.library.free) > 0
        if self.boxes is None:
            raise ValueError(f"the force field of {self.reference.name} needs a box, but its frames have none")
        if frames.box is None:
            if not free:
                raise ValueError(f"{name}: no box, but the force field of {self.reference.name} needs one")
            return np.broadcast_to(self.boxes[0], (len(frames), 3, 3))
        volumes = np.abs(np.linalg.det(frames.box))
        usual = np.abs(np.linalg.det(self.boxes)).mean()
        if free and np.abs(volumes / usual - 1).max() > _BOX:
            raise ValueError(
                f"{name}: boxes of {volumes.min():.3f} to {volumes.max():.3f} nm^3 cannot be filled with the "
                f"{len(self.library.free)} atoms that no bead is of, whose box in the reference has {usual:.3f} nm^3"
            )
        return np.array([box_vectors(box) for box in frames.box])

    def make(self, frame: Frames, index: int) -> tuple[Float[np.ndarray, "atoms 3"], Findings]:
        """The atoms of one frame."""
        beads = frame.positions[0]
        turned = np.tile([1.0, 0.0, 0.0, 0.0], (len(beads), 1)) if frame.orientations is None else frame.orientations[0]
        box = None if frame.box is None else frame.box[0]
        rng = np.random.default_rng((self.seed, index))
        start = self.turning(self.library.place(beads, turned, rng), beads, box, rng)
        try:
            atoms, energy = self.relaxation(start, beads, turned, box)
        except FloatingPointError as error:
            raise FloatingPointError(f"frame {index}: {error}") from None
        wrong = self.centres.turned(atoms)
        if len(wrong):
            raise FloatingPointError(
                f"frame {index}: the stereocentre {self.reference.atoms.describe(wrong[0])} has the wrong hand after "
                "relaxation: beads too far from any reference frame?"
            )
        deviation = Deviation.of(self.frame_map, atoms, beads, turned, box)
        pierced = self.rings.pierced(atoms, box)
        return atoms, Findings(box, energy, deviation, self.contacts.clashes(atoms, box), len(pierced))

    def chosen(self, count: int) -> list[int]:
        """Reference frames spread evenly."""
        total = len(self.library.positions)
        return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()

    def relax_reference(self, frame: int) -> float:
        """Energy of a reference frame relaxed likewise, from its own atoms [kJ/mol]."""
        atoms = self.library.positions[frame]
        turned = self.frame_map(atoms[None]).orientations[0]
        beads = self.frame_map.mapping.linear(atoms[None])[0]
        box = None if self.boxes is None or not self.reference.periodic else self.boxes[frame]
        return self.relaxation(atoms, beads, turned, box, overlapping=False)[1]

    def writer(self, path: Path, frames: Frames) -> H5MDWriter:
        """A file for the atoms."""
        atoms = self.reference.atoms
        symbols = ["X" if atom.element is None else atom.element.symbol for atom in atoms.topology.atoms]
        return H5MDWriter(
            path, len(atoms), metadata={"kind": "backmapped", "temperature": self.reference.temperature},
            species=symbols, masses=atoms.masses, charges=atoms.charges, bonds=atoms.bonds,
            periodic=frames.box is not None, forces=False, energies=True, group="atoms",
        )  # fmt: skip

    def write_topology(self, path: Path, atoms: Float[np.ndarray, "atoms 3"], box: np.ndarray | None) -> None:
        """The atoms as a PDB file."""
        topology = self.reference.topology
        topology.setPeriodicBoxVectors(None if box is None else box * openmm.unit.nanometer)
        with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            openmm.app.PDBFile.writeFile(topology, atoms * openmm.unit.nanometer, file, keepIds=True)

    def describe(self) -> dict[str, Any]:
        """What was put back from what."""
        mapping = self.frame_map.mapping
        return {
            "reference": self.reference.name,
            "atoms": len(self.reference.atoms),
            "beads": len(mapping.topology),
            "atoms_of_molecules_without_beads": len(self.library.free),
            "stereocentres": len(self.centres.centres),
            "rings": len(self.rings.rings),
            "dynamics": self.relaxation.dynamics,
            "seed": self.seed,
            "versions": versions("cgenn", "openmm", "numpy"),
        }


def _opened(source: Run | BeadDataset | str | Path) -> BeadDataset:
    if isinstance(source, BeadDataset):
        return source
    if isinstance(source, Run) or Path(source).is_dir():
        return BeadDataset.open((source if isinstance(source, Run) else Run.open(source)).trajectory)
    return BeadDataset.open(source)


def _definition(dataset: BeadDataset) -> MappingDefinition:
    entries = dataset.provenance.get("mapping")
    if entries is None:
        raise ValueError(
            f"{dataset.path}: says nothing of a mapping: expected a dataset made from atoms by `cgenn map`, as the "
            "model was trained on"
        )
    return MappingDefinition.parse(entries, f"{dataset.path}: mapping")


def _check_beads(mapping: Mapping, dataset: BeadDataset) -> None:
    here, there = mapping.topology, dataset.topology
    if here.types != there.types or not np.array_equal(here.bonds, there.bonds):
        raise ValueError(
            f"{dataset.path}: its mapping makes other beads of the atoms of the reference: "
            f"{_differences(there.types, here.types)}"
        )


def _differences(found: Sequence, expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} beads, expected {len(expected)}"
    other = next((k for k, (one, two) in enumerate(zip(found, expected, strict=True)) if one != two), None)
    return "other bonds" if other is None else f"bead {other} is of type {found[other]!r}, expected {expected[other]!r}"


def _bar(visible: bool) -> Progress:
    return Progress(console=Console(stderr=True), disable=not visible)
