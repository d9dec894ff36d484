import pytest

from cgenn.reference.definition import SystemDefinition

ENTRIES = {
    "description": "x",
    "force_field": ["amber14/spce.xml"],
    "nonbonded": "pme",
    "cutoff": 0.9,
    "temperature": 300.0,
    "timestep": 0.002,
    "equilibration": 1.0,
    "length": 10.0,
    "interval": 1.0,
}


def test_defaults():
    definition = SystemDefinition.parse(ENTRIES, "x")
    assert definition.constraints == "h-bonds"
    assert definition.periodic
    assert definition.pressure is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperatur": 300.0}, "unknown key `temperatur`"),
        ({"temperature": -300.0}, "`temperature`: Input should be greater than 0, got -300.0"),
        ({"cutoff": None}, 'nonbonded = "pme" needs a `cutoff`'),
        ({"switch": 1.0}, "`switch` must be below `cutoff`"),
        ({"nonbonded": "none"}, '`cutoff` needs a periodic box, but nonbonded = "none"'),
        ({"nonbonded": "none", "cutoff": None, "pressure": 1.0}, "`pressure` needs a periodic box"),
        ({"ensemble": "npt"}, '`ensemble` "npt" needs a `pressure` [bar]'.replace("[", r"\[")),
        ({"ensemble": "membrane"}, r'`ensemble` "membrane" needs a `pressure` \[bar]'),
        ({"nonbonded": "none", "cutoff": None, "virials": True}, "`virials` needs a periodic box"),
        ({"nonbonded": "ewald"}, "`nonbonded`: Input should be 'none', 'cutoff' or 'pme'"),
        ({"force_field": []}, "`force_field`"),
        ({"solvent": {"model": "tip3p"}}, "`solvent.padding` is missing"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        SystemDefinition.parse(ENTRIES | change, "system.toml")
    assert str(error.value).startswith("system.toml: ")
