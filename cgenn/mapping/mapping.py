"""From a definition and the atoms to beads: the sparse map of positions and the topology of the beads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, eye_array

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.linear import LinearMap
from cgenn.mapping.rules import Bead, make_beads, selection_mask
from cgenn.mapping.stereo import label_stereocentres
from cgenn.mapping.types import bead_types, seen_stereo
from cgenn.mapping.whole import Tree
from cgenn.topology import BeadTopology


@dataclass(frozen=True, eq=False)
class Mapping:
    """How the atoms of one system make up its beads.

    Attributes:
        definition: what it was built from.
        atoms: the atoms.
        linear: the map of positions; its weights sum to one for each bead.
        owners: ones where a bead takes over the mass, charge and bonds of an atom, shape (beads, atoms).
        topology: the beads.
        tree: how molecules are made whole.
        rules: index of the rule in the definition that each bead follows, shape (beads,).
        outside, unmapped, shared: atoms outside the selection, in no bead, in several beads.
        stereo: of each type of beads by SMARTS, where it was looked at and is not declared as mixed: R, S, or m and r.
    """

    definition: MappingDefinition
    atoms: AtomTopology
    linear: LinearMap
    owners: csr_array
    topology: BeadTopology
    tree: Tree
    rules: Int[np.ndarray, " beads"]
    outside: Int[np.ndarray, " outside"]
    unmapped: Int[np.ndarray, " unmapped"]
    shared: Int[np.ndarray, " shared"]
    stereo: dict[str, list[str]]

    @classmethod
    def build(
        cls,
        definition: MappingDefinition,
        atoms: AtomTopology,
        positions: Float[np.ndarray, "atoms 3"] | None = None,
    ) -> Mapping:
        """Apply a definition to the atoms of a system.

        Args:
            positions: of some frame, with whole molecules [nm]: what stereocentres are told from, in beads by SMARTS.
                Without it their handedness is not checked.

        Raises:
            ValueError: if a selection or pattern matches nothing, atoms are left unmapped or are shared without being
                declared, a bead is in pieces or has no mass, beads that differ would share a type, or a bead with a
                frame has a single atom or shares one.
            ImportError: if there is a SMARTS and no RDKit.
        """
        inside = selection_mask(atoms, definition.selection, "`selection`")
        beads, kinds = make_beads(definition, atoms, inside)
        matrix = _matrix([bead.atoms for bead in beads], [bead.weights for bead in beads], len(atoms))
        matrix.eliminate_zeros()
        owners = _matrix([bead.owned for bead in beads], [np.ones(len(bead.owned)) for bead in beads], len(atoms))
        counts = owners.sum(axis=0)
        unmapped, shared = np.flatnonzero(inside & (counts == 0)), np.flatnonzero(counts > 1)
        _check_unmapped(unmapped, definition, atoms)
        _check_shared(shared, definition, beads, atoms)
        _check_frames(definition, beads, atoms, counts)
        stereo = None if positions is None else label_stereocentres(kinds, positions)
        topology = _topology(definition, beads, atoms, owners, stereo)
        return cls(
            definition=definition,
            atoms=atoms,
            linear=LinearMap(matrix),
            owners=owners,
            topology=topology,
            tree=_tree(beads, atoms),
            rules=np.array([bead.rule for bead in beads]),
            outside=np.flatnonzero(~inside),
            unmapped=unmapped,
            shared=shared,
            stereo=seen_stereo(definition, beads, topology.types, stereo),
        )

    @property
    def matrix(self) -> csr_array:
        """Weights of the atoms in the positions of the beads, shape (beads, atoms)."""
        return self.linear.matrix

    @cached_property
    def oriented(self) -> Bool[np.ndarray, " beads"]:
        """Whether each bead has an orientation."""
        return np.array([rule.frame is not None for rule in self.definition.beads])[self.rules]

    @property
    def report(self) -> dict[str, Any]:
        """What became of the atoms: counts, and the names of those unmapped and shared; fit for JSON."""
        names = [str(atom.name) for atom in self.atoms.topology.atoms]
        return {
            "atoms": len(self.atoms),
            "beads": len(self.topology),
            "bead_types": dict(Counter(self.topology.types)),
            "outside_selection": len(self.outside),
            "unmapped": dict(Counter(names[atom] for atom in self.unmapped)),
            "shared": dict(Counter(names[atom] for atom in self.shared)),
            "charges_known": self.atoms.charges is not None,
            **({"stereo": self.stereo} if self.stereo else {}),
        }

    def map_positions(
        self, positions: Float[np.ndarray, "frames atoms 3"], box: Float[np.ndarray, "frames 3 3"] | None = None
    ) -> Float[np.ndarray, "frames beads 3"]:
        """Positions of the beads [nm]; with box vectors [nm] molecules are made whole first."""
        return self.linear(positions if box is None else self.tree.make_whole(positions, box))

    def map_charges(self, charges: Float[np.ndarray, "frames atoms"]) -> Float[np.ndarray, "frames beads"]:
        """Charges of the beads [e], for atoms whose charges change from frame to frame."""
        return (self._shares.matrix @ np.asarray(charges, dtype=float).T).T

    def map_dipoles(
        self,
        positions: Float[np.ndarray, "frames atoms 3"],
        box: Float[np.ndarray, "frames 3 3"] | None = None,
        *,
        charges: Float[np.ndarray, "frames atoms"] | None = None,
        dipoles: Float[np.ndarray, "frames atoms 3"] | None = None,
    ) -> Float[np.ndarray, "frames beads 3"]:
        """Dipoles of the beads [e nm], each about the bead: mu_I = sum_a s_Ia (q_a (r_a - R_I) + mu_a).

        s_Ia is the part of atom a that bead I takes over, so that sum_I (Q_I R_I + mu_I) is the dipole of the atoms.

        Args:
            positions: [nm]; with box vectors [nm] molecules are made whole first.
            charges: of the atoms in each frame [e]; those of the topology if None.
            dipoles: of the atoms themselves [e nm]; none if None.

        Raises:
            ValueError: if no charges are known.
        """
        if charges is None and self.atoms.charges is None:
            raise ValueError("dipoles of beads need charges of the atoms, and the topology has none")
        whole = positions if box is None else self.tree.make_whole(positions, box)
        atoms = np.atleast_2d(np.asarray(self.atoms.charges if charges is None else charges, dtype=float))
        moments = atoms[..., None] * whole
        if dipoles is not None:
            moments += dipoles
        return self._shares(moments) - self.map_charges(atoms)[..., None] * self.linear(whole.astype(float))

    @cached_property
    def _shares(self) -> LinearMap:
        """Which part of the mass and charge of an atom each bead takes over: shared atoms are split evenly."""
        return LinearMap(csr_array(self.owners.multiply(1.0 / np.maximum(self.owners.sum(axis=0), 1))))

    @property
    def is_renaming(self) -> bool:
        """Whether every atom is a bead of its own: then energies and virials of the atoms are those of the beads."""
        every = np.arange(len(self.atoms))
        single = len(self.topology) == len(every) == self.matrix.nnz == self.owners.nnz
        return single and np.array_equal(np.sort(self.owners.indices), every)


def _matrix(columns: list[np.ndarray], values: list[np.ndarray], n_atoms: int) -> csr_array:
    starts = np.cumsum([0, *(len(entry) for entry in columns)])
    return csr_array((np.concatenate(values), np.concatenate(columns), starts), shape=(len(columns), n_atoms))


def _check_unmapped(found: np.ndarray, definition: MappingDefinition, atoms: AtomTopology) -> None:
    wrong = _undeclared("unmapped", found, definition.unmapped, atoms)
    if len(wrong):
        said = f"{len(wrong)} atoms belong to no bead: {_listed(wrong, atoms)}"
        residue = atoms.topology.atom(int(wrong[0])).residue
        known = {name for rule in definition.beads for keys in rule.atoms or {} for name in keys.split()}
        if known and residue.name not in known:
            said += f"; residue {residue} has no template, there are some for {', '.join(sorted(known))}"
        raise ValueError(f"{said}; if this is meant, declare them in `unmapped`")


def _check_shared(found: np.ndarray, definition: MappingDefinition, beads: list[Bead], atoms: AtomTopology) -> None:
    wrong = _undeclared("shared", found, definition.shared, atoms)
    if len(wrong):
        rules = [definition.beads[bead.rule] for bead in beads if wrong[0] in bead.owned][:2]
        where = " and ".join(f"{rule.name!r} ({rule.smarts or rule.atoms or rule.select})" for rule in rules)
        raise ValueError(
            f"{len(wrong)} atoms belong to several beads: {_listed(wrong, atoms)}; the first one to {where}; if this "
            "is meant, declare them in `shared`"
        )


def _undeclared(key: str, found: np.ndarray, declared: str | None, atoms: AtomTopology) -> np.ndarray:
    return found if declared is None else np.setdiff1d(found, atoms.select(declared, f"`{key}`"))


def _listed(members: np.ndarray, atoms: AtomTopology) -> str:
    return ", ".join(atoms.describe(atom) for atom in members[:5]) + (", ..." if len(members) > 5 else "")


def _check_frames(definition: MappingDefinition, beads: list[Bead], atoms: AtomTopology, counts: np.ndarray) -> None:
    """Beads with a frame have at least two atoms, all to themselves."""
    for bead in beads:
        rule = definition.beads[bead.rule]
        if rule.frame is None:
            continue
        purpose = f"bead {rule.name!r} of {atoms.topology.atom(int(bead.atoms[0])).residue}"
        if np.count_nonzero(bead.weights) < 2:
            raise ValueError(f"{purpose}: an orientation needs at least two atoms with mass, the bead has one")
        if len(others := bead.atoms[counts[bead.atoms] > 1]):
            raise ValueError(
                f"{purpose}: a bead with a frame cannot share atoms, it shares {atoms.describe(others[0])}"
            )


def _topology(
    definition: MappingDefinition,
    beads: list[Bead],
    atoms: AtomTopology,
    owners: csr_array,
    stereo: dict[int, str] | None,
) -> BeadTopology:
    """Bead I has the masses and charges of its atoms, split evenly where atoms are shared; beads are bonded where
    their atoms are, or where they share one."""
    share = 1.0 / np.maximum(owners.sum(axis=0), 1)
    rules = [definition.beads[bead.rule] for bead in beads]
    residues = [atoms.topology.atom(int(bead.atoms[0])).residue for bead in beads]
    masses = owners @ (atoms.masses * share)
    if len(massless := np.flatnonzero(masses <= 0)):
        raise ValueError(f"bead {rules[massless[0]].name!r} of {residues[massless[0]]} has no mass")
    joined = (owners @ (atoms.adjacency + eye_array(len(atoms), format="csr")) @ owners.T).tocoo()
    bonds = np.stack([joined.row, joined.col], axis=1)[joined.row < joined.col]
    return BeadTopology.build(
        bead_types(definition, beads, bonds, atoms, stereo),
        masses,
        bonds=bonds,
        charges=None if atoms.charges is None else owners @ (atoms.charges * share),
        names=[rule.name for rule in rules],
        residue_names=[residue.name for residue in residues],
        residue_index=np.unique([residue.index for residue in residues], return_inverse=True)[1],
    )


def _tree(beads: list[Bead], atoms: AtomTopology) -> Tree:
    """Spans the molecules that have a bead; atoms of a bead that no bonds join are linked to its first atom."""
    weak = [np.stack([np.full(len(bead.owned), bead.atoms[0]), bead.owned], axis=1) for bead in beads]
    weak = [links[links[:, 0] != links[:, 1]] for links in weak]
    used = np.isin(atoms.molecules, atoms.molecules[np.concatenate([bead.owned for bead in beads])])
    return Tree.build(len(atoms), atoms.links[used[atoms.links[:, 0]]], np.concatenate(weak))
