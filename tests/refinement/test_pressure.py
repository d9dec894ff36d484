"""A gas of soft beads whose ramp is known: it is found again from the pressure that it makes."""

import json

import numpy as np
import pytest

import cgenn
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, RampPrior
from cgenn.refinement.pressure import match_pressure
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.pressure import pressures, tensions
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology
from tests.refinement.silent import silent

GAS = BeadTopology.build(["A"] * 60, [20.0] * 60)
HEIGHT, RANGE, EDGE = 2.0, 0.5, 1.2
CONFIG = SimulationConfig(
    timestep=0.02, friction=5.0, steps=1200, equilibration=200, report_interval=20, platform="Reference"
)


def potential(ramp=None):
    """A network that says nothing, under a ramp."""
    return silent(Priors(ramp=ramp), ("A",), RANGE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Beads at random places; the second frame has about the mean volume."""
    boxes = np.array([0.9, 1.0, 1.1])[:, None, None] * EDGE * np.eye(3)
    positions = np.random.default_rng(1).random((3, 60, 3)) @ boxes
    path = tmp_path_factory.mktemp("gas") / "gas.h5"
    return BeadDataset.write(path, GAS, Frames(positions, box=boxes), temperature=300.0)


@pytest.fixture(scope="module")
def wanted(dataset, tmp_path_factory):
    """The pressure of the true model [bar], in a run with other random numbers."""
    frames = dataset.read()
    start, settings = (GAS, frames.positions[1], frames.box[1]), CONFIG.model_copy(update={"seed": 5})
    true = potential(RampPrior(height=HEIGHT, range=RANGE))
    run = simulate(true, start, settings, tmp_path_factory.mktemp("true") / "run", progress=False)
    return float(pressures(true, GAS, run.read(), 300.0).mean())


@pytest.fixture(scope="module")
def matched(dataset, wanted, tmp_path_factory):
    out = tmp_path_factory.mktemp("matched")
    return cgenn.match_pressure(potential(), dataset.path, CONFIG, out, pressure=wanted, rounds=2), out


def test_the_ramp_is_found(matched, wanted):
    """Within five standard errors; without a ramp the pressure is that of an ideal gas."""
    found, out = matched
    entries = json.loads((out / "pressure.json").read_text())
    rounds = {entry["model"]: entry for entry in entries["rounds"]}
    ideal = 60 * 8.314462618e-3 * 300.0 / EDGE**3 / 0.0602214076
    assert rounds["round-0"]["height"] == 0.0
    assert rounds["round-0"]["values"] == pytest.approx([ideal], rel=1e-6)
    best = rounds[entries["chosen"]]
    slope, error = best["slopes"][0], best["errors"][0]
    assert wanted > 1.5 * ideal
    assert abs(best["values"][0] - wanted) < 5 * error < 0.2 * wanted
    assert found.priors.ramp.range == RANGE
    assert found.priors.ramp.height == pytest.approx(HEIGHT, abs=10 * error / slope)
    assert found.provenance["pressure"]["chosen"] == entries["chosen"] != "round-0"
    assert Potential.load(out / "model.safetensors").priors == found.priors


def test_slopes_are_those_of_the_pressure_with_the_height(matched):
    """Exactly, in the same frames; both are means over a run."""
    _, out = matched
    entry = json.loads((out / "pressure.json").read_text())["rounds"][1]
    frames = cgenn.Run.open(out / "round-1/run").read()
    models = (potential(RampPrior(height=entry["height"] + more, range=RANGE)) for more in (0.0, 0.5))
    low, high = (pressures(model, GAS, frames, 300.0).mean() for model in models)
    assert low == pytest.approx(entry["values"][0], rel=1e-6)
    assert high - low == pytest.approx(0.5 * entry["slopes"][0], rel=1e-6)


def test_what_is_there_is_not_done_again(matched, dataset, wanted):
    found, out = matched
    before = {path: path.stat().st_mtime_ns for path in out.glob("round-*/run/*")}
    again = match_pressure(potential(), dataset, CONFIG, out, pressure=wanted, rounds=2)
    assert again.priors == found.priors
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("round-*/run/*")}
    with pytest.raises(ValueError, match="holds the refinement of another model"):
        match_pressure(found, dataset, CONFIG, out, pressure=wanted)
    with pytest.raises(
        ValueError, match=r"models for something else \(wanted was .*, now 1.0\): choose another folder"
    ):
        match_pressure(potential(), dataset, CONFIG, out, pressure=1.0)


def test_one_ramp_for_several_datasets(dataset, tmp_path):
    """The step with the least squares of what is left of both differences."""
    quick = CONFIG.model_copy(update={"steps": 40, "equilibration": 10})
    larger = dataset.read()
    larger = Frames(1.2 * larger.positions, box=1.2 * larger.box)
    other = BeadDataset.write(tmp_path / "larger.h5", GAS, larger, temperature=300.0)
    match_pressure(potential(), [dataset, other], quick, tmp_path / "out", pressure=0.0, rounds=1)
    first, second = json.loads((tmp_path / "out/pressure.json").read_text())["rounds"]
    matrix, left = np.array(first["slopes"])[:, None], -np.array(first["values"])
    assert second["height"] == pytest.approx(np.linalg.lstsq(matrix, left)[0].item())
    assert second["height"] < 0


def test_mistakes_are_named(dataset, tmp_path):
    out, model = tmp_path / "out", potential()
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        match_pressure(model, dataset, CONFIG, out, rounds=0)
    with pytest.raises(ValueError, match=r"`ensemble` must be .* and `replicas` 1, got 'nve' and 1"):
        match_pressure(model, dataset, CONFIG.model_copy(update={"ensemble": "nve"}), out)
    with pytest.raises(ValueError, match="'npt' keeps a pressure of 1 bar, but 5 bar are to be matched"):
        match_pressure(model, dataset, CONFIG.model_copy(update={"ensemble": "npt"}), out, pressure=5.0)
    with pytest.raises(ValueError, match="'npt' keeps no tension, but 0 bar nm are to be matched"):
        match_pressure(model, dataset, CONFIG.model_copy(update={"ensemble": "npt"}), out, tension=0.0)
    with pytest.raises(ValueError, match=r"the simulation is at 350.0 K, but .*gas.h5 of 300.0 K"):
        match_pressure(model, dataset, CONFIG.model_copy(update={"temperature": 350.0}), out)
    open_space = BeadDataset.write(tmp_path / "open.h5", GAS, Frames(dataset.read().positions), temperature=300.0)
    with pytest.raises(ValueError, match=r"open.h5 has no box, in which this is measured"):
        match_pressure(model, [dataset, open_space], CONFIG, out)
    assert not out.exists()
    quick = CONFIG.model_copy(update={"steps": 20, "equilibration": 0})
    with pytest.raises(ValueError, match=r"no two beads of .*gas.h5 are within the 0.0001 nm of the ramp"):
        match_pressure(model, dataset, quick, out, reach=1e-4)


def test_a_tension_instead(dataset, tmp_path):
    """What the rounds say of the first model is what its frames say, and the ramp takes the next one nearer."""
    settings = CONFIG.model_copy(update={"steps": 600})
    found = match_pressure(potential(), dataset, settings, tmp_path / "out", tension=-150.0, rounds=1)
    entries = json.loads((tmp_path / "out/pressure.json").read_text())
    run = cgenn.Run.open(tmp_path / "out/round-0/run")
    first, second = entries["rounds"]
    assert (entries["quantity"], entries["wanted"], entries["units"]["values"]) == ("tension", -150.0, "bar nm")
    assert first["values"][0] == pytest.approx(tensions(potential(), GAS, run.read(), 300.0).mean(), rel=1e-6)
    assert abs(second["values"][0] + 150.0) < 0.5 * abs(first["values"][0] + 150.0)
    assert found.provenance["tension"]["chosen"] == "round-1"
    with pytest.raises(ValueError, match=r"quantity was 'tension', now 'pressure'; wanted was -150.0, now 1.0"):
        match_pressure(potential(), dataset, settings, tmp_path / "out")


def test_the_volume_under_a_barostat(dataset, tmp_path):
    """A gas that is too dense without a ramp; fluctuations say how it yields, and the next one is larger."""
    settings = CONFIG.model_copy(
        update={"ensemble": "npt", "pressure": 2500.0, "steps": 2500, "equilibration": 2500, "seed": 1}
    )
    match_pressure(potential(), dataset, settings, tmp_path / "out", rounds=1, reach=0.4)
    entries = json.loads((tmp_path / "out/pressure.json").read_text())
    first, second = entries["rounds"]
    assert (entries["quantity"], entries["wanted"]) == ("volume", 1.0)
    frames = cgenn.Run.open(tmp_path / "out/round-0/run").read()
    volumes = np.linalg.det(frames.box) / np.linalg.det(dataset.read().box).mean()
    assert first["values"][0] == pytest.approx(volumes.mean(), rel=1e-5)
    together = frames.positions, frames.box
    distances = [np.linalg.norm(_nearest(frame, box), axis=1) for frame, box in zip(*together, strict=True)]
    pushes = [r[r < 0.4].sum() / (3 * np.linalg.det(box) * 0.4) for r, box in zip(distances, frames.box, strict=True)]
    yields = np.linalg.det(frames.box).var() / (8.314462618e-3 * 300) / np.linalg.det(dataset.read().box).mean()
    assert first["slopes"][0] == pytest.approx(yields * np.mean(pushes), rel=1e-4)
    asked = (1.0 - first["values"][0]) / first["slopes"][0]
    assert 0 < second["height"] == pytest.approx(min(asked, 8.314462618e-3 * 300))
    assert first["values"][0] < second["values"][0]


def test_a_run_too_short_for_a_volume(dataset, tmp_path):
    settings = CONFIG.model_copy(update={"ensemble": "npt", "pressure": 2500.0, "steps": 20, "equilibration": 0})
    with pytest.raises(ValueError, match=r"the volume of the box never changed in .*run: simulate more `steps`"):
        match_pressure(potential(), dataset, settings, tmp_path / "out", rounds=1, reach=0.4)


def _nearest(positions, box):
    """Vectors between all pairs of beads, each to the nearest image in a rectangular box."""
    first, second = np.triu_indices(len(positions), 1)
    away, edges = positions[second] - positions[first], np.diag(box)
    return away - edges * np.round(away / edges)
