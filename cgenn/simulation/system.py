"""From a potential and a topology to an ordinary `openmm.System`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict

import torch  # isort: skip  (before openmm, see backends.py)
import numpy as np
import openmm
import openmm.app
from jaxtyping import Float
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from cgenn.h5md import H5MDFile
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.simulation.backends import Backend, openmm_force
from cgenn.simulation.bonded import pair_cutoff, prior_forces
from cgenn.simulation.electrostatics import (
    announce_background,
    announce_totals,
    announce_type_means,
    charge_forces,
    type_charges,
)
from cgenn.simulation.force import LearnedForce, Precision
from cgenn.simulation.mixing import mixed_system
from cgenn.simulation.orientation_sites import bead_atoms
from cgenn.simulation.pair_force import pair_forces
from cgenn.simulation.placement import Placement
from cgenn.simulation.rigid import RigidBeads, with_bodies
from cgenn.topology import BeadTopology

TopologySource: TypeAlias = BeadTopology | openmm.app.Topology | str | Path


def create_system(
    potential: Potential | str | Path,
    topology: TopologySource,
    *,
    system: openmm.System | None = None,
    particles: Sequence[int] | np.ndarray | None = None,
    box: np.ndarray | None = None,
    masses: Sequence[float] | np.ndarray | None = None,
    charges: Sequence[float] | np.ndarray | None = None,
    replicas: int = 1,
    backend: Backend = "auto",
    precision: Precision = "single",
    device: str = "auto",
    removeCMMotion: bool = True,
) -> tuple[openmm.System, BeadTopology]:
    """A System of beads under the forces of a potential, and the topology of the beads.

    The network is in force group 0 (name "network"), with the charges that it predicts; the priors are OpenMM's own
    forces in group 1 ("bonds", "angles", "dihedrals", "repulsion", "ramp", "pairs"; in a box on a processor the last
    three are one, "pairs"), and so are constant charges in group 2 ("electrostatics"). The global parameter
    `lambda_electrostatics` multiplies all charges. The platform is chosen when the Context is made.

    A bead whose type has a body in the potential is a rigid group of particles: one without mass at its centre and two
    to four point masses, its sites, which follow it. `add_orientation_sites` gives the positions and the topology of
    all particles. Constraints hold the sites together: do not remove them.

    With `system` and `particles` the beads are particles of an existing System, of which a changed copy is returned.
    There the potential takes the place of the force field among the beads: bonded terms and constraints wholly among
    them are dropped, their pairs excluded from its nonbonded forces; everything between beads and other particles stays
    as it is. Charges are counted once, see `cgenn.simulation.mixing`. Box and masses are those of the System. Every
    pair of beads is listed there, which from about a thousand beads on costs more than the rest of the force field.

    Args:
        potential: a potential or the path of its file.
        topology: the beads: a BeadTopology, the path of a bead dataset or of a run's trajectory.h5, or an OpenMM
            topology, whose atom ids or "{residue}-{atom name}" are bead types and which needs `masses` and may need
            `charges`. With `system` an OpenMM topology is that of the whole System.
        system: a System made with a force field; it is not changed.
        particles: which particles of `system` the beads are, in the order of the beads.
        box: box vectors in rows, or three edges [nm]; by default that of the topology or of the dataset's first frame.
        masses: of an OpenMM topology's atoms [amu].
        charges: of the beads of an OpenMM topology [e], by default the mean charges of their types. What predicted
            charges add up to, and what the network reads if it reads charges; constant charges are always those of
            the types.
        replicas: copies in one System that do not feel each other; only without a box.
        backend: "openmm-torch", "python", or "auto" for the first that works.
        precision: of the network, "single" or "double".
        device: of the network, such as "cpu" or "cuda:1"; "auto" is that of the platform, or CUDA if there is one.
        removeCMMotion: keep the centre of mass of the whole System at rest; an existing System decides for itself.

    Raises:
        ValueError: if the potential does not know a bead type, masses are missing, the box is too small for the
            repulsion, or there are replicas in a box; if `particles` does not fit the beads or the System, a force of
            the System cannot be split, or beads that go into it have an orientation.
    """
    options: _Options = {"backend": backend, "precision": precision, "device": device}
    if system is None and particles is None:
        everything = assemble(
            potential, topology, box=box, masses=masses, charges=charges, replicas=replicas,
            removeCMMotion=removeCMMotion, **options,
        )  # fmt: skip
        return everything[:2]
    if system is None or particles is None:
        raise ValueError("`system` and `particles` belong together: give both or none")
    if box is not None or masses is not None or replicas != 1:
        raise ValueError("`box`, `masses` and `replicas` are those of `system`: leave them out")
    return _mixed(potential, topology, system, particles, charges, options)


class _Options(TypedDict):
    backend: Backend
    precision: Precision
    device: str


def assemble(
    potential: Potential | str | Path,
    topology: TopologySource,
    *,
    box: np.ndarray | None = None,
    masses: Sequence[float] | np.ndarray | None = None,
    charges: Sequence[float] | np.ndarray | None = None,
    replicas: int = 1,
    backend: Backend = "auto",
    precision: Precision = "single",
    device: str = "auto",
    removeCMMotion: bool = True,
) -> tuple[openmm.System, BeadTopology, LearnedForce]:
    """`create_system` of beads alone, and the learned force in it."""
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    beads, own_box = read_topology(topology, masses, potential.config, charges)
    beads = with_bodies(beads, potential.config.bodies)
    vectors = box_vectors(own_box if box is None else box)
    if replicas < 1:
        raise ValueError(f"`replicas` must be at least 1, got {replicas}")
    if vectors is not None and replicas > 1:
        raise ValueError(f"replicas share one System only without a box; got replicas = {replicas} and a box")
    rigid = RigidBeads.of(beads)
    placement = Placement.replicas(len(beads), replicas, periodic=vectors is not None, rigid=rigid)
    forces, learned = potential_forces(
        potential, beads, placement, vectors, backend=backend, precision=precision, device=device
    )
    everything = beads.repeat(replicas) if replicas > 1 else beads
    system = openmm.System()
    for _ in range(replicas):
        _add_particles(system, beads, rigid)
    if vectors is not None:
        system.setDefaultPeriodicBoxVectors(*vectors.tolist())
    for force in forces:
        system.addForce(force)
    if removeCMMotion:
        system.addForce(openmm.CMMotionRemover())
    return system, everything, learned


def _add_particles(system: openmm.System, beads: BeadTopology, rigid: RigidBeads | None) -> None:
    if rigid is not None:
        rigid.add_to(system, beads.masses)
        return
    for mass in beads.masses.tolist():
        system.addParticle(mass)


def _mixed(
    potential: Potential | str | Path,
    topology: TopologySource,
    system: openmm.System,
    particles: Sequence[int] | np.ndarray,
    charges: Sequence[float] | np.ndarray | None,
    options: _Options,
) -> tuple[openmm.System, BeadTopology]:
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    placement = Placement.among(particles, system.getNumParticles(), periodic=system.usesPeriodicBoundaryConditions())
    if isinstance(topology, openmm.app.Topology):
        if topology.getNumAtoms() != placement.n_particles:
            raise ValueError(
                f"an OpenMM topology must be that of the whole System, {placement.n_particles} particles, "
                f"got one of {topology.getNumAtoms()} atoms"
            )
        masses = [system.getParticleMass(i)._value for i in placement.particles]
        beads = beads_of(topology, masses, potential.config, placement.particles, charges)
    else:
        beads, _ = read_topology(topology, charges=charges)
    if len(beads) != len(placement.particles):
        raise ValueError(f"`particles` must name one particle for each of {len(beads)} beads, got {len(particles)}")
    vectors = default_box(system) if placement.periodic else None
    forces, _ = potential_forces(potential, beads, placement, vectors, **options)
    return mixed_system(system, forces, placement, long_range=potential.config.electrostatics is not None), beads


def potential_forces(
    potential: Potential,
    beads: BeadTopology,
    placement: Placement,
    box: Float[np.ndarray, "3 3"] | None = None,
    *,
    backend: Backend = "auto",
    precision: Precision = "single",
    device: str = "auto",
) -> tuple[list[openmm.Force], LearnedForce]:
    """All forces of a potential, for the System of a placement; `box` [nm] is what it will be at the start.

    Raises:
        ValueError: see `create_system`.
    """
    _check_device(device)
    if box is not None:
        _check_box(box, potential, beads)
    learned = LearnedForce.build(
        potential, beads, replicas=len(placement.copies), periodic=placement.periodic, precision=precision,
        device=device,
    )  # fmt: skip
    if learned.rigid is not None and not placement.members:
        raise ValueError("beads with an orientation cannot be put into an existing System: make one of beads alone")
    announce_totals(potential, beads)
    electrostatics = potential.config.electrostatics
    if learned.charged is not None and electrostatics is not None and placement.periodic:
        predicted = electrostatics.charges == "predicted"
        announce_background(sum(learned.charged.totals if predicted else type_charges(potential, beads).tolist()))
    network = openmm_force(learned, backend, placement.subset)
    pairs = pair_forces(potential.priors, beads, placement, precision, device)
    return [network, *native_forces(potential, beads, placement, learned, box, pairs=not pairs), *pairs], learned


def native_forces(
    potential: Potential,
    beads: BeadTopology,
    placement: Placement,
    learned: LearnedForce,
    box: Float[np.ndarray, "3 3"] | None = None,
    *,
    pairs: bool = True,
) -> list[openmm.Force]:
    """OpenMM's own forces: priors, with or without those of pairs, and constant charges that `learned` does not have.

    Raises:
        ValueError: if the box is too small for the charges.
    """
    forces = prior_forces(potential.priors, beads.with_bodies(potential.config.bodies), placement, pairs=pairs)
    electrostatics = potential.config.electrostatics
    if electrostatics is not None and learned.charged is None:
        forces += charge_forces(type_charges(potential, beads), beads, placement, electrostatics, box)
    return forces


def read_topology(
    source: TopologySource,
    masses: Sequence[float] | np.ndarray | None = None,
    config: PotentialConfig | None = None,
    charges: Sequence[float] | np.ndarray | None = None,
) -> tuple[BeadTopology, np.ndarray | None]:
    """The topology and, where it comes with one, the box; what follows is for an OpenMM topology, see `beads_of`."""
    if isinstance(source, openmm.app.Topology):
        return _from_openmm(source, masses, config, charges)
    if charges is not None:
        raise ValueError("`charges` are for an OpenMM topology: a BeadTopology or a dataset has its own")
    if isinstance(source, BeadTopology):
        return source, None
    file = H5MDFile(source)
    entries = file.metadata.get("dataset")
    if entries is None:
        raise ValueError(f"{source}: an H5MD file of {file.group}, but not a bead dataset: make one with `cgenn map`")
    box = file.read(slice(0, 1)).box
    try:
        return BeadTopology.from_dict(entries.get("topology", {})), None if box is None else box[0]
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _from_openmm(
    topology: openmm.app.Topology,
    masses: Sequence[float] | np.ndarray | None,
    config: PotentialConfig | None,
    charges: Sequence[float] | np.ndarray | None,
) -> tuple[BeadTopology, np.ndarray | None]:
    if masses is None:
        raise ValueError("an OpenMM topology has no masses of beads: pass `masses` [amu], one for each atom")
    if openmm.unit.is_quantity(masses):
        masses = masses.value_in_unit(openmm.unit.dalton)  # type: ignore[union-attr]
    vectors = topology.getPeriodicBoxVectors()
    box = None if vectors is None else np.array(vectors.value_in_unit(openmm.unit.nanometer))
    values, chosen = np.asarray(masses, dtype=float), None
    if len(values) != topology.getNumAtoms():
        raise ValueError(f"`masses` must have one entry per atom ({topology.getNumAtoms()}), got {len(values)}")
    if config is not None and config.bodies and any(atom.name == "S1" for atom in topology.atoms()):
        chosen = bead_atoms(topology, bead_types(list(topology.atoms()), config), values, config.bodies)
        values = values[chosen]
    return beads_of(topology, values, config, chosen, charges), box


def beads_of(
    topology: openmm.app.Topology,
    masses: Sequence[float] | np.ndarray,
    config: PotentialConfig | None = None,
    atoms: Sequence[int] | None = None,
    charges: Sequence[float] | np.ndarray | None = None,
) -> BeadTopology:
    """The beads that an OpenMM topology, or some `atoms` of it, stand for, with one mass [amu] and charge [e] each.

    Their types are those of `bead_types`; their charges, which an OpenMM topology does not hold, are by default the
    mean ones of their types. Where those matter and do not add up to whole numbers, a warning says so.

    Raises:
        ValueError: if there is not one charge for each bead, or the network reads charges and there are none.
    """
    everything = list(topology.atoms())
    chosen = everything if atoms is None else [everything[index] for index in atoms]
    types = bead_types(chosen, config)
    number = {atom.index: bead for bead, atom in enumerate(chosen)}
    residues = {index: k for k, index in enumerate(dict.fromkeys(atom.residue.index for atom in chosen))}
    beads = BeadTopology.build(
        types,
        masses,
        charges=_bead_charges(charges, types, config),
        bonds=[
            (number[bond[0].index], number[bond[1].index])
            for bond in topology.bonds()
            if bond[0].index in number and bond[1].index in number
        ],
        names=[atom.name for atom in chosen],
        residue_names=[atom.residue.name for atom in chosen],
        residue_index=[residues[atom.residue.index] for atom in chosen],
    )
    if charges is None and config is not None:
        announce_type_means(config, beads)
    return beads


def bead_types(atoms: Sequence[openmm.app.topology.Atom], config: PotentialConfig | None = None) -> list[str]:
    """Types of beads: the ids of atoms, or "{residue}-{atom name}" where the potential does not know an id."""
    types = [atom.id for atom in atoms]
    if config is not None and not set(types) <= set(config.types):  # a PDB file keeps numbers there
        return [f"{atom.residue.name}-{atom.name}" for atom in atoms]
    return types


def _bead_charges(
    given: Sequence[float] | np.ndarray | None, types: Sequence[str], config: PotentialConfig | None
) -> np.ndarray | None:
    """As given, or the mean ones of the types."""
    if given is not None:
        if openmm.unit.is_quantity(given):
            given = given.value_in_unit(openmm.unit.elementary_charge)  # type: ignore[union-attr]
        charges = np.asarray(given, dtype=float)
        if charges.shape != (len(types),) or not np.isfinite(charges).all():
            raise ValueError(f"`charges` needs a number for each of {len(types)} beads, got shape {charges.shape}")
        return charges
    if config is None:
        return None
    of_type = dict(zip(config.types, config.type_charges, strict=False))
    if "charge" in config.bead_features and not of_type:
        raise ValueError(
            "the network reads the charges of the beads, which an OpenMM topology does not hold: pass `charges` [e], "
            "or a BeadTopology"
        )
    return np.array([of_type.get(name, 0.0) for name in types])


def default_box(system: openmm.System) -> Float[np.ndarray, "3 3"]:
    """Box vectors of a System in rows [nm]."""
    return np.array([list(row._value) for row in system.getDefaultPeriodicBoxVectors()])


def box_vectors(box: object) -> np.ndarray | None:
    """Box vectors in rows, (3, 3) [nm], from vectors or three edges, numbers or a Quantity; None for None."""
    if box is None:
        return None
    if openmm.unit.is_quantity(box):
        box = box.value_in_unit(openmm.unit.nanometer)  # type: ignore[attr-defined]
    vectors = np.array(box, dtype=float)
    vectors = np.diag(vectors) if vectors.shape == (3,) else vectors
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all() or abs(np.linalg.det(vectors)) < 1e-9:
        raise ValueError(f"`box` must be three vectors or three edges with a volume [nm], got {np.array(box).tolist()}")
    return np.array(reducePeriodicBoxVectors(_as_vec3(vectors)).value_in_unit(openmm.unit.nanometer))


def _as_vec3(vectors: np.ndarray) -> list[openmm.Vec3]:
    if abs(vectors[0, 1]) + abs(vectors[0, 2]) + abs(vectors[1, 2]) > 1e-6:
        raise ValueError(f"OpenMM needs a along x and b in the plane of x and y, got the vectors {vectors.tolist()} nm")
    return [openmm.Vec3(*row) for row in vectors.tolist()]


def _check_box(vectors: np.ndarray, potential: Potential, beads: BeadTopology) -> None:
    width, reach = np.diag(vectors).min().item(), pair_cutoff(potential.priors, beads)
    if 2 * reach > width:
        longer = {"pair splines": potential.priors.pairs, "ramp": potential.priors.ramp}
        term = next((name for name, prior in longer.items() if prior and prior.range == reach), "repulsion")
        raise ValueError(
            f"the box is {width:.3f} nm wide, but the {term} reaches {reach:.3f} nm and OpenMM needs at least twice "
            "that: use a larger box"
        )


def _check_device(device: str) -> None:
    if device == "auto":
        return
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ValueError(f"unknown device {device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:1'") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices")
