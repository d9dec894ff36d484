import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openmm
import pytest

from cgenn.data.map_trajectory import map_trajectory
from cgenn.files import sha256
from cgenn.h5md import H5MDFile
from cgenn.reference.records import record_type
from cgenn.reference.run import ReferenceRun, run_reference
from cgenn.reference.system import load_system
from cgenn.reference.virial import VirialReader

FAST = {"interval": 0.2, "equilibration": 0.2, "progress": False}


def test_files_and_results(vacuum_run):
    names = {path.name for path in vacuum_run.folder.iterdir()}
    assert names == {"topology.pdb", "reference.json", "trajectory.h5", "state.csv"}
    assert vacuum_run.n_frames == 200
    assert vacuum_run.trajectories == (vacuum_run.folder / "trajectory.h5",)
    entries = json.loads((vacuum_run.folder / "reference.json").read_text())
    assert entries["status"] == "finished"
    assert entries["inputs"]["structure.pdb"] == sha256(
        load_system("alanine-dipeptide-vacuum").folder / "structure.pdb"
    )
    assert ReferenceRun.open(vacuum_run.folder) == vacuum_run


def test_temperature(vacuum_run):
    """51 degrees of freedom: the mean over 200 frames is within 3 standard errors, their spread within a fifth."""
    with open(vacuum_run.folder / "state.csv", encoding="utf-8") as file:
        temperatures = np.array([float(row["temperature [K]"]) for row in csv.DictReader(file)])
    spread = 300.0 * np.sqrt(2 / 51)
    assert temperatures.mean() == pytest.approx(300.0, abs=3 * spread / np.sqrt(len(temperatures)))
    assert temperatures.std() == pytest.approx(spread, rel=0.2)


def test_trajectory_says_what_it_is(vacuum_run, vacuum):
    file = H5MDFile(vacuum_run.trajectories[0])
    assert (file.n_frames, file.n_particles, file.group) == (200, 22, "atoms")
    assert file.has_forces
    assert not file.periodic
    np.testing.assert_allclose(np.diff(file.times), 2.0)
    assert file.species[:2] == ("C", "H")
    assert file.masses.sum() == pytest.approx(144.17, abs=0.02)  # amu
    assert file.charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert len(file.bonds) == 21
    system = vacuum.build()[1]
    expected = {tuple(sorted(system.getConstraintParameters(i)[:2])) for i in range(system.getNumConstraints())}
    assert {tuple(pair) for pair in file.metadata["constraints"]} == expected
    assert file.metadata["temperature"] == 300.0
    assert file.metadata["versions"]["openmm"] == openmm.__version__


def test_forces_belong_to_positions(vacuum_run, vacuum):
    _, system, _ = vacuum.build()
    frames = H5MDFile(vacuum_run.trajectories[0]).read()
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    for frame in range(0, 200, 20):
        context.setPositions(frames.positions[frame].astype(float))
        forces = context.getState(forces=True).getForces(asNumpy=True)._value
        # a rounded position changes the force of a bond of 5e5 kJ/mol/nm^2 by about 0.03 kJ/mol/nm
        np.testing.assert_allclose(frames.forces[frame], forces, atol=0.2)


def test_constraints_hold_and_energy_is_that_of_the_forces(vacuum_run, vacuum):
    _, system, _ = vacuum.build()
    positions = H5MDFile(vacuum_run.trajectories[0]).read().positions
    for i in range(system.getNumConstraints()):
        first, second, length = system.getConstraintParameters(i)
        distances = np.linalg.norm(positions[:, first] - positions[:, second], axis=1)
        np.testing.assert_allclose(distances, length._value, atol=1e-5)
    assert np.abs(positions.mean(1)).max() < 3.0  # it does not fly away


def test_topology_has_the_bonds(vacuum_run):
    topology = openmm.app.PDBFile(str(vacuum_run.topology)).topology
    assert topology.getNumAtoms() == 22
    assert topology.getNumBonds() == 21


def test_run_can_be_mapped(vacuum_run, tmp_path):
    """Temperature and constraints come with it; bead positions are where the atoms are."""
    dataset = map_trajectory(vacuum_run.folder, None, "backbone", tmp_path / "beads.h5")
    assert dataset.temperature == 300.0
    assert dataset.topology.types == ("ACE-C", "ALA-N", "ALA-CA", "ALA-C", "NME-N")
    carbon = H5MDFile(vacuum_run.trajectories[0]).read().positions[:, 4]
    np.testing.assert_allclose(dataset.read().positions[:, 0], carbon, atol=1e-6)


