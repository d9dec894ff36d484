import sys

import mdtraj
import numpy as np
import openmm.app
import pytest

from cgenn.data.topology import read_topology
from cgenn.data.trajectory import open_trajectory
from cgenn.h5md import H5MDWriter

BOX = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.2, 0.9, 2.7]])


@pytest.fixture
def positions():
    return np.random.default_rng(0).uniform(0, 2, (25, 22, 3)).round(3)


def npz(tmp_path, **entries):
    np.savez(tmp_path / "a.npz", **entries)
    return tmp_path / "a.npz"


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "pdb"])
def test_what_mdtraj_writes_is_read(tmp_path, ala2, positions, suffix):
    path = tmp_path / f"a.{suffix}"
    trajectory = mdtraj.Trajectory(positions, ala2.topology)
    trajectory.unitcell_vectors = np.tile(BOX, (25, 1, 1))
    trajectory.save(str(path))
    found = open_trajectory(path, ala2, forces=False)
    assert (found.n_atoms, found.n_frames, found.has_forces, found.periodic) == (22, 25, False, True)
    for stride in (1, 3):
        chunks = list(found.iter_chunks(4, stride))
        assert max(len(chunk) for chunk in chunks) <= 4
        np.testing.assert_allclose(np.concatenate([c.positions for c in chunks]), positions[::stride], atol=6e-4)
        np.testing.assert_allclose(np.concatenate([c.box for c in chunks])[0], BOX, atol=6e-4)


def test_no_box_is_no_box(tmp_path, ala2, positions):
    mdtraj.Trajectory(positions, ala2.topology).save(str(tmp_path / "a.xtc"))
    found = open_trajectory(tmp_path / "a.xtc", ala2)
    assert not found.periodic
    assert next(found.iter_chunks(5)).box is None


def test_own_h5md_brings_its_metadata(tmp_path, ala2, positions):
    metadata = {"temperature": 310.0, "constraints": [[0, 1]]}
    with H5MDWriter(
        tmp_path / "a.h5", 22, metadata=metadata, species=["C"] * 22, masses=np.arange(1, 23), bonds=ala2.bonds,
        periodic=False, forces=True, group="atoms",
    ) as writer:  # fmt: skip
        writer.write(positions, forces=2 * positions)
    found = open_trajectory(tmp_path / "a.h5", ala2)
    assert found.metadata["temperature"] == 310.0
    assert found.atoms["constraints"].tolist() == [[0, 1]]
    assert found.atoms["masses"].tolist() == list(range(1, 23))
    np.testing.assert_allclose(next(found.iter_chunks(100)).forces, 2 * positions, rtol=1e-6)


@pytest.mark.parametrize(
    ("units", "length", "force"),
    [
        ("A, kcal/mol/A; 300 K", 0.1, 41.84),
        ("positions nm, forces kJ/mol/nm", 1.0, 1.0),
        ("bohr hartree/bohr", 0.0529177, 49614.75),
    ],
)
def test_npz_units_are_converted(tmp_path, units, length, force):
    found = open_trajectory(npz(tmp_path, positions=np.ones((2, 4, 3)), forces=np.ones((2, 4, 3)), units=units))
    frames = next(found.iter_chunks(2))
    assert frames.positions[0, 0, 0] == pytest.approx(length, rel=1e-6)
    assert frames.forces[0, 0, 0] == pytest.approx(force, rel=1e-6)


def test_molecules_and_boxes_in_npz(tmp_path):
    positions = np.arange(2 * 5 * 4 * 3.0).reshape(2, 5, 4, 3)
    for box, expected in [
        (20.0, 2.0 * np.eye(3)), ([20.0, 30.0, 40.0], np.diag([2.0, 3, 4])), ([10.0, 20.0], np.eye(3)),
        (10 * BOX, BOX), (np.stack([10 * BOX, BOX]), BOX),
    ]:  # fmt: skip
        found = open_trajectory(npz(tmp_path, positions=positions, box=np.array(box), units="A"))
        assert found.n_atoms == 20
        np.testing.assert_allclose(next(found.iter_chunks(1)).box[0], expected)


