"""Positions and topology of all particles of a System with oriented beads, for one's own scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openmm
import openmm.app
from jaxtyping import Float

from cgenn.body import Body, check_unit
from cgenn.simulation.rigid import RigidBeads, RigidKind
from cgenn.topology import BeadTopology


def add_orientation_sites(
    topology: BeadTopology,
    positions: Float[np.ndarray, "beads 3"],
    orientations: Float[np.ndarray, "beads 4"] | None = None,
) -> tuple[openmm.app.Topology, openmm.unit.Quantity]:
    """The sites of oriented beads, in the manner of `Modeller.addExtraParticles`: for `Simulation` and `setPositions`.

        system, beads = create_system(potential, dataset)
        topology, particles = add_orientation_sites(beads, positions, orientations)
        simulation = Simulation(topology, system, integrator)
        simulation.context.setPositions(particles)

    Args:
        topology: that `create_system` returned.
        positions: of the beads, numbers in nm or a Quantity.
        orientations: unit quaternions (w, x, y, z), by default frames along x, y and z; those of beads without an
            orientation are not looked at.

    Raises:
        ValueError: if there is not a position and an orientation for each bead, or a quaternion is not of unit length.
    """
    if openmm.unit.is_quantity(positions):
        positions = positions.value_in_unit(openmm.unit.nanometer)  # type: ignore[attr-defined]
    centers = np.array(positions, dtype=float)
    if centers.shape != (len(topology), 3):
        raise ValueError(f"`positions` must be those of {len(topology)} beads, got shape {centers.shape}")
    rigid = RigidBeads.of(topology)
    if rigid is not None:
        turned = checked_orientations(topology, orientations)
        if turned.ndim != 2:
            raise ValueError(
                f"`orientations` must be those of one frame, {len(topology)} quaternions, got {turned.shape}"
            )
        centers = rigid.to_sites(centers, turned)
    return site_topology(topology, rigid), centers * openmm.unit.nanometer


def bead_atoms(
    topology: openmm.app.Topology,
    types: Sequence[str],
    masses: Sequence[float] | np.ndarray,
    bodies: Mapping[str, Body],
) -> list[int]:
    """Which atoms of a topology are beads: not the sites that `add_orientation_sites` has put behind oriented ones.

    Args:
        topology: of all particles.
        types: bead type of each atom.
        masses: of each atom, a bead being there with its whole mass [amu].
        bodies: of the types that have an orientation.

    Raises:
        ValueError: naming the atom whose sites are missing.
    """
    names = [atom.name for atom in topology.atoms()]
    found, atom = [], 0
    while atom < len(names):
        found.append(atom)
        body = bodies.get(types[atom])
        sites = 0 if body is None else len(RigidKind.of(body, float(masses[atom]), types[atom]).masses)
        if names[atom + 1 : atom + 1 + sites] != [f"S{site + 1}" for site in range(sites)]:
            raise ValueError(
                f"atom {atom} ({names[atom]}) is a bead of type {types[atom]!r}, which has an orientation, but the "
                f"{sites} sites that should follow it are missing: make the topology with `add_orientation_sites`"
            )
        atom += 1 + sites
    return found


def checked_orientations(
    topology: BeadTopology, orientations: Float[np.ndarray, "*frames beads 4"] | None
) -> Float[np.ndarray, "*frames beads 4"]:
    """Unit quaternions of all beads, (1, 0, 0, 0) for those without an orientation, and for all if there are none.

    Raises:
        ValueError: if there is not one for each bead, or that of an oriented bead is not of unit length.
    """
    still = np.array([1.0, 0.0, 0.0, 0.0])
    given = np.tile(still, (len(topology), 1)) if orientations is None else np.array(orientations, dtype=float)
    if given.shape[-2:] != (len(topology), 4):
        raise ValueError(
            f"`orientations` must be quaternions (w, x, y, z) of {len(topology)} beads, got shape {given.shape}"
        )
    given = np.where(topology.oriented[:, None], given, still)
    check_unit(given)
    return given / np.linalg.norm(given, axis=-1, keepdims=True)


def site_topology(topology: BeadTopology, rigid: RigidBeads | None) -> openmm.app.Topology:
    """All particles as an OpenMM topology: sites S1, S2, ... follow their bead, in its residue and bonded to it."""
    if rigid is None:
        return topology.to_openmm()
    bead_of = np.repeat(np.arange(len(topology)), 1 + rigid.counts)
    number = np.arange(len(bead_of)) - rigid.centers[bead_of]
    to_centers = [(int(rigid.centers[bead]), site) for bead in range(len(topology)) for site in rigid.sites(bead)]
    everything = BeadTopology(
        types=tuple(topology.types[bead] for bead in bead_of),
        names=tuple(f"S{site}" if site else topology.names[bead] for bead, site in zip(bead_of, number, strict=True)),
        residue_names=tuple(topology.residue_names[bead] for bead in bead_of),
        residue_index=topology.residue_index[bead_of],
        masses=topology.masses[bead_of],
        charges=topology.charges[bead_of],
        bonds=np.array([*rigid.centers[topology.bonds].tolist(), *to_centers]).reshape(-1, 2),
    )
    return everything.to_openmm()
