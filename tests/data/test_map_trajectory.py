import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import openmm.app
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.data.map_trajectory import map_trajectory
from cgenn.h5md import H5MDWriter
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path):
    """200 frames of 22 atoms in nm and kJ/mol/nm."""

    def make(name="aa.npz", **changes):
        rng = np.random.default_rng(0)
        entries = {
            "positions": 0.1 * rng.normal(size=(200, 22, 3)), "forces": rng.normal(size=(200, 22, 3)),
            "units": "nm, kJ/mol/nm", **changes,
        }  # fmt: skip
        np.savez(tmp_path / name, **{key: value for key, value in entries.items() if value is not None})
        return tmp_path / name

    return make


def test_alanine_dipeptide_of_the_reference_data(tmp_path, ala2, data_folder):
    """Constraints are found in the frames as well as they are read from the file, and the noise is reported."""
    path = data_folder / "ala2_allatom_proteka_2k.npz"
    dataset = map_trajectory(path, ala2, "backbone", tmp_path / "cg.h5", temperature=300)
    assert (len(dataset), dataset.temperature, dataset.segments, dataset.periodic) == (2000, 300.0, [(0, 2000)], False)
    assert dataset.provenance["forces"]["map"] == "optimal"
    assert dataset.provenance["constraints"]["known_from"] == "file"
    squares = dataset.provenance["forces"]["mean_square"]
    assert squares["optimal"] / 41.84**2 < 450 < 650 < squares["sum"] / 41.84**2
    assert np.mean(np.square(dataset.read().forces, dtype=float)) == pytest.approx(squares["optimal"], rel=1e-5)
    with np.load(path) as file:
        np.savez(tmp_path / "bare.npz", **{key: file[key] for key in ("positions", "forces", "units")})
        np.testing.assert_allclose(dataset.read().positions, 0.1 * file["positions"][:, [4, 6, 8, 14, 16]], rtol=1e-5)
    bare = map_trajectory(tmp_path / "bare.npz", ala2, "backbone", tmp_path / "bare.h5", temperature=300)
    assert bare.provenance["constraints"] == {**dataset.provenance["constraints"], "known_from": "trajectory"}
    np.testing.assert_array_equal(bare.read().forces, dataset.read().forces)


def test_several_trajectories_become_segments(tmp_path, ala2, source):
    first, second = source("a.npz"), source("b.npz", positions=np.ones((30, 22, 3)), forces=np.ones((30, 22, 3)))
    options = {"temperature": 300, "force_map": "sum", "constraints": []}
    dataset = map_trajectory([first, second], ala2, "residue-com", tmp_path / "cg.h5", stride=4, **options)
    assert dataset.segments == [(0, 50), (50, 58)]
    assert dataset.read([55]).forces[0, :, 0].tolist() == [6.0, 10.0, 6.0]
    names = [entry["file"] for entry in dataset.provenance["sources"]]
    assert names == ["a.npz", "b.npz"]
    assert len(dataset.provenance["sources"][0]["sha256"]) == 64
    assert dataset.provenance["mapping"]["beads"][0]["name"] == "COM"


def test_chunks_of_any_size_give_the_same(tmp_path, ala2, source, monkeypatch):
    path = source()
    options = {"temperature": 300, "constraints": []}
    whole = map_trajectory(path, ala2, "backbone", tmp_path / "a.h5", **options).read()
    monkeypatch.setattr("cgenn.data.map_trajectory._CHUNK_ATOMS", 22 * 7)
    parts = map_trajectory(path, ala2, "backbone", tmp_path / "b.h5", **options).read()
    np.testing.assert_allclose(parts.forces, whole.forces, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.positions, whole.positions)