def test_finished_run_is_not_run_again(vacuum_run, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in vacuum_run.folder.iterdir()}
    again = run_reference("alanine-dipeptide-vacuum", vacuum_run.folder, length=400.0, interval=2.0, equilibration=20.0)
    assert again == vacuum_run
    assert {path.name: path.stat().st_mtime_ns for path in vacuum_run.folder.iterdir()} == before
    assert "finished already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 310.0}, "`temperature` is 300.0 there, 310.0 was given"),
        ({"length": 800.0}, "`length` is 400.0 there"),
        ({"seed": 1}, "`seed` is 0 there, 1 was given"),
        ({"platform": "CPU"}, "`platform` is 'Reference' there, 'CPU' was given"),
    ],
)
def test_other_settings_in_the_same_folder(vacuum_run, change, message):
    settings = {"length": 400.0, "interval": 2.0, "equilibration": 20.0, "progress": False} | change
    with pytest.raises(ValueError, match=message):
        run_reference("alanine-dipeptide-vacuum", vacuum_run.folder, **settings)


def test_other_input_files_in_the_same_folder(own_system, tmp_path):
    folder = own_system()
    run_reference(folder, tmp_path / "out", length=1.0, **FAST)
    structure = folder / "structure.pdb"
    structure.write_text(structure.read_text() + "\n")
    with pytest.raises(ValueError, match=r"the content of structure\.pdb has changed"):
        run_reference(folder, tmp_path / "out", length=1.0, **FAST)


def test_mistakes(tmp_path, own_system):
    name = "alanine-dipeptide-vacuum"
    with pytest.raises(ValueError, match=r"reference run of 'alanine-dipeptide-vacuum': `temperature`"):
        run_reference(name, tmp_path / "a", temperature=-1.0)
    with pytest.raises(ValueError, match="no system 'nothing'"):
        run_reference("nothing", tmp_path / "a")
    with pytest.raises(ValueError, match=r"no reference run in .*reference\.json is missing"):
        ReferenceRun.open(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "trajectory.h5").touch()
    with pytest.raises(ValueError, match=r"trajectory\.h5 exists, but no reference\.json"):
        run_reference(name, tmp_path / "b")
    assert not (tmp_path / "a").exists()


def test_diverging_run_leaves_nothing_under_a_final_name(own_system, tmp_path):
    folder = own_system(timestep=0.05)
    with pytest.raises(FloatingPointError, match="diverged between steps"):
        run_reference(folder, tmp_path / "out", length=500.0, interval=5.0, equilibration=50.0, progress=False)
    assert not list((tmp_path / "out").glob("*.h5"))
    with pytest.raises(ValueError, match="is not finished"):
        ReferenceRun.open(tmp_path / "out")


def test_same_seed_same_run(tmp_path):
    name = "alanine-dipeptide-vacuum"
    runs = [run_reference(name, tmp_path / str(k), length=10.0, seed=seed, **FAST) for k, seed in enumerate((0, 0, 1))]
    positions = [H5MDFile(run.trajectories[0]).read().positions for run in runs]
    np.testing.assert_array_equal(positions[0], positions[1])
    assert np.abs(positions[0] - positions[2]).max() > 0.01


def test_replicas_are_independent(tmp_path):
    name = "alanine-dipeptide-vacuum"
    run = run_reference(name, tmp_path / "both", length=10.0, replicas=2, **FAST)
    assert [path.name for path in run.trajectories] == ["trajectory-0.h5", "trajectory-1.h5"]
    assert run.n_frames == 100
    first, second = (H5MDFile(path).read().positions for path in run.trajectories)
    assert np.abs(first - second).max() > 0.01
    alone = run_reference(name, tmp_path / "one", length=10.0, **FAST)
    np.testing.assert_array_equal(H5MDFile(alone.trajectories[0]).read().positions, first)


def test_error_in_a_replica_is_passed_on(own_system, tmp_path):
    folder = own_system(timestep=0.05)
    with pytest.raises(FloatingPointError, match=r"replica \d of the run in .*: the run diverged between steps"):
        run_reference(
            folder, tmp_path / "out", length=500.0, interval=5.0, equilibration=50.0, replicas=2, progress=False
        )


def test_checkpoint_that_cannot_be_used(tmp_path):
    (tmp_path / "checkpoint.chk").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"checkpoint\.chk: cannot go on from this checkpoint"):
        run_reference("alanine-dipeptide-vacuum", tmp_path, length=1.0, **FAST)


