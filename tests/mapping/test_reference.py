import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgenn.mapping.definition import FrameRule
from cgenn.mapping.reference import closest_axes, reference_body
from cgenn.mapping.superposition import inertia

RING = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3), np.zeros(6)], axis=1)
BENZENE = (
    [f"{element}{n}" for element in "CH" for n in range(6)],
    [12.011] * 6 + [1.008] * 6,
    np.r_[0.14 * RING, 0.248 * RING],
)
WATER = (["O", "H1", "H2"], [15.999, 1.008, 1.008], [[0, 0, 0.0066], [0, 0.0757, -0.0521], [0, -0.0757, -0.0521]])
TETRAHEDRON = 0.11 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
METHANE = (["C", "H1", "H2", "H3", "H4"], [12.011] + [1.008] * 4, np.r_[np.zeros((1, 3)), TETRAHEDRON])
OCS = (["O", "C", "S"], [15.999, 12.011, 32.06], [[0, 0, 0.1684], [0, 0, 0.0524], [0, 0, -0.1036]])
CO2 = (["O1", "C", "O2"], [15.999, 12.011, 15.999], [[0, 0, 0.116], [0, 0, 0], [0, 0, -0.116]])


def body(molecule, samples=400, noise=0.004, **rule):
    """The body of a molecule that tumbles and vibrates [nm]."""
    names, masses, atoms = molecule
    masses, rng = np.array(masses, dtype=float), np.random.default_rng(0)
    turns = Rotation.random(samples, rng=rng).as_matrix()
    found = np.einsum("nij,aj->nai", turns, np.array(atoms)) + noise * rng.normal(size=(samples, len(masses), 3))
    found -= np.einsum("a,nai->ni", masses / masses.sum(), found)[:, None]
    return reference_body(FrameRule(**rule), tuple(names), masses, found, "bead type 'X'")


def test_an_average_becomes_exactly_symmetric():
    """Benzene: a hexagon of the right size, z its normal, x to the first atom."""
    found = body(BENZENE, symmetry="D6h")
    atoms = np.array(found.coordinates)
    np.testing.assert_allclose(atoms, BENZENE[2], atol=1e-3)
    np.testing.assert_allclose(
        atoms[1::6], atoms[::6] @ Rotation.from_euler("z", 60, degrees=True).as_matrix().T, atol=1e-15
    )
    assert found.inertia[0] == pytest.approx(found.inertia[1], rel=1e-12)
    assert found.inertia[2] == pytest.approx(2 * found.inertia[0], rel=1e-12)
    assert np.array(body(BENZENE, symmetry="D6h", x=["C0", "C1"]).coordinates)[3, 1] == pytest.approx(-0.07, abs=1e-3)


@pytest.mark.parametrize(
    ("molecule", "rule", "atom", "place"),
    [
        (WATER, {"symmetry": "C2v", "z": "middle"}, 0, [0, 0, 0.0066]),
        (WATER, {"symmetry": "C2v", "z": ["H1", "H2"]}, 0, [0, 0, -0.0066]),
        (WATER, {"symmetry": "C2v", "z": "middle", "x": ["H1"]}, 1, [0.0757, 0, -0.0521]),
        (WATER, {"symmetry": "Cs"}, 1, None),
        (WATER, {"z": "smallest", "x": ["O"]}, 0, [0.0066, 0, 0]),
        (METHANE, {"symmetry": "C3v", "z": ["H2"]}, 2, [0, 0, 0.11]),
        (METHANE, {"symmetry": "C2v", "z": ["H1", "H2"], "x": ["H1"]}, 1, [0.0898, 0, 0.0635]),
        (CO2, {"symmetry": "Dinfh"}, 0, [0, 0, 0.116]),
        (OCS, {"symmetry": "Cinfv"}, 0, [0, 0, 0.1684]),
        (BENZENE, {"symmetry": "Dinfh"}, 0, [0.14, 0, 0]),
    ],
)
def test_axes_are_those_of_the_rule(molecule, rule, atom, place):
    found = body(molecule, noise=0.001, **rule)
    atoms, masses = np.array(found.coordinates), np.array(found.masses)
    if place is not None:
        np.testing.assert_allclose(atoms[atom], place, atol=5e-4)
    np.testing.assert_allclose(masses @ atoms, 0.0, atol=1e-12)
    tensor = inertia(masses, atoms)
    if molecule is not BENZENE:
        np.testing.assert_allclose(tensor, np.diag(found.inertia), atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(inertia(masses, np.array(molecule[2]))), np.sort(np.diag(tensor)),
                               atol=0.01 * tensor.max())  # fmt: skip


@pytest.mark.parametrize(
    ("molecule", "rule", "message"),
    [
        (CO2, {}, r"on a line, .* the symmetry must be \"Cinfv\" or \"Dinfh\", got 'C1'"),
        (
            WATER,
            {"symmetry": "C3v", "z": "middle"},
            r"does not have the symmetry 'C3v' .* up to 0\.\d+ nm from their places",
        ),
        (WATER, {"symmetry": "C2v"}, r"does not have the symmetry 'C2v'"),
        (WATER, {"symmetry": "Dinfh"}, "needs equal moments of inertia about x and y"),
        (METHANE, {"symmetry": "C3v"}, r'`z` "unique" does not tell one axis, the moments are'),
        (BENZENE, {"symmetry": "D6h", "z": "smallest"}, '`z` "smallest" does not tell one axis'),
        (WATER, {"z": ["H3"]}, "`z` names the atom 'H3', the bead has O, H1, H2"),
        (BENZENE, {"symmetry": "D6h", "x": ["C0", "C3"]}, "`x`: the centroid of C0, C3 does not tell a direction"),
        (OCS, {"symmetry": "Dinfh"}, "does not have the symmetry 'Dinfh'"),
        (WATER, {"symmetry": "B2"}, "B2"),
    ],
)
def test_mistakes_are_named(molecule, rule, message):
    with pytest.raises(ValueError, match=message):
        body(molecule, noise=0.0, **rule)


def test_other_masses_break_a_symmetry():
    """Pyridine's nitrogen, in the place of a carbon."""
    names, masses, atoms = BENZENE
    with pytest.raises(ValueError, match="does not have the symmetry 'D6h'"):
        body((names, [14.007, *masses[1:]], atoms), symmetry="D6h")
    assert body((names, [14.007, *masses[1:]], atoms), symmetry="C2v", z=["C0"]).coordinates[0][2] > 0.13


def test_axes_close_to_others():
    """Principal axes come in any order and with any sign; those next to a rotation are found."""
    rng, target = np.random.default_rng(5), Rotation.random(100, rng=np.random.default_rng(6)).as_matrix()
    near = target @ Rotation.from_rotvec(0.1 * rng.normal(size=(100, 3))).as_matrix()
    mixed = np.stack([one[:, rng.permutation(3)] * rng.choice([-1, 1], 3) for one in near])
    np.testing.assert_allclose(closest_axes(mixed, target), near)