def test_benzene_of_the_reference_data_is_read(data_folder):
    found = open_trajectory(data_folder / "benzene_oplsaa_300K_7x500.npz")
    assert (found.n_atoms, found.n_frames, found.has_forces, found.periodic) == (6000, 7, True, True)
    assert next(found.iter_chunks(1)).box[0, 0, 0] == pytest.approx(4.2324)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": "A, nm, kcal/mol/A"}, r"mixed units, `units` is 'A, nm, kcal/mol/A': expected one of length"),
        ({"units": "nm, kcal/mol/A"}, r"mixed units, .*: forces must be per nm, as the positions"),
        ({"units": "A"}, "no unit of force in `units`, which is 'A'"),
        ({"units": "furlong"}, "no unit of length in `units`"),
        ({"units": None}, r'no entry `units`, expected text such as "A, kcal/mol/A"'),
        ({"positions": None}, "no entry `positions`"),
        ({"positions": np.ones((2, 4))}, r"`positions` must have shape \(frames, atoms, 3\), got \(2, 4\)"),
        ({"forces": np.ones((2, 5, 3))}, r"`forces` has shape \(2, 5, 3\), `positions` \(2, 4, 3\)"),
        ({"charges": np.ones(3)}, r"`charges` has shape \(3,\), .* expected \(4,\) or \(2, 4\)"),
        ({"energies": np.ones(2)}, "no unit of energy in `units`, which is 'A, kcal/mol/A', for `energies`"),
        ({"dipoles": np.ones((2, 4, 3))}, "no unit of dipole in `units`"),
        ({"energies": np.ones(3), "units": "A, kcal/mol/A, eV"}, r"`energies` has shape \(3,\), .*: expected \(2,\)"),
        ({"box": np.ones(5)}, r"`box` must be edges or box vectors"),
    ],
)
def test_mistakes_in_npz_are_named(tmp_path, changes, message):
    entries = {"positions": np.ones((2, 4, 3)), "forces": np.ones((2, 4, 3)), "units": "A, kcal/mol/A", **changes}
    with pytest.raises(ValueError, match=message):
        open_trajectory(npz(tmp_path, **{key: value for key, value in entries.items() if value is not None}))


def test_nan_is_named_by_frame_and_atom(tmp_path, ala2, positions):
    positions[18, 7, 1] = np.nan
    found = open_trajectory(npz(tmp_path, positions=positions, units="nm"), ala2)
    for frames_per_chunk, stride in ((5, 1), (2, 3), (100, 9)):
        with pytest.raises(ValueError, match=r"a.npz: frame 18, atom 7: position is \[.*nan.*\]"):
            list(found.iter_chunks(frames_per_chunk, stride))
    energies = np.where(np.arange(25) == 3, np.inf, 0.0)
    found = open_trajectory(npz(tmp_path, positions=np.zeros((25, 22, 3)), energies=energies, units="nm, eV"))
    with pytest.raises(ValueError, match=r"a.npz: frame 3: potential_energy is inf"):
        list(found.iter_chunks(10))


def test_files_that_cannot_be_read_are_named(tmp_path, ala2, positions):
    with pytest.raises(ValueError, match="no trajectory file"):
        open_trajectory(tmp_path / "absent.xtc", ala2)
    path = npz(tmp_path, positions=positions[:, :5], units="nm")
    with pytest.raises(ValueError, match=r"a.npz has 5 atoms, the topology has 22"):
        open_trajectory(path, ala2)
    mdtraj.Trajectory(positions, ala2.topology).atom_slice(np.arange(5)).save(str(tmp_path / "a.xtc"))
    with pytest.raises(ValueError, match=r"a.xtc has 5 atoms, the topology has 22"):
        open_trajectory(tmp_path / "a.xtc", ala2)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"a.npz: not a readable npz file"):
        open_trajectory(path)
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(ValueError, match=r"cut.h5: not a complete HDF5 file"):
        open_trajectory(tmp_path / "cut.h5")
    (tmp_path / "a.xyz").write_text("no trajectory")
    with pytest.raises(ValueError, match=r"a.xyz: cannot read a trajectory from it"):
        open_trajectory(tmp_path / "a.xyz", ala2)


def test_without_mdanalysis_the_extra_is_named(tmp_path, ala2, monkeypatch):
    mdtraj.Trajectory(np.zeros((2, 22, 3)), ala2.topology).save(str(tmp_path / "a.trr"))
    monkeypatch.setitem(sys.modules, "MDAnalysis", None)
    with pytest.raises(ImportError, match=r"a.trr: reading this needs MDAnalysis: pip install 'cgenn\[mdanalysis\]'"):
        open_trajectory(tmp_path / "a.trr", ala2)
    assert open_trajectory(tmp_path / "a.trr", ala2, forces=False).n_frames == 2


def test_topologies_of_every_kind_are_the_same(tmp_path, ala2):
    openmm_topology = ala2.topology.to_openmm()
    path = tmp_path / "a.pdb"
    with path.open("w") as file:
        openmm.app.PDBFile.writeFile(openmm_topology, np.zeros((22, 3)), file, keepIds=True)
    for source in (ala2, ala2.topology, openmm_topology, path, str(path)):
        found = read_topology(source)
        assert len(found) == 22
        assert found.bonds.tolist() == ala2.bonds.tolist()
        np.testing.assert_allclose(found.masses, ala2.masses, atol=0.01)
    with pytest.raises(ValueError, match=r"no topology file 'absent.pdb'"):
        read_topology("absent.pdb")
    (tmp_path / "a.gro").write_text("nothing")
    with pytest.raises(ValueError, match=r"a.gro: cannot read a topology from it"):
        read_topology(tmp_path / "a.gro")
