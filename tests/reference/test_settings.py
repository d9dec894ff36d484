import pytest

from cgenn.reference.settings import RunSettings, choose_platform

ENTRIES = {
    "temperature": 300.0,
    "pressure": None,
    "timestep": 0.002,
    "friction": 1.0,
    "equilibration": 1.0,
    "length": 10.0,
    "interval": 0.5,
    "platform": "Reference",
    "seed": 0,
    "replicas": 1,
}


def test_counts():
    settings = RunSettings.parse(ENTRIES, "x")
    assert (settings.steps_per_frame, settings.n_frames) == (250, 20)
    assert settings.label(0) == ""
    assert RunSettings.parse(ENTRIES | {"replicas": 2}, "x").label(1) == "-1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"interval": 0.0005},
            "`interval` must be a whole number of timesteps, got 0.0005 ps for a timestep of 0.002 ps",
        ),
        ({"interval": 0.301}, "`interval` must be a whole number"),
        ({"length": 0.7}, "`length` must be a whole number of intervals"),
        ({"temperature": -1.0}, "`temperature`"),
        ({"replicas": 0}, "`replicas`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RunSettings.parse(ENTRIES | change, "x")


def test_platform():
    assert choose_platform(None, 22) == "Reference"
    assert choose_platform("CPU", 22) == "CPU"
    assert choose_platform(None, 5000) != "Reference"
    with pytest.raises(ValueError, match="no platform 'cuda', expected one of Reference, CPU"):
        choose_platform("cuda", 22)
