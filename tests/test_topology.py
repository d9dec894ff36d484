import json

import numpy as np
import pytest

from cgenn.body import Body
from cgenn.topology import BeadTopology


@pytest.fixture
def branched() -> BeadTopology:
    """A chain 0-1-2-3 with a branch 4 on 1, and a lone bead 5."""
    return BeadTopology.build(
        list("ABCDEF"), np.arange(1.0, 7.0), bonds=[(1, 0), (1, 2), (2, 3), (4, 1), (2, 1)], residue_index=[0] * 5 + [1]
    )


def test_bonds_are_sorted_and_unique(branched):
    assert branched.bonds.tolist() == [[0, 1], [1, 2], [1, 4], [2, 3]]
    assert branched.charges.tolist() == [0.0] * 6
    assert branched.names == branched.types


def test_angles_dihedrals_and_exclusions_by_hand(branched):
    assert branched.angles.tolist() == [[0, 1, 2], [0, 1, 4], [1, 2, 3], [2, 1, 4]]
    assert branched.dihedrals.tolist() == [[0, 1, 2, 3], [4, 1, 2, 3]]
    everything_but_the_ion = [[i, j] for i in range(5) for j in range(i + 1, 5)]
    assert branched.excluded_pairs.tolist() == everything_but_the_ion
    assert branched.molecules.tolist() == [0, 0, 0, 0, 0, 1]


def test_three_ring_has_no_dihedral():
    ring = BeadTopology.build(["A"] * 3, [1.0] * 3, bonds=[(0, 1), (1, 2), (0, 2)])
    assert len(ring.angles) == 3
    assert len(ring.dihedrals) == 0


def test_repeat_keeps_copies_apart(branched):
    twice = branched.repeat(2)
    assert twice.types == branched.types * 2
    assert twice.bonds[4:].tolist() == (branched.bonds + 6).tolist()
    assert twice.residue_index.tolist() == [0] * 5 + [1] + [2] * 5 + [3]
    assert twice.molecules.max() == 3


def test_there_and_back(branched):
    again = BeadTopology.from_dict(json.loads(json.dumps(branched.to_dict())))
    through_openmm = BeadTopology.from_openmm(branched.to_openmm(), branched.masses)
    for other in (again, through_openmm):
        assert other.types == branched.types
        assert other.names == branched.names
        assert other.bonds.tolist() == branched.bonds.tolist()
        assert other.residue_index.tolist() == branched.residue_index.tolist()


def test_arrays_cannot_be_changed(branched):
    with pytest.raises(ValueError, match="read-only"):
        branched.masses[0] = 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": []}, "at least one bead"),
        ({"masses": [1.0, 0.0]}, r"bead 1 \(type 'B'\) has mass 0.0 amu, expected more than zero"),
        ({"masses": [1.0, np.nan]}, r"bead 1 .* has mass nan amu"),
        ({"charges": [1.0]}, r"`charges` must have one entry per bead \(2\), got 1"),
        ({"bonds": [(0, 0.5)]}, r"`bonds` must be pairs of beads, counted from 0, got \[\[0.0, 0.5\]\]"),
        ({"bonds": [(0, 2)]}, "a bond names bead 2, but there are 2 beads"),
        ({"bonds": [(1, 1)]}, "joins a bead to itself"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        BeadTopology.build(**{"types": ["A", "B"], "masses": [1.0, 1.0], **changes})


def test_charge_that_is_no_number():
    with pytest.raises(ValueError, match=r"bead 1 \(type 'B'\) has the charge nan e"):
        BeadTopology.build(["A", "B"], [1.0, 1.0], charges=[0.0, np.nan])


BODY = Body(
    inertia=(0.0, 0.26, 0.26), names=("C", "N"), masses=(12.0, 14.0), coordinates=((0.1, 0.0, 0.0), (-0.1, 0.0, 0.0))
)


def jointed(**changes) -> BeadTopology:
    """Two bodies in a row with a simple bead; the joint of the second bond is given backwards."""
    joints = [(2, 1, -1, 0), (0, 1, 1, 0)]
    options = {"bonds": [(0, 1), (1, 2)], "bodies": {"P": BODY}, "joints": joints, **changes}
    return BeadTopology.build(["P", "P", "A"], [26.0, 26.0, 12.0], **options)


def test_joints_are_sorted_and_repeated():
    assert jointed().joints.tolist() == [[0, 1, 1, 0], [1, 2, 0, -1]]
    assert jointed().repeat(2).joints.tolist() == [[0, 1, 1, 0], [1, 2, 0, -1], [3, 4, 1, 0], [4, 5, 0, -1]]
    again = BeadTopology.from_dict(json.loads(json.dumps(jointed().to_dict())))
    np.testing.assert_array_equal(again.joints, jointed().joints)
    assert "joints" not in jointed(joints=()).to_dict()


def test_other_bodies_keep_their_joints():
    both = BeadTopology.build(
        ["P", "Q", "A"], [26.0, 26.0, 12.0], bonds=[(0, 1), (1, 2)], bodies={"P": BODY, "Q": BODY},
        joints=[(0, 1, 1, 0), (1, 2, 1, -1)],
    )  # fmt: skip
    assert both.with_bodies(both.bodies) is both
    assert both.with_bodies({"P": BODY, "X": BODY}).joints.tolist() == [[0, 1, 1, -1]]
    assert not len(both.with_bodies({}).joints)
    assert not both.with_bodies({}).oriented.any()


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        ([(0, 2, 0, -1)], "a joint is of beads 0 and 2, which no bond joins"),
        ([(0, 1, 2, 0)], r"a joint names atom 2 of bead 0 \(type 'P'\), which has 2"),
        ([(1, 2, 0, 0)], r"a joint names atom 0 of bead 2 \(type 'A'\), which has 0"),
        ([(0, 1, 0, 0), (1, 0, 1, 1)], "two joints are of the same bond"),
    ],
)
def test_wrong_joints_are_named(joints, message):
    with pytest.raises(ValueError, match=message):
        jointed(joints=joints)
