"""Which atoms of oriented beads the mapping finds bonded to other beads."""

import numpy as np

from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping


def geometry(atoms) -> np.ndarray:
    """All atoms anywhere; those of each plane where they belong."""
    positions = np.random.default_rng(0).normal(size=(3, len(atoms), 3))
    plane = np.array([[0.0, 0.0, 0.0], [0.06, 0.106, 0.0], [0.073, -0.112, 0.0], [0.17, -0.11, 0.0]])
    for residue in (0, 1):
        chosen = atoms.topology.select(f"(resid {residue} and name C O) or (resid {residue + 1} and name N H)")
        positions[:, chosen] = plane + positions[:, chosen[:1]]
    return positions


def test_peptide_planes(ala2):
    mapping = Mapping.build(load_mapping("dipeptide-planes"), ala2)
    topology = FrameMap.build(mapping, geometry(ala2)).topology
    assert topology.types == ("ACE-CH3", "PLANE", "ALA-CA", "PLANE", "NME-CM")
    assert topology.bodies["PLANE"].names == ("C", "O", "N", "H")
    assert topology.joints.tolist() == [[0, 1, -1, 0], [1, 2, 2, -1], [2, 3, -1, 0], [3, 4, 2, -1]]


def test_beads_without_orientations_have_no_joints(ala2):
    entries = {
        "beads": [{"name": "A", "select": "resname ALA", "frame": {}}, {"name": "B", "select": "not resname ALA"}]
    }
    mapping = Mapping.build(MappingDefinition.parse(entries, "test"), ala2)
    assert not len(mapping.topology.joints)
    topology = FrameMap.build(mapping, geometry(ala2)).topology
    names = topology.bodies["ALA-A"].names
    assert [(i, j, names[max(a, b)]) for i, j, a, b in topology.joints.tolist()] == [(0, 1, "N"), (1, 2, "C")]
    assert topology.joints[:, 2:].min(axis=1).tolist() == [-1, -1]
