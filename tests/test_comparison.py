"""A run against its data, on the run that the examples of the help made."""

import json
import re

import numpy as np
import openmm
import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn import comparison
from cgenn.analysis import Number, Section
from cgenn.body import Body
from cgenn.comparison import compare, data_ensemble, model_ensemble, pace, predict, speed, training_history
from cgenn.data.dataset import BeadDataset
from cgenn.data.map_trajectory import map_trajectory
from cgenn.h5md import Frames
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import ElectrostaticsConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology


@pytest.fixture
def run(pipeline):
    return Run.open(pipeline[0] / "run")


@pytest.fixture
def dataset(pipeline):
    return BeadDataset.open(pipeline[0] / "cg.h5")


def test_every_replica_is_a_block(run):
    """Frames of a block follow one another: beads move less from one to the next than replicas differ."""
    ensemble = model_ensemble(run)
    assert ensemble.blocks.tolist() == [0, 1, 2] * 20
    positions = ensemble.positions[:]
    distance = np.linalg.norm(positions[:, 0] - positions[:, 4], axis=1)
    within = [np.abs(np.diff(distance[ensemble.blocks == block])).mean() for block in range(3)]
    assert max(within) < 0.5 * distance.std()


def test_every_source_trajectory_is_a_block(pipeline, tmp_path):
    folder = pipeline[0] / "aa"
    twice = [folder / "trajectory.h5"] * 2
    mapped = map_trajectory(twice, folder / "topology.pdb", "backbone", tmp_path / "cg.h5", stride=10)
    ensemble = data_ensemble(mapped)
    np.testing.assert_array_equal(ensemble.blocks, np.repeat([0, 1], 20))
    np.testing.assert_array_equal(ensemble.positions[:20], ensemble.positions[20:])


def test_a_run_against_itself_does_not_diverge(run, tmp_path):
    headline = compare(run, run.trajectory, tmp_path / "report").numbers["headline"]
    assert headline["js"] == pytest.approx(0.0, abs=1e-12)
    assert headline["js_dihedrals"] == pytest.approx(0.0, abs=1e-12)
    assert headline["js_mirrored"] > 0.3


def test_the_report_says_how_the_model_was_trained_and_run(pipeline, run, dataset, tmp_path):
    report = compare(pipeline[0] / "run", pipeline[0] / "cg.h5", tmp_path / "report")
    errors = json.loads((pipeline[0] / "model/training.json").read_text())["force_errors"]
    assert report.numbers["headline"]["force_rmse"] == pytest.approx(errors["model"] ** 0.5)
    assert report.numbers["units"]["force_rmse"] == "kJ/mol/nm"
    page = report.html.read_text(encoding="utf-8")
    assert f"{errors['priors'] ** 0.5:.4g} priors alone" in page
    assert "this model" in page
    provenance = report.numbers["provenance"]
    assert (provenance["run"], provenance["dataset"]) == ("run", "cg.h5")
    assert (provenance["replicas"], provenance["time step [ps]"]) == (3, 0.001)
    assert provenance["versions"]["openmm"]
    assert {path.name for path in (tmp_path / "report").glob("*.png")} >= {"free_energy.png", "time_series.png"}


def test_callers_own_numbers_sections_and_histogram(run, dataset, tmp_path):
    """Against a histogram that knows one bin only, everything diverges as far as it can."""
    histogram = np.zeros((60, 60))
    histogram[0, 0] = 1.0
    report = compare(
        run, dataset, tmp_path / "report", reference_histogram=histogram, title="Of my own",
        headline={"price": Number(3.0, "what it cost", "EUR")}, sections=[Section("Thanks", "to all")],
    )  # fmt: skip
    assert report.numbers["headline"]["js"] == pytest.approx(np.log(2), abs=1e-3)
    assert report.numbers["headline"]["price"] == 3.0
    page = report.html.read_text(encoding="utf-8")
    assert [text for text in ("Of my own", "Thanks", "what it cost") if text not in page] == []


