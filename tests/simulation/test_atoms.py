"""Beads as atoms, for viewers."""

from __future__ import annotations

import math

import mdtraj
import numpy as np
import openmm
import openmm.app
import pytest
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.simulation.atoms import AtomView
from cgenn.topology import BeadTopology

from .conftest import BENZENE


@pytest.fixture
def mixture() -> BeadTopology:
    """Two benzenes and two beads bonded to each other."""
    return BeadTopology.build(
        ["BNZ", "BNZ", "P", "Q"], [78.1, 78.1, 40.0, 40.0], bonds=[(2, 3)], bodies={"BNZ": BENZENE},
        residue_names=["BNZ", "BNZ", "TLS", "TLS"], residue_index=[0, 1, 2, 2],
    )  # fmt: skip


def test_atoms_are_those_of_the_reference_geometry(mixture, tmp_path):
    view = AtomView.of(mixture)
    centers = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1.3, 0]])
    quaternions = Rotation.from_rotvec([[0, 0, 0], [0, math.pi / 2, 0], [0] * 3, [0] * 3]).as_quat(scalar_first=True)
    places = view.positions(centers, quaternions)
    np.testing.assert_allclose(places[:12], BENZENE.coordinates, atol=1e-12)
    flat = np.array(BENZENE.coordinates)
    expected = np.stack([flat[:, 2], flat[:, 1], -flat[:, 0]], axis=1) + centers[1]  # a quarter turn about y
    np.testing.assert_allclose(places[12:24], expected, atol=1e-12)
    np.testing.assert_allclose(places[24:], centers[2:])
    np.testing.assert_allclose(view.positions(centers[None].repeat(3, 0), quaternions[None].repeat(3, 0))[2], places)
    with open(tmp_path / "view.pdb", "w", encoding="utf-8") as file:
        openmm.app.PDBFile.writeFile(view.to_openmm(), places * openmm.unit.nanometer, file)
    read = mdtraj.load(tmp_path / "view.pdb")
    np.testing.assert_allclose(read.xyz[0], places, atol=1e-4)
    assert [atom.element.symbol for atom in read.topology.atoms][:12] == ["C"] * 6 + ["H"] * 6
    assert [residue.name for residue in read.topology.residues] == ["BNZ", "BNZ", "TLS"]
    assert read.topology.n_bonds == 2 * 12 + 1


def test_without_orientations_beads_are_themselves(mixture):
    plain = BeadTopology.from_dict({**mixture.to_dict(), "bodies": {}})
    view = AtomView.of(plain)
    centers = np.random.default_rng(0).normal(size=(5, 4, 3))
    np.testing.assert_array_equal(view.positions(centers), centers)
    assert view.elements == (None,) * 4
    assert view.bonds == [(2, 3)]


def test_a_body_without_atoms_is_its_bead():
    topology = BeadTopology.build(["S"], [10.0], bodies={"S": Body(symmetry="Cinfv", inertia=(1.0, 1.0, 1.0))})
    assert AtomView.of(topology).names == ("S",)
