from dataclasses import fields, replace

import numpy as np
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.data.import_beads import import_beads
from cgenn.h5md import Frames, H5MDWriter
from cgenn.reference.charge_equilibration import EquilibratedIons
from cgenn.reference.crystals import Crystal
from cgenn.reference.ions import frames_of
from cgenn.topology import BeadTopology


def symmetric(virials: np.ndarray) -> np.ndarray:
    return 0.5 * (virials + virials.transpose(0, 2, 1))


@pytest.fixture
def topology() -> BeadTopology:
    return BeadTopology.build(["A", "B", "B"], [12.0, 14.0, 14.0], bonds=[(0, 1)], charges=[1.0, -1.0, 0.0])


@pytest.fixture
def frames() -> Frames:
    rng = np.random.default_rng(0)
    return Frames(0.5 * rng.random((50, 3, 3)), rng.normal(size=(50, 3, 3)), np.tile(np.eye(3), (50, 1, 1)))


def test_there_and_back(tmp_path, topology, frames):
    written = BeadDataset.write(tmp_path / "a.h5", topology, frames, temperature=300, provenance={"who": "me"})
    again = BeadDataset.open(tmp_path / "a.h5")
    for dataset in (written, again):
        assert (len(dataset), dataset.n_frames, dataset.has_forces, dataset.periodic) == (50, 50, True, True)
        assert dataset.temperature == 300.0
        assert dataset.provenance == {"who": "me"}
        assert dataset.segments == [(0, 50)]
        assert dataset.topology.to_dict() == topology.to_dict()
        np.testing.assert_allclose(dataset.read().forces, frames.forces, rtol=1e-6)
        np.testing.assert_allclose(dataset.read([4, 2]).positions, frames.positions[[4, 2]], rtol=1e-6)
    assert [len(chunk) for chunk in again.iter_chunks(20)] == [20, 20, 10]


def test_charges_dipoles_energies_and_virials(tmp_path, topology, frames):
    rng = np.random.default_rng(1)
    extra = {
        "charges": rng.normal(size=(50, 3)), "dipoles": rng.normal(size=(50, 3, 3)),
        "energies": rng.normal(size=50), "virials": symmetric(rng.normal(size=(50, 3, 3))),
    }  # fmt: skip
    plain = BeadDataset.write(tmp_path / "a.h5", topology, frames, temperature=300)
    assert (plain.has_charges, plain.has_dipoles, plain.has_energies, plain.has_virials) == (False,) * 4
    full = BeadDataset.write(tmp_path / "b.h5", topology, replace(frames, **extra), temperature=300)
    assert (full.has_charges, full.has_dipoles, full.has_energies, full.has_virials) == (True,) * 4
    assert full.topology.charges.tolist() == topology.charges.tolist()
    for name, values in extra.items():
        np.testing.assert_allclose(getattr(full.read([3, 40]), name), values[[3, 40]], rtol=1e-6)
    with pytest.raises(ValueError, match="`dipole` is missing"):
        BeadDataset.write(
            tmp_path / "c.h5", topology, [replace(frames, dipoles=extra["dipoles"]), frames], temperature=300
        )


def test_chunks_are_streamed(tmp_path, topology, frames):
    chunks = (frames[start : start + 7] for start in range(0, 50, 7))
    dataset = BeadDataset.write(tmp_path / "a.h5", topology, chunks, temperature=300, segments=[(0, 20), (20, 50)])
    np.testing.assert_allclose(dataset.read().positions, frames.positions, rtol=1e-6)
    assert dataset.segments == [(0, 20), (20, 50)]


def test_mdanalysis_reads_it(tmp_path, topology, frames):
    universe = pytest.importorskip("MDAnalysis").Universe.empty(3, trajectory=False)
    BeadDataset.write(tmp_path / "a.h5", topology, frames, temperature=300)
    universe.load_new(str(tmp_path / "a.h5"), format="H5MD")
    np.testing.assert_allclose(universe.trajectory[49].positions, 10 * frames.positions[49], atol=1e-5)


