"""Every shipped workflow in its quick form: what it makes, that it goes on, that nothing is done twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cgenn import shipped
from cgenn.cli import app
from cgenn.potential.potential import Potential
from cgenn.simulation.folder import Run


def cgenn(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def stamps(folder):
    """When each file was written, except for those that every run writes anew."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "report" not in path.parts)
    anew = ("refined", "paired", "matched")
    return {path: path.stat().st_mtime_ns for path in files if path.parent.name not in anew and path.parent != folder}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of the demo, stopped by Ctrl-C once it has mapped, and run again to its end; what it said then."""
    out = tmp_path_factory.mktemp("workflow") / "demo"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "cgenn", "run", "demo", "--quick", "--out", str(out)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 200
    while not (out / "model").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=100)[1]
    assert (process.returncode, "Traceback" in errors) == (130, False)
    assert errors.strip().splitlines()[-1] == "interrupted: the same command goes on from what was saved"
    assert not (out / "model/model.safetensors").exists()
    before = stamps(out / "aa")
    said = json.loads(cgenn("run", "demo", "--quick", "--out", out, "--json"))
    assert stamps(out / "aa") == before
    return out, said


def test_demo_makes_everything(demo):
    out, said = demo
    assert {path.name for path in out.iterdir()} == {"aa", "cg.h5", "model", "run", "report"}
    assert said == json.loads((out / "report/report.json").read_text())
    headline = said["headline"]
    assert 0 < headline["js"] < headline["js_mirrored"] < 0.7
    assert {"js_sampling_floor", "ns_per_day", "backend", "force_rmse"} <= headline.keys()
    page = (out / "report/report.html").read_text()
    assert "Training history" in page
    assert "noise floor" in page
    run = Run.open(out / "run")
    assert run.finished
    assert np.isfinite(run.positions).all()


def test_demo_is_not_done_twice(demo):
    out, _ = demo
    before = stamps(out)
    assert "report: " in cgenn("run", "demo", "--quick", "--out", out)
    assert stamps(out) == before


def test_ala2(data_folder, tmp_path):
    """On a fifth of the frames; the numbers promised are there, and belong together."""
    with np.load(data_folder / "ala2_5bead_cgnet_10k.npz") as file:
        entries = {key: file[key] for key in ("positions", "forces", "units")}
    thinned = {key: values[::5] if values.ndim else values for key, values in entries.items()}
    np.savez(tmp_path / "few.npz", **thinned)
    words = [
        "run",
        "ala2",
        "--quick",
        "--seeds",
        1,
        "--data",
        tmp_path / "few.npz",
        "--out",
        tmp_path / "out",
        "--json",
    ]
    words += ["--reference", data_folder / "ala2_phi_psi_reference_hist.npz"]
    said = json.loads(cgenn(*words))
    promised = {"js", "js_mirrored", "js_sampling_floor", "force_mse", "force_mse_null", "backend"}
    assert promised <= said.keys()
    assert said == json.loads((tmp_path / "out/ala2.json").read_text())
    assert 0 < said["js_sampling_floor"] < said["js"] < said["js_mirrored"] < np.log(2)
    assert said["force_mse_null"] == pytest.approx(722, rel=0.1)  # (kcal/mol/A)^2, as published with the data
    assert said["force_mse"] < 0.6 * said["force_mse_null"]
    assert (tmp_path / "out/seed-0/refined/refinement.json").exists()
    before = stamps(tmp_path / "out")
    assert json.loads(cgenn(*words)) == said
    assert stamps(tmp_path / "out") == before


def test_benzene(data_folder, tmp_path):
    """The numbers promised are there; those that need no model are the ones of the data."""
    words = ["run", "benzene", "--quick", "--data", data_folder / "benzene_oplsaa_300K_7x500.npz"]
    words += ["--out", tmp_path / "out", "--json"]
    said = json.loads(cgenn(*words))
    promised = {"force_rmse", "torque_rmse", "force_rmse_isotropic", "torque_rmse_null", "rdf_deviation"}
    assert promised | {"p2_deviation", "density_error", "units"} <= said.keys()
    assert said["force_rmse_null"] == pytest.approx(4.027, abs=1e-3)  # kcal/mol/A
    assert said["torque_rmse_null"] == pytest.approx(5.616, abs=1e-3)  # kcal/mol
    assert said["torque_rmse"] > 0
    assert {key for key, value in said.items() if isinstance(value, float)} == set(said["units"])
    assert Path(said["figure"]).exists()
    before = stamps(tmp_path / "out")
    again = json.loads(cgenn(*words))
    assert again.keys() == said.keys()
    assert again["p2_deviation"] == said["p2_deviation"]
    assert stamps(tmp_path / "out") == before


def test_energy_drift(pipeline):
    """A shorter time step keeps the energy better; nothing is lost on the way."""
    folder = pipeline[0]
    words = ["--length", 0.2, "--replicas", 2, "--timesteps", 0.0005, "--timesteps", 0.002, "--json"]
    found = json.loads(cgenn("run", "energy-drift", folder / "model/model.safetensors", folder / "cg.h5", *words))
    assert [entry["timestep"] for entry in found["runs"]] == [0.0005, 0.002]
    assert 0 < found["runs"][0]["fluctuation"] < found["runs"][1]["fluctuation"] < 1
    assert "per degree of freedom" in found["units"]["drift"]


def test_peptide_planes(tmp_path):
    """Two oriented planes in a chain; the surface of phi and psi comes from their atoms."""
    said = json.loads(cgenn("run", "peptide-planes", "--quick", "--out", tmp_path / "out", "--json"))
    assert said == json.loads((tmp_path / "out/peptide-planes.json").read_text())
    assert said["torque_rmse_model"] < 0.7 * said["torque_rmse_null"]
    assert 0 < said["js_sampling_floor"] < said["js"] < np.log(2)
    assert (tmp_path / "out/free_energy.png").exists()


def test_backmapping(tmp_path, monkeypatch):
    """Beads come back where they were, and the table has a row for each mapping, with the reason where one fails."""
    words = ["run", "backmapping", "--quick", "--out", tmp_path / "out"]
    (row,) = json.loads(cgenn(*words, "--json"))["rows"]
    assert (row["system"], row["mapping"], row["frames"]) == ("alanine-dipeptide-vacuum", "backbone", 2)
    assert row["deviation"]["max"] < 1e-4
    assert row["round_trip"] < 1e-5  # nm, files of single precision
    assert row["within_limit"]
    lines = cgenn(*words, "--dynamics", 0).splitlines()
    assert lines[2].startswith("| alanine-dipeptide-vacuum | backbone | 22 | 5 |")
    assert len({line.count("|") for line in lines}) == 1

    def fails(*words, **options):
        raise ValueError("a stereocentre has the wrong hand")

    monkeypatch.setattr("cgenn.backmapping.backmap.backmap", fails)
    (row,) = json.loads(cgenn(*words, "--json"))["rows"]
    assert (row["system"], row["reason"]) == ("alanine-dipeptide-vacuum", "a stereocentre has the wrong hand")
    lines = cgenn(*words).splitlines()
    assert lines[2].startswith("| alanine-dipeptide-vacuum | backbone | a stereocentre has the wrong hand |")
    assert len({line.count("|") for line in lines}) == 1


def test_chignolin(tmp_path):
    """Some picoseconds from the crystal structure: the atoms are close to it, and nothing is done twice."""
    pytest.importorskip("deeptime")
    words = ["run", "chignolin", "--quick", "--out", tmp_path / "out", "--json"]
    said = json.loads(cgenn(*words))
    assert said == json.loads((tmp_path / "out/chignolin.json").read_text())
    assert 0.01 < said["rmsd_aa"] < 0.1
    assert said["rmsd_cg"] > 0
    assert said["native_contacts_aa"] > 0.9
    assert {"helix_cg", "strand_cg", "ns_per_day_all_replicas"} <= said.keys()
    assert 0 < said["js_sampling_floor"] < said["js"] < np.log(2)
    assert {key for key, value in said.items() if isinstance(value, float)} == set(said["units"])
    assert (said["units"]["rmsd_cg_error"], said["units"]["speed_up"]) == ("nm", "1")
    assert Path(said["figure"]).exists()
    before = stamps(tmp_path / "out")
    again = json.loads(cgenn(*words))
    assert again["rmsd_cg"] == said["rmsd_cg"]
    assert stamps(tmp_path / "out") == before


def test_temperatures(tmp_path):
    """Models of other temperatures and of that between them are simulated there, and compared with the atoms there."""
    words = ["run", "temperatures", "--quick", "--out", tmp_path / "out", "--json"]
    said = json.loads(cgenn(*words))
    assert said == json.loads((tmp_path / "out/temperatures.json").read_text())
    learnt = {"input": (300.0, 500.0), "cold": (300.0, 300.0), "between": (400.0, 400.0)}
    for name, (lowest, highest) in learnt.items():
        folder = tmp_path / "out" / f"{name}-0"
        assert Run.open(folder / "run").temperature == said["temperature"] == 400.0
        potential = Potential.load(folder / "model/model.safetensors")
        assert (potential.config.temperatures or (potential.config.temperature,) * 2) == (lowest, highest)
        assert said[f"js_sampling_floor_{name}"]["mean"] < said[f"js_{name}"]["mean"] <= np.log(2) + 1e-9
        assert 0 < said[f"js_dihedrals_{name}"]["mean"] < np.log(2)
    before = stamps(tmp_path / "out")
    assert json.loads(cgenn(*words)) == said
    assert stamps(tmp_path / "out") == before


@pytest.mark.parametrize("name", shipped.names("workflows"))
def test_every_workflow_has_help_and_json(name):
    text = cgenn("run", name, "--help")
    assert "--json" in text
    assert "[ps]" in text or name != "energy-drift"


def test_missing_data_is_a_mistake(tmp_path):
    words = ["run", "ala2", "--data", tmp_path / "absent.npz", "--reference", tmp_path / "absent.npz"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


IONIC = {
    "random-charges": {"force_mae_long_range", "force_mae_short_range", "charge_mae"},
    "ionic-polymorphs": {
        "force_rmse_unseen_long_range",
        "force_rmse_unseen_short_range",
        "lattice_energy_difference_error_long_range",
        "lattice_energy_difference_error_short_range",
    },
    "molten-salt": {"s_zz_at_k_min_long_range", "s_zz_at_k_min_short_range", "s_zz_at_k_min_reference"},
    "ionic-liquid": {"s_zz_at_k_min_long_range", "s_zz_at_k_min_short_range", "s_zz_at_k_min_reference"},
}


@pytest.mark.parametrize("name", IONIC)
def test_ions_with_and_without_charges(name, tmp_path):
    said = json.loads(cgenn("run", name, "--quick", "--out", tmp_path / "out", "--json"))
    assert IONIC[name] <= set(said)
    measured = {key for key, value in said.items() if isinstance(value, float)}
    assert measured <= set(said["units"])
    assert all(np.isfinite(said[key]) for key in measured)
    before = stamps(tmp_path / "out")
    assert json.loads(cgenn("run", name, "--quick", "--out", tmp_path / "out", "--json")) == said
    kept = {path: stamp for path, stamp in stamps(tmp_path / "out").items() if path.suffix in (".h5", ".safetensors")}
    assert kept == {path: stamp for path, stamp in before.items() if path in kept}


@pytest.mark.slow
def test_polyethylene(tmp_path):
    """The numbers promised are there, for chains in training and for one that is not."""
    said = json.loads(cgenn("run", "polyethylene", "--quick", "--out", tmp_path / "out", "--json"))
    for chain in ("c12", "c16", "c24"):
        assert 0.5 < said[f"density_aa_{chain}"] < 0.8
        promised = {
            "density_difference",
            "rg_difference",
            "ree_difference",
            "rdf_deviation_end_end",
            "rdf_deviation_mid_mid",
            "speed_up",
            "time_scaling_error",
        }
        assert {f"{key}_{chain}" for key in promised} <= said.keys()
        assert "Bulk modulus" in (tmp_path / f"out/report/{chain}/report.html").read_text(encoding="utf-8")
    assert {key for key, value in said.items() if isinstance(value, float)} <= set(said["units"])
    matched = json.loads((tmp_path / "out/matched/pressure.json").read_text())
    assert [len(entry["values"]) for entry in matched["rounds"]] == [2, 2]
    model = json.loads((tmp_path / "out/model/training.json").read_text())
    assert [len(entry["sources"]) for entry in model["datasets"]] == [1, 1]
    before = stamps(tmp_path / "out")
    cgenn("run", "polyethylene", "--quick", "--out", tmp_path / "out", "--json")
    assert stamps(tmp_path / "out") == before


def test_bilayer(tmp_path, monkeypatch):
    """A raft of few lipids: the numbers promised are there, and its page goes on from the files."""
    monkeypatch.chdir(tmp_path)
    said = json.loads(cgenn("run", "bilayer", "--quick", "--json"))
    out = tmp_path / "runs" / "bilayer"
    assert said == json.loads((out / "bilayer.json").read_text())
    for run in ("nvt", "tensionless"):
        assert said[f"in_place_{run}"] == 1
        assert said[f"thickness_{run}"] == pytest.approx(said["thickness_aa"], rel=0.05)
        assert "Bilayer" in (out / "report" / run / "report.html").read_text(encoding="utf-8")
        fifths = [said[f"thickness_{run}_{which}_fifth"] for which in ("first", "last")]
        assert fifths == pytest.approx([said[f"thickness_{run}"]] * 2, rel=0.05)
        assert fifths[0] != fifths[1]
    assert 3.2 < said["thickness_aa"] < 4.2
    assert 0.1 < said["tail_order_aa"] < 0.6
    assert said["area_per_lipid_nvt"] == pytest.approx(said["area_per_lipid_aa"], rel=1e-6)
    assert said["area_per_lipid_tensionless"] != said["area_per_lipid_aa"]
    assert {key for key, value in said.items() if isinstance(value, float)} == set(said["units"])
    assert (said["units"]["tension"], said["units"]["thickness_nvt_difference"]) == ("bar nm", "1")
    page = (Path(__file__).parents[2] / "docs" / "lipids.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"<!-- tested: python -->\n```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/lipids.md", "exec"), names)
    assert names["run"].record["settings"]["tension"] == names["tension"]
    assert np.ptp(names["run"].read().box[:, 2, 2]) == 0
