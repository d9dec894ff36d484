"""Reads what the atoms are: any topology MDTraj or OpenMM knows, and GROMACS' TPR through MDAnalysis."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import mdtraj
import openmm.app
from mdtraj.core import element

from cgenn.mapping.atoms import AtomTopology

TopologyLike: TypeAlias = AtomTopology | mdtraj.Topology | openmm.app.Topology | str | Path

UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AssertionError)
"""What MDTraj raises where a file is not of its kind or cut off."""


def check_topology(path: Path) -> None:
    """Refuse what is no file, or HDF5 that MDTraj cannot read.

    Raises:
        ValueError: naming the file.
    """
    if not path.is_file():
        raise ValueError(f"no topology file {str(path)!r}")
    if path.suffix.lower() in (".h5", ".hdf5", ".lh5") and find_spec("tables") is None:
        raise ValueError(f"{path}: expected a topology, such as a PDB file, got HDF5, which MDTraj reads with PyTables")


def read_topology(source: TopologyLike) -> AtomTopology:
    """The atoms of a file (PDB, GRO, PRMTOP, PSF, TPR, ...) or of a topology in memory.

    Raises:
        ValueError: if there is no such file or it has no topology.
        ImportError: if a TPR file is given and MDAnalysis is not installed.
    """
    if isinstance(source, AtomTopology):
        return source
    if isinstance(source, openmm.app.Topology):
        return AtomTopology.from_openmm(source)
    if isinstance(source, mdtraj.Topology):
        return AtomTopology.from_mdtraj(source)
    path = Path(source)
    check_topology(path)
    if path.suffix.lower() == ".tpr":
        return _read_tpr(path)
    try:
        return AtomTopology.from_mdtraj(mdtraj.load_topology(str(path)))
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot read a topology from it: {str(error) or 'it is cut off'}") from None


def import_mdanalysis(path: Path) -> ModuleType:
    """MDAnalysis, which is needed for `path`.

    Raises:
        ImportError: if it is not installed; names the extra that brings it.
    """
    try:
        import MDAnalysis
    except ImportError:
        raise ImportError(f"{path}: reading this needs MDAnalysis: pip install 'cgenn[mdanalysis]'") from None
    return MDAnalysis


def _read_tpr(path: Path) -> AtomTopology:
    """Names, masses [amu], charges [e] and bonds; which of the bonds are constrained MDAnalysis does not tell."""
    universe = import_mdanalysis(path).Universe(str(path))
    topology = mdtraj.Topology()
    for segment in universe.segments:
        chain = topology.add_chain()
        for residue in segment.residues:
            target = topology.add_residue(residue.resname, chain, resSeq=int(residue.resid))
            for atom in residue.atoms:
                topology.add_atom(
                    atom.name, element.Element.getByMass(atom.mass) if atom.mass > 0 else element.virtual, target
                )
    order = universe.segments.residues.atoms.ix
    if not (order == universe.atoms.ix).all():
        raise ValueError(f"{path}: its molecules are not stored one after another")
    return AtomTopology.from_mdtraj(
        topology,
        masses=universe.atoms.masses,
        charges=universe.atoms.charges,
        bonds=universe.bonds.indices if hasattr(universe, "bonds") else (),
    )
