import numpy as np
import pytest

from cgenn.h5md import H5MDFile
from cgenn.reference.records import FrameLog, read_log, record_type, write_state, write_trajectory


def make_records(count, n_atoms=3):
    rng = np.random.default_rng(0)
    records = np.zeros(count, record_type(n_atoms))
    records["step"] = 100 * np.arange(1, count + 1)
    records["time"] = 0.2 * np.arange(1, count + 1)
    records["box"] = 2.0 * np.eye(3)
    for key in ("positions", "forces"):
        records[key] = rng.normal(size=records[key].shape)
    return records


def write_log(path, records, keep=0):
    with FrameLog(path, 3, keep) as log:
        for record in records:
            log.append(record)
        log.flush()


def test_log_is_cut_where_it_is_resumed(tmp_path):
    path, records = tmp_path / "frames", make_records(6)
    write_log(path, records[:4])
    with open(path, "ab") as file:
        file.write(b"half a record")
    write_log(path, records[3:], keep=3)
    np.testing.assert_array_equal(read_log(path, 3), records)


def test_log_shorter_than_the_checkpoint_says(tmp_path):
    write_log(tmp_path / "frames", make_records(2))
    with pytest.raises(ValueError, match="written after 3 frames, but there are 2"):
        FrameLog(tmp_path / "frames", 3, keep=3)


def test_state(tmp_path):
    write_state(make_records(2), tmp_path / "state.csv", mass=1000.0, periodic=True)
    lines = (tmp_path / "state.csv").read_text().splitlines()
    assert lines[0].split(",")[-1] == "density [g/cm^3]"
    step, time, *_, volume, density = map(float, lines[2].split(","))
    assert (step, time, volume) == (200, 0.4, 8.0)
    assert density == pytest.approx(1000 * 1.66053906660e-24 / 8e-21, abs=1e-6)


@pytest.mark.parametrize("periodic", [True, False])
def test_trajectory(tmp_path, periodic):
    records = make_records(2500)
    particles = {"n_particles": 3, "species": ["O", "H", "H"], "masses": [16.0, 1.0, 1.0]}
    path = tmp_path / "trajectory.h5"
    write_trajectory(records, path, metadata={"a": 1}, periodic=periodic, **particles)
    file = H5MDFile(path)
    frames = file.read()
    assert file.group == "atoms"
    np.testing.assert_array_equal(frames.positions, records["positions"])
    np.testing.assert_array_equal(frames.forces, records["forces"])
    np.testing.assert_array_equal(frames.energies, records["potential"])
    np.testing.assert_array_equal(file.steps, records["step"])
    assert frames.box is None if not periodic else np.array_equal(frames.box, records["box"])
    assert list(tmp_path.iterdir()) == [path]