COMMAND = """
import resource, signal, sys
from cgenn.reference import replica
from cgenn.reference.run import run_reference
replica._CHECKPOINT_SECONDS = 0.1
limit = int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
settings = {"length": 300.0, "interval": 1.0, "equilibration": 1.0, "replicas": int(sys.argv[3]), "progress": False}
run_reference("alanine-dipeptide-vacuum", sys.argv[1], **settings)
"""


def start(folder, limit=0, replicas=1):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", COMMAND, str(folder), str(limit), str(replicas)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(folder, replicas=1):
    process = start(folder, replicas=replicas)
    assert process.communicate()[1] == ""
    assert process.returncode == 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder)
    return H5MDFile(folder / "trajectory.h5").read()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run_goes_on_bit_by_bit(tmp_path, uninterrupted, how):
    process = start(tmp_path)
    log = tmp_path / "frames.partial"
    while not (log.exists() and log.stat().st_size > 50 * record_type(22).itemsize) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    assert not (tmp_path / "trajectory.h5").exists()
    assert json.loads((tmp_path / "reference.json").read_text())["status"] == "running"
    assert (tmp_path / "checkpoint.chk").exists()
    finish(tmp_path)
    frames = H5MDFile(tmp_path / "trajectory.h5").read()
    np.testing.assert_array_equal(frames.positions, uninterrupted.positions)
    np.testing.assert_array_equal(frames.forces, uninterrupted.forces)


def test_replicas_stop_with_the_process_that_started_them(tmp_path, uninterrupted):
    process = start(tmp_path, replicas=2)
    logs = [tmp_path / f"frames-{index}.partial" for index in range(2)]
    while not all(log.exists() and log.stat().st_size for log in logs) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    sizes = [log.stat().st_size for log in logs]
    time.sleep(0.3)
    assert sizes == [log.stat().st_size for log in logs]
    finish(tmp_path, replicas=2)
    frames = H5MDFile(tmp_path / "trajectory-0.h5").read()
    np.testing.assert_array_equal(frames.positions, uninterrupted.positions)


def test_full_disk_leaves_nothing_half_written(tmp_path, uninterrupted):
    """File sizes are limited to less than the trajectory needs; with more space the run is completed."""
    process = start(tmp_path, limit=100_000)
    error = process.communicate()[1]
    assert process.returncode != 0
    assert "OSError" in error
    assert not (tmp_path / "trajectory.h5").exists()
    finish(tmp_path)
    np.testing.assert_array_equal(H5MDFile(tmp_path / "trajectory.h5").read().positions, uninterrupted.positions)


@pytest.mark.slow
def test_density_of_water(tmp_path):
    """SPC/E at 298 K: 0.998 g/cm^3 (Berendsen et al. 1987, doi 10.1021/j100308a038)."""
    run = run_reference("water-spce", tmp_path / "out", length=2.0, interval=0.2, equilibration=20.0, progress=False)
    assert run.results["mean"]["density [g/cm^3]"] == pytest.approx(0.998, abs=0.03)
    frames = H5MDFile(run.trajectories[0]).read()
    assert frames.box.shape == (10, 3, 3)
    oxygen = frames.positions[:, ::3]
    edge = frames.box[:, 0, 0]
    assert np.all((oxygen > -0.2) & (oxygen < edge[:, None, None] + 0.2))


def test_constant_pressure_and_virials(tmp_path):
    """The box changes; every frame has the virial that belongs to its positions, and so have the beads."""
    times = {"length": 0.6, "interval": 0.2, "equilibration": 0.2, "platform": "CPU"}
    reference = run_reference("polyethylene-c12", tmp_path / "aa", progress=False, **times)
    frames = H5MDFile(reference.trajectories[0]).read()
    assert len(np.unique(np.linalg.det(frames.box))) > 1
    _, system, _ = load_system("polyethylene-c12").build()
    reader = VirialReader(system, openmm.Platform.getPlatformByName("CPU"))
    last = (entry[-1].astype(float) for entry in (frames.positions, frames.box, frames.forces))
    np.testing.assert_allclose(reader.read(*last), frames.virials[-1], atol=20.0)  # kJ/mol; 7 bar in this box
    dataset = map_trajectory(reference.folder, None, "residue-com", tmp_path / "cg.h5", fit_frames=3)
    assert set(dataset.topology.types) == {"END-COM", "MID-COM"}
    assert np.isfinite(dataset.read().virials).all()
