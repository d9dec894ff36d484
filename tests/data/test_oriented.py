"""Beads with an orientation, from atoms to a dataset."""

import json
import re

import h5py
import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import Element
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from cgenn.body import Body
from cgenn.cli import app
from cgenn.data.dataset import BeadDataset
from cgenn.data.import_beads import import_beads
from cgenn.data.map_trajectory import map_trajectory
from cgenn.h5md import Frames, H5MDFile, H5MDWriter
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition
from cgenn.simulation.start import Start
from cgenn.topology import BeadTopology

WATER = 0.1 * np.array([[0.0, 0.0, 0.066], [0.757, 0.0, -0.521], [-0.757, 0.0, -0.521]])
BOX = np.array([[2.1, 0.0, 0.0], [0.6, 2.0, 0.0], [-0.7, 0.5, 1.9]])
BEADS = {"beads": [{"name": "W", "type": "W", "frame": {"symmetry": "C2v", "z": ["O"], "x": ["H1"]}}]}
DEFINITION = MappingDefinition.parse(BEADS, "test")
OPTIONS = {"temperature": 300, "constraints": []}


def waters(copies: int) -> AtomTopology:
    topology = mdtraj.Topology()
    for _ in range(copies):
        residue = topology.add_residue("HOH", topology.add_chain())
        for name in ("O", "H1", "H2"):
            topology.add_atom(name, Element.getBySymbol(name[0]), residue)
    return AtomTopology.from_mdtraj(topology)


@pytest.fixture(scope="module")
def atoms():
    return waters(5)


@pytest.fixture(scope="module")
def turns():
    """Slow turns of five molecules in 60 frames."""
    rng = np.random.default_rng(0)
    start, turning = Rotation.random(5, rng=rng), rng.normal(size=(5, 3))
    return np.stack([(Rotation.from_rotvec(0.1 * frame * turning) * start).as_matrix() for frame in range(60)])


@pytest.fixture
def trajectory(tmp_path, atoms, turns):
    """Molecules cut by the boundary of a triclinic box, with forces and velocities."""
    rng = np.random.default_rng(1)
    local = WATER - np.average(WATER, axis=0, weights=atoms.masses[:3])
    whole = np.einsum("fnij,aj->fnai", turns, local) + (2 * rng.random((60, 5, 3)) @ BOX)[:, :, None]
    positions = whole.reshape(60, 15, 3) + rng.integers(-2, 3, (60, 15, 3)) @ BOX
    forces, velocities = rng.normal(size=(2, 60, 15, 3))
    with H5MDWriter(
        tmp_path / "aa.h5", 15, metadata={"temperature": 300.0, "constraints": []}, species=["O", "H", "H"] * 5,
        masses=atoms.masses, periodic=True, forces=True, velocities=True, group="atoms", dtype="float64",
    ) as writer:  # fmt: skip
        writer.write(positions, np.tile(BOX, (60, 1, 1)), forces, velocities)
    return tmp_path / "aa.h5", local, forces.reshape(60, 5, 3, 3), velocities.reshape(60, 5, 3, 3)


def matrices(quaternions):
    flat = Rotation.from_quat(quaternions.reshape(-1, 4).astype(float), scalar_first=True).as_matrix()
    return flat.reshape(*quaternions.shape[:2], 3, 3)


def test_mapped_frames_have_orientations_torques_and_velocities(tmp_path, atoms, turns, trajectory):
    path, local, forces, velocities = trajectory
    dataset = map_trajectory(path, atoms, DEFINITION, tmp_path / "cg.h5")
    assert (dataset.has_orientations, dataset.has_torques) == (True, True)
    assert (dataset.has_velocities, dataset.has_angular_velocities) == (True, True)
    body, frames = dataset.topology.bodies["W"], dataset.read()
    assert (body.symmetry, body.names, dataset.topology.oriented.all()) == ("C2v", ("O", "H1", "H2"), True)
    np.testing.assert_allclose(body.coordinates, local, atol=1e-6)
    np.testing.assert_allclose(matrices(frames.orientations), turns, atol=1e-6)
    assert np.abs(np.diff(frames.orientations, axis=0)).max() < 0.2
    arms = np.einsum("fnij,aj->fnai", turns, local)
    np.testing.assert_allclose(frames.forces, forces.sum(2), atol=1e-5)
    np.testing.assert_allclose(frames.torques, np.cross(arms, forces).sum(2), atol=1e-5)
    masses = atoms.masses[:3, None]
    np.testing.assert_allclose(frames.velocities, (masses * velocities).sum(2) / masses.sum(), atol=1e-6)
    momentum = turns.swapaxes(2, 3) @ (masses * np.cross(arms, velocities)).sum(2)[..., None]
    expected = turns @ (momentum / np.array(body.inertia)[:, None])
    np.testing.assert_allclose(frames.angular_velocities, expected[..., 0], rtol=1e-3, atol=1e-3)
    rigidity = dataset.provenance["rigidity"]["W"]
    assert rigidity["rms_deviation"] < 1e-6
    assert rigidity["inertia"] == list(body.inertia)
    assert H5MDFile(dataset.path).read([3, 1]).orientations.shape == (2, 5, 4)


