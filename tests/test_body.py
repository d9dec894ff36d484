"""The body of an oriented bead: what is checked, and that it survives a file."""

import json
import re

import numpy as np
import pytest

from cgenn.body import Body, rotation_matrices
from cgenn.topology import BeadTopology

ATOMS = {"names": ("A", "B"), "masses": (1, 3), "coordinates": ((0.3, 0.0, 0.0), (-0.1, 0.0, 0.0))}
BODY = Body(symmetry="C2v", inertia=(0.0, 0.12, 0.12), **ATOMS)


@pytest.mark.parametrize("inertia", [(0.0, 0.0, 0.0), (-0.1, 1.0, 1.0), (1.0, 1.0, 2.1)])
def test_moments_that_no_body_has(inertia):
    with pytest.raises(ValueError, match="three moments of a body"):
        Body.parse({"inertia": inertia}, "body 'W'")


def test_symmetries_that_are_unknown():
    with pytest.raises(ValueError, match="body 'W': `symmetry`: unknown point group 'Oh', expected C1"):
        Body.parse({"inertia": (1, 1, 1), "symmetry": "Oh"}, "body 'W'")
    with pytest.raises(ValueError, match="body 'W': expected named entries, got 3"):
        Body.parse(3, "body 'W'")


def test_one_entry_per_atom():
    with pytest.raises(ValueError, match="one entry per atom, got 1, 0 and 0"):
        Body.parse({"inertia": (1, 1, 1), "names": ["C"]}, "body 'W'")


def test_moments_that_the_symmetry_forbids():
    for symmetry in ("D6h", "C3", "D2d", "Dinfh", "Cinfh"):
        Body(symmetry=symmetry, inertia=(0.3, 0.3, 0.4))
        message = f"body 'W': the symmetry '{symmetry}' needs equal moments of inertia about x and y, got"
        with pytest.raises(ValueError, match=message):
            Body.parse({"inertia": (0.2, 0.3, 0.4), "symmetry": symmetry}, "body 'W'")
    for symmetry in ("C1", "Cs", "Ci", "C2v", "D2h"):
        Body(symmetry=symmetry, inertia=(0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"inertia": (0.0, 0.24, 0.24)}, "0, 0, 0; 0, 0.12, 0; 0, 0, 0.12"),
        ({"masses": (2, 6)}, "0, 0, 0; 0, 0.24, 0; 0, 0, 0.24"),
        ({"coordinates": ((0, 0.3, 0), (0, -0.1, 0))}, "0.12, 0, 0; 0, 0, 0; 0, 0, 0.12"),
    ],
)
def test_moments_must_be_those_of_the_atoms(changes, found):
    entries = {**BODY.model_dump(), **changes}
    inertia = ", ".join(map(str, entries["inertia"]))
    message = re.escape(f"have the tensor {found}, got ({inertia}) amu nm^2 about x, y and z")
    with pytest.raises(ValueError, match=f"body 'W': `inertia` must be that of the atoms, .* {message}$"):
        Body.parse(entries, "body 'W'")
    Body.parse({**BODY.model_dump(), "inertia": (0.004, 0.122, 0.119)}, "body 'W'")


def test_quaternions_must_be_of_unit_length():
    turned = np.tile([0.5, 0.5, -0.5, 0.5], (2, 3, 1))
    np.testing.assert_allclose(np.linalg.det(rotation_matrices(turned * 1.001)), 1.0)
    for wrong in (0.0, 5.0, np.nan):
        turned[1, 2, 3] = wrong
        with pytest.raises(ValueError, match=r"of bead 2 must be a unit quaternion \(w, x, y, z\), got \[0.5, 0.5, -"):
            rotation_matrices(turned)


def test_what_is_about_the_same_body():
    bare, axes = Body(inertia=(0.6, 0.9, 1.2)), ((0.1, 0.0, 0.0), (-0.1, 0.0, 0.0))
    pair = Body(inertia=(0.0, 0.02, 0.02), names=("A", "B"), masses=(1, 1), coordinates=axes)
    assert bare.is_like(Body(inertia=(0.62, 0.9, 1.1), symmetry="C2"))
    assert not bare.is_like(Body(inertia=(0.9, 1.2, 0.6)))
    assert not bare.is_like(pair)
    assert pair.is_like(pair.model_copy(update={"coordinates": ((0.11, 0.0, 0.0), (-0.11, 0.0, 0.0))}))
    assert not pair.is_like(pair.model_copy(update={"coordinates": axes[::-1]}))


def test_topology_keeps_bodies():
    topology = BeadTopology.build(["W", "ION"], [18.0, 23.0], bodies={"W": BODY})
    assert topology.oriented.tolist() == [True, False]
    again = BeadTopology.from_dict(json.loads(json.dumps(topology.to_dict())))
    assert dict(again.bodies) == {"W": BODY}
    assert topology.repeat(2).oriented.tolist() == [True, False] * 2
    with pytest.raises(ValueError, match="the type 'X', which no bead has"):
        BeadTopology.build(["W"], [18.0], bodies={"X": BODY})
