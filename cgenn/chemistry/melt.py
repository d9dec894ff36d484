"""A melt of chains of one repeat unit, as a system that a reference run can be made of."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm.app
from jaxtyping import Float
from openmm import unit

from cgenn.chemistry.openff import parametrize
from cgenn.chemistry.packing import compress, scatter
from cgenn.chemistry.polymer import Polymer, Tacticity, build_polymer, has_open_stereocentres
from cgenn.chemistry.units import Units
from cgenn.files import atomic
from cgenn.units import AMU_PER_NM3

log = logging.getLogger(__name__)

_TYPED = 8
"""Repeat units of a chain that has every neighbourhood that parameters depend on."""
_LOOSE = 0.2
"""Density before the compression [g/cm3]; less if there is no room."""
_OPENFF, _OWN = (0.9, 0.8), (1.0, None)
"""Cutoff, and where Lennard-Jones begins to be switched off, of OpenFF and of one's own force fields [nm]."""


@dataclass(frozen=True)
class Melt:
    """A system in a folder of its own.

    Attributes:
        folder: with `system.toml`, `structure.pdb`, `forcefield.xml`, `chain.pdb` (one chain) and `README.md`.
        atoms: how many.
        edge: of the cubic box [nm].
        residues: names of the repeat units: BEG, MID and END; END for both ends where they are the same.
    """

    folder: Path
    atoms: int
    edge: float
    residues: tuple[str, ...]


def build_melt(
    unit_smiles: str,
    length: int,
    chains: int,
    out: str | Path,
    *,
    density: float,
    temperature: float,
    pressure: float = 1.0,
    head: str = "[*][H]",
    tail: str = "[*][H]",
    tacticity: Tacticity = "atactic",
    force_field: str | Path = "openff-2.3.0",
    seed: int = 0,
) -> Melt:
    """Make the folder of a system: `chains` chains of `length` repeat units in a periodic box.

    Each chain has a conformation of its own (`build_polymer`). They are put at random places at a low density, and the
    box is shrunk during dynamics at `temperature`. This is where a run starts, not an equilibrated melt.

    Args:
        unit_smiles: of the repeat unit with two [*], such as "[*]CCO[*]".
        length: number of repeat units of a chain.
        chains: number of chains.
        out: folder to make.
        density: of the structure [g/cm3]; a run at constant pressure then finds that of the force field.
        temperature: [K].
        pressure: of the reference run [bar].
        head, tail: what the ends are bonded to; SMILES with one [*].
        tacticity: of stereocentres that the SMILES leaves open; atactic chains differ from one another.
        force_field: OpenFF by name, or a file of one's own in OpenMM's format (`.xml`) whose residue templates fit the
            repeat units; the names of residues and atoms do not matter.
        seed: of conformations, places and dynamics.

    Raises:
        ValueError: if an argument is not valid, `out` holds a system, the box is too small for the cutoff, or there are
            no parameters for the chains.
        FloatingPointError: if the compression diverges.
        ImportError: without RDKit, or without OpenFF where it is asked for.
    """
    folder = Path(out)
    for name, value in (("chains", chains), ("density", density), ("temperature", temperature), ("pressure", pressure)):
        if not value > 0:
            raise ValueError(f"`{name}` must be above 0, got {value}")
    if (folder / "system.toml").exists():
        raise ValueError(f"{folder} holds a system already: expected a new folder")
    generator = np.random.default_rng(seed)
    ends: dict = {"head": head, "tail": tail, "tacticity": tacticity}
    made = [build_polymer(unit_smiles, length, seed=seed, **ends)]
    made += [build_polymer(unit_smiles, length, seed=int(generator.integers(2**31)), **ends) for _ in range(chains - 1)]
    force_field = str(force_field)
    centres = has_open_stereocentres(unit_smiles)
    if tacticity == "atactic" and centres:
        log.warning(
            "the chains are atactic: beads of residues do not tell the hands of units apart, beads by SMARTS with "
            "{tacticity} in their type do"
        )
    own = force_field.endswith(".xml")
    cutoff, switch = _OWN if own else _OPENFF
    edge = _edge(made, density, cutoff)
    if own:
        parameters, note = _own(force_field)
    else:
        typed = made[0] if length <= _TYPED else build_polymer(unit_smiles, _TYPED, seed=seed, **ends)
        found = parametrize(typed, force_field)
        parameters = found.xml
        note = (
            f"Parameters of {force_field} (openforcefield.org, CC-BY-4.0), charges of NAGL, told from "
            f"{min(length, _TYPED)} units. A type of atom has the mean of its charges, which differ from it by up to "
            f"{found.spread:.4f} e; to be neutral, units were changed by up to {found.shift:.5f} e per atom."
        )
    topology, field = _topology(made), openmm.app.ForceField(io.StringIO(parameters))
    wide = edge * max(1.0, density / _LOOSE) ** (1 / 3)
    positions, loose = scatter([chain.positions for chain in made], wide, generator)
    log.info("%d atoms in a box that is shrunk from %.2f nm to %.2f nm", len(positions), loose, edge)
    try:
        positions = compress(topology, field, positions, (loose, edge), temperature=temperature, seed=seed)
    except ValueError as error:
        raise ValueError(f"{force_field}: {error}") from None
    topology.setPeriodicBoxVectors(edge * np.eye(3) * unit.nanometer)
    what = f"{chains} chains of {length} repeat units {unit_smiles}"
    texts = {
        "forcefield.xml": parameters,
        "structure.pdb": _pdb(topology, positions),
        "chain.pdb": _pdb(_topology(made[:1]), made[0].positions),
        "README.md": f"# {what}\nEnds {head} and {tail}{f', {tacticity}' if centres else ''}, seed {seed}.\n\n{note}\n",
        "system.toml": _system(f"melt of {what}", cutoff, switch, temperature, pressure),
    }
    for name, text in texts.items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return Melt(folder, len(positions), edge, tuple(dict.fromkeys(Units.of(made[0]).names)))


