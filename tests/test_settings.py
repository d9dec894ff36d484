"""Settings from a file and from the command line, and the table of them in the help."""

import pytest

from cgenn.settings import describe, read_settings
from cgenn.simulation.config import SimulationConfig
from cgenn.training.config import TrainingConfig


def test_defaults():
    assert read_settings(TrainingConfig, None, []) == TrainingConfig()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        (" epochs = 3 ", "epochs", 3),
        ("learning_rate=1e-3", "learning_rate", 1e-3),
        ("precision=double", "precision", "double"),
        ('precision="double"', "precision", "double"),
        ("patience=5", "patience", 5),
    ],
)
def test_values_are_toml_or_text(override, key, value):
    assert getattr(read_settings(TrainingConfig, None, [override]), key) == value


def test_lists_and_later_values_count():
    settings = read_settings(SimulationConfig, None, ['formats=["dcd", "xtc"]', "seed=1", "seed=2"])
    assert (settings.formats, settings.seed) == (("dcd", "xtc"), 2)


def test_the_command_line_goes_over_the_file_part_by_part(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text("epochs = 7\n[network]\ncutoff = 0.9\nlmax = 2\n")
    settings = read_settings(TrainingConfig, path, ["network.cutoff=0.7", "seed=3"])
    assert (settings.epochs, settings.seed) == (7, 3)
    assert (settings.network.cutoff, settings.network.lmax, settings.network.layers) == (0.7, 2, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "a setting is written KEY=VALUE, got 'epochs'"),
        ("=3", "a setting is written KEY=VALUE, got '=3'"),
        ("epoch=3", "settings: unknown key `epoch`"),
        ("network.cut_off=3", r"settings: unknown key `network\.cut_off`"),
        ("network=3", "settings: `network`: .* got 3"),
        ("epochs=0", "settings: `epochs`: Input should be greater than 0, got 0"),
        ("epochs=many", "settings: `epochs`: Input should be a valid integer.*, got 'many'"),
        ("precision=triple", "settings: `precision`: Input should be 'single' or 'double', got 'triple'"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(ValueError, match=message):
        read_settings(TrainingConfig, None, [override])


def test_a_part_of_what_has_no_parts():
    with pytest.raises(ValueError, match=r"settings: unknown key `epochs\.first`, `epochs` has no parts"):
        read_settings(TrainingConfig, None, ["epochs=3", "epochs.first=1"])


@pytest.mark.parametrize("model", [TrainingConfig, SimulationConfig])
def test_every_setting_is_described(model):
    """Name, meaning and default of each; a docstring that forgets one would leave its meaning empty."""
    lines = describe(model).split("\n\n")
    names = [line.partition(":")[0] for line in lines]
    parts = ("network", "weights")
    assert [name for name in names if "." not in name] == [name for name in model.model_fields if name not in parts]
    assert [line for line in lines if ":  (" in line] == []
    assert all(line.endswith((")", "turns it on:")) for line in lines)


def test_choices_defaults_and_parts_are_shown():
    text = describe(TrainingConfig)
    assert "precision: of the weights and the arithmetic (single | double; default single)" in text
    assert "network.cutoff: distance within which beads see each other [nm] (default 1.0)" in text
    assert "network.electrostatics.groups: whose charges always add up to the same" in text
    assert "(molecule | residue | system; default molecule)" in text
    assert "(dcd | xtc; default ())" in describe(SimulationConfig)
