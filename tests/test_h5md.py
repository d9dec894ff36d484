from dataclasses import fields

import h5py
import numpy as np
import pytest

from cgenn.h5md import Frames, H5MDFile, H5MDWriter

BOX = np.array([[3.0, 0.0, 0.0], [0.9, 2.5, 0.0], [-1.1, 0.7, 2.2]])
SPECIES = ["O", "H", "H", "O", "H", "H"]


def write(path, frames, periodic=True, **options):
    rng = np.random.default_rng(1)
    written = Frames(rng.normal(size=(frames, 6, 3)), rng.normal(size=(frames, 6, 3)), np.tile(BOX, (frames, 1, 1)))
    with H5MDWriter(
        path, 6, metadata={"note": "test"}, species=SPECIES, masses=[16, 1, 1] * 2, charges=[-0.8, 0.4, 0.4] * 2,
        bonds=[(0, 1), (0, 2)], periodic=periodic, forces=True, **options,
    ) as writer:  # fmt: skip
        writer.write(written.positions, written.box if periodic else None, written.forces)
    return written


def test_what_is_written_is_read(tmp_path):
    written = write(tmp_path / "a.h5", 20, dtype="float64")
    file = H5MDFile(tmp_path / "a.h5")
    assert (file.n_frames, file.n_particles, file.periodic, file.has_forces, file.has_velocities) == (
        20, 6, True, True, False,
    )  # fmt: skip
    assert file.metadata == {"note": "test"}
    assert file.species == tuple(SPECIES)
    assert file.masses.tolist() == [16, 1, 1] * 2
    assert file.charges.tolist() == [-0.8, 0.4, 0.4] * 2
    assert file.bonds.tolist() == [[0, 1], [0, 2]]
    assert file.times.tolist() == file.steps.tolist() == list(range(20))
    assert (tmp_path / "a.h5").stat().st_size < 200_000
    for name in ("positions", "forces", "box"):
        np.testing.assert_array_equal(getattr(file.read(), name), getattr(written, name))


@pytest.mark.parametrize("chunks_at_once", [1, 64])
def test_frames_are_read_in_the_order_asked_for(tmp_path, monkeypatch, chunks_at_once):
    monkeypatch.setattr("cgenn.h5md.reader._CHUNKS_AT_ONCE", chunks_at_once)
    written = write(tmp_path / "a.h5", 9000)
    file = H5MDFile(tmp_path / "a.h5")
    for frames in (slice(3, 8000, 7), [5, 2, 8999, 2], np.arange(0, 9000, 4500), []):
        wanted = np.arange(9000)[frames] if isinstance(frames, slice) else np.array(frames, dtype=int)
        np.testing.assert_allclose(file.read(frames).positions, written.positions[wanted], atol=1e-6)
    chunks = list(file.iter_chunks(1000, stride=4))
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 250]
    np.testing.assert_allclose(np.concatenate([c.forces for c in chunks]), written.forces[::4], atol=1e-6)


def test_values_in_one_piece_are_read(tmp_path):
    """Other programs need not write chunks."""
    written = write(tmp_path / "a.h5", 50)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        group = file["particles/beads/position"]
        values = group["value"][()]
        del group["value"]
        group["value"] = values
    found = H5MDFile(tmp_path / "a.h5").read([3, 40, 4])
    np.testing.assert_allclose(found.positions, written.positions[[3, 40, 4]], atol=1e-6)


def test_frames_that_lack_something_are_told(tmp_path):
    write(tmp_path / "a.h5", 50)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["particles/beads/force/value"].resize(40, axis=0)
    with pytest.raises(ValueError, match=r"a\.h5: holds 50 frames, but forces of only 40"):
        H5MDFile(tmp_path / "a.h5")


