import json
import re

import numpy as np
import pytest

from cgenn.potential.priors import REPULSION_RANGE, PairPrior, Priors, RampPrior, type_key
from cgenn.topology import BeadTopology

PRIORS = Priors(
    bonds={"A|B": {"length": 0.4, "k": 100.0}},
    angles={"A|B|C": {"angle": 1.9, "k": 50.0}},
    dihedrals={"A|B|C|B": {"k": (1.0, 2.0, 3.0), "phase": (0.1, 0.2, 0.3)}},
    repulsion={"A|A": {"sigma": 0.5, "epsilon": 1.0}, "A|C": {"sigma": 0.3, "epsilon": 2.0}},
)
BOND_WELL = {"length": 0.5, "k": 7.0, "energy": -1.0}
CHAIN = BeadTopology.build(["B", "C", "B", "A"], [12.0] * 4, bonds=[(0, 1), (1, 2), (2, 3)])


@pytest.mark.parametrize(("types", "key"), [("BA", "A|B"), ("CBA", "A|B|C"), ("BAAB", "B|A|A|B"), ("BCBA", "A|B|C|B")])
def test_key_is_the_direction_that_sorts_first(types: str, key: str) -> None:
    assert type_key(types) == key
    assert type_key(types[::-1]) == key


def test_terms_of_a_topology() -> None:
    """Only what has a prior, in whichever direction; a dihedral has one row for each multiplicity."""
    bonds, angles, dihedrals = PRIORS.bond_terms(CHAIN), PRIORS.angle_terms(CHAIN), PRIORS.dihedral_terms(CHAIN)
    assert bonds.index.tolist() == [[2, 3]]
    assert bonds.parameters.tolist() == [[0.4, 100.0]]
    assert angles.index.tolist() == [[1, 2, 3]]
    assert angles.parameters.tolist() == [[1.9, 50.0]]
    assert dihedrals.index.tolist() == [[0, 1, 2, 3]] * 3
    assert dihedrals.parameters.tolist() == [[1.0, 0.1, 1.0], [2.0, 0.2, 2.0], [3.0, 0.3, 3.0]]


def test_terms_of_several_wells() -> None:
    """Apart from those of one; of fewer wells than the most, the last is there twice and half of it each time."""
    well = {"angle": 2.0, "k": 10.0, "energy": 1.0}
    priors = Priors(
        bonds={"A|B": {"length": 0.4, "k": 100.0}, "B|C": {"length": 0.3, "k": 9.0, "kt": 2.0, "others": [BOND_WELL]}},
        angles={
            "A|B|C": {"angle": 3.0, "k": 50.0, "kt": 2.0, "others": [well]},
            "B|C|B": {"angle": 3.1, "k": 50.0, "kt": 2.0, "others": [well, well | {"energy": 2.0}]},
        },
    )
    assert priors.bond_terms(CHAIN).index.tolist() == [[2, 3]]
    assert priors.bond_well_terms(CHAIN).index.tolist() == [[0, 1], [1, 2]]
    assert priors.bond_well_terms(CHAIN).parameters.tolist() == [[2.0, 0.3, 9.0, 0.0, 0.5, 7.0, -1.0]] * 2
    assert len(priors.angle_terms(CHAIN).index) == 0
    terms = priors.angle_well_terms(CHAIN)
    assert terms.index.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert terms.parameters.shape == (2, 1 + 3 * 6)
    wells = terms.parameters[:, 1:].reshape(2, 6, 3)
    np.testing.assert_allclose(wells[0, :3, 0], [3.1, 2.0, 2.0])
    np.testing.assert_allclose(wells[1, :, 0], [3.0, 2.0, *[2 * np.pi - 3.0], *[2 * np.pi - 2.0] * 3])
    np.testing.assert_allclose(wells[1, 3:, 2], 1.0 + 2.0 * np.log(3))


def test_one_well_is_written_as_ever_and_several_come_back() -> None:
    assert PRIORS.model_dump()["bonds"] == {"A|B": {"length": 0.4, "k": 100.0}}
    several = Priors(bonds={"A|B": {"length": 0.4, "k": 100.0, "kt": 2.0, "others": [BOND_WELL]}})
    assert Priors.parse(json.loads(json.dumps(several.model_dump())), "here") == several


