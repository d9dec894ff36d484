"""Kinds of molecules, their backbones, and what is taken for a protein or a lipid."""

import numpy as np

from cgenn.analysis.molecules import is_lipid, is_protein, molecule_kinds, residue_trace
from cgenn.topology import BeadTopology


def test_kinds_and_the_backbone_of_a_branched_chain():
    """A comb of four beads with a side bead on each inner one, mixed with water, numbered out of order."""
    bonds = [(5, 3), (3, 0), (0, 4), (3, 6), (0, 7)]
    topology = BeadTopology.build(["B", "W", "W", "B", "E", "E", "S", "S"], [1.0] * 8, bonds=bonds)
    comb, water = molecule_kinds(topology)
    assert comb.beads.tolist() == [[0, 3, 4, 5, 6, 7]]
    ends = comb.beads[0, comb.backbone[[0, -1]]]
    assert len(comb.backbone) == 4
    assert not set(ends.tolist()) & {0, 3}
    assert comb.has_ends
    assert (water.beads.tolist(), len(water.backbone), water.has_ends) == ([[1], [2]], 1, False)


def test_a_ring_has_no_ends():
    ring = BeadTopology.build(["R"] * 8, [1.0] * 8, bonds=[(i, (i + 1) % 8) for i in range(8)])
    assert not molecule_kinds(ring)[0].has_ends


def test_molecules_of_the_same_names_bonded_differently_are_of_two_kinds():
    topology = BeadTopology.build(
        [*"ABCDABCD"], [1.0] * 8, names=["A"] * 8, bonds=[(0, 1), (1, 2), (2, 3), (4, 5), (4, 6), (4, 7)]
    )
    assert [len(kind.backbone) for kind in molecule_kinds(topology)] == [4, 3]


def test_tacticity_does_not_make_another_kind():
    topology = BeadTopology.build([*"mrmmmr"], [1.0] * 6, names=["S"] * 6, bonds=[(0, 1), (1, 2), (3, 4), (4, 5)])
    (kind,) = molecule_kinds(topology)
    assert kind.beads.shape == (2, 3)


def test_proteins_and_lipids_by_their_residues():
    residues = ["ACE", "GLY", "TYR", "TYR", "ASP", "HIE", "NME"]
    rows = [(name, residue) for residue in residues for name in ("N", "CA")]
    topology = BeadTopology.build(
        ["X"] * 14, [1.0] * 14, bonds=[(i, i + 1) for i in range(13)], names=[name for name, _ in rows],
        residue_names=[residue for _, residue in rows], residue_index=np.arange(14) // 2,
    )  # fmt: skip
    (kind,) = molecule_kinds(topology)
    assert residue_trace(topology, kind).tolist() == [3, 5, 7, 9, 11]
    assert is_protein(topology, kind)
    assert not is_lipid(topology, kind)
    for name, expected in (("DOPC", True), ("POPE", True), ("POP", True), ("ASP", False), ("PHE", False)):
        lipid = BeadTopology.build(["X"] * 5, [1.0] * 5, bonds=[(i, i + 1) for i in range(4)], residue_names=[name] * 5)
        assert is_lipid(lipid, molecule_kinds(lipid)[0]) is expected
