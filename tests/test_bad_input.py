"""What a user gets wrong, where he meets it: each mistake is told in a sentence, and nothing is left behind."""

import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from cgenn.cli import app
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.topology import BeadTopology

MAP = "map {trajectory} --topology aa/topology.pdb --mapping backbone --temperature 300 --out {out}"
MAP_BY = "map aa --mapping {file} --out {out}"
TRAIN = "train {dataset} --out {out} --set epochs=1"
SIMULATE = "simulate {model} {dataset} --out {out} --set steps=500"
SIMULATE_IT = SIMULATE.format(model="{file}", dataset="cg.h5", out="{out}")


@pytest.fixture
def here(pipeline, monkeypatch):
    monkeypatch.chdir(pipeline[0])
    return pipeline[0]


def npz(path, **changes):
    rng = np.random.default_rng(0)
    entries = {"positions": 0.2 * rng.random((60, 22, 3)), "forces": rng.random((60, 22, 3)), "units": "nm, kJ/mol/nm"}
    np.savez(path, **{key: value for key, value in {**entries, **changes}.items() if value is not None})


def toml(text):
    return lambda path: path.write_text(text)


def cut(source):
    return lambda path: path.write_bytes(Path(source).read_bytes()[:4000])


def massless(path):
    shutil.copy("aa/trajectory.h5", path)
    with h5py.File(path, "r+") as file:
        file["particles/atoms/mass"][...] = 0.0


