"""A gas whose pair energies are known: they are found again from its radial distribution functions."""

import json
import shutil

import numpy as np
import pytest
import torch

import cgenn
from cgenn.analysis import Ensemble
from cgenn.comparison import data_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.potential.priors import PairPrior, Priors
from cgenn.refinement.gauge import Gauge
from cgenn.refinement.pairs import _counted, _improved, match_pairs
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology
from tests.refinement.silent import silent

GAS = BeadTopology.build(["A", "B"] * 100, [20.0] * 200)
REACH, EDGE, KT = 0.5, 1.9, 8.314462618e-3 * 300.0
CONFIG = SimulationConfig(
    timestep=0.02, friction=1.0, steps=2500, equilibration=100, report_interval=10, platform="Reference"
)
KNOTS = REACH / 10 * np.arange(9)
TRUE = PairPrior(
    range=REACH,
    coefficients={
        "A|A": tuple(6 * np.exp(-((KNOTS / 0.2) ** 2))),
        "A|B": tuple(3 * np.exp(-((KNOTS / 0.25) ** 2)) - 0.7 * np.exp(-(((KNOTS - 0.3) / 0.1) ** 2))),
        "B|B": tuple(3 * np.exp(-((KNOTS / 0.3) ** 2))),
    },
)


def potential(pairs=None):
    """A network that says nothing, under pair splines."""
    return silent(Priors(pairs=pairs), ("A", "B"), REACH)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Frames of the true model."""
    folder = tmp_path_factory.mktemp("true")
    start = (GAS, np.random.default_rng(1).random((200, 3)) * EDGE, EDGE * np.eye(3))
    frames = simulate(potential(TRUE), start, CONFIG, folder / "run", progress=False).read()
    return BeadDataset.write(folder / "gas.h5", GAS, Frames(frames.positions, box=frames.box), temperature=300.0)


@pytest.fixture(scope="module")
def matched(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("matched")
    settings = CONFIG.model_copy(update={"seed": 3})
    return cgenn.match_pairs(potential(), dataset.path, settings, out, rounds=6), out


def energies(pairs: PairPrior, key: str, low: float = 0.25, high: float = 0.5) -> np.ndarray:
    """From 0.25 nm on, where pairs are."""
    two, model = BeadTopology.build(key.split("|"), [1.0] * 2), potential(pairs)
    places = torch.tensor([[[0.0, 0.0, 0.0], [r, 0.0, 0.0]] for r in np.linspace(low, high, 26)], dtype=torch.float64)
    return model.prior_energy(two)(model.graph(two, places))["pairs"].numpy()


def test_energies_of_pairs_are_found(matched):
    """To a quarter of kT where there are pairs; a wish for the structure moves nothing else."""
    found, out = matched
    for key in ("A|A", "A|B", "B|B"):
        np.testing.assert_allclose(energies(found.priors.pairs, key), energies(TRUE, key), atol=0.25 * KT)
    entries = json.loads((out / "pairs.json").read_text())
    first, last = entries["rounds"][0], next(one for one in entries["rounds"] if one["model"] == entries["chosen"])
    assert all(last["deviations"][key] < 1.5 * last["floors"][key] for key in ("A|A", "A|B", "B|B"))
    assert first["deviations"]["A|B"] > 5 * last["deviations"]["A|B"]
    assert found.provenance["pairs"]["chosen"] == entries["chosen"] != "round-0"
    assert found.priors.ramp is None
    nearest = np.array([energies(found.priors.pairs, key, 0.0, 0.02).min() for key in ("A|A", "A|B", "B|B")])
    assert np.all(nearest > 0.5 * KT)  # where no pair came, whatever is true there
    assert Potential.load(out / "model.safetensors").priors == found.priors


def test_after_a_round_that_is_no_nearer_steps_are_half_as_long(dataset, tmp_path):
    """In runs so short that chance decides. The next model lies half way between the nearest and the one before."""
    out, short = tmp_path / "out", CONFIG.model_copy(update={"steps": 40, "equilibration": 0, "report_interval": 20})
    found = match_pairs(potential(TRUE), dataset, short, out, rounds=7)
    means = [entry["mean"] for entry in json.loads((out / "pairs.json").read_text())["rounds"]]
    models = [Potential.load(out / f"round-{number}/model.safetensors") for number in range(len(means))]
    rows = [np.array(list(model.priors.pairs.coefficients.values())) for model in models]
    best, missed = 0, 0
    for number in range(1, len(means) - 1):
        if means[number] < means[best]:
            best = number
        else:
            missed += 1
            np.testing.assert_allclose(rows[number + 1], (rows[best] + rows[number]) / 2, atol=1e-9)
    assert missed > 0
    share = 0.5 ** (missed + (means[-1] >= means[best]))
    assert found.provenance["pairs"]["share"] == share
    steps = {}
    for name in ("goes-on", "anew"):
        match_pairs(found, dataset, short, tmp_path / name, rounds=1)
        models = [Potential.load(tmp_path / name / f"round-{number}/model.safetensors") for number in (0, 1)]
        rows = [np.array(list(model.priors.pairs.coefficients.values())) for model in models]
        steps[name] = rows[1] - rows[0]
        found.provenance.pop("pairs", None)
    np.testing.assert_allclose(steps["goes-on"], share * steps["anew"], atol=1e-9)


def test_what_is_there_is_not_done_again(matched, dataset):
    found, out = matched
    before = {path: path.stat().st_mtime_ns for path in out.glob("round-*/run/*")}
    again = match_pairs(potential(), dataset, CONFIG.model_copy(update={"seed": 3}), out, rounds=6)
    assert again.priors == found.priors
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("round-*/run/*")}
    with pytest.raises(ValueError, match="holds the refinement of another model"):
        match_pairs(found, dataset, CONFIG, out)


def test_a_ramp_keeps_the_pressure_meanwhile(dataset, tmp_path):
    """Each round reads it in the frames that g(r) is from, and the next model has both."""
    quick = CONFIG.model_copy(update={"steps": 100, "equilibration": 20})
    match_pairs(potential(), dataset, quick, tmp_path / "out", rounds=1, pressure=500.0, reach=0.4)
    entries = json.loads((tmp_path / "out/pairs.json").read_text())
    first = entries["rounds"][0]["reading"]
    assert (entries["quantity"], entries["wanted"], entries["unit"]) == ("pressure", 500.0, "bar")
    second = Potential.load(tmp_path / "out/round-1/model.safetensors")
    expected = np.clip((500.0 - first["values"][0]) / first["slopes"][0], -KT, KT)
    assert second.priors.ramp.height == pytest.approx(expected)
    assert second.priors.ramp.range == second.priors.pairs.range == 0.4
    assert len(second.priors.pairs.coefficients["A|B"]) == 7
    with pytest.raises(ValueError, match=r"quantity was 'pressure', now 'tension'; wanted was 500.0, now 0.0"):
        match_pairs(potential(), dataset, quick, tmp_path / "out", rounds=1, tension=0.0, reach=0.4)


def test_a_reading_is_taken_once_for_a_run(dataset, tmp_path, monkeypatch):
    """That takes as long as the run, where there are many beads."""
    quick, taken = CONFIG.model_copy(update={"steps": 100, "equilibration": 20}), []
    read = Gauge.read

    def counted(*given):
        taken.append(given[-1].folder.parent.name)
        return read(*given)

    monkeypatch.setattr(Gauge, "read", counted)
    given = {"rounds": 1, "pressure": 500.0, "reach": 0.4}
    match_pairs(potential(), dataset, quick, tmp_path / "out", **given)
    before = (tmp_path / "out/pairs.json").read_bytes()
    shutil.rmtree(tmp_path / "out/round-1/run")
    match_pairs(potential(), dataset, quick, tmp_path / "out", **given)
    assert taken == ["round-0", "round-1", "round-1"]
    assert (tmp_path / "out/pairs.json").read_bytes() == before


def test_mistakes_are_named(dataset, tmp_path):
    out, model = tmp_path / "out", potential()
    with pytest.raises(ValueError, match="give `pressure` or `tension`, got 1 bar and 0"):
        match_pairs(model, dataset, CONFIG, out, pressure=1.0, tension=0.0)
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        match_pairs(model, dataset, CONFIG, out, rounds=0)
    frames = dataset.read(slice(3))
    whole = BeadTopology.build(GAS.types, GAS.masses, bonds=[(bead, bead + 1) for bead in range(199)])
    walk = np.random.default_rng(0).normal(scale=0.1, size=frames.positions.shape).cumsum(axis=1)
    chain = BeadDataset.write(tmp_path / "chain.h5", whole, Frames(walk, box=frames.box), temperature=300.0)
    with pytest.raises(ValueError, match=r"beads of .*chain.h5 are one molecule: there are no pairs of different ones"):
        match_pairs(model, chain, CONFIG, out)
    with pytest.raises(ValueError, match=r"`r_max` must lie between 0 and half the shortest height of the cell"):
        match_pairs(model, dataset, CONFIG, out, reach=1.2)
    open_space = BeadDataset.write(tmp_path / "open.h5", GAS, Frames(frames.positions), temperature=300.0)
    with pytest.raises(ValueError, match=r"open.h5 has no box, in which this is measured"):
        match_pairs(model, open_space, CONFIG, out)
    far = BeadDataset.write(
        tmp_path / "far.h5", GAS, Frames(10 * frames.positions, box=10 * frames.box), temperature=300.0
    )
    with pytest.raises(ValueError, match=r"no two beads of different molecules of .*far.h5 are within 0.01 nm"):
        match_pairs(model, far, CONFIG, out, reach=0.01)
    assert not out.exists()


def test_datasets_of_different_length_count_alike(dataset, tmp_path):
    """What was run for one is compared with its own data: so many more of the same frames change nothing."""
    frames = dataset.read()
    few = BeadDataset.write(
        tmp_path / "few.h5", GAS, Frames(1.1 * frames.positions[:15], box=1.1 * frames.box[:15]), temperature=300.0
    )
    data = [_counted(entry, data_ensemble(entry), TRUE) for entry in (dataset, few)]
    runs = [data[0], _counted(few, Ensemble(*(np.tile(part[:], (4, 1, 1)) for part in _of(few))), TRUE)]
    more, same = (_improved(potential(TRUE), made, TRUE, data, 1.0).priors.pairs for made in (runs, data))
    for key, row in more.coefficients.items():
        np.testing.assert_allclose(row, same.coefficients[key], atol=0.02)
        np.testing.assert_allclose(row[5:], TRUE.coefficients[key][5:], atol=0.02)
    assert any(same.coefficients[key][0] > row[0] for key, row in TRUE.coefficients.items())  # where no pair comes


def _of(dataset):
    ensemble = data_ensemble(dataset)
    return ensemble.positions, ensemble.box