def test_temperatures_must_agree(run, dataset, tmp_path):
    warm = BeadDataset.write(tmp_path / "warm.h5", dataset.topology, dataset.read(), temperature=310.0)
    with pytest.raises(ValueError, match=r"run was simulated at 300.0 K, but .*warm.h5 is of 310.0 K"):
        compare(run, warm, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_box_on_one_side_only(run, dataset, tmp_path):
    boxes = np.repeat(3.0 * np.eye(3)[None], len(dataset), axis=0)
    frames = Frames(dataset.read().positions, None, boxes)
    boxed = BeadDataset.write(tmp_path / "boxed.h5", dataset.topology, frames, temperature=300.0)
    with pytest.raises(ValueError, match="box"):
        compare(run, boxed, tmp_path / "report")


def test_charges_in_a_box(tmp_path):
    """A lattice of ions against itself: the report has its charge structure factor."""
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    charges = (-1.0) ** grid.sum(axis=1)
    topology = BeadTopology.build(["C" if charge > 0 else "A" for charge in charges], [30.0] * 64, charges=charges)
    positions = 0.3 * grid + np.random.default_rng(0).normal(0.0, 0.02, (6, 64, 3))
    frames = Frames(positions, None, np.tile(1.2 * np.eye(3), (6, 1, 1)))
    data = BeadDataset.write(tmp_path / "salt.h5", topology, frames, temperature=300.0)
    config = PotentialConfig(
        types=("C", "A"), average_neighbors=6.0, energy_scale=1.0, temperature=300.0, channels=4, layers=1, cutoff=0.5,
        electrostatics=ElectrostaticsConfig(charges="types", excluded_bonds=0), type_charges=(1.0, -1.0),
    )  # fmt: skip
    settings = SimulationConfig(steps=6, report_interval=1, timestep=0.001)
    run = simulate(Potential(config, Priors()), data.path, settings, tmp_path / "run", progress=False)
    report = compare(run, data, tmp_path / "report")
    row = re.search(r"all-atom, mapped</t.>\s*<td[^>]*>([^<]*)</td>\s*<td[^>]*>([^<]*)<", report.html.read_text())
    k, s_zz = (float(entry) for entry in row.groups())
    assert k == pytest.approx(2 * np.pi / 1.2, rel=0.2)
    assert 0 < s_zz < 0.05
    assert (tmp_path / "report/charge_structure.png").exists()
    assert "Orientations" not in report.html.read_text()


def test_orientations_in_a_box(tmp_path):
    """Discs on a lattice that are nearly parallel, and stay so; layers at right angles are something else."""
    disc = Body(symmetry="D6h", inertia=(0.9, 0.9, 1.8))
    topology = BeadTopology.build(["D"] * 64, [78.0] * 64, bodies={"D": disc})
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    random = np.random.default_rng(0)
    positions = 0.5 * grid + random.normal(0.0, 0.02, (6, 64, 3))
    boxes = np.tile(2.0 * np.eye(3), (6, 1, 1))

    def write(name: str, turns: Rotation) -> BeadDataset:
        frames = Frames(positions, None, boxes, orientations=turns.as_quat(scalar_first=True).reshape(6, 64, 4))
        return BeadDataset.write(tmp_path / name, topology, frames, temperature=300.0)

    tilts = np.where(np.arange(384)[:, None] % 2, [np.pi / 4, 0.0, 0.0], [-np.pi / 4, 0.0, 0.0])
    parallel = write("parallel.h5", Rotation.from_rotvec(random.normal(0.0, 0.05, (384, 3))))
    crossed = write("crossed.h5", Rotation.from_rotvec(tilts))
    config = PotentialConfig(
        types=("D",), average_neighbors=6.0, energy_scale=0.1, temperature=300.0, channels=4, layers=1, cutoff=0.6,
        bodies={"D": disc},
    )  # fmt: skip
    settings = SimulationConfig(steps=6, report_interval=1, timestep=0.001)
    run = simulate(Potential(config, Priors()), parallel.path, settings, tmp_path / "run", progress=False)
    differences = []
    for data in (run.trajectory, parallel, crossed):
        report = compare(run, data, tmp_path / "report")
        page = report.html.read_text()
        row = re.search(r"<td>D</td>\s*<td[^>]*>64</td>\s*<td[^>]*>([^<]*)</td>\s*<td[^>]*>([^<]*)</td>", page)
        differences.append(float(row[1]))
    assert differences[0] == 0.0
    assert differences[1] < 0.1
    assert differences[2] > 1.0
    assert (tmp_path / "report/orientation_1.png").exists()


def test_a_model_of_unknown_training(pipeline, dataset, tmp_path):
    """Then the report says nothing of force errors."""
    model = Potential.load(pipeline[0] / "model/model.safetensors")
    model.provenance = {}
    settings = SimulationConfig(steps=40, report_interval=2, timestep=0.001)
    run = simulate(model, dataset.path, settings, tmp_path / "run", progress=False)
    report = compare(run, dataset, tmp_path / "report")
    assert "force_rmse" not in report.numbers["headline"]
    assert "noise floor" not in report.html.read_text(encoding="utf-8")


def test_history_of_a_training(pipeline, tmp_path):
    section = training_history(pipeline[0] / "model")
    assert section.pictures[0].png.startswith(b"\x89PNG")
    assert training_history(tmp_path) is None


@pytest.mark.parametrize("electrostatics", [None, {}, {"dipoles": True}], ids=str)
def test_predictions_are_those_of_the_potential(tmp_path, electrostatics):
    """Frame by frame, for more frames than are taken at once."""
    topology = BeadTopology.build(["A", "B", "C"], [1.0] * 3, bonds=[(0, 1)], charges=[0.5, -0.5, 0.0])
    positions = np.random.default_rng(0).uniform(0.0, 0.5, size=(700, 3, 3))
    data = BeadDataset.write(tmp_path / "some.h5", topology, Frames(positions), temperature=300.0)
    chosen = None if electrostatics is None else ElectrostaticsConfig(**electrostatics)
    config = PotentialConfig(
        types=("A", "B", "C"), average_neighbors=2.0, energy_scale=1.0, temperature=300.0, channels=4, layers=1,
        electrostatics=chosen, type_charges=(0.5, -0.5, 0.0) if chosen else (),
    )  # fmt: skip
    potential = Potential(config, Priors())
    found = predict(potential, data)
    graph = potential.graph(topology, torch.from_numpy(found.positions[690:691]).to(potential.dtype))
    assert found.energies[690] == pytest.approx(potential(graph, topology).item(), rel=1e-5)
    assert found.forces.shape == (700, 3, 3)
    if chosen is None:
        assert found.charges is None
    else:
        np.testing.assert_allclose(found.charges[690], potential.moments(graph).charges.detach(), rtol=1e-5, atol=1e-12)
    if not electrostatics:
        assert found.dipoles is None
    else:
        np.testing.assert_allclose(found.dipoles[690], potential.moments(graph).dipoles.detach(), rtol=1e-3, atol=1e-7)
        assert found.dipoles.any()


def test_pace_counts_every_step(monkeypatch):
    """Five steps of 2 fs for each second of a clock that we turn ourselves: 0.864 ns in a day."""
    system = openmm.System()
    for _ in range(3):
        system.addParticle(1.0)
    clock = iter(np.arange(5.0))
    monkeypatch.setattr(comparison, "perf_counter", lambda: next(clock))
    assert pace(system, np.zeros((3, 3)), 0.002, 300.0, seconds=3.5) == pytest.approx(86400 * 5 * 2e-6)
    assert next(clock, None) is None


def test_speed_of_atoms_and_beads(pipeline, monkeypatch):
    """On a clock that goes on by a second whenever it is looked at, only the time steps tell them apart."""
    folder = pipeline[0]
    monkeypatch.setattr(comparison, "perf_counter", iter(np.arange(99.0)).__next__)
    potential = Potential.load(folder / "model" / "model.safetensors")
    found = speed(potential, folder / "cg.h5", "alanine-dipeptide-vacuum", 0.005, seconds=2.0)
    assert found["ns_per_day"] == pytest.approx(86400 * 5 * 5e-6)
    assert found["ns_per_day_all_atom"] == pytest.approx(86400 * 5 * 2e-6)
    assert found["speed_up"] == pytest.approx(2.5)