def test_a_reference_run_says_everything_itself(tmp_path, ala2):
    """Masses, charges, constraints and temperature come from the file, the topology from beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "topology.pdb").open("w") as file:
        openmm.app.PDBFile.writeFile(ala2.topology.to_openmm(), np.zeros((22, 3)), file)
    rng = np.random.default_rng(0)
    box = np.array([[3.0, 0, 0], [1.5, 3.0, 0], [-1.5, 1.5, 3.0]])
    with H5MDWriter(
        folder / "trajectory.h5", 22, metadata={"temperature": 310.0, "constraints": [[0, 1]]},
        species=ala2.elements.tolist(), masses=np.full(22, 2.0), charges=np.full(22, 0.1),
        bonds=ala2.bonds, periodic=True, forces=True, group="atoms",
    ) as writer:  # fmt: skip
        writer.write(0.2 * rng.random((100, 22, 3)), np.tile(box, (100, 1, 1)), rng.random((100, 22, 3)))
    dataset = map_trajectory(folder, None, "residue-com", tmp_path / "cg.h5")
    assert (dataset.temperature, dataset.periodic) == (310.0, True)
    assert dataset.topology.masses.tolist() == [12.0, 20.0, 12.0]
    assert dataset.topology.charges.tolist() == pytest.approx([0.6, 1.0, 0.6])
    assert dataset.provenance["constraints"]["pairs"] == [[0, 1]]
    np.testing.assert_allclose(dataset.read([99]).box[0], box)
    assert not map_trajectory(folder, None, "residue-com", tmp_path / "b.h5", periodic=False).periodic
    (folder / "trajectory.h5").rename(folder / "trajectory-0.h5")
    shutil.copy(folder / "trajectory-0.h5", folder / "trajectory-1.h5")
    assert map_trajectory(folder, None, "residue-com", tmp_path / "c.h5").segments == [(0, 100), (100, 200)]
    with pytest.raises(ValueError, match=r"a folder without trajectory.h5"):
        map_trajectory(tmp_path, None, "residue-com", tmp_path / "d.h5")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"temperature": None}, r"the temperature is missing: .* pass `temperature` \[K\]"),
        ({}, {"temperature": -3}, "temperature must be positive, got -3.0 K"),
        ({"forces": None}, {}, r"aa.npz: no forces; pass `forces=False` \(--no-forces\)"),
        ({}, {"periodic": True}, r"aa.npz: no box, although the mapping is to be periodic"),
        ({}, {"constraints": [(0, 22)]}, r"pairs of atoms, counted from 0 to 21, got \[\[0, 22\]\]"),
        ({}, {"constraints": [(0, -1)]}, "`constraints` must be pairs of atoms"),
        ({}, {"constraints": [0, 1, 2]}, "`constraints` must be pairs of atoms"),
        ({}, {"constraints": [(0.5, 1)]}, r"`constraints` must be pairs of atoms, .* to 21, got \[\[0.5, 1.0\]\]"),
        ({}, {"constraints": [(np.nan, 1)]}, "`constraints` must be pairs of atoms"),
        ({}, {"stride": 0}, "`stride` must be at least 1, got 0"),
        ({}, {"mapping": "water"}, "bead 'COM': the selection 'water' matches no atom"),
        ({}, {"mapping": "nothing"}, "no mapping 'nothing': expected a path or one of"),
        ({"positions": np.ones((9, 21, 3)), "forces": None}, {}, r"aa.npz has 21 atoms, the topology has 22"),
        ({"positions": np.full((200, 22, 3), np.nan)}, {}, "frame 0, atom 0: position is"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(tmp_path, ala2, source, changes, options, message):
    path = source(**changes)
    entries = {"mapping": "backbone", "temperature": 300, "constraints": [], **options}
    with pytest.raises(ValueError, match=message):
        map_trajectory(path, ala2, out=tmp_path / "cg.h5", **entries)
    assert [entry.name for entry in tmp_path.iterdir()] == ["aa.npz"]


def test_dipoles_of_beads_and_energies_of_ions(tmp_path, ala2, source):
    """Charges, dipoles and virials are mapped; energies stay only where every atom is a bead."""
    rng = np.random.default_rng(1)
    charges, energies, virials = rng.normal(size=22), rng.normal(size=200), rng.normal(size=(200, 3, 3))
    virials = virials + virials.transpose(0, 2, 1)
    path = source(charges=charges, energies=energies, virials=virials, units="nm, kJ/mol/nm, kJ/mol")
    options = {"temperature": 300, "constraints": []}
    dataset = map_trajectory(path, ala2, "residue-com", tmp_path / "cg.h5", **options)
    assert (dataset.has_charges, dataset.has_dipoles, dataset.has_energies, dataset.has_virials) == (
        False, True, False, True,
    )  # fmt: skip
    frames, atoms = dataset.read(), np.load(path)["positions"]
    total = dataset.topology.charges @ frames.positions + frames.dipoles.sum(axis=1)
    np.testing.assert_allclose(total, charges @ atoms, atol=1e-5)
    each = MappingDefinition.parse({"beads": [{"name": "{0}", "per": "selection", "select": "index 0"}]}, "x")
    each = each.model_copy(
        update={"beads": tuple(each.beads[0].model_copy(update={"select": f"index {i}"}) for i in range(22))}
    )
    dataset = map_trajectory(path, ala2, each, tmp_path / "b.h5", **options)
    np.testing.assert_allclose(dataset.read().energies, energies)
    np.testing.assert_allclose(dataset.read().virials, virials)
    assert np.abs(dataset.read().dipoles).max() < 1e-6
    path = source(charges=np.tile(charges, (200, 1)), dipoles=np.ones((200, 22, 3)), units="nm, kJ/mol/nm, e nm")
    varying = map_trajectory(path, ala2, "residue-com", tmp_path / "c.h5", **options).read()
    np.testing.assert_allclose(varying.charges.sum(axis=1), charges.sum(), atol=1e-5)
    np.testing.assert_allclose(varying.dipoles - frames.dipoles, np.tile([[[6.0], [10], [6]]], (200, 1, 3)), atol=1e-4)


def test_forces_need_not_be_there(tmp_path, ala2, source):
    dataset = map_trajectory(source(forces=None), ala2, "backbone", tmp_path / "a.h5", temperature=300, forces=False)
    assert not dataset.has_forces
    assert dataset.read().forces is None
    ignored = map_trajectory(source(), ala2, "backbone", tmp_path / "b.h5", temperature=300, forces=False)
    assert not ignored.has_forces


SCRIPT = """
    import resource, sys
    import numpy as np
    from cgenn.data.dataset import BeadDataset
    from cgenn.h5md import Frames
    from cgenn.topology import BeadTopology
    def chunks():
        rng = np.random.default_rng(0)
        while True:
            print("written", flush=True)
            yield Frames(rng.normal(size=(5000, 5, 3)))
    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        BeadDataset.write(sys.argv[1], BeadTopology.build(["A"] * 5, [1.0] * 5), chunks(), temperature=300)
    except OSError as error:
        print("OSError", error)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(4)
