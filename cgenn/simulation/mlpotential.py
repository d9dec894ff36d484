"""A potential as openmmml wants it; only this file needs openmmml (`cgenn[openmmml]`).

The embedding is "mechanical", done here: openmmml's own wants elements, and puts hydrogen on bonds that are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch  # isort: skip  # noqa: F401  (before openmm, see backends.py)
import numpy as np
import openmm
import openmm.app
from openmmml.mlpotential import MLPotentialImpl

from cgenn.potential.potential import Potential
from cgenn.simulation.backends import Backend
from cgenn.simulation.force import Precision
from cgenn.simulation.mixing import mixed_system
from cgenn.simulation.orientation_sites import bead_atoms
from cgenn.simulation.placement import Placement
from cgenn.simulation.rigid import RigidBeads, with_bodies
from cgenn.simulation.system import bead_types, beads_of, box_vectors, default_box, potential_forces
from cgenn.topology import BeadTopology

Masses: TypeAlias = Sequence[float] | np.ndarray | Mapping[str, float]


class BeadPotential(MLPotentialImpl):
    """A potential of cgenn behind openmmml's methods.

    Atoms are beads; their type is the atom's id, or "{residue}-{atom name}". `createSystem` and `createMixedSystem`
    know the arguments `backend`, `precision` and `device` of `create_system`. `createSystem` needs `masses` [amu], a
    sequence with one for each atom or a dictionary from bead type to mass, unless all atoms have an element. Both know
    `charges` [e], one for each bead, by default the mean ones of the types; see `create_system`. Where beads are
    oriented the topology is that of `add_orientation_sites`, and `masses` are those of whole beads.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential

    def addForces(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **args: Any,
    ) -> None:
        """Add all forces of the potential: network, charges and priors.

        Raises:
            ValueError: if a mass is missing, an argument or a bead type is unknown, or the box is too small.
        """
        masses = self._masses(topology, _checked(args).pop("masses", None))
        vectors = topology.getPeriodicBoxVectors()
        box = None if vectors is None else box_vectors(vectors)
        if box is None and system.usesPeriodicBoundaryConditions():
            box = default_box(system)
        placement = Placement.replicas(len(masses), periodic=box is not None)
        if atoms is None and self.potential.config.bodies:
            placement = self._prepare_sites(topology, system, masses, periodic=box is not None)
        elif atoms is None:
            for particle, mass in enumerate(masses.tolist()):  # zero where an atom has no element
                system.setParticleMass(particle, mass)
        else:
            placement = Placement.among(list(atoms), len(masses), periodic=box is not None)
        for force in self._forces(topology, placement, box, masses, forceGroup, **args):
            system.addForce(force)

    def createMixedSystem(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        atoms: list[int],
        forceGroup: int,
        interpolate: bool,
        embedding: str,
        returnInfo: bool = False,
        **args: Any,
    ) -> openmm.System:
        """The potential among `atoms` instead of the force field; see `cgenn.simulation.mixing`.

        Raises:
            ValueError: as `create_system`, or if interpolation is asked for with openmm-torch.
        """
        options = {"backend": "python", **_checked(args)} if interpolate else _checked(args)
        if "masses" in options:
            raise ValueError("`masses` are those of `system`: leave them out")
        placement = Placement.among(atoms, system.getNumParticles(), periodic=system.usesPeriodicBoundaryConditions())
        box = default_box(system) if placement.periodic else None
        masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
        forces = self._forces(topology, placement, box, masses, forceGroup, **options)
        return mixed_system(
            system,
            forces,
            placement,
            long_range=self.getMLLongRange(),
            keep_constraints=True,  # MLPotential removes them, or does not
            interpolate=interpolate,
        )

    def getSupportedEmbeddings(self) -> list[str]:
        """Embeddings done here."""
        return ["mechanical"]

    def getMLLongRange(self) -> bool:
        """Whether the potential has electrostatics of its own."""
        return self.potential.config.electrostatics is not None

    def _forces(
        self,
        topology: openmm.app.Topology,
        placement: Placement,
        box: np.ndarray | None,
        masses: np.ndarray,
        group: int,
        backend: Backend = "auto",
        charges: Sequence[float] | np.ndarray | None = None,
        precision: Precision = "single",
        device: str = "auto",
    ) -> list[openmm.Force]:
        particles = list(placement.particles)
        beads = beads_of(topology, masses[particles], self.potential.config, particles, charges)
        forces, _ = potential_forces(
            self.potential, beads, placement, box, backend=backend, precision=precision, device=device
        )
        for force in forces:
            force.setForceGroup(group)
        _share_cutoff(forces)
        return forces

    def _prepare_sites(
        self, topology: openmm.app.Topology, system: openmm.System, masses: np.ndarray, *, periodic: bool
    ) -> Placement:
        """Masses, constraints and virtual sites of all particles, and where the beads are among them."""
        types, bodies = bead_types(list(topology.atoms()), self.potential.config), self.potential.config.bodies
        chosen = bead_atoms(topology, types, masses, bodies)
        beads = BeadTopology.build([types[atom] for atom in chosen], masses[chosen])
        rigid = RigidBeads.of(with_bodies(beads, bodies))
        if rigid is not None:
            rigid.prepare(system, masses[chosen])
        for particle, mass in enumerate(masses.tolist() if rigid is None else ()):
            system.setParticleMass(particle, mass)
        return Placement.replicas(len(beads), periodic=periodic, rigid=rigid)

    def _masses(self, topology: openmm.app.Topology, given: Masses | None) -> np.ndarray:
        """Mass of each atom [amu]: as given, or that of its element."""
        atoms = list(topology.atoms())
        if given is None:
            bare = [atom for atom in atoms if atom.element is None]
            if bare:
                raise ValueError(
                    f"atom {bare[0].index} ({bare[0].residue.name}-{bare[0].name}) has no element: pass `masses` "
                    "[amu], one for each atom or a dictionary from bead type to mass"
                )
            return np.array([atom.element.mass._value for atom in atoms])
        if isinstance(given, Mapping):
            types = bead_types(atoms, self.potential.config)
            missing = sorted(set(types) - set(given))
            if missing:
                raise ValueError(f"`masses` has no entry for the bead types {', '.join(missing)}")
            given = [given[name] for name in types]
        if openmm.unit.is_quantity(given):
            given = given.value_in_unit(openmm.unit.dalton)  # type: ignore[union-attr]
        if len(given) != len(atoms):
            raise ValueError(f"`masses` needs one for each of {len(atoms)} atoms, got {len(given)}")
        return np.asarray(given, dtype=float)


def _share_cutoff(forces: list[openmm.Force]) -> None:
    """On a GPU all nonbonded forces of one group must have one cutoff; the repulsion is zero there anyway."""
    cut = [force for force in forces if isinstance(force, (openmm.NonbondedForce, openmm.CustomNonbondedForce))]
    for force in cut:
        force.setCutoffDistance(max(force.getCutoffDistance() for force in cut))


def _checked(args: dict[str, Any]) -> dict[str, Any]:
    known = ("masses", "charges", "backend", "precision", "device")
    unknown = sorted(set(args) - set(known))
    if unknown:
        expected = ", ".join(f"`{name}`" for name in known)
        raise ValueError(f"unknown arguments {', '.join(unknown)}, expected {expected}")
    return args
