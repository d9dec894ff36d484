"""Molecules, mappings and boxes that do not fit: the thing is named, and what was expected."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from cgenn import shipped
from cgenn.chemistry.polymer import build_polymer
from cgenn.cli import app
from cgenn.data.dataset import BeadDataset
from cgenn.data.map_trajectory import map_trajectory
from cgenn.h5md import Frames, H5MDWriter
from cgenn.reference.run import run_reference
from cgenn.topology import BeadTopology

pytest.importorskip("rdkit")
MAP = "map {given} --topology chain.pdb --mapping mapping.toml --temperature 300 --no-forces --out out.h5"
MAP_AA = "map {given} --topology aa/topology.pdb --mapping backbone --temperature 300 --no-forces --out out.h5"
SIMULATE = "simulate model/model.safetensors {given} --out out --set steps=100 --set report_interval=100"
BEAD = '[[beads]]\nname = "{}"\n{}\n\n'


@pytest.fixture
def here(pipeline, tmp_path, monkeypatch):
    """A folder of its own with a chain of poly(vinyl chloride) and what alanine dipeptide has been made into."""
    for name in ("aa", "model", "cg.h5"):
        (tmp_path / name).symlink_to(pipeline[0] / name)
    monkeypatch.chdir(tmp_path)
    build_polymer("[*]CC(Cl)[*]", 4, tacticity="isotactic").save("chain.pdb")
    return tmp_path


def rules(*given):
    text = "".join(BEAD.format(f"B{number}", rule) for number, rule in enumerate(given))
    return lambda path: Path("mapping.toml").write_text(text)


def chains(path, second=("syndiotactic", 6)):
    """Two chains, the second syndiotactic, mapped alike."""
    rules('smarts = "[CX4]"\nmerge = 2\ntype = "C-{position}"', 'smarts = "Cl"\nside = true')(path)
    for name, (tacticity, length) in (("a", ("isotactic", 6)), ("b", second)):
        build_polymer("[*]CC(Cl)[*]", length, tacticity=tacticity).save(f"{name}.pdb")
        words = (
            f"map {name}.pdb --topology {name}.pdb --mapping mapping.toml --temperature 300 --no-forces --out {name}.h5"
        )
        assert CliRunner().invoke(app, words.split()).exit_code == 0
        with h5py.File(f"{name}.h5", "r+") as file:
            group = file["particles/beads"]
            group.copy(group["position"], group, "force")


def system(path, **changes):
    """Polyethylene with something changed."""
    shutil.copytree(shipped.folder("systems") / "polyethylene-c12", "system")
    for name, (old, new) in changes.items():
        file = Path("system") / name.replace("_", ".")
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1) if name != "polyethylene_xml" else text.replace(old, new))


def box(edge):
    def make(path):
        data = BeadDataset.open("cg.h5")
        frames = Frames(data.read(slice(0, 2)).positions, box=np.tile(edge * np.eye(3), (2, 1, 1)))
        BeadDataset.write(path, data.topology, frames, temperature=300)

    return make


def mixture(path):
    """Alanine dipeptide beside something that the model has not seen."""
    known = BeadDataset.open("cg.h5")
    types, masses = [*known.topology.types, "W"], [*known.topology.masses, 18.0]
    positions = np.concatenate([known.read(slice(0, 2)).positions, np.full((2, 1, 3), 1.5)], 1)
    topology = BeadTopology.build(types, masses, bonds=known.topology.bonds)
    BeadDataset.write(path, topology, Frames(positions), temperature=300)


def other_order(path):
    """The atoms of the reference run in another order, in a format that does not say which."""
    with h5py.File("aa/trajectory.h5") as file:
        positions = file["particles/atoms/position/value"][:5]
    np.savez(path, positions=10 * positions[:, np.random.default_rng(0).permutation(22)], units="A")


def other_elements(path):
    atoms = build_polymer("[*]CC(Cl)[*]", 4).atoms
    species = ["C", *atoms.elements[1:]] if atoms.elements[0] != "C" else ["O", *atoms.elements[1:]]
    with H5MDWriter(
        path, len(atoms), metadata={}, species=species, masses=atoms.masses, periodic=False, forces=False, group="atoms"
    ) as file:
        file.write(np.zeros((2, len(atoms), 3)))


def empty_h5md(path):
    with h5py.File("aa/trajectory.h5") as old, h5py.File(path, "w") as new:
        for name in old:
            old.copy(name, new)
        for name in ("position", "force"):
            for key in ("value", "step", "time"):
                entry = new[f"particles/atoms/{name}/{key}"]
                kept = entry[:0]
                del new[f"particles/atoms/{name}/{key}"]
                new[f"particles/atoms/{name}"].create_dataset(key, data=kept)


def shorter(count):
    return lambda path: path.write_bytes(Path("model/model.safetensors").read_bytes()[:count])


MISTAKES = {
    "SMARTS overlap": (
        rules('smarts = "[CX4][CX4]"', 'smarts = "Cl"'), "chain.pdb", MAP,
        r"atoms belong to several beads: UNT1-C\d \(atom \d+\), .*'B0' .* declare them in `shared`",
    ),
    "SMARTS leave atoms out": (
        rules('smarts = "[CX4;H1,$([CH2][CX4])]"\nmerge = 2'), "chain.pdb", MAP,
        r"8 atoms belong to no bead: UNT1-C1 \(atom \d+\), .*; if this is meant, declare them in `unmapped`",
    ),
    "a residue without a table of the mapping": (
        rules('atoms = { ALA = "N CA" }'), "chain.pdb", MAP, r"bead 'B0': no residue has a template, which are for ALA",
    ),
    "a residue without a template of the force field": (
        lambda path: system(path, polyethylene_xml=('<ExternalBond atomName="C1"/>', "")), "",
        "reference system --out out",
        r"system 'system': No template found for residue 1 \(MID\)",
    ),
    "a bead in pieces": (
        rules('smarts = "[CH3].Cl"'), "chain.pdb", MAP,
        r"bead 'B0': its atoms are in 2 pieces that no bond joins, .* in another; if .* say `connected = false`",
    ),
    "tacticities under one type": (
        chains, "", "train a.h5 b.h5 --out out",
        r"bead type 'C-middle' has stereocentres of m in a.h5 and of r in b.h5, chains of different tacticity or hand",
    ),
    "a box too small for the cutoff of the atoms": (
        lambda path: system(path, system_toml=("cutoff = 1.0 ", "cutoff = 1.4 ")), "", "reference system --out out",
        r"system 'system': `cutoff` must be at most half the width of the box \(2.505 nm\), got 1.4 nm",
    ),
    "a box too small for the repulsion of the beads": (
        box(0.4), "a.h5", SIMULATE,
        r"the box is 0.400 nm wide, but the repulsion reaches 0.\d+ nm and OpenMM needs at least twice that: use a",
    ),
    "a mixture with a type that is not known": (
        mixture, "a.h5", SIMULATE, r"bead 5 has type 'W', which this model does not know; it was trained on ACE-C, ",
    ),
    "atoms in another order": (
        other_order, "a.npz", MAP_AA,
        r"a.npz: the atoms that are bonded in the topology are 0.\d+ nm apart \(median\), .* in another order\?",
    ),
    "other elements": (
        other_elements, "a.h5", MAP.replace("mapping.toml", "residue-com"),
        r"a.h5: atom 0 is O, in the topology it is C, UNT1-C1 \(atom 0\); expected those of the topology",
    ),
    "no frames of npz": (
        lambda path: np.savez(path, positions=np.zeros((0, 22, 3)), units="nm"), "a.npz", MAP_AA,
        r"a.npz has no frames",
    ),
    "no frames of H5MD": (empty_h5md, "a.h5", MAP_AA, "a.h5 has no frames"),
    "an empty model": (shorter(0), "a.safetensors", "check {given}", r"a.safetensors: not a readable safetensors file"),
    "a model without its last bytes": (
        shorter(-10), "a.safetensors", "check {given}", r"a.safetensors: not a readable safetensors file",
    ),
    "NaN in a structure": (
        lambda path: system(path, structure_pdb=("  26.698   3.368  -3.325", "     nan     nan     nan")), "",
        "reference system --out out",
        r"system 'system': structure.pdb: the position of atom 0, C1 of END 1, is not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(here, name):
    make, given, words, message = MISTAKES[name]
    make(here / given if given not in ("", "chain.pdb") else here)
    result = CliRunner().invoke(app, words.format(given=given).split())
    assert result.exit_code == 2, result.output
    last = [line for line in result.stderr.splitlines() if line][-1]
    assert last.startswith("error: ")
    assert re.search(message, last), last
    assert not list((here / "out").rglob("*"))
    assert not (here / "out.h5").exists()


def test_chains_of_one_tacticity_are_no_mistake(here):
    """However long they are: both get as far as the first thing that is wrong with them, a single frame."""
    chains(here, ("isotactic", 9))
    result = CliRunner().invoke(app, ["train", "a.h5", "b.h5", "--out", "out"])
    assert "error: 1 frames in 10 blocks cannot be split" in result.stderr


def test_another_temperature_is_warned_of(here, caplog):
    words = SIMULATE.format(given="cg.h5") + " --set temperature=450"
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert said.startswith("the model was trained at 300 K and is simulated at 450 K: a potential of beads is a free")


def test_sites_far_apart_are_no_mistake(tmp_path):
    """The rigid sites of [BMIM][PF6] are bonded at 0.27 to 0.56 nm."""
    run_reference("bmim-pf6", tmp_path / "aa", length=0.02, interval=0.01, equilibration=0.01, progress=False)
    assert len(map_trajectory(tmp_path / "aa", None, "bmim-pf6", tmp_path / "cg.h5")) == 2