def test_a_ramp_is_written_only_where_there_is_one() -> None:
    """Models without one have the digest that they always had."""
    assert "ramp" not in PRIORS.model_dump()
    given = PRIORS.model_copy(update={"ramp": RampPrior(height=-0.2, range=0.9)})
    assert given.model_dump()["ramp"] == {"height": -0.2, "range": 0.9}
    assert Priors.parse(json.loads(json.dumps(given.model_dump())), "here") == given
    assert given.pair_cutoff == 0.9
    assert given.model_copy(update={"ramp": RampPrior(height=1.0, range=0.3)}).pair_cutoff == PRIORS.pair_cutoff
    assert PRIORS.pair_cutoff == PRIORS.repulsion_cutoff


def test_pair_splines_are_checked_and_come_back() -> None:
    pairs = PairPrior(range=0.9, coefficients={"A|B": (1.0, 2.0, 3.0), "B|B": (0.0, 1.0, 0.0)})
    given = PRIORS.model_copy(update={"pairs": pairs})
    assert "pairs" not in PRIORS.model_dump()
    assert Priors.parse(json.loads(json.dumps(given.model_dump())), "here") == given
    assert given.pair_cutoff == 0.9
    table = given.pair_table(["A", "B"])
    assert table.shape == (2, 2, 4 + 3)
    assert table[0, 1].tolist() == table[1, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]
    assert not table[0, 0].any()
    with pytest.raises(ValueError, match=r"equally many, at least 2, for all pairs of types, got \[2, 3\]"):
        PairPrior(range=0.9, coefficients={"A|B": (1.0, 2.0, 3.0), "B|B": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"`pairs` 'B|A' must be written 'A|B'"):
        Priors(pairs={"range": 0.9, "coefficients": {"B|A": (1.0, 2.0)}})


def test_no_terms_at_all() -> None:
    terms = Priors().dihedral_terms(CHAIN)
    assert (terms.index.shape, terms.parameters.shape) == ((0, 4), (0, 3))
    assert Priors().repulsion_cutoff == Priors().pair_cutoff == 0


def test_repulsion_table() -> None:
    sigma, epsilon = PRIORS.repulsion_table(["C", "A"])
    np.testing.assert_array_equal(sigma, [[0.0, 0.3], [0.3, 0.5]])
    np.testing.assert_array_equal(epsilon, [[0.0, 2.0], [2.0, 1.0]])
    assert PRIORS.repulsion_cutoff == pytest.approx(REPULSION_RANGE * 0.5)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"bonds": {"B|A": {"length": 0.4, "k": 1.0}}}, "`bonds` 'B|A' must be written 'A|B'"),
        ({"angles": {"A|B": {"angle": 1.0, "k": 1.0}}}, "`angles` needs 3 bead types joined by '|', got 'A|B'"),
        ({"dihedrals": {"A|B|C|D": {"k": (1.0,), "phase": ()}}}, "of one length, got 1 and 0"),
        (
            {"bonds": {"A|B": {"length": -0.4, "k": 1.0}}},
            "`bonds.A|B.length`: Input should be greater than 0, got -0.4",
        ),
        ({"bond": {}}, "unknown key `bond`"),
        ({"ramp": {"height": 1.0, "range": 0.0}}, "`ramp.range`: Input should be greater than 0, got 0.0"),
        (
            {"bonds": {"A|B": {"length": 0.4, "k": 1.0, "others": [{"length": 0.5, "k": 1.0, "energy": 0.0}]}}},
            "with `others`, `k` and `kt` must be positive, got 1.0 and 0.0",
        ),
        ({"angles": {"A|B|C": {"angle": 4.0, "k": 1.0}}}, "less than or equal to 3.14"),
    ],
)
def test_what_cannot_be_is_refused(entries: dict, message: str) -> None:
    with pytest.raises(ValueError, match="^here: .*" + re.escape(message)):
        Priors.parse(entries, "here")