def test_ions_whose_charges_change_are_read_by_mdanalysis_and_imported_again(tmp_path):
    universe = pytest.importorskip("MDAnalysis").Universe.empty(8, trajectory=False)
    crystal, random = Crystal.build("rock-salt", 1, 0.3), np.random.default_rng(0)
    _, positions, box = crystal.disturbed(6, displacement=0.01, strain=0.02, random=random)
    written = frames_of(EquilibratedIons(), crystal.types, positions, box)
    ions = BeadTopology.build(["cation" if kind == 0 else "anion" for kind in crystal.types], [30.0] * 8)
    path = BeadDataset.write(tmp_path / "a.h5", ions, written, temperature=300).path
    assert np.ptp(written.charges[:, 0]) > 1e-4
    universe.load_new(str(path), format="H5MD")
    assert len(universe.trajectory) == 6
    for number, step in enumerate(universe.trajectory):
        np.testing.assert_allclose(step.positions, 10 * positions[number], atol=1e-5)
        np.testing.assert_allclose(step.forces, written.forces[number] / 10, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(step.dimensions[:3], 10 * np.linalg.norm(box[number], axis=1), rtol=1e-6)
        assert step.data["potential_energy"] == pytest.approx(written.energies[number])
    again = import_beads(path, ions, tmp_path / "b.h5", temperature=300).read([4, 1])
    for entry in fields(Frames):
        expected = getattr(written, entry.name)
        found = getattr(again, entry.name)
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(found, expected[[4, 1]], rtol=1e-6, atol=1e-5)


def test_a_failure_leaves_nothing(tmp_path, topology, frames):
    def broken():
        yield frames
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BeadDataset.write(tmp_path / "a.h5", topology, broken(), temperature=300)
    with pytest.raises(ValueError, match="temperature must be positive, got 0 K"):
        BeadDataset.write(tmp_path / "a.h5", topology, frames, temperature=0)
    with pytest.raises(ValueError, match="`segments` must follow one another from 0 to 50"):
        BeadDataset.write(tmp_path / "a.h5", topology, frames, temperature=300, segments=[(0, 20), (30, 50)])
    with pytest.raises(ValueError, match=r"a.h5: there are no frames to write"):
        BeadDataset.write(tmp_path / "a.h5", topology, [], temperature=300)
    assert list(tmp_path.iterdir()) == []


def test_another_h5md_file_is_not_a_dataset(tmp_path):
    with H5MDWriter(
        tmp_path / "a.h5", 1, metadata={}, species=["O"], masses=[16.0], periodic=False, forces=False, group="atoms"
    ) as writer:
        writer.write(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"a.h5: an H5MD file of atoms, but not a bead dataset"):
        BeadDataset.open(tmp_path / "a.h5")


def test_beads_mapped_elsewhere_are_imported(tmp_path, data_folder):
    source = data_folder / "ala2_5bead_cgnet_10k.npz"
    with np.load(source) as file:
        types, positions, forces = file["beads"].tolist(), file["positions"], file["forces"]
    topology = BeadTopology.build(types, [12.011, 14.007, 12.011, 12.011, 14.007], bonds=[(i, i + 1) for i in range(4)])
    dataset = import_beads(source, topology, tmp_path / "cg.h5", temperature=300)
    assert len(dataset) == 10_000
    frames = dataset.read()
    np.testing.assert_allclose(frames.positions, 0.1 * positions, rtol=1e-5)
    np.testing.assert_allclose(frames.forces, 41.84 * forces, rtol=1e-5)
    bonds = np.linalg.norm(np.diff(frames.positions, axis=1), axis=-1).mean(axis=0)
    np.testing.assert_allclose(bonds, [0.1335, 0.1449, 0.1522, 0.1335], atol=0.004)  # ff99SB: C-N, N-CA, CA-C, C-N
    with pytest.raises(ValueError, match=r"ala2_5bead.* has 5 beads, the topology has 1"):
        import_beads(source, BeadTopology.build(["A"], [1.0]), tmp_path / "b.h5", temperature=300)


def test_charges_dipoles_and_energies_of_beads_are_imported(tmp_path, topology):
    rng = np.random.default_rng(0)
    shapes = {"positions": (4, 3, 3), "charges": (4, 3), "dipoles": (4, 3, 3), "energies": (4,), "virials": (4, 3, 3)}
    entries = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    entries["virials"] = symmetric(entries["virials"])
    np.savez(tmp_path / "a.npz", **entries, units="A, e A, kcal/mol")
    frames = import_beads(tmp_path / "a.npz", topology, tmp_path / "a.h5", temperature=300).read()
    for name, scale in {"positions": 0.1, "charges": 1.0, "dipoles": 0.1, "energies": 4.184, "virials": 4.184}.items():
        np.testing.assert_allclose(getattr(frames, name), scale * entries[name], rtol=1e-6)
    np.savez(tmp_path / "b.npz", positions=entries["positions"], charges=[1.0, -1.0, 0.5], units="nm")
    with pytest.raises(ValueError, match=r"b.npz: bead 2 has charge 0.5 e, 0.0 e in the topology"):
        import_beads(tmp_path / "b.npz", topology, tmp_path / "b.h5", temperature=300)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("charges", np.nan, r"a\.h5: frame 3, bead 1: charge is nan"),
        ("energies", np.inf, r"a\.h5: frame 3: potential_energy is inf"),
        ("virials", 7.0, r"a\.h5: frame 3: the virial is not symmetric"),
        ("positions", 1.2, r"a\.h5: frame 3: bonded beads 0 and 1 are .* make molecules whole"),
    ],
)
def test_what_cannot_be_right_is_not_written(tmp_path, topology, frames, name, value, said):
    rng = np.random.default_rng(0)
    full = replace(frames, charges=rng.normal(size=(50, 3)), energies=rng.normal(size=50), virials=np.zeros((50, 3, 3)))
    values = np.array(getattr(full, name))
    values[(3, 1) + (0,) * (values.ndim - 2) if values.ndim > 1 else 3] = value
    with pytest.raises(ValueError, match=said):
        BeadDataset.write(tmp_path / "a.h5", topology, replace(full, **{name: values}), temperature=300.0)
    assert list(tmp_path.iterdir()) == []