class Payload:
    """Unpickling it would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def strangers(path):
    frames = Frames(np.random.default_rng(0).random((30, 2, 3)), np.ones((30, 2, 3)))
    BeadDataset.write(path, BeadTopology.build(["X", "Y"], [1.0, 1.0], bonds=[(0, 1)]), frames, temperature=300)


def forceless(path):
    data = BeadDataset.open("cg.h5")
    BeadDataset.write(path, data.topology, Frames(data.read().positions), temperature=300)


NAN = np.where(np.arange(60 * 22 * 3).reshape(60, 22, 3) == 7 * 66 + 15, np.nan, 0.1)
BEADS = '[[beads]]\nname = "A"\n'

MISTAKES = {
    "atom counts differ": (
        "a.npz",
        lambda path: npz(path, positions=np.ones((9, 21, 3)), forces=None),
        MAP,
        "a.npz has 21 atoms, the topology has 22",
    ),
    "selection matches nothing": (
        "a.toml",
        toml(BEADS + 'select = "resname GLY"'),
        MAP_BY,
        "bead 'A': the selection 'resname GLY' matches no atom",
    ),
    "atoms unmapped": (
        "a.toml",
        toml(BEADS + 'select = "not name CB"'),
        MAP_BY,
        "1 atoms belong to no bead: ALA2-CB (atom 12); if this is meant, declare",
    ),
    "bead without mass": (
        "a.h5",
        massless,
        MAP.replace("backbone", "residue-com"),
        "bead 'COM' of ACE1: its 6 atoms have no mass",
    ),
    "NaN in a frame": (
        "a.npz",
        lambda path: npz(path, positions=NAN),
        MAP,
        "a.npz: frame 7, atom 5: position is [nan, 0.1, 0.1]",
    ),
    "forces absent": (
        "a.npz",
        lambda path: npz(path, forces=None),
        MAP,
        "a.npz: no forces; pass `forces=False` (--no-forces)",
    ),
    "HDF5 in place of a topology": (
        "a.npz",
        npz,
        MAP.replace("aa/topology.pdb", "cg.h5"),
        "cg.h5: expected a topology, such as a PDB file, got HDF5",
    ),
    "forces absent in training": (
        "a.h5",
        forceless,
        TRAIN,
        "a.h5 holds no forces, which training by force matching needs",
    ),
    "no box": ("a.npz", npz, MAP + " --periodic", "a.npz: no box, although the mapping is to be periodic"),
    "no box for a barostat": (
        "",
        None,
        SIMULATE + " --set ensemble=npt",
        'ensemble "npt" needs a box, but the start has none',
    ),
    "mixed units": (
        "a.npz",
        lambda path: npz(path, units="nm, kcal/mol/A"),
        MAP,
        "mixed units, `units` is 'nm, kcal/mol/A': forces must be per nm",
    ),
    "cut trajectory": ("a.h5", cut("aa/trajectory.h5"), MAP, "a.h5: not a complete HDF5 file, perhaps cut"),
    "cut dataset": ("a.h5", cut("cg.h5"), TRAIN, "a.h5: not a complete HDF5 file, perhaps cut"),
    "cut dataset to start from": ("a.h5", cut("cg.h5"), SIMULATE, "a.h5: not a complete HDF5 file, perhaps cut"),
    "cut dataset to compare with": (
        "a.h5",
        cut("cg.h5"),
        "compare run {file} --out {out}",
        "a.h5: not a complete HDF5 file, perhaps cut",
    ),
    "cut model": (
        "a.safetensors",
        cut("model/model.safetensors"),
        SIMULATE_IT,
        "a.safetensors: not a readable safetensors file",
    ),
    "cut model to check": (
        "a.safetensors",
        cut("model/model.safetensors"),
        "check {file}",
        "a.safetensors: not a readable safetensors file",
    ),
    "pickle": (
        "a.safetensors",
        lambda path: path.write_bytes(pickle.dumps(Payload())),
        SIMULATE_IT,
        "a.safetensors: not a readable safetensors file",
    ),
    "unknown key of a mapping": (
        "a.toml",
        toml(BEADS + 'selct = "all"'),
        MAP_BY,
        "a.toml: unknown key `beads.0.selct`",
    ),
    "unknown key of a training": (
        "a.toml",
        toml("epoch = 3"),
        TRAIN + " --config {file}",
        "a.toml: unknown key `epoch`",
    ),
    "unknown key of a simulation": (
        "a.toml",
        toml("step = 3"),
        SIMULATE + " --config {file}",
        "a.toml: unknown key `step`",
    ),
    "unknown key on the command line": (
        "",
        None,
        TRAIN + " --set network.cut_off=1",
        "settings: unknown key `network.cut_off`",
    ),
    "no TOML": ("a.toml", toml("epochs: 3"), TRAIN + " --config {file}", "a.toml: not valid TOML: "),
    "negative cutoff": (
        "",
        None,
        TRAIN + " --set network.cutoff=-1.0",
        "settings: `network.cutoff`: Input should be greater than 0, got -1.0",
    ),
    "temperature missing": (
        "a.npz",
        npz,
        MAP.replace("--temperature 300", ""),
        "the temperature is missing: the trajectory does not name it, pass `temperature` [K]",
    ),
    "negative temperature": (
        "",
        None,
        "reference alanine-dipeptide-vacuum --temperature -3 --out {out}",
        "reference run of 'alanine-dipeptide-vacuum': `temperature`: Input should be greater than 0, got -3.0",
    ),
    "cutoff too large": (
        "",
        None,
        SIMULATE + " --set cutoff=1.5",
        "`cutoff` is 1.5 nm, larger than the 0.8 nm that the network was trained for",
    ),
    "type unknown": (
        "a.h5",
        strangers,
        SIMULATE,
        "bead 0 has type 'X', which this model does not know; it was trained on ACE-C, ",
    ),
    "other beads": (
        "a.h5",
        strangers,
        "compare run {file} --out {out}",
        "run has 5 beads of types ACE-C, ALA-C, ALA-CA, ALA-N, NME-N; ",
    ),
    "no file": ("", None, "train absent.h5 --out {out}", "no file 'absent.h5'"),
    "not a dataset": (
        "",
        None,
        "train aa/trajectory.h5 --out {out}",
        "aa/trajectory.h5: an H5MD file of atoms, but not a bead dataset",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_in_a_sentence(here, tmp_path, name):
    """What is wrong, what was expected; nothing is left where the result was to be."""
    file, make, words, message = MISTAKES[name]
    given = tmp_path / file
    if make:
        make(given)
    out = tmp_path / ("out.h5" if words.startswith("map") else "out")
    dataset = given if given.suffix == ".h5" else "cg.h5"
    places = {"file": given, "trajectory": given, "dataset": dataset, "model": "model/model.safetensors", "out": out}
    result = CliRunner().invoke(app, words.format(**places).split())
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(out.rglob("*"))
    assert not out.is_file()
    assert not Path("code-was-run").exists()


def test_a_mapping_does_not_go_over_its_trajectory(here, tmp_path):
    given = tmp_path / "a.npz"
    npz(given)
    before = given.read_bytes()
    result = CliRunner().invoke(app, MAP.format(trajectory=given, out=given).split())
    assert f"error: {given}: this file is read here and cannot be written too" in result.stderr
    assert given.read_bytes() == before