"""


def start(target, limit):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(target), str(limit)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_full_disk_leaves_nothing(tmp_path):
    process = start(tmp_path / "cg.h5", 8_000_000)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 3, output
    assert "no room to write" in output
    assert output.count("written") > 3
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path):
    process = start(tmp_path / "cg.h5", 0)
    while process.stdout.readline() != "written\n" or not (tmp_path / "cg.h5.partial").exists():
        time.sleep(0.01)
    for _ in range(10):  # Python drops an interrupt that comes while an object is being deallocated
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
            break
    assert process.returncode == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["TRR", "XTC"])
def test_adk_centres_of_mass_equal_mdanalysis(tmp_path, suffix):
    """A protein cut by the boundary of a rhombic dodecahedron, 47 681 atoms with water; made with GROMACS."""
    MDAnalysis = pytest.importorskip("MDAnalysis")
    files = pytest.importorskip("MDAnalysisTests.datafiles")
    dataset = map_trajectory(
        getattr(files, suffix), files.TPR, "residue-com", tmp_path / "cg.h5", temperature=300, forces=False
    )
    universe = MDAnalysis.Universe(files.TPR, getattr(files, suffix))
    residues = universe.select_atoms("not resname SOL")
    for frame in (0, 9):
        box = universe.trajectory[frame].triclinic_dimensions / 10
        expected = residues.center_of_mass(compound="residues", unwrap=True) / 10
        difference = (dataset.read([frame]).positions[0] - expected) @ np.linalg.inv(box)
        np.testing.assert_allclose((difference - np.rint(difference)) @ box, 0.0, atol=1e-4)
    assert len(dataset.topology.bonds) == 213  # one chain of 214 residues; four sodium ions


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["TRR_xvf", "H5MD_xvf"])
def test_cobrotoxin_forces_equal_mdanalysis(tmp_path, suffix):
    MDAnalysis = pytest.importorskip("MDAnalysis")
    files = pytest.importorskip("MDAnalysisTests.datafiles")
    path = getattr(files, suffix)
    options = {"temperature": 300, "force_map": "sum", "constraints": []}
    dataset = map_trajectory(path, files.TPR_xvf, "residue-com", tmp_path / "cg.h5", **options)
    universe = MDAnalysis.Universe(files.TPR_xvf, path)
    residues = universe.select_atoms("not resname SOL").residues
    for frame in range(3):
        universe.trajectory[frame]
        expected = np.array([10 * residue.atoms.forces.astype(float).sum(axis=0) for residue in residues])
        error = np.linalg.norm(dataset.read([frame]).forces[0] - expected, axis=1)
        assert np.all(error < 1e-6 * np.linalg.norm(expected, axis=1))
    with pytest.raises(ValueError, match="cannot be seen in 3 frames"):
        map_trajectory(path, files.TPR_xvf, "residue-com", tmp_path / "b.h5", temperature=300)


def test_a_dataset_opens_again_as_it_was_made(tmp_path, ala2, source):
    made = map_trajectory(source(), ala2, "backbone", tmp_path / "a.h5", temperature=300, constraints=[])
    mapping = Mapping.build(load_mapping("backbone"), AtomTopology.from_mdtraj(ala2.topology))
    assert BeadDataset.open(made.path).topology.to_dict() == mapping.topology.to_dict()


def test_times_of_frames_are_kept_where_they_are_known(tmp_path, ala2, source):
    """Those of a trajectory that has them, every `stride`-th; npz files have none, and frames are no times."""
    rng = np.random.default_rng(0)
    with H5MDWriter(
        tmp_path / "aa.h5", 22, metadata={"temperature": 300.0}, species=["X"] * 22, masses=ala2.masses,
        periodic=False, forces=False,
    ) as writer:  # fmt: skip
        writer.write(0.1 * rng.normal(size=(12, 22, 3)), time=50.0 + 0.25 * np.arange(12))
    timed = map_trajectory(tmp_path / "aa.h5", ala2, "backbone", tmp_path / "timed.h5", forces=False, stride=2)
    assert timed.has_times
    np.testing.assert_allclose(timed.read(slice(1, 4)).times, [50.5, 51.0, 51.5])
    untimed = map_trajectory(source(), ala2, "backbone", tmp_path / "untimed.h5", temperature=300.0)
    assert not untimed.has_times
    assert untimed.read().times is None
