"""Every command as a user gives it: the examples of the help, run for real on a few ps of alanine dipeptide."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cgenn import cli, shipped
from cgenn.cli import app
from cgenn.data.dataset import BeadDataset
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors

COMMANDS = [
    "list", "reference", "map", "audit", "polymer", "melt", "train", "simulate", "refine", "match-pairs",
    "match-pressure", "compare", "backmap", "check", "run",
]  # fmt: skip


def cgenn(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def sentence(result):
    """What an error is told with: one line."""
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert result.stdout == ""
    return lines[0]


@pytest.fixture
def here(pipeline, monkeypatch):
    """The folder in which the examples were run."""
    monkeypatch.chdir(pipeline[0])
    return pipeline[0]


@pytest.fixture(scope="module")
def said(pipeline):
    return pipeline[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    result = cgenn(command, "--help")
    assert result.exit_code == 0
    assert f"Example: cgenn {command}" in result.stdout
    assert "--json" in result.stdout or command == "run"


@pytest.mark.parametrize(
    ("command", "units"),
    [
        ("reference", ["[ps]", "[K]"]),
        ("map", ["[K]"]),
        ("train", ["[nm]"]),
        ("simulate", ["[ps]", "[K]", "[1/ps]"]),
        ("match-pressure", ["[bar]", "[bar nm]"]),
    ],
)
def test_help_has_units(command, units):
    text = cgenn(command, "--help").stdout
    assert [unit for unit in units if unit not in text] == []


def test_help_lists_every_command():
    text = " ".join(cgenn("--help").stdout.split())
    assert [command for command in COMMANDS if command not in text] == []
    assert "nm, ps, kJ/mol, e, amu, K." in text


def test_list():
    found = json.loads(cgenn("list", "--json").stdout)
    assert "backbone" in found["mappings"]
    assert "alanine-dipeptide-vacuum" in found["systems"]
    assert {"ala2", "demo"} <= set(found["workflows"])
    assert f"workflows: {', '.join(found['workflows'])}\n" in cgenn("list").stdout


def test_reference_and_map(said, here):
    assert (said["reference"]["folder"], said["reference"]["trajectories"]) == ("aa", ["aa/trajectory.h5"])
    assert said["reference"]["frames"] == 200
    assert said["reference"]["mean"]["temperature [K]"] == pytest.approx(300, abs=30)
    assert (said["map"]["frames"], said["map"]["beads"], said["map"]["atoms"]["unmapped"]) == (200, 5, {})
    assert BeadDataset.open("cg.h5").has_forces


def test_train(said, here):
    assert said["train"]["frames"] == [180]
    errors = said["train"]["force_errors"]
    assert 0 < errors["model"] < errors["null"]
    assert said["train"] | {"model": None} == said["train"] | {"model": None} | json_part("model/training.json")
    assert Potential.load("model/model.safetensors").config.cutoff == 0.8


def json_part(path):
    entries = json.loads(Path(path).read_text())
    return {key: entries[key] for key in ("epochs", "frames", "force_errors", "units", "prior_notes")}


def test_simulate(said, here):
    assert (said["simulate"]["steps"], said["simulate"]["frames"]) == (200, 60)
    assert said["simulate"]["backend"] in ("openmm-torch", "python")
    assert said["simulate"]["ns_per_day_all_replicas"] == pytest.approx(3 * said["simulate"]["ns_per_day"])


def test_compare(said, here):
    headline = json.loads(Path("report/report.json").read_text())["headline"]
    assert said["compare"] == {"report": "report/report.html", **headline}
    assert {"js", "js_mirrored", "js_sampling_floor", "backend", "force_rmse"} <= said["compare"].keys()
    assert Path("report/report.html").read_text().count("data:image/png") >= 3


def test_check(said, here):
    assert all(entry["passed"] for entry in said["check"])
    assert {"rotation", "F = -dE/dR", "backends agree"} <= {entry["name"] for entry in said["check"]}


def test_results_for_a_person(said, here):
    compared = cgenn("compare", "run", "cg.h5", "--out", "report").stdout.splitlines()
    assert f"js: {said['compare']['js']:.6g}" in compared
    errors = cgenn(*train_again()).stdout.split("force_errors:\n")[1]
    assert errors.startswith(f"  null: {said['train']['force_errors']['null']:.6g}\n")
    table = cgenn("check", "model/model.safetensors").stdout
    assert table.count(" ok ") == len(said["check"])


def train_again():
    settings = ("epochs=2", "network.cutoff=0.8", "batch_size=60", "network.channels=8", "network.radial_width=8")
    return ["train", "cg.h5", "--out", "model", *(word for setting in settings for word in ("--set", setting))]


def test_what_is_finished_is_not_done_again(said, here):
    files = [path for name in ("aa", "model", "run") for path in sorted((here / name).rglob("*")) if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    reference = "reference alanine-dipeptide-vacuum --out aa --length 40 --interval 0.2 --equilibration 1"
    simulate = "simulate model/model.safetensors cg.h5 --out run --set steps=200 --set report_interval=10 "
    for words in (reference.split(), train_again(), (simulate + "--set timestep=0.001 --set replicas=3").split()):
        assert cgenn(*words).exit_code == 0
    assert [path.stat().st_mtime_ns for path in files] == before


def test_settings_come_from_a_file_and_the_command_line_goes_over_it(here, tmp_path):
    (tmp_path / "short.toml").write_text('steps = 40\nreport_interval = 10\nbackend = "python"\nformats = ["dcd"]\n')
    words = ["simulate", "model/model.safetensors", "cg.h5", "--out", tmp_path / "run", "--config"]
    result = cgenn(*words, tmp_path / "short.toml", "--set", "steps=20", "--set", "timestep=0.001", "--json")
    assert json.loads(result.stdout)["steps"] == 20
    settings = json.loads((tmp_path / "run/run.json").read_text())["settings"]
    assert (settings["backend"], settings["timestep"]) == ("python", 0.001)
    assert (tmp_path / "run/trajectory.dcd").exists()


def test_a_folder_of_results_may_be_called_like_the_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "alanine-dipeptide-vacuum"
    words = ["reference", name, "--out", name, "--length", 1, "--interval", 0.5, "--equilibration", 0.5, "--json"]
    assert cgenn(*words).stdout == cgenn(*words).stdout != ""


def test_a_mistake_is_told_in_a_sentence_and_the_status_is_2(here, tmp_path):
    result = cgenn("compare", "model", "cg.h5", "--out", tmp_path / "report")
    assert result.exit_code == 2
    assert sentence(result) == "error: model: not the folder of a run, there is no run.json"
    assert not (tmp_path / "report").exists()
    assert cgenn("simulate").exit_code == 2
    assert cgenn("simulat").exit_code == 2
    result = cgenn("map", "aa", "--mapping", "backbone", "--out", tmp_path / "cg.h5", "--force-map", "best")
    assert (result.exit_code, sentence(result)) == (2, "error: --force-map must be optimal or sum, got 'best'")


def changed(source, target, change):
    """A copy of a model with its weights or priors changed."""
    model = Potential.load(source)
    priors = model.priors.model_dump()
    change(model.network, priors)
    copy = Potential(model.config, Priors(**priors))
    copy.network.load_state_dict(model.network.state_dict())
    copy.save(target)
    return target


def test_what_breaks_while_running_has_status_1(here, tmp_path):
    def stiffen(network, priors):
        for bond in priors["bonds"].values():
            bond["k"] *= 1e5

    stiff = changed("model/model.safetensors", tmp_path / "stiff.safetensors", stiffen)
    result = cgenn("simulate", stiff, "cg.h5", "--out", tmp_path / "run", "--set", "steps=500", "--json")
    assert result.exit_code == 1
    assert sentence(result).startswith("error: SimulationError: step ")
    assert "the strongest force is that of `bonds` on bead" in result.stderr


def test_a_check_that_fails_has_status_1(here, tmp_path):
    """Weights so large that the energy overflows."""

    def blow_up(network, priors):
        for weights in network.state_dict().values():
            if weights.is_floating_point():
                weights *= 1e37

    path = changed("model/model.safetensors", tmp_path / "model.safetensors", blow_up)
    result = cgenn("check", path, "--json")
    assert result.exit_code == 1
    found = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert not found["backends agree"]["passed"]
    assert found["backends agree"]["value"] is None
    assert "the network on bead 0 is not finite" in found["backends agree"]["detail"]
    assert found["translation"].keys() == {"name", "value", "tolerance", "passed", "detail"}


@pytest.fixture
def workflow(tmp_path):
    def write(body):
        lines = ["import typer", "def main(number: float = 1.0):", *(f"    {line}" for line in body.splitlines())]
        path = tmp_path / "mine.py"
        path.write_text("\n".join([*lines, 'if __name__ == "__main__":', "    typer.run(main)"]))
        return path

    return write


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("print(number)", 0, ""),
        ("raise typer.Exit(3)", 3, ""),
        ("raise ValueError('`number` must not be 2')", 2, "error: `number` must not be 2\n"),
        ("raise OSError('no room')", 1, "error: OSError: no room\n"),
        ("raise KeyboardInterrupt", 130, "interrupted: the same command goes on from what was saved\n"),
    ],
)
def test_run_takes_a_workflow_of_ones_own(workflow, body, status, said):
    before = list(sys.argv)
    result = cgenn("run", workflow(body), "--number", "2")
    assert (result.exit_code, result.stderr) == (status, said)
    assert result.stdout == ("2.0\n" if status == 0 else "")
    assert sys.argv == before


def test_run_names_its_workflows_and_passes_help_on():
    names = ", ".join(shipped.names("workflows"))
    assert f"Workflows: {names}" in cgenn("run", "--help").stdout
    assert "--quick" in cgenn("run", "demo", "--help").stdout
    result = cgenn("run", "dmeo")
    assert (result.exit_code, sentence(result)) == (2, f"error: no workflow 'dmeo': expected a path or one of {names}")


def shell(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cgenn", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_in_a_process_of_its_own_the_standard_output_is_json_only(here, tmp_path):
    shutil.copy("cg.h5", tmp_path / "cg.h5")
    train = shell(tmp_path, *train_again(), "--json")
    assert train.returncode == 0
    assert json.loads(train.stdout)["epochs"] == 2
    assert "warning: dihedral" in train.stderr
    assert "validation force error, root mean square [kJ/mol/nm]: no interaction" in train.stderr
    assert "epoch 1 of 2" in train.stderr


@pytest.mark.slow
def test_two_processes_of_a_training_give_one_result(here, tmp_path):
    shutil.copy("cg.h5", tmp_path / "cg.h5")
    train = shell(tmp_path, *train_again(), "--set", "devices=2", "--set", "accelerator=cpu", "--json")
    assert train.returncode == 0, train.stderr
    assert json.loads(train.stdout)["epochs"] == 2
    assert train.stderr.count("this model") == 1


def test_ctrl_c_is_not_lost_in_a_destructor():
    class Dropper:
        def __del__(self):
            raise KeyboardInterrupt

    with cli._ctrl_c_is_kept():
        Dropper()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(20)
