"""Which terms hold bodies together, and that these are all it takes."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.body import Body
from cgenn.potential import bonded
from cgenn.potential.linkage import Linkage, joined_points, reference_atoms
from cgenn.symmetry import point_group
from cgenn.topology import BeadTopology

PLANE = Body(
    symmetry="Cs",
    inertia=(0.034, 0.4175, 0.4515),
    names=("C", "O", "N", "H"),
    masses=(12.0, 16.0, 14.0, 1.0),
    coordinates=((0.003, 0.043, 0.0), (0.110, -0.016, 0.0), (-0.114, -0.021, 0.0), (-0.197, 0.035, 0.0)),
)
ROD = Body(
    symmetry="Cinfv",
    inertia=(0.08555, 0.08555, 0.0),
    names=("C", "N"),
    masses=(12.0, 14.0),
    coordinates=((0.0, 0.0, -0.06), (0.0, 0.0, 0.055)),
)


def chain(joints=((0, 1, -1, 0), (1, 2, 2, -1), (2, 3, -1, 0), (3, 4, 2, -1))) -> BeadTopology:
    """A capped amino acid with two peptide planes."""
    types, bonds = ["X", "P", "A", "P", "Y"], [(0, 1), (1, 2), (2, 3), (3, 4)]
    return BeadTopology.build(types, [15.0, 43.0, 27.0, 43.0, 15.0], bonds=bonds, bodies={"P": PLANE}, joints=joints)


def keys(linkage: Linkage, kind: str) -> list[str]:
    found = ["|".join(linkage.names[point] for point in row) for row in getattr(linkage, kind).tolist()]
    return sorted(min(key, "|".join(key.split("|")[::-1])) for key in found)


def test_without_joints_the_beads_themselves_are_bonded():
    topology = chain(())
    linkage = Linkage.of(topology)
    assert linkage.names == topology.types
    for kind in ("bonds", "angles", "dihedrals"):
        np.testing.assert_array_equal(getattr(linkage, kind), getattr(topology, kind))


def test_terms_of_a_peptide():
    linkage = Linkage.of(chain())
    assert keys(linkage, "bonds") == ["A|P:C", "A|P:N", "P:C|X", "P:N|Y"]
    assert keys(linkage, "angles") == ["A|P:C|P:O", "A|P:N|P:C", "P:C|A|P:N", "P:C|P:N|Y", "P:O|P:C|X"]
    phi, psi = "P:C|A|P:N|P:C", "P:N|A|P:C|P:O"
    planar = ["A|P:C|P:O|P:N", "A|P:N|P:C|P:O", "P:N|P:O|P:C|X", "P:O|P:C|P:N|Y"]
    assert keys(linkage, "dihedrals") == sorted([phi, psi, *planar])


def test_simple_beads_beyond_bodies_keep_their_terms():
    """Angles and dihedrals of beads alone are those that there are without bodies."""
    types, bonds = ["P", "A", "B", "C", "D"], [(0, 1), (1, 2), (2, 3), (3, 4), (1, 3)]
    topology = BeadTopology.build(types, [20.0] * 5, bonds=bonds, bodies={"P": PLANE}, joints=[(0, 1, 2, -1)])
    linkage, plain = Linkage.of(topology), BeadTopology.build(types, [20.0] * 5, bonds=bonds)
    for kind in ("bonds", "angles", "dihedrals"):
        alone = {tuple(row) for row in getattr(linkage, kind).tolist() if max(row) < 5}
        expected = {tuple(row) for row in getattr(plain, kind).tolist() if 0 not in row}
        assert {min(row, row[::-1]) for row in alone} == {min(row, row[::-1]) for row in expected}
    assert keys(linkage, "angles").count("B|A|P:N") == 1
    assert keys(linkage, "dihedrals").count("B|A|P:N|P:C") == 1


@pytest.mark.parametrize(("second", "expected"), [(PLANE, 6), (ROD, 5), (None, 3)])
def test_terms_are_the_degrees_of_freedom(second, expected):
    """As many as two bodies have towards each other, and no motion of one against the other leaves all as they are."""
    bodies = {"P": PLANE, **({"Q": second} if second else {})}
    atom = 1 if second else -1
    topology = BeadTopology.build(["P", "Q"], [43.0, 26.0], bonds=[(0, 1)], bodies=bodies, joints=[(0, 1, 2, atom)])
    linkage = Linkage.of(topology)
    assert len(linkage.bonds) + len(linkage.angles) + len(linkage.dihedrals) == expected
    atoms = torch.from_numpy(linkage.beads), torch.from_numpy(linkage.coordinates)
    positions = torch.tensor([[[0.0, 0.0, 0.0], [-0.2, -0.25, 0.1]]])
    turned = torch.from_numpy(Rotation.from_rotvec([0.4, -0.9, 0.3]).as_matrix())

    def coordinates(move: torch.Tensor) -> torch.Tensor:
        frames = torch.stack([torch.eye(3), torch.linalg.matrix_exp(_cross(move[3:])) @ turned])[None]
        points = joined_points(positions + torch.stack([torch.zeros(3), move[:3]]), frames, *atoms)[0]
        found = [
            function(points, torch.from_numpy(index))
            for function, index in (
                (bonded.distances, linkage.bonds),
                (bonded.angles, linkage.angles),
                (bonded.dihedrals, linkage.dihedrals),
            )
        ]
        return torch.cat(found)

    slopes = torch.autograd.functional.jacobian(coordinates, torch.zeros(6))
    assert torch.linalg.matrix_rank(slopes, rtol=1e-6) == expected


def _cross(vector: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cross(vector.expand(3, 3), torch.eye(3)).T


def test_reference_atoms():
    assert [PLANE.names[atom] for atom in reference_atoms(PLANE, 2)] == ["C", "O"]
    assert [PLANE.names[atom] for atom in reference_atoms(PLANE, 0)] == ["O", "N"]
    assert reference_atoms(ROD, 0) == [1]  # nothing is off the line


def test_orientations_are_needed():
    linkage = Linkage.of(chain())
    with pytest.raises(ValueError, match="bonds act on atoms of oriented beads, but there are no `orientations`"):
        linkage.points(np.zeros((2, 5, 3)), None)


def test_points_turn_with_the_beads():
    linkage, random = Linkage.of(chain()), np.random.default_rng(0)
    positions, turns = random.normal(size=(3, 5, 3)), Rotation.random(15, rng=random)
    quaternions = turns.as_quat(scalar_first=True).reshape(3, 5, 4)
    points = linkage.points(positions, quaternions).numpy()
    np.testing.assert_array_equal(points[:, :5], positions)
    matrices = turns.as_matrix().reshape(3, 5, 3, 3)
    for number, (bead, place) in enumerate(zip(linkage.beads, linkage.coordinates, strict=True)):
        np.testing.assert_allclose(points[:, 5 + number], positions[:, bead] + matrices[:, bead] @ place, atol=1e-14)


def ring(symmetry: str) -> Body:
    """Phenyl: for C2v its first carbon on z and its plane xz; for Cs its plane perpendicular to z."""
    corners = 0.14 * np.stack([[np.sin(k * np.pi / 3), 0.0, np.cos(k * np.pi / 3)] for k in range(6)])
    corners = corners if symmetry == "C2v" else corners[:, [0, 2, 1]]
    names, masses = tuple(f"C{k + 1}" for k in range(6)), (12.0,) * 6
    inertia = (0.7, 1.4, 0.7) if symmetry == "C2v" else (0.7, 0.7, 1.4)
    listed = tuple(map(tuple, corners.tolist()))
    return Body(symmetry=symmetry, inertia=inertia, names=names, masses=masses, coordinates=listed)


@pytest.mark.parametrize(
    ("symmetry", "atom", "bonds", "angles", "dihedrals"),
    [
        ("Cs", 0, ["A|R:C1"], 1, 1),
        ("C2v", 0, ["A|R:C1"], 1, 0),  # half a turn about its axis leaves it as it is: the twist is for the network
        ("C2v", 1, ["A|R"], 0, 0),
    ],
)
def test_terms_have_the_symmetry_of_the_body(symmetry, atom, bonds, angles, dihedrals):
    topology = BeadTopology.build(
        ["R", "A"], [72.0, 15.0], bonds=[(0, 1)], bodies={"R": ring(symmetry)}, joints=[(0, 1, atom, -1)]
    )
    linkage = Linkage.of(topology)
    assert keys(linkage, "bonds") == bonds
    assert (len(linkage.angles), len(linkage.dihedrals)) == (angles, dihedrals)
    still = linkage.points(np.zeros((1, 2, 3)), np.array([[[1.0, 0, 0, 0]] * 2]))
    atoms = torch.from_numpy(linkage.beads), torch.from_numpy(linkage.coordinates)
    for element in point_group(symmetry).elements:
        turned = torch.from_numpy(np.stack([element, np.eye(3)]))[None]
        torch.testing.assert_close(joined_points(torch.zeros(1, 2, 3), turned, *atoms), still)