def test_single_frames_survive_a_kill_after_flush_and_are_continued(tmp_path):
    path = tmp_path / "a.h5"
    options = {"metadata": {}, "species": ["A"] * 2, "masses": [1, 1], "periodic": False, "forces": False}
    writer = H5MDWriter(path, 2, velocities=True, **options)
    for step in range(5):
        writer.write(np.full((2, 3), step), velocities=np.zeros((2, 3)), time=0.5 * step, step=10 * step)
    writer.flush()
    assert H5MDFile(path).n_frames == 5
    writer.close()
    with H5MDWriter(path, 2, velocities=True, append=True, **options) as writer:
        writer.truncate(3)
        writer.write(np.full((2, 3), 7), velocities=np.ones((2, 3)), time=9.0, step=99)
        assert writer.n_frames == 4
    file = H5MDFile(path)
    assert file.read().positions[:, 0, 0].tolist() == [0, 1, 2, 7]
    assert file.times.tolist() == [0, 0.5, 1, 9]
    assert file.steps.tolist() == [0, 10, 20, 99]
    with pytest.raises(ValueError, match=r"cannot append .* of 3 beads, the file holds .* of 2"):
        H5MDWriter(path, 3, append=True, **{**options, "species": ["A"] * 3, "masses": [1, 1, 1]})


@pytest.mark.parametrize("at_once", [1, 4])
def test_no_chunk_is_written_twice(tmp_path, at_once):
    """A kill while a chunk is written again spoils what was in it: chunks fit between two flushes."""
    path, written = tmp_path / "frames.h5", {}
    options = {"metadata": {}, "species": ["A"] * 300, "masses": [1.0] * 300, "periodic": False, "forces": False}
    with H5MDWriter(path, 300, flushed=140, **options) as writer:
        for number in range(0, 560, at_once):
            writer.write(np.random.default_rng(number).normal(size=(at_once, 300, 3)))
            if (number + at_once) % 140 == 0:
                writer.flush()
            with h5py.File(path, "r") as file:
                values = file["particles/beads/position/value"].id
                chunks = [values.get_chunk_info(k) for k in range(values.get_num_chunks())]
            found = {chunk.chunk_offset: (chunk.byte_offset, chunk.size) for chunk in chunks}
            assert written.items() <= found.items()
            written = found
    assert len(written) == 560 // 70
    assert H5MDFile(path).n_frames == 560


def test_mdanalysis_reads_the_same(tmp_path):
    universe = pytest.importorskip("MDAnalysis").Universe.empty(6, trajectory=False)
    written = write(tmp_path / "a.h5", 5)
    universe.load_new(str(tmp_path / "a.h5"), format="H5MD")
    assert len(universe.trajectory) == 5
    step = universe.trajectory[3]
    np.testing.assert_allclose(step.positions, 10 * written.positions[3], atol=1e-5)
    np.testing.assert_allclose(step.forces, written.forces[3] / 10, atol=1e-6)
    lengths = 10 * np.linalg.norm(BOX, axis=1)
    np.testing.assert_allclose(step.dimensions[:3], lengths, rtol=1e-6)
    cosine = BOX[0] @ BOX[1] / np.linalg.norm(BOX[0]) / np.linalg.norm(BOX[1])
    assert step.dimensions[5] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-6)


def test_the_writer_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"`masses` must have one entry per particle \(6\), got 2"):
        H5MDWriter(tmp_path / "a", 6, metadata={}, species=SPECIES, masses=[1, 2], periodic=True, forces=False)
    writer = H5MDWriter(tmp_path / "b", 6, metadata={}, species=SPECIES, masses=[1] * 6, periodic=True, forces=False)
    frame = np.zeros((6, 3))
    with writer, pytest.raises(ValueError, match="`box/edges` is missing"):
        writer.write(frame)
    writer = H5MDWriter(tmp_path / "b", 6, metadata={}, species=SPECIES, masses=[1] * 6, periodic=True, forces=False)
    with writer:
        with pytest.raises(ValueError, match="`force` was given but the file does not hold it"):
            writer.write(frame, BOX, forces=frame)
        with pytest.raises(ValueError, match=r"`position` must have shape \(1, 6, 3\), got \(1, 5, 3\)"):
            writer.write(frame[:5], BOX)


