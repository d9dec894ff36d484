"""Builds the all-atom systems that come with cgenn, or that lie in a folder of the caller's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import openmm
import openmm.app
from jaxtyping import Float
from openmm import unit

from cgenn import shipped
from cgenn.files import sha256
from cgenn.reference.definition import SystemDefinition
from cgenn.reference.geometric import use_native_lennard_jones
from cgenn.reference.implicit import use_native_gbsa

_DATA = Path(openmm.app.__file__).parent / "data"
_NONBONDED = {
    "none": openmm.app.NoCutoff,
    "cutoff": openmm.app.CutoffPeriodic,
    "pme": openmm.app.PME,
}
_CONSTRAINTS = {"none": None, "h-bonds": openmm.app.HBonds, "all-bonds": openmm.app.AllBonds}


@dataclass(frozen=True)
class AllAtomSystem:
    """A definition and the folder that it lies in.

    Attributes:
        name: that of the folder.
        folder: holds `system.toml` and the files it names.
        definition: what `system.toml` says.
    """

    name: str
    folder: Path
    definition: SystemDefinition

    @cached_property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of the structure and of each file in the folder that the system is made of, by name."""
        found = {name: self.folder / name for name in ("system.toml", *self.definition.force_field)}
        found = {name: path for name, path in found.items() if path.is_file()}
        structure = self.structure
        return {name: sha256(path) for name, path in (found | {structure.name: structure}).items() if path.is_file()}

    @property
    def structure(self) -> Path:
        """The PDB file: beside `system.toml`, or else the one of OpenMM's data."""
        own, theirs = (folder / self.definition.structure for folder in (self.folder, _DATA))
        return theirs if theirs.is_file() and not own.is_file() else own

    def build(self) -> tuple[openmm.app.Topology, openmm.System, Float[np.ndarray, "atoms 3"]]:
        """The topology, the System (each force a group of its own, by name) and the positions [nm].

        Raises:
            ValueError: if a file is missing, or the force field has no parameters for a residue (it is named).
        """
        definition = self.definition
        field = self._force_field()
        modeller = self._modeller(field)
        try:
            system = field.createSystem(
                modeller.topology,
                nonbondedMethod=_NONBONDED[definition.nonbonded],
                nonbondedCutoff=definition.cutoff or 1.0,
                switchDistance=definition.switch,
                constraints=_CONSTRAINTS[definition.constraints],
                hydrogenMass=definition.hydrogen_mass,
            )
        except (ValueError, openmm.OpenMMException) as error:
            raise ValueError(f"system {self.name!r}: {error}") from None
        use_native_gbsa(system)
        use_native_lennard_jones(system)
        for group, force in enumerate(system.getForces()):
            force.setForceGroup(group)
        return modeller.topology, system, np.array(modeller.positions.value_in_unit(unit.nanometer))

    def _force_field(self) -> openmm.app.ForceField:
        names = self.definition.force_field
        files = [str(self.folder / name) if (self.folder / name).is_file() else name for name in names]
        try:
            return openmm.app.ForceField(*files)
        except ValueError as error:
            raise ValueError(
                f"system {self.name!r}: cannot load the force field {', '.join(names)}: expected files that come with "
                f"OpenMM or lie in {self.folder} ({error})"
            ) from None

    def _modeller(self, field: openmm.app.ForceField) -> openmm.app.Modeller:
        definition = self.definition
        path = self.structure
        if not path.is_file():
            raise ValueError(f"system {self.name!r}: no structure {str(path)!r}")
        pdb = openmm.app.PDBFile(str(path))
        positions = pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        if (bad := np.flatnonzero(~np.isfinite(positions).all(axis=1))).size:
            atom = list(pdb.topology.atoms())[int(bad[0])]
            raise ValueError(
                f"system {self.name!r}: {definition.structure}: the position of atom {bad[0]}, {atom.name} of "
                f"{atom.residue.name} {atom.residue.id}, is not finite"
            )
        modeller = openmm.app.Modeller(pdb.topology, pdb.positions)
        try:
            modeller.addExtraParticles(field)
            if definition.solvent is not None:
                modeller.addSolvent(field, model=definition.solvent.model, padding=definition.solvent.padding)
        except ValueError as error:
            raise ValueError(f"system {self.name!r}: {error}") from None
        if definition.periodic:
            self._check_box(modeller.topology)
        else:
            modeller.topology.setPeriodicBoxVectors(None)
        return modeller

    def _check_box(self, topology: openmm.app.Topology) -> None:
        vectors, cutoff = topology.getPeriodicBoxVectors(), self.definition.cutoff or 0.0
        if vectors is None:
            raise ValueError(
                f"system {self.name!r}: `nonbonded` needs a box, but {self.definition.structure} has no CRYST1"
            )
        width = min(vectors[axis][axis].value_in_unit(unit.nanometer) for axis in range(3))
        if cutoff > width / 2:
            raise ValueError(
                f"system {self.name!r}: `cutoff` must be at most half the width of the box ({width:.3f} nm), "
                f"got {cutoff} nm"
            )


def load_system(name_or_path: str | Path) -> AllAtomSystem:
    """Find a system by its name or by the path of its folder.

    Raises:
        ValueError: if there is none, or its `system.toml` is not valid.
    """
    folder = Path(name_or_path)
    if not (folder / "system.toml").is_file():
        own = shipped.folder("systems") / folder
        folder = own if own.is_dir() else shipped.find("systems", name_or_path)
    return AllAtomSystem(folder.resolve().name, folder, SystemDefinition.read(folder / "system.toml"))
