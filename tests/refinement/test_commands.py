"""Refinement from the command line: what the functions do, with the settings of a simulation."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cgenn.cli import app
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import BondPrior, Priors
from cgenn.topology import BeadTopology

DIMERS = BeadTopology.build(["A", "A"], [20.0, 20.0], bonds=[(0, 1)]).repeat(20)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Dimers at random places, and a model with bonds for them."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    centres, away = random.random((4, 20, 1, 3)) * 1.4, random.normal(size=(4, 20, 1, 3))
    away *= 0.1 / np.linalg.norm(away, axis=-1, keepdims=True)
    positions = np.concatenate([centres - away, centres + away], axis=2).reshape(4, 40, 3)
    box = np.broadcast_to(1.4 * np.eye(3), (4, 3, 3))
    BeadDataset.write("cg.h5", DIMERS, Frames(positions, box=box), temperature=300.0)
    config = PotentialConfig(
        types=("A",), cutoff=0.5, channels=2, layers=1, lmax=0, radial_width=4, radial_basis=4,
        average_neighbors=3.0, energy_scale=1.0, temperature=300.0,
    )  # fmt: skip
    Potential(config, Priors(bonds={"A|A": BondPrior(length=0.22, k=5000.0)})).save("model.safetensors")


def told(command, *words):
    settings = {"steps": 40, "equilibration": 10, "report_interval": 4, "timestep": 0.002, "platform": "Reference"}
    chosen = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(app, [command, "model.safetensors", "cg.h5", "--out", command, *chosen, *words, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("command", "words", "moved"),
    [
        ("refine", [], "bonds"),
        ("match-pairs", ["--reach", 0.4], "pairs"),
        ("match-pressure", ["--pressure", 300], "ramp"),
        ("match-pressure", ["--tension", 20], "ramp"),
        ("match-pressure", ["--set", "ensemble=npt", "--set", "pressure=600", "--set", "steps=400"], "ramp"),
    ],
)
def test_a_round(files, command, words, moved):
    """The model of the last round has what the command changes moved, and nothing else."""
    said = told(command, "--rounds", "1", *map(str, words))
    assert said["chosen"] in ("round-0", "round-1")
    assert said["model"] == f"{command}/model.safetensors"
    first, last = (Potential.load(f"{command}/round-{number}/model.safetensors").priors for number in (0, 1))
    changed = {key for key in Priors.model_fields if getattr(first, key) != getattr(last, key)}
    assert changed == {moved}
    if command == "match-pressure":
        wished = {"--pressure": ("pressure", 300.0, "bar"), "--tension": ("tension", 20.0, "bar nm")}
        expected = wished.get(words[0], ("volume", 1.0, "of that of the data"))
        assert (said["quantity"], said["wanted"], said["unit"]) == expected


def test_a_wrong_setting_is_a_sentence(files):
    words = ["model.safetensors", "cg.h5", "--out", "out", "--set", "ensemble=npt"]
    done = CliRunner().invoke(app, ["match-pairs", *words])
    assert done.exit_code == 2
    assert "error: this is measured in one copy in a box: `ensemble` must be 'nvt' and" in done.stderr