def test_chunks_of_any_size_give_the_same_and_a_body_can_be_kept(tmp_path, atoms, trajectory, monkeypatch):
    whole = map_trajectory(trajectory[0], atoms, DEFINITION, tmp_path / "a.h5")
    body = whole.topology.bodies["W"]
    wider = {"coordinates": 1.1 * np.array(body.coordinates), "inertia": 1.1**2 * np.array(body.inertia)}
    other = Body.parse({**body.model_dump(), **{name: value.tolist() for name, value in wider.items()}}, "wider")
    monkeypatch.setattr("cgenn.data.map_trajectory._CHUNK_ATOMS", 15 * 7)
    parts = map_trajectory(trajectory[0], atoms, DEFINITION, tmp_path / "b.h5", bodies=whole.topology.bodies)
    for name in ("orientations", "torques", "angular_velocities"):
        np.testing.assert_allclose(getattr(parts.read(), name), getattr(whole.read(), name), rtol=1e-5, atol=1e-6)
    assert parts.topology.bodies == whole.topology.bodies
    kept = map_trajectory(trajectory[0], atoms, DEFINITION, tmp_path / "c.h5", bodies={"W": other}, forces=False)
    assert kept.topology.bodies == {"W": other}
    assert (kept.has_torques, kept.has_orientations, kept.has_forces) == (False, True, False)


def test_beads_with_and_without_an_orientation_mix(tmp_path, ala2):
    """Beads without one have the identity and no torque; the optimal map leaves the atoms of the others alone."""
    rng = np.random.default_rng(2)
    rigid = np.einsum("fij,aj->fai", Rotation.random(400, rng=rng).as_matrix(), 0.1 * rng.normal(size=(22, 3)))
    np.savez(tmp_path / "aa.npz", positions=rigid, forces=rng.normal(size=(400, 22, 3)), units="nm, kJ/mol/nm")
    beads = [
        {"name": "A", "select": "resname ALA", "frame": {"kind": "principal"}},
        {"name": "B", "select": "not resname ALA"},
    ]
    definition = MappingDefinition.parse({"beads": beads}, "test")
    dataset = map_trajectory(tmp_path / "aa.npz", ala2, definition, tmp_path / "cg.h5", **OPTIONS)
    frames = dataset.read()
    assert dataset.topology.oriented.tolist() == [False, True, False]
    np.testing.assert_array_equal(frames.orientations[:, [0, 2]], np.tile([1.0, 0, 0, 0], (400, 2, 1)))
    assert not frames.torques[:, [0, 2]].any()
    assert np.abs(frames.torques[:, 1]).min() > 0
    assert dataset.provenance["forces"]["map"] == "optimal"


def test_a_constraint_that_leaves_a_bead_is_named(tmp_path, atoms, trajectory):
    with pytest.raises(ValueError, match=r"bead 0 \(W\) .* HOH0-O \(atom 0\) is tied to HOH1-O \(atom 3\)"):
        map_trajectory(trajectory[0], atoms, DEFINITION, tmp_path / "cg.h5", constraints=[(0, 3)], force_map="sum")
    assert not (tmp_path / "cg.h5").exists()


@pytest.mark.parametrize("frame", [0, 37])
def test_a_molecule_that_collapsed_is_named(tmp_path, atoms, trajectory, monkeypatch, frame):
    """By its frame in the file, whichever chunk it is in."""
    monkeypatch.setattr("cgenn.data.map_trajectory._CHUNK_ATOMS", 15 * 7)
    with h5py.File(trajectory[0], "r+") as file:
        positions = file["particles/atoms/position/value"]
        positions[frame, 6:9] = positions[frame, 6]
    with pytest.raises(ValueError, match=rf"aa\.h5: frame {frame}, bead 2 \(type 'W'\): its atoms do not tell"):
        map_trajectory(trajectory[0], atoms, DEFINITION, tmp_path / "cg.h5")
    assert not (tmp_path / "cg.h5").exists()


