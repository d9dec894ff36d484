"""A full disk and Ctrl-C in every command: what was whole stays, nothing half-written is left, and it can go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cgenn.cli import app


def command(words, folder, kilobytes=None):
    """`cgenn` in a process of its own, whose files may be so large at most."""
    limit = f"ulimit -f {kilobytes}; " if kilobytes else ""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        ["bash", "-c", f'{limit}exec "$@"', "bash", sys.executable, "-m", "cgenn", *words.split()],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture
def copied(pipeline, tmp_path):
    """A copy of what the examples made."""
    shutil.copytree(pipeline[0], tmp_path / "work")
    return tmp_path / "work"


def again(words, folder, monkeypatch):
    """The same command once more, to its end, in this process."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, [*words.split(), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


SMALL = "--set network.cutoff=0.8 --set network.channels=8 --set network.radial_width=8 --set batch_size=60"
SIMULATE = "simulate model/model.safetensors cg.h5 --out new --set timestep=0.001"
REFERENCE = "reference alanine-dipeptide-vacuum --interval 0.2 --equilibration 1"

FULL = {
    "reference": (REFERENCE + " --length 20 --out new", 30, "new/trajectory.h5"),
    "map": ("map aa --mapping backbone --out new.h5", 10, "new.h5"),
    "train": (f"train cg.h5 --out new {SMALL} --set epochs=3", 12, "new/model.safetensors"),
    "model": (f"train cg.h5 --out model {SMALL} --set epochs=2", 12, "model/model.safetensors"),
    "simulate": (SIMULATE + " --set steps=400 --set report_interval=2", 15, None),
    "compare": ("compare run cg.h5 --out new", 30, "new/report.html"),
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_named_and_leaves_nothing_half_written(copied, monkeypatch, name):
    """Files are limited in size; once there is room, the same command makes what was missing."""
    words, kilobytes, product = FULL[name]
    if name == "model":
        (copied / product).unlink()
    process = command(words, copied, kilobytes)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert output == ""
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: OSError: [Errno 27] ")
    assert words.split("--out ")[1].split()[0] in last
    assert "Traceback" not in errors
    if product:
        assert not (copied / product).exists()
    left = [path for path in copied.rglob("*.partial") if not path.name.startswith("frames")]
    assert left == []
    again(words, copied, monkeypatch)
    assert product is None or (copied / product).exists()


def until(condition, process):
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupt(process):
    """Ctrl-C reaches all processes of a terminal; what was said of it."""
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert output == ""
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_interrupted_reference_run_goes_on(copied, monkeypatch, replicas):
    words = f"{REFERENCE} --length 150 --replicas {replicas} --out new"
    process = command(words, copied)
    logs = (copied / "new").glob
    until(lambda: sum(log.stat().st_size > 20_000 for log in logs("frames*.partial")) == replicas, process)
    assert interrupt(process) == "interrupted: the same command goes on from what was saved"
    assert not list((copied / "new").glob("trajectory*"))
    assert again(words, copied, monkeypatch)["frames"] == 750 * replicas


def test_an_interrupted_mapping_leaves_nothing(copied, monkeypatch):
    """Long because there are many files, all the same."""
    process = command("map --mapping backbone --out new.h5" + 600 * " aa/trajectory.h5", copied)
    until((copied / "new.h5.partial").exists, process)
    assert interrupt(process) == "interrupted: the same command starts again"
    assert not list(copied.glob("new*"))
    assert again("map --mapping backbone --out new.h5 aa", copied, monkeypatch)["frames"] == 200


def test_an_interrupted_training_goes_on(copied, monkeypatch):
    words = f"train cg.h5 --out new {SMALL} --set epochs=25"
    process = command(words, copied)
    until(lambda: list((copied / "new").glob("*/last.ckpt")), process)
    said = interrupt(process)
    assert said.startswith("interrupted: the same command goes on from epoch ")
    reached = int(said.split()[-1])
    assert 0 <= reached < 25
    assert not (copied / "new/model.safetensors").exists()
    assert again(words, copied, monkeypatch)["epochs"] == 25
    lines = (copied / "new/metrics/metrics.csv").read_text().splitlines()
    epochs = [int(line.split(",")[lines[0].split(",").index("epoch")]) for line in lines[1:]]
    assert max(epochs) == 24
    assert set(range(reached + 1, 25)) <= set(epochs)


def test_an_interrupted_simulation_goes_on(copied, monkeypatch):
    words = f"{SIMULATE} --set steps=600 --set report_interval=5"
    process = command(words, copied)
    record = copied / "new/run.json"
    until(lambda: record.exists() and json.loads(record.read_text())["steps"], process)
    assert interrupt(process) == "interrupted: the same command goes on from what was saved"
    assert 0 < json.loads(record.read_text())["steps"] < 600
    monkeypatch.chdir(copied)
    early = CliRunner().invoke(app, ["compare", "new", "cg.h5", "--out", "report"])
    assert early.exit_code == 2
    assert "error: the run in new is not finished" in early.stderr
    assert again(words, copied, monkeypatch)["frames"] == 120


def test_an_interrupted_comparison_starts_again(copied, monkeypatch):
    process = command("compare run cg.h5 --out new", copied)
    assert process.stderr.readline() == "comparing 60 frames of run with 200 of cg.h5\n"
    assert interrupt(process) == "interrupted: the same command starts again"
    assert not list(copied.rglob("*.partial"))
    again("compare run cg.h5 --out new", copied, monkeypatch)
    assert (copied / "new/report.html").read_text().rstrip().endswith("</html>")
