"""Turns all-atom trajectories into a bead dataset, chunk by chunk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress

from cgenn.body import Body
from cgenn.data.dataset import PACKAGES, BeadDataset, DatasetWriter
from cgenn.data.topology import TopologyLike, read_topology
from cgenn.data.trajectory import Trajectory, open_trajectory
from cgenn.files import atomic, check_apart
from cgenn.h5md import Frames
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.forces import ForceMap, find_constraints, is_summable, mean_square, optimal_force_map, sum_force_map
from cgenn.mapping.frames import FrameMap, MappedFrames
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.rigidity import Rigidity
from cgenn.mapping.tacticity import hidden_stereo
from cgenn.mapping.virial import bead_virials
from cgenn.mapping.whole import Tree, lattice_steps
from cgenn.provenance import describe_file, versions
from cgenn.units import thermal_energy

log = logging.getLogger(__name__)

_CHUNK_ATOMS = 1_000_000
"""Atoms times frames held in memory at a time."""
_FLOPPY = 0.03
"""Root mean square deviation from the reference geometry above which a group is hardly rigid [nm]."""
_LONGEST_BONDS = 0.3, 0.8
"""Longer than any bond of hydrogen, and of the sites of models that have none [nm]."""
_FEW_FRAMES = 50
"""Frames in which constraints and reference geometries are looked for."""


def map_trajectory(
    trajectory: str | Path | Sequence[str | Path],
    topology: TopologyLike | None,
    mapping: str | Path | MappingDefinition,
    out: str | Path,
    *,
    temperature: float | None = None,
    force_map: Literal["optimal", "sum"] = "optimal",
    forces: bool = True,
    constraints: Sequence[tuple[int, int]] | np.ndarray | None = None,
    periodic: bool | None = None,
    stride: int = 1,
    fit_frames: int = 2000,
    bodies: MappingType[str, Body] | None = None,
) -> BeadDataset:
    """Map positions and forces of all-atom trajectories to beads, and dipoles where the atoms have charges.

    Beads with a frame get orientations and torques too, and velocities and angular velocities where the atoms have
    velocities. The force on them is the plain sum whatever the `force_map`.

    Charges and dipoles of the atoms in each frame are mapped too, and virials if every bead is of one molecule
    (mapping/virial.py). Energies are kept if every atom is a bead of its own; those of several atoms are not the
    beads', whose potential is a free energy.

    Args:
        trajectory: file or files of the same atoms, or the folder of a reference run.
        topology: file or topology of the atoms; None for `topology.pdb` beside the trajectory.
        mapping: name or file of a mapping, or one in memory.
        out: file of the dataset; appears only when it is complete.
        temperature: of the ensemble [K]; None if the trajectory says so itself.
        force_map: "optimal" for the one of least noise, or "sum".
        forces: whether forces are wanted.
        constraints: pairs of atoms at fixed distances; None for those the trajectory names, or else those seen in it.
        periodic: whether molecules are made whole and boxes kept; None if the trajectory has a box.
        stride: use every `stride`-th frame.
        fit_frames: most frames that the optimal force map is fitted to, spread evenly.
        bodies: reference geometries of oriented beads by type, such as `topology.bodies` of another dataset, so that
            both have the same; None for averages over frames spread evenly.

    Raises:
        ValueError: if anything is missing or does not fit together; says what.
        ImportError: if the file needs MDAnalysis and it is not installed.
    """
    if stride < 1:
        raise ValueError(f"`stride` must be at least 1, got {stride}")
    atoms, sources = _open(trajectory, topology, forces, periodic)
    check_apart(Path(out), [source.path for source in sources])
    temperature = _temperature(sources, temperature)
    definition = mapping if isinstance(mapping, MappingDefinition) else load_mapping(mapping)
    start = cache(lambda: _start(atoms, sources))
    built = Mapping.build(definition, atoms, start() if any(rule.smarts for rule in definition.beads) else None)
    _warn_of_hidden_stereo(built, start)
    frames = _frame_map(built, sources, stride, bodies) if built.oriented.any() else None
    fixed, origin = _constraints(built, sources, constraints, stride) if forces else (None, "")
    maps = {} if fixed is None else _force_maps(built, sources, fixed, force_map, stride, fit_frames)
    provenance: dict[str, Any] = {
        "mapping": built.definition.model_dump(mode="json", exclude_defaults=True),
        "atoms": built.report,
        "sources": [describe_file(source.path) for source in sources],
        "topology": describe_file(Path(topology)) if isinstance(topology, str | Path) else None,
        "stride": stride,
        "temperature": temperature,
        "versions": versions(*PACKAGES),
    }
    beads = built.topology if frames is None else frames.topology
    with atomic(out) as partial, DatasetWriter(partial, beads, temperature) as writer:
        segments, squares, rigidity = _write(writer, built, frames, maps, force_map, sources, stride, temperature)
        if fixed is not None:
            provenance["constraints"] = {"known_from": origin, "pairs": fixed.tolist()}
            provenance["forces"] = {"map": force_map, "mean_square": squares, "unit": "(kJ/mol/nm)^2"}
        if frames is not None:
            provenance["rigidity"] = frames.rigidity(rigidity)
            _warn_of_floppy(provenance["rigidity"])
        writer.finish(provenance, segments)
    return BeadDataset.open(out)


def _open(
    trajectory: str | Path | Sequence[str | Path], topology: TopologyLike | None, forces: bool, periodic: bool | None
) -> tuple[AtomTopology, list[Trajectory]]:
    """The atoms and the trajectories, checked against each other."""
    given = [trajectory] if isinstance(trajectory, str | Path) else list(trajectory)
    if not given:
        raise ValueError("no trajectory was given")
    paths = [found for path in given for found in _trajectories(Path(path))]
    atoms = read_topology(paths[0].parent / "topology.pdb" if topology is None else topology)
    sources = [open_trajectory(path, atoms, forces=forces) for path in paths]
    for source in sources:
        if forces and not source.has_forces:
            raise ValueError(f"{source.path}: no forces; pass `forces=False` (--no-forces) if none are needed")
        if periodic and not source.periodic:
            raise ValueError(f"{source.path}: no box, although the mapping is to be periodic")
    sources = [replace(source, periodic=source.periodic and periodic is not False) for source in sources]
    if len({source.periodic for source in sources}) > 1:
        raise ValueError("some of the trajectories have a box and some have none; pass `periodic=False` to ignore it")
    for source in sources:
        _check_same_molecules(atoms, source)
    return _completed(atoms, sources[0]), sources


def _check_same_molecules(atoms: AtomTopology, source: Trajectory) -> None:
    """Refuse a trajectory of other atoms, or of the same in another order.

    Raises:
        ValueError: if elements differ, or most bonds of the topology are too long to be any in the first frame; where
            there are hydrogens, most of theirs.
    """
    asks = "expected those of the topology: is the trajectory of another molecule, or are its atoms in another order?"
    here = atoms.elements
    if source.elements is not None:
        wrong = np.flatnonzero((here != np.array(source.elements)) & (here != ""))
        if wrong.size:
            atom = int(wrong[0])
            found, expected = source.elements[atom], f"{here[atom]}, {atoms.describe(atom)}"
            raise ValueError(f"{source.path}: atom {atom} is {found}, in the topology it is {expected}; {asks}")
    bonds = np.asarray(atoms.bonds).reshape(-1, 2)
    light = (here[bonds] == "H").any(axis=1)
    bonds, longest = (bonds[light], _LONGEST_BONDS[0]) if light.any() else (bonds, _LONGEST_BONDS[1])
    if not len(bonds):
        return
    first = next(source.iter_chunks(1, 1))
    apart = first.positions[:, bonds[:, 1]] - first.positions[:, bonds[:, 0]]
    if first.box is not None:
        apart -= lattice_steps(apart, first.box) @ first.box
    lengths = np.linalg.norm(apart[0], axis=1)
    if np.median(lengths) > longest:
        bond = int(np.argmax(lengths))
        where = " and ".join(atoms.describe(int(atom)) for atom in bonds[bond])
        raise ValueError(
            f"{source.path}: the atoms that are bonded in the topology are {np.median(lengths):.2f} nm apart (median), "
            f"{where} {lengths[bond]:.2f} nm; {asks}"
        )


def _start(atoms: AtomTopology, sources: list[Trajectory]) -> np.ndarray:
    """Positions in the first frame, with whole molecules [nm]."""
    first = next(sources[0].iter_chunks(1, 1))
    if first.box is None:
        return first.positions[0]
    return Tree.build(len(atoms), atoms.links).make_whole(first.positions, first.box)[0]


def _trajectories(path: Path) -> list[Path]:
    """A file, or all trajectories of a reference run."""
    if not path.is_dir():
        return [path]
    if not (found := sorted(path.glob("trajectory*.h5"))):
        raise ValueError(f"{path}: a folder without trajectory.h5, the result of a reference run")
    return found


def _completed(atoms: AtomTopology, source: Trajectory) -> AtomTopology:
    """Atoms with what the trajectory itself says of their masses, charges, bonds and constraints."""
    known = {"masses": atoms.masses, "charges": atoms.charges, "bonds": atoms.bonds, "constraints": atoms.constraints}
    return AtomTopology.from_mdtraj(atoms.topology, **{**known, **source.atoms})


def _temperature(sources: list[Trajectory], given: float | None) -> float:
    named = {float(source.metadata["temperature"]) for source in sources if "temperature" in source.metadata}
    if given is not None:
        named = {float(given)}
    if not named:
        raise ValueError("the temperature is missing: the trajectory does not name it, pass `temperature` [K]")
    if len(named) > 1:
        raise ValueError(f"the trajectories are of different temperatures: {sorted(named)} K")
    thermal_energy(temperature := named.pop())
    return temperature


def _constraints(
    mapping: Mapping, sources: list[Trajectory], given: Sequence[tuple[int, int]] | np.ndarray | None, stride: int
) -> tuple[np.ndarray, str]:
    """Constrained pairs of atoms, and how they are known."""
    if given is not None:
        pairs, last = np.asarray(given), len(mapping.atoms) - 1
        known = (pairs >= 0) & (pairs <= last) & (pairs % 1 == 0)
        if pairs.size and (pairs.shape[1:] != (2,) or not known.all()):
            raise ValueError(f"`constraints` must be pairs of atoms, counted from 0 to {last}, got {pairs.tolist()}")
        return pairs.astype(np.int64).reshape(-1, 2), "argument"
    if mapping.atoms.constraints is not None:
        return mapping.atoms.constraints, "file"
    return find_constraints(mapping, _few(mapping, sources, stride)), "trajectory"


def _few(mapping: Mapping, sources: list[Trajectory], stride: int) -> np.ndarray:
    """Positions in some frames spread evenly, with whole molecules [nm]."""
    few = _FEW_FRAMES
    spacing = stride * max(1, sum(source.n_frames for source in sources) // (few * stride))
    chunks = list(islice((_whole(mapping, chunk) for chunk in _chunks(sources, spacing)), few))
    return np.concatenate(chunks)[:few]


def _frame_map(
    mapping: Mapping, sources: list[Trajectory], stride: int, bodies: MappingType[str, Body] | None
) -> FrameMap:
    return FrameMap.build(mapping, _few(mapping, sources, stride), bodies)


def _whole(mapping: Mapping, frames: Frames) -> np.ndarray:
    return frames.positions if frames.box is None else mapping.tree.make_whole(frames.positions, frames.box)


def _chunks(sources: list[Trajectory], stride: int) -> Iterator[Frames]:
    for source in sources:
        yield from source.iter_chunks(max(1, _CHUNK_ATOMS // source.n_atoms), stride)


def _force_maps(
    mapping: Mapping, sources: list[Trajectory], constraints: np.ndarray, wanted: str, stride: int, fit_frames: int
) -> dict[str, ForceMap]:
    """The force map that is wanted, and the sum to compare it with where there is one."""
    maps = {}
    if wanted == "sum" or is_summable(mapping, constraints):
        maps["sum"] = sum_force_map(mapping, constraints)
    if wanted == "optimal":
        frames = sum(source.n_frames for source in sources)
        spacing = stride * max(1, -(-frames // (fit_frames * stride)))
        forces = (chunk.forces for chunk in _chunks(sources, spacing) if chunk.forces is not None)
        maps["optimal"] = optimal_force_map(mapping, forces, constraints)
    return maps


def _write(
    writer: DatasetWriter,
    mapping: Mapping,
    frames: FrameMap | None,
    maps: dict[str, ForceMap],
    wanted: str,
    sources: list[Trajectory],
    stride: int,
    temperature: float,
) -> tuple[list[tuple[int, int]], dict[str, float], dict[str, Rigidity]]:
    """Map and write all frames; return the frames of each source, the mean square force of each map, and how rigid the
    groups of atoms are."""
    segments: list[tuple[int, int]] = []
    sums = dict.fromkeys(maps, 0.0)
    rigidity: dict[str, Rigidity] = {}
    written = 0
    with Progress(
        console=Console(stderr=True), disable=not Console(stderr=True).is_terminal, transient=True
    ) as progress:
        task = progress.add_task("mapping", total=sum(-(-source.n_frames // stride) for source in sources))
        for source in sources:
            start, before = written, None
            for chunk in _chunks([source], stride):
                mapped = {}
                if chunk.forces is not None:
                    mapped = {kind: force_map(chunk.forces.astype(float)) for kind, force_map in maps.items()}
                beads, whole = _mapped(mapping, chunk, mapped.get(wanted), temperature)
                if frames is not None:
                    forces = None if mapped == {} else chunk.forces
                    try:
                        turned = frames(whole, forces, chunk.velocities, before, first=written - start, stride=stride)
                    except ValueError as error:
                        raise ValueError(f"{source.path}: {error}") from None
                    beads = _turned(beads, mapping, chunk, turned)
                    before = turned.orientations[-1]
                    for kind, found in turned.rigidity.items():
                        rigidity[kind] = rigidity[kind] + found if kind in rigidity else found
                writer.write(beads)
                for kind, forces in mapped.items():
                    sums[kind] += mean_square(forces) * len(forces)
                written += len(chunk)
                progress.update(task, completed=written)
            segments.append((start, written))
    return segments, {kind: value / written for kind, value in sums.items()}, rigidity


def _turned(beads: Frames, mapping: Mapping, atoms: Frames, turned: MappedFrames) -> Frames:
    """Frames of the beads with what oriented ones have besides."""
    return replace(
        beads,
        orientations=turned.orientations,
        torques=turned.torques,
        angular_velocities=turned.angular_velocities,
        velocities=None if atoms.velocities is None else mapping.linear(atoms.velocities.astype(float)),
    )


def _warn_of_hidden_stereo(mapping: Mapping, positions: Callable[[], np.ndarray]) -> None:
    for name, seen in hidden_stereo(mapping, positions).items():
        log.warning(
            "bead type %r stands for residues of different handedness or tacticity (%s), which are one to the "
            "potential: beads by SMARTS with {tacticity} in their type tell them apart",
            name, ", ".join(f"{code} at {where}" for code, where in sorted(seen.items())),
        )  # fmt: skip


def _warn_of_floppy(rigidity: dict[str, Any]) -> None:
    for kind, found in rigidity.items():
        if found["rms_deviation"] > _FLOPPY:
            log.warning(
                "bead type %r: its atoms are %.3f nm (root mean square) from the reference geometry, most of all %s: "
                "a frame says little about a group that is not rigid",
                kind, found["rms_deviation"], found["atom"],
            )  # fmt: skip


def _mapped(
    mapping: Mapping, frames: Frames, forces: np.ndarray | None, temperature: float
) -> tuple[Frames, np.ndarray]:
    """Frames of the beads, and positions of the atoms with whole molecules; `forces` are mapped already."""
    whole = _whole(mapping, replace(frames, positions=frames.positions.astype(float)))
    found, virials = mapping.map_positions(whole), frames.virials
    if virials is not None and not mapping.is_renaming:
        if frames.forces is None or forces is None:
            virials = None
        else:
            virials = bead_virials(mapping, virials, whole, frames.forces, found, forces, temperature)
    charged = frames.charges is not None or mapping.atoms.charges is not None
    beads = Frames(
        found,
        forces,
        frames.box,
        charges=None if frames.charges is None else mapping.map_charges(frames.charges),
        dipoles=mapping.map_dipoles(whole, charges=frames.charges, dipoles=frames.dipoles) if charged else None,
        energies=frames.energies if mapping.is_renaming else None,
        virials=virials,
        times=frames.times,
    )
    return beads, whole