def test_the_command_line_tells_how_rigid_the_groups_are(tmp_path, atoms, trajectory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["[[beads]]", 'name = "W"', 'type = "W"', 'frame = { symmetry = "C2v", z = ["O"], x = ["H1"] }']
    (tmp_path / "water.toml").write_text("\n".join(lines), encoding="utf-8")
    mdtraj.Trajectory(np.zeros((1, 15, 3)), atoms.topology).save_pdb("topology.pdb")
    command = ["map", "aa.h5", "--mapping", "water.toml", "--json"]
    said = [
        CliRunner().invoke(app, [*command, "--out", "a.h5"]),
        CliRunner().invoke(app, [*command, "--out", "b.h5", "--bodies", "a.h5", "--stride", "7"]),
    ]
    for result in said:
        assert result.exit_code == 0, result.output
        assert set(json.loads(result.stdout)["rigidity"]["W"]) == {
            "rms_deviation", "atom", "rms_of_atom", "symmetry", "inertia", "mean_inertia", "inertia_fluctuation",
        }  # fmt: skip
    assert BeadDataset.open("a.h5").topology.bodies == BeadDataset.open("b.h5").topology.bodies


BODY = {"A": Body(symmetry="Dinfh", inertia=(1.0, 1.0, 0.0))}
TOPOLOGY = BeadTopology.build(["A", "B"], [10.0, 20.0], bodies=BODY)
PLAIN = BeadTopology.build(["A"] * 2, [1.0] * 2)


def test_oriented_beads_mapped_elsewhere_are_imported(tmp_path):
    rng = np.random.default_rng(3)
    entries = {
        "positions": rng.normal(size=(6, 2, 3)), "forces": rng.normal(size=(6, 2, 3)),
        "orientations": Rotation.random(12, rng=rng).as_quat(scalar_first=True).reshape(6, 2, 4),
        "torques": rng.normal(size=(6, 2, 3)),
    }  # fmt: skip
    np.savez(tmp_path / "cg.npz", **entries, units="A, kcal/mol/A, kcal/mol")
    frames = import_beads(tmp_path / "cg.npz", TOPOLOGY, tmp_path / "cg.h5", temperature=300).read()
    np.testing.assert_allclose(frames.orientations, entries["orientations"], atol=1e-6)
    np.testing.assert_allclose(frames.torques, 4.184 * entries["torques"], rtol=1e-5)
    np.savez(tmp_path / "no.npz", **entries, units="A, kcal/mol/A")
    with pytest.raises(ValueError, match=r"no unit of energy in `units`, .* for `torques`"):
        import_beads(tmp_path / "no.npz", TOPOLOGY, tmp_path / "no.h5", temperature=300)


@pytest.mark.parametrize(
    ("topology", "orientations", "message"),
    [
        (TOPOLOGY, None, "the frames have no orientations, but a bead of the topology has a body"),
        (PLAIN, [1, 0, 0, 0], "have orientations, but no bead of the topology has a body"),
        (TOPOLOGY, [1, 0, 0, 0.1], r"frame 0, bead 0: an orientation must be a unit quaternion .* got .* of norm 1.00"),
        (TOPOLOGY, [1, np.nan, 0, 0], "frame 0, bead 0: orientation is"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_not_written(tmp_path, topology, orientations, message):
    frames = Frames(
        np.zeros((3, 2, 3)), orientations=None if orientations is None else np.tile(np.array(orientations), (3, 2, 1))
    )
    with pytest.raises(ValueError, match=message):
        BeadDataset.write(tmp_path / "cg.h5", topology, frames, temperature=300)
    assert not list(tmp_path.glob("cg.h5*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bodies": {"A": {**BODY["A"].model_dump(), "inertia": [1, 1, 3]}}},
            "body 'A': `inertia`: `inertia` must be three",
        ),
        ({"bodies": 3}, "`bodies` of the topology must be a table with a body for each oriented type, got 3"),
        ({"types": None}, "the topology of the beads must have `types`, a list with one entry per bead"),
    ],
)
def test_a_topology_that_cannot_be_names_the_file(tmp_path, change, message):
    """Edited by hand; for a training and for a simulation."""
    frames = Frames(np.zeros((3, 2, 3)), orientations=np.tile([1.0, 0, 0, 0], (3, 2, 1)))
    BeadDataset.write(tmp_path / "cg.h5", TOPOLOGY, frames, temperature=300)
    with h5py.File(tmp_path / "cg.h5", "r+") as file:
        entries = json.loads(file["cgenn/metadata"][()])
        changed = {**entries["dataset"]["topology"], **change}
        entries["dataset"]["topology"] = {name: value for name, value in changed.items() if value is not None}
        del file["cgenn/metadata"]
        file["cgenn/metadata"] = json.dumps(entries)
    for read in (BeadDataset.open, lambda path: Start.read(path, 1, 0)):
        with pytest.raises(ValueError, match=rf"cg\.h5: {re.escape(message)}"):
            read(tmp_path / "cg.h5")


@pytest.mark.parametrize(
    ("name", "message"), [("water.toml", "not an HDF5 file"), ("aa.h5", "an H5MD file of atoms, but")]
)
def test_bodies_of_a_file_of_another_kind(tmp_path, trajectory, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "water.toml").write_text("[[beads]]")
    command = ["map", "aa.h5", "--mapping", "water.toml", "--out", "a.h5", "--bodies", name]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    expected = "error: --bodies: expected a bead dataset, whose geometries of oriented beads are to be used"
    assert f"{expected}: {name}: {message}" in result.stderr
