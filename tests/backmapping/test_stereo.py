"""Hands, rings and contacts."""

import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import Element

from cgenn.backmapping.stereo import Contacts, Rings, Stereocentres
from cgenn.mapping.atoms import AtomTopology


def carbons(bonds, count):
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for atom in range(count):
        topology.add_atom(f"C{atom}", Element.getBySymbol("C"), residue)
    return AtomTopology.from_mdtraj(topology, bonds=bonds)


def hexagon(radius=0.14):
    angles = np.arange(6) * np.pi / 3
    return radius * np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)


def test_the_alpha_carbon_is_the_stereocentre(peptide):
    frames = peptide.read(10).positions
    centres = Stereocentres.find(peptide.atoms, frames)
    assert [peptide.atoms.describe(atom) for atom in centres.centres] == ["ALA2-CA (atom 8)"]
    assert len(centres.turned(frames[0])) == 0
    assert centres.turned(-frames[0]).tolist() == [8]


def test_a_centre_that_changes_its_hand_is_none(peptide):
    frames = peptide.read(2).positions
    assert len(Stereocentres.find(peptide.atoms, np.concatenate([frames, -frames])).centres) == 0


@pytest.mark.parametrize(("where", "through"), [((0.01, 0.02), True), ((0.12, 0.0), True), ((0.14, 0.03), False)])
def test_a_bond_through_a_ring(where, through):
    atoms = carbons([(k, (k + 1) % 6) for k in range(6)] + [(6, 7)], 8)
    rings = Rings.find(atoms)
    assert len(rings.rings) == 1
    box = np.array([[2.0, 0, 0], [0.5, 2.0, 0], [0.4, -0.6, 2.0]])
    positions = np.concatenate([hexagon(), [[*where, -0.07], [*where, 0.08]]])
    positions[6:] += box[1] - box[2]  # an image of the bond
    assert (len(rings.pierced(positions, box)) == 1) == through
    beside = positions + np.array([0.0, 0.0, 0.2]) * (np.arange(8) > 5)[:, None]
    assert rings.pierced(beside, box) == []


def test_a_ring_is_not_pierced_by_its_own_bonds():
    atoms = carbons([(k, (k + 1) % 6) for k in range(6)] + [(0, 6)], 7)
    assert Rings.find(atoms).pierced(np.concatenate([hexagon(), [[0.29, 0.0, 0.0]]]), None) == []


def test_clashes_are_closer_than_the_reference():
    atoms = carbons([(0, 1)], 4)
    usual = np.array([[0.0, 0, 0], [0.15, 0, 0], [0, 0.2, 0], [0.4, 0.5, 0.6]])
    contacts = Contacts.find(atoms, usual[None], None)
    assert contacts.clashes(usual, None) == 0
    assert contacts.clashes(usual * [1, 0.8, 1], None) == 1  # 0.16 nm, less than 90 % of 0.2 nm
    assert contacts.clashes(usual * [0.5, 1, 1], None) == 0  # a bond is no contact
    across = usual + np.array([0, 0.9, 0]) * (np.arange(4) == 2)[:, None]
    assert contacts.clashes(across, np.eye(3)) == 1
