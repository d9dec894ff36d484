"""What the atoms are: an all-atom topology with the masses, charges, bonds and constraints that mapping needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import mdtraj
import numpy as np
import openmm
import openmm.app
from jaxtyping import Float, Int
from openmm import unit
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components


def by_group(members: Int[np.ndarray, " members"], groups: Int[np.ndarray, " all"]) -> dict[int, np.ndarray]:
    """The members of each group that has some, in their order; `groups` says of everything where it belongs."""
    order = members[np.argsort(groups[members], kind="stable")]
    labels, starts = np.unique(groups[order], return_index=True)
    return dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True))


@dataclass(frozen=True, eq=False)
class AtomTopology:
    """Atoms, their names and residues, and what joins them.

    Attributes:
        topology: names, residues and elements; what selections refer to.
        masses: shape (atoms,) [amu]; zero for virtual sites.
        charges: shape (atoms,) [e], or None if not known.
        bonds: pairs of atom indices, shape (bonds, 2).
        constraints: pairs of atoms at a fixed distance, shape (constraints, 2), or None if not known.
    """

    topology: mdtraj.Topology
    masses: Float[np.ndarray, " atoms"]
    charges: Float[np.ndarray, " atoms"] | None
    bonds: Int[np.ndarray, "bonds 2"]
    constraints: Int[np.ndarray, "constraints 2"] | None

    @classmethod
    def from_mdtraj(
        cls,
        topology: mdtraj.Topology,
        *,
        masses: Sequence[float] | np.ndarray | None = None,
        charges: Sequence[float] | np.ndarray | None = None,
        bonds: Sequence[tuple[int, int]] | np.ndarray | None = None,
        constraints: Sequence[tuple[int, int]] | np.ndarray | None = None,
    ) -> AtomTopology:
        """Take over an MDTraj topology.

        Args:
            masses: [amu], by default those of the elements.
            bonds: by default those of the topology, and if it has none the standard ones of its residues.

        Raises:
            ValueError: if lengths differ, or an index of a bond or constraint is out of range.
        """
        if bonds is None:
            if topology.n_bonds == 0:
                topology = topology.copy()
                topology.create_standard_bonds()
            bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds]
        if masses is None:
            masses = [0.0 if atom.element is None else atom.element.mass for atom in topology.atoms]
        for label, values in {"masses": masses, "charges": charges}.items():
            if values is not None and len(values) != topology.n_atoms:
                raise ValueError(f"`{label}` must have one entry per atom ({topology.n_atoms}), got {len(values)}")
        return cls(
            topology=topology,
            masses=np.asarray(masses, dtype=float),
            charges=None if charges is None else np.asarray(charges, dtype=float),
            bonds=_pairs("bonds", bonds, topology.n_atoms),
            constraints=None if constraints is None else _pairs("constraints", constraints, topology.n_atoms),
        )

    @classmethod
    def from_openmm(cls, topology: openmm.app.Topology, system: openmm.System | None = None) -> AtomTopology:
        """Take over an OpenMM topology; masses, charges and constraints come from `system` where it is given."""
        atoms = mdtraj.Topology.from_openmm(topology)
        bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds()]
        if system is None:
            return cls.from_mdtraj(atoms, bonds=bonds)
        if system.getNumParticles() != atoms.n_atoms:
            raise ValueError(f"the system has {system.getNumParticles()} particles, the topology {atoms.n_atoms} atoms")
        masses = [system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(atoms.n_atoms)]
        constraints = [tuple(system.getConstraintParameters(i)[:2]) for i in range(system.getNumConstraints())]
        return cls.from_mdtraj(atoms, masses=masses, charges=_charges(system), bonds=bonds, constraints=constraints)

    def __len__(self) -> int:
        return self.topology.n_atoms

    @cached_property
    def residue_index(self) -> Int[np.ndarray, " atoms"]:
        """Index of the residue of each atom."""
        return np.array([atom.residue.index for atom in self.topology.atoms], dtype=np.int64)

    @cached_property
    def links(self) -> Int[np.ndarray, "links 2"]:
        """Bonds, and virtual sites linked to the first atom of their residue."""
        bonded = np.zeros(len(self), dtype=bool)
        bonded[self.bonds.ravel()] = True
        sites = np.flatnonzero((self.masses == 0) & ~bonded)
        first = np.searchsorted(self.residue_index, self.residue_index[sites])
        extra = np.stack([first, sites], axis=1)
        return np.concatenate([self.bonds, extra[first != sites]])

    @cached_property
    def adjacency(self) -> csr_array:
        """Symmetric matrix of ones where two atoms are linked, shape (atoms, atoms)."""
        i, j = self.links.T
        ones = np.ones(2 * len(i))
        return csr_array(coo_array((ones, (np.r_[i, j], np.r_[j, i])), shape=(len(self), len(self))))

    @cached_property
    def molecules(self) -> Int[np.ndarray, " atoms"]:
        """Index of the molecule of each atom."""
        return connected_components(self.adjacency, directed=False)[1].astype(np.int64)

    @cached_property
    def elements(self) -> np.ndarray:
        """Symbol of each atom, empty for virtual sites; deuterium is hydrogen."""
        found = ["" if atom.element is None else atom.element.symbol for atom in self.topology.atoms]
        return np.array([{"VS": "", "D": "H"}.get(symbol, symbol) for symbol in found])

    @cached_property
    def companions(self) -> csr_array:
        """Ones where atom j is i itself, or a hydrogen or virtual site that goes with the heavy atom i."""
        light = np.isin(self.elements, ("H", ""))
        pairs = np.concatenate([self.links, self.links[:, ::-1]])
        i, j = np.unique(pairs[~light[pairs[:, 0]] & light[pairs[:, 1]]], axis=0).T
        every = np.arange(len(self))
        shape = (len(self), len(self))
        return csr_array(coo_array((np.ones(len(self) + len(i)), (np.r_[every, i], np.r_[every, j])), shape=shape))

    def formula(self, members: Int[np.ndarray, " members"]) -> str:
        """Such as "C2H4O", carbon and hydrogen first."""
        found = Counter(element for element in self.elements[members].tolist() if element)
        order = sorted(found, key=lambda name: (("C", "H").index(name) if name in ("C", "H") else 2, name))
        return "".join(name + (str(found[name]) if found[name] > 1 else "") for name in order)

    def describe(self, atom: int) -> str:
        """Name of an atom for messages, such as "ALA2-CB (atom 10)"."""
        return f"{self.topology.atom(int(atom))} (atom {int(atom)})"

    def select(self, selection: str, purpose: str) -> Int[np.ndarray, " selected"]:
        """Indices of the atoms of a selection in MDTraj's language; `purpose` says in an error what it is for.

        Raises:
            ValueError: if the selection cannot be understood.
        """
        try:
            return np.asarray(self.topology.select(selection), dtype=np.int64)
        except (ValueError, TypeError, SyntaxError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{purpose}: cannot understand the selection {selection!r}: {reason}") from None


def _pairs(label: str, pairs: Sequence[tuple[int, int]] | np.ndarray, n_atoms: int) -> np.ndarray:
    if np.any(np.asarray(pairs) % 1 != 0):
        raise ValueError(f"`{label}` must be pairs of atoms, counted from 0, got {np.asarray(pairs).tolist()}")
    array = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if array.size and (array.min() < 0 or array.max() >= n_atoms):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"`{label}` names atom {wrong}, but there are {n_atoms} atoms, counted from 0")
    return np.unique(np.sort(array, axis=1), axis=0)


def _charges(system: openmm.System) -> np.ndarray | None:
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            values = [force.getParticleParameters(i)[0] for i in range(force.getNumParticles())]
            return np.array([value.value_in_unit(unit.elementary_charge) for value in values])
    return None
