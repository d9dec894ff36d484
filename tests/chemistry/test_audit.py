import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import mdtraj
import numpy as np
import pytest
from typer.testing import CliRunner

import cgenn
from cgenn.chemistry.audit import audit_mapping, write_audit
from cgenn.chemistry.polymer import build_polymer
from cgenn.cli import app
from cgenn.mapping.definition import MappingDefinition

pytest.importorskip("rdkit")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain as a PDB file, and 20 frames in which the atoms shake by 0.005 nm, the whole chain turning."""
    folder = tmp_path_factory.mktemp("chain")
    chain = build_polymer("[*]CC(c1ccccc1)[*]", 5, tacticity="isotactic")
    chain.save(folder / "chain.pdb")
    generator = np.random.default_rng(1)
    frames = chain.positions + 0.005 * generator.normal(size=(20, len(chain.positions), 3))
    angles = generator.uniform(0, 6, 20)
    turns = np.array([[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]] for a in angles])
    topology = mdtraj.load_topology(str(folder / "chain.pdb"))
    mdtraj.Trajectory(frames @ turns, topology).save_dcd(str(folder / "chain.dcd"))
    return folder


def test_table(chain):
    report = audit_mapping(chain / "chain.pdb", "polystyrene", chain / "chain.dcd")
    assert (report["atoms"], report["beads"], report["unmapped"], report["shared"]) == (82, 10, {}, {})
    assert report["mass"]["beads"] == pytest.approx(report["mass"]["atoms"])
    rows = {row["type"]: row for row in report["types"]}
    ring = rows["PS-PH"]
    assert (ring["number"], ring["formulas"], ring["symmetry"]) == (5, {"C6H5": 5}, "Cs")
    assert ring["bonded_to"] == ["PS-BB-end", "PS-BB-middle"]
    assert ring["mass"] == pytest.approx(77.10, abs=0.01)
    shaken = 0.005 * np.sqrt((3 * 6 - 6) / 6)  # six atoms lose three translations and three rotations
    assert ring["rms_deviation"] == pytest.approx(shaken, rel=0.15)
    assert rows["PS-BB-middle"]["charge"] is None


def test_a_trajectory_is_mapped_by_smarts(chain, tmp_path):
    """Stereocentres are told from its first frame."""
    words = (chain / "chain.dcd", chain / "chain.pdb", "polystyrene", tmp_path / "cg.h5")
    dataset = cgenn.map_trajectory(*words, temperature=300.0, forces=False)
    assert len(dataset.topology) == 10
    assert dataset.read().orientations.shape == (20, 10, 4)
    bead = {"name": "C", "smarts": "[CX4]", "merge": 2, "type": "C{position}-{tacticity}"}
    definition = MappingDefinition.parse({"beads": [bead], "unmapped": "all"}, "test")
    found = cgenn.map_trajectory(*words[:2], definition, words[3], temperature=300.0, forces=False)
    assert found.topology.types.count("Cmiddle-m") == 2
    assert MappingDefinition.parse(found.provenance["mapping"], "what the dataset says") == definition


def test_one_frame_says_nothing_of_rigidity(chain):
    assert {row["rms_deviation"] for row in audit_mapping(chain / "chain.pdb", "polystyrene")["types"]} == {None}


def test_commands_and_pictures(chain, tmp_path):
    """A chain, a mapping proposed for it, and its audit."""
    run = CliRunner()
    words = ["polymer", "[*]CC(c1ccccc1)[*]", "--length", "3", "--out", str(tmp_path / "c.pdb"), "--json"]
    assert json.loads(run.invoke(app, words).stdout)["atoms"] == 50
    words = ["map", str(tmp_path / "c.pdb"), "--suggest", "--out", str(tmp_path / "my.toml"), "--json"]
    assert json.loads(run.invoke(app, words).stdout)["rules"] >= 2
    words = ["audit", str(tmp_path / "c.pdb"), "--mapping", str(tmp_path / "my.toml"), "--out", str(tmp_path / "audit")]
    assert json.loads(run.invoke(app, [*words, "--json"]).stdout)["unmapped"] == {}
    assert "unmapped: none" in run.invoke(app, words).stdout
    report = json.loads((tmp_path / "audit" / "audit.json").read_text())
    picture = ElementTree.parse(tmp_path / "audit" / "molecules.svg").getroot()
    legend = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {row["type"] for row in report["types"]} <= legend
    page = (tmp_path / "audit" / "view.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert (len(data["atoms"]), len(data["beads"])) == (50, report["beads"])
    assert not re.search(r"(src|href)=|https?://", page)


@pytest.mark.parametrize("words", [["--out", "x.h5"], ["--mapping", "ca", "--suggest", "--out", "x.toml"]])
def test_either_a_mapping_or_a_suggestion(words):
    result = CliRunner().invoke(app, ["map", "chain.pdb", *words])
    assert result.exit_code == 2
    assert "expected either --mapping, or --suggest with one topology file or SMILES" in result.stderr


def test_positions_that_are_none(chain, tmp_path):
    lines = (chain / "chain.pdb").read_text().splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if line.startswith("HETATM"))
    lines[first] = lines[first][:30] + "     nan     nan     nan" + lines[first][54:]
    (tmp_path / "nan.pdb").write_text("".join(lines))
    with pytest.raises(ValueError, match=r"nan.pdb: frame 0, atom 0: position is \[nan, nan, nan\]"):
        write_audit(tmp_path / "nan.pdb", "polystyrene", None, tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_the_core_works_without_rdkit(chain, tmp_path):
    code = (
        "import sys; sys.modules['rdkit'] = None\n"
        "from cgenn.chemistry.audit import audit_mapping\n"
        f"path = {str(chain / 'chain.pdb')!r}\n"
        "assert audit_mapping(path, 'residue-com')['beads'] == 5\n"
        "try: audit_mapping(path, 'polystyrene')\n"
        "except ImportError as error: print(error)\n"
        "from cgenn.chemistry.audit import write_audit\n"
        f"try: write_audit(path, 'residue-com', None, {str(tmp_path / 'audit')!r})\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'cgenn[chemistry]'") == 2
    assert not (tmp_path / "audit").exists()