def _edge(chains: list[Polymer], density: float, cutoff: float) -> float:
    """Of the cubic box [nm], with room for fluctuations of the volume.

    Raises:
        ValueError: if it is too small for the cutoff.
    """
    mass = len(chains) * sum(atom.element.mass._value for atom in chains[0].topology.atoms())
    edge = float((mass * AMU_PER_NM3 / density) ** (1 / 3))
    least = 2.2 * cutoff
    if edge < least:
        raise ValueError(
            f"{len(chains)} chains make a box of {edge:.2f} nm, too small for a cutoff of {cutoff} nm: expected "
            f"{least:.2f} nm, at least {int(np.ceil(len(chains) * (least / edge) ** 3))} chains"
        )
    return edge


def _own(path: str) -> tuple[str, str]:
    try:
        openmm.app.ForceField(path)
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a force field in OpenMM's format, a file of one's own ({error})") from None
    return text, f"Parameters of {Path(path).name}."


def _topology(chains: list[Polymer]) -> openmm.app.Topology:
    """All chains in one, their residues named by what they are in the chain."""
    names = Units.of(chains[0]).names
    together = openmm.app.Topology()
    for chain in chains:
        added, atoms = together.addChain(), []
        for residue, name in zip(chain.topology.residues(), names, strict=True):
            copy = together.addResidue(name, added, residue.id)
            atoms += [together.addAtom(atom.name, atom.element, copy) for atom in residue.atoms()]
        for bond in chain.topology.bonds():
            together.addBond(atoms[bond[0].index], atoms[bond[1].index])
    return together


def _pdb(topology: openmm.app.Topology, positions: Float[np.ndarray, "atoms 3"]) -> str:
    file = io.StringIO()
    openmm.app.PDBFile.writeFile(topology, positions * unit.nanometer, file)
    return file.getvalue()


def _system(description: str, cutoff: float, switch: float | None, temperature: float, pressure: float) -> str:
    """`system.toml`: constant pressure, with virials, so that a model of beads can have the density of the atoms."""
    entries = {
        "description": (f'"{description}"', ""),
        "force_field": ('["forcefield.xml"]', ""),
        "nonbonded": ('"pme"', ""),
        "cutoff": (cutoff, "nm"),
        "switch": (switch, "nm"),
        "hydrogen_mass": (3.0, "amu"),
        "temperature": (float(temperature), "K"),
        "pressure": (float(pressure), "bar"),
        "ensemble": ('"npt"', ""),
        "virials": ("true", ""),
        "timestep": (0.003, "ps"),
        "friction": (1.0, "1/ps"),
        "equilibration": (90.0, "ps"),
        "length": (600.0, "ps"),
        "interval": (0.6, "ps"),
    }
    lines = [
        f"{key} = {value}" + (f"    # {unit_name}" if unit_name else "")
        for key, (value, unit_name) in entries.items()
        if value is not None
    ]
    return "\n".join(lines) + "\n"