def full_frames(frames: int) -> Frames:
    """Every quantity, as numbers that single precision holds exactly."""
    rng = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(-64, 64, (frames, *shape)) / 8

    box = np.tile(BOX, (frames, 1, 1))
    turning = draw(6, 4), draw(6, 3), draw(6, 3)
    return Frames(
        draw(6, 3), draw(6, 3), box, draw(6, 3), draw(6), draw(6, 3), draw() + 1e-9, draw(3, 3) + 1e-9, *turning,
        draw(),
    )  # fmt: skip


FULL = dict.fromkeys(
    ["velocities", "frame_charges", "dipoles", "energies", "virials", "orientations", "torques", "angular_velocities"],
    True,
)


def write_full(path, frames, **options):
    with H5MDWriter(
        path, 6, metadata={}, species=SPECIES, masses=[16, 1, 1] * 2, periodic=True, forces=True, **FULL, **options
    ) as writer:
        if options.get("append"):
            writer.truncate(30)
        given = {entry.name: getattr(frames, entry.name) for entry in fields(frames)}
        writer.write(time=given.pop("times"), **given)


def test_charges_dipoles_energies_and_virials_of_each_frame(tmp_path):
    """They are written, continued, cut and read like the positions, and single frames like several."""
    path, written = tmp_path / "a.h5", full_frames(50)
    write_full(path, written[:40])
    write_full(path, written[30:], append=True)
    file = H5MDFile(path)
    assert (file.has_charges, file.has_dipoles, file.has_energies, file.has_virials) == (True,) * 4
    assert (file.has_orientations, file.has_torques, file.has_angular_velocities) == (True,) * 3
    assert file.charges is None
    for read, wanted in ((file.read(), written), (file.read([7, 3]), written[np.array([7, 3])])):
        for entry in fields(Frames):
            np.testing.assert_array_equal(getattr(read, entry.name), getattr(wanted, entry.name))
    single = full_frames(1)
    write_full(path, Frames(*(getattr(single, entry.name)[0] for entry in fields(single))))
    np.testing.assert_array_equal(H5MDFile(path).read().virials, single.virials)
    with h5py.File(path) as content:
        units = {
            name: content[name]["value"].attrs["unit"] for name in ("observables/virial", "particles/beads/charge")
        }
        assert units == {"observables/virial": "kJ mol-1", "particles/beads/charge": "e"}
        assert content["observables/potential_energy/time"] == content["particles/beads/position/time"]
    with pytest.raises(
        ValueError, match=r"cannot append \['position', 'box/edges'\] of 6 beads, the file holds .*virial"
    ):
        H5MDWriter(path, 6, metadata={}, species=SPECIES, masses=[1] * 6, periodic=True, forces=False, append=True)
    with pytest.raises(ValueError, match="`charges` are those of all frames"):
        write_full(path, single, charges=[0.0] * 6)


def test_mdanalysis_reads_positions_beside_charges_of_each_frame(tmp_path):
    universe = pytest.importorskip("MDAnalysis").Universe.empty(6, trajectory=False)
    written = full_frames(5)
    write_full(tmp_path / "a.h5", written)
    universe.load_new(str(tmp_path / "a.h5"), format="H5MD")
    for number, step in enumerate(universe.trajectory):
        np.testing.assert_allclose(step.positions, 10 * written.positions[number], rtol=1e-6)
        np.testing.assert_allclose(step.data["potential_energy"], written.energies[number])
        np.testing.assert_allclose(step.data["virial"], written.virials[number])


def test_a_truncated_file_is_named(tmp_path):
    write(tmp_path / "a.h5", 3000)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.h5: not a complete HDF5 file, perhaps cut off"):
        H5MDFile(tmp_path / "cut.h5")
    with pytest.raises(ValueError, match=r"no file .*absent.h5"):
        H5MDFile(tmp_path / "absent.h5")
