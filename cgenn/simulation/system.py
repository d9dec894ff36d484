"""From a potential and a topology to an ordinary `openmm.System`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch  # isort: skip  (before openmm, see backends.py)
import numpy as np
import openmm
import openmm.app
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from cgenn.h5md import H5MDFile
from cgenn.potential.potential import Potential
from cgenn.potential.priors import REPULSION_RANGE
from cgenn.simulation.backends import Backend, openmm_force
from cgenn.simulation.bonded import prior_forces
from cgenn.simulation.force import LearnedForce, Precision
from cgenn.topology import BeadTopology

TopologySource: TypeAlias = BeadTopology | openmm.app.Topology | str | Path


def create_system(
    potential: Potential | str | Path,
    topology: TopologySource,
    *,
    box: np.ndarray | None = None,
    masses: Sequence[float] | np.ndarray | None = None,
    replicas: int = 1,
    backend: Backend = "auto",
    precision: Precision = "single",
    device: str = "auto",
    removeCMMotion: bool = True,
) -> tuple[openmm.System, BeadTopology]:
    """A System of beads under the forces of a potential, and the topology of its particles.

    The network is in force group 0 (name "network"), the priors are OpenMM's own forces in group 1 ("bonds", "angles",
    "dihedrals", "repulsion"). Add what else you need; the platform is chosen when the Context is made.

    Args:
        potential: a potential or the path of its file.
        topology: the beads: a BeadTopology, the path of a bead dataset or of a run's trajectory.h5, or an OpenMM
            topology, whose atom ids or "{residue}-{atom name}" are bead types and which needs `masses`.
        box: box vectors in rows, or three edges [nm]; by default that of the topology or of the dataset's first frame.
        masses: of an OpenMM topology's atoms [amu].
        replicas: copies in one System that do not feel each other; only without a box.
        backend: "openmm-torch", "python", or "auto" for the first that works.
        precision: of the network, "single" or "double".
        device: of the network, such as "cpu" or "cuda:1"; "auto" is that of the platform, or CUDA if there is one.
        removeCMMotion: keep the centre of mass of the whole System at rest.

    Raises:
        ValueError: if the potential does not know a bead type, masses are missing, the box is too small for the
            repulsion, or there are replicas in a box.
    """
    system, everything, _ = assemble(
        potential, topology, box=box, masses=masses, replicas=replicas, backend=backend, precision=precision,
        device=device, removeCMMotion=removeCMMotion,
    )  # fmt: skip
    return system, everything


def assemble(
    potential: Potential | str | Path,
    topology: TopologySource,
    *,
    box: np.ndarray | None = None,
    masses: Sequence[float] | np.ndarray | None = None,
    replicas: int = 1,
    backend: Backend = "auto",
    precision: Precision = "single",
    device: str = "auto",
    removeCMMotion: bool = True,
) -> tuple[openmm.System, BeadTopology, LearnedForce]:
    """`create_system`, and the learned force in it."""
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    beads, own_box = read_topology(topology, masses, known=potential.config.types)
    vectors = box_vectors(own_box if box is None else box)
    if replicas < 1:
        raise ValueError(f"`replicas` must be at least 1, got {replicas}")
    if vectors is not None and replicas > 1:
        raise ValueError(f"replicas share one System only without a box; got replicas = {replicas} and a box")
    _check_device(device)
    learned = LearnedForce.build(
        potential, beads, replicas=replicas, periodic=vectors is not None, precision=precision, device=device
    )
    everything = beads.repeat(replicas) if replicas > 1 else beads
    system = openmm.System()
    for mass in everything.masses.tolist():
        system.addParticle(mass)
    if vectors is not None:
        _check_box(vectors, potential, beads)
        system.setDefaultPeriodicBoxVectors(*vectors.tolist())
    system.addForce(openmm_force(learned, backend))
    for force in prior_forces(potential.priors, beads, replicas=replicas, periodic=vectors is not None):
        system.addForce(force)
    if removeCMMotion:
        system.addForce(openmm.CMMotionRemover())
    return system, everything, learned


def read_topology(
    source: TopologySource, masses: Sequence[float] | np.ndarray | None = None, known: Sequence[str] = ()
) -> tuple[BeadTopology, np.ndarray | None]:
    """The topology and, where it comes with one, the box; see `create_system`."""
    if isinstance(source, BeadTopology):
        return source, None
    if isinstance(source, openmm.app.Topology):
        return _from_openmm(source, masses, known)
    file = H5MDFile(source)
    entries = file.metadata.get("dataset")
    if entries is None:
        raise ValueError(f"{source}: an H5MD file of {file.group}, but not a bead dataset: make one with `cgenn map`")
    box = file.read(slice(0, 1)).box
    return BeadTopology.from_dict(entries["topology"]), None if box is None else box[0]


def _from_openmm(
    topology: openmm.app.Topology, masses: Sequence[float] | np.ndarray | None, known: Sequence[str]
) -> tuple[BeadTopology, np.ndarray | None]:
    if masses is None:
        raise ValueError("an OpenMM topology has no masses of beads: pass `masses` [amu], one for each atom")
    if openmm.unit.is_quantity(masses):
        masses = masses.value_in_unit(openmm.unit.dalton)  # type: ignore[union-attr]
    atoms = list(topology.atoms())
    types = [atom.id for atom in atoms]
    if not set(types) <= set(known):  # a PDB file keeps numbers there
        types = [f"{atom.residue.name}-{atom.name}" for atom in atoms]
    vectors = topology.getPeriodicBoxVectors()
    box = None if vectors is None else np.array(vectors.value_in_unit(openmm.unit.nanometer))
    return BeadTopology.from_openmm(topology, np.asarray(masses, dtype=float), types=types), box


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
    sigma, _ = potential.priors.repulsion_table(sorted(set(beads.types)))
    if not np.any(sigma > 0):
        return
    width = np.diag(vectors).min().item()
    reach = REPULSION_RANGE * sigma.max().item()
    if 2 * reach > width:
        raise ValueError(
            f"the box is {width:.3f} nm wide, but the repulsion reaches {reach:.3f} nm and OpenMM needs at least twice "
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
