"""Melts as systems: what is in the folder, that a reference run can be made of it, and OpenFF in OpenMM's format."""

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import openmm
import openmm.app
import pytest
import torch
from scipy.spatial import cKDTree
from typer.main import get_command
from typer.testing import CliRunner

import cgenn
from cgenn import shipped
from cgenn.chemistry.melt import build_melt
from cgenn.chemistry.packing import APART, scatter
from cgenn.chemistry.polymer import build_polymer
from cgenn.chemistry.units import Units
from cgenn.cli import app
from cgenn.reference.system import load_system
from cgenn.settings import read_settings

pytest.importorskip("rdkit")
OWN = str(shipped.folder("systems") / "polyethylene-c12" / "polyethylene.xml")
THIN = {"density": 0.21, "temperature": 400.0, "force_field": OWN}


@pytest.fixture(scope="module")
def hexane(tmp_path_factory):
    """Eighteen chains of C6H14, so thin that they have to be pressed together only once."""
    folder = tmp_path_factory.mktemp("melt") / "hexane"
    words = ["melt", "*CC*", "--length", 3, "--chains", 18, "--density", 0.21, "--temperature", 400, "--json"]
    result = CliRunner().invoke(app, [str(word) for word in (*words, "--force-field", OWN, "--out", folder)])
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_the_folder_is_a_system(hexane):
    folder, said = hexane
    assert said["residues"] == ["END", "MID"]
    topology, system, positions = load_system(folder).build()
    assert (topology.getNumChains(), len(positions), said["atoms"]) == (18, 18 * 20, 18 * 20)
    mass = sum(system.getParticleMass(atom)._value for atom in range(len(positions)))
    assert mass * 1.66053906660e-3 / said["edge"] ** 3 == pytest.approx(0.21, rel=1e-4)
    assert topology.getUnitCellDimensions()._value == pytest.approx([said["edge"]] * 3, abs=1e-3)
    wrapped = positions % said["edge"]
    pairs = cKDTree(wrapped, boxsize=said["edge"]).query_pairs(0.16, output_type="ndarray")
    chain = np.arange(len(positions)) // 20
    assert np.all(chain[pairs[:, 0]] == chain[pairs[:, 1]])


def test_it_runs_and_is_mapped(hexane, tmp_path):
    cgenn.run_reference(hexane[0], tmp_path / "aa", length=0.012, interval=0.006, equilibration=0.006, progress=False)
    beads = cgenn.map_trajectory(tmp_path / "aa", None, "residue-com", tmp_path / "cg.h5")
    assert sorted(set(beads.topology.types)) == ["END-COM", "MID-COM"]
    assert (len(beads), len(beads.topology), len(beads.topology.bonds)) == (2, 54, 36)


@pytest.mark.parametrize(
    ("smiles", "ends", "names", "same"),
    [
        ("[*]CC[*]", {}, ("END", "MID", "MID", "END"), {"MID": ["C1", "C2"]}),
        ("[*]CCO[*]", {}, ("BEG", "MID", "MID", "END"), {"MID": ["H1A", "H1B"]}),
        ("[*]CC(c1ccccc1)[*]", {}, ("BEG", "MID", "MID", "END"), {"MID": ["C4", "C8"]}),
    ],
)
def test_atoms_that_only_numbers_tell_apart_are_of_one_type(smiles, ends, names, same):
    chain = build_polymer(smiles, 4, **ends)
    units = Units.of(chain)
    assert units.names == names
    atoms = list(chain.topology.atoms())
    for residue, members in same.items():
        kinds = {units.types[a.index] for a in atoms if a.name in members and units.names[a.residue.index] == residue}
        assert kinds == {f"{residue}-{members[0]}"}
    different = {units.types[atom.index] for atom in atoms if atom.element.symbol == "C"}
    assert len(different) > 1


def test_molecules_are_scattered_apart():
    """Whole, turned but not bent, and none on its own image: this one is longer than the box at first."""
    line = np.stack([np.linspace(0.0, 2.0, 11), np.zeros(11), np.zeros(11)], 1)
    positions, edge = scatter([line] * 4, 1.0, np.random.default_rng(0))
    assert edge > 1.0
    found = positions.reshape(4, 11, 3)
    np.testing.assert_allclose(np.linalg.norm(found[:, -1] - found[:, 0], axis=1), 2.0, atol=1e-12)
    tree = cKDTree(positions % edge, boxsize=edge)
    molecule = np.arange(44) // 11
    assert all(molecule[i] == molecule[j] for i, j in tree.query_pairs(APART * (1 - 1e-9)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chains": 0}, "`chains` must be above 0, got 0"),
        ({"density": -1.0}, "`density` must be above 0, got -1.0"),
        (
            {"density": 0.7},
            r"18 chains make a box of 1.54 nm, too small for a cutoff of 1.0 nm: expected 2.20 nm, at least 53 ",
        ),
        ({"force_field": "absent.xml"}, "absent.xml: expected a force field in OpenMM's format"),
        ({"unit_smiles": "[*]CCO[*]"}, r"polyethylene.xml: No template found for residue 0 \(BEG\)"),
        ({"out": "."}, "holds a system already: expected a new folder"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "system.toml").touch()
    words = {"unit_smiles": "*CC*", "length": 3, "chains": 18, "out": "melt", **THIN, **changes}
    with pytest.raises(ValueError, match=message):
        build_melt(**words)
    assert not (tmp_path / "melt").exists()


def test_hands_that_share_a_bead_type_are_warned_of(tmp_path, caplog):
    cases = (("*CC(C)*", "atactic", 1), ("*CC(C)*", "isotactic", 0), ("*O[C@H](C)C(=O)*", "atactic", 0))
    for smiles, tacticity, warned in cases:
        caplog.clear()
        with pytest.raises(ValueError, match=r"polyethylene.xml: No template found for residue 0"):
            build_melt(smiles, 3, 18, tmp_path / "melt", tacticity=tacticity, **THIN)
        assert ["{tacticity}" in record.getMessage() for record in caplog.records if record.levelno > 20] == [
            True
        ] * warned


class TestOpenFF:
    """Parameters of the Open Force Field Initiative."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("openff.nagl")
        pytest.importorskip("openff.toolkit")

    @pytest.mark.filterwarnings("ignore")
    def test_the_energy_is_that_of_the_parameters(self):
        """Bond by bond, dihedral by dihedral from the labels of the toolkit; an ester, for impropers."""
        from openff.toolkit import ForceField, Molecule

        from cgenn.chemistry.melt import _topology
        from cgenn.chemistry.openff import parametrize

        chain = build_polymer("[*]OC(C)C(=O)[*]", 3, tail="[*]OC")
        found = parametrize(chain)
        assert found.spread < 0.02
        assert found.shift < 0.01
        system = openmm.app.ForceField(io.StringIO(found.xml)).createSystem(_topology([chain]))
        for group, force in enumerate(system.getForces()):
            force.setForceGroup(group)
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        context.setPositions(chain.positions)
        energies = {
            force.getName(): context.getState(energy=True, groups={group}).getPotentialEnergy()._value
            for group, force in enumerate(system.getForces())
        }
        molecule = Molecule.from_rdkit(chain.molecule, allow_undefined_stereo=True, hydrogens_are_explicit=True)
        labels = ForceField("openff_unconstrained-2.3.0.offxml").label_molecules(molecule.to_topology())[0]
        expected = expected_energies(chain.positions, labels)
        for name, energy in expected.items():
            assert energies[name] == pytest.approx(energy, rel=1e-6), name
        (nonbonded,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
        particles = [nonbonded.getParticleParameters(atom) for atom in range(system.getNumParticles())]
        assert sum(particle[0]._value for particle in particles) == pytest.approx(0.0, abs=1e-12)
        for (atom,), parameter in labels["vdW"].items():
            least = particles[atom][1]._value * 2 ** (1 / 6) / 2
            assert least == pytest.approx(parameter.rmin_half.m_as("nanometer"), rel=1e-9)

    @pytest.mark.filterwarnings("ignore")
    def test_mistakes_are_named(self):
        from cgenn.chemistry.openff import parametrize

        with pytest.raises(ValueError, match=r"no force field 'openff-99': expected OpenFF's by name"):
            parametrize(build_polymer("[*]CCO[*]", 2), "openff-99")
        with pytest.raises(ValueError, match=r"expected a neutral chain, .* got a charge of -2"):
            parametrize(build_polymer("[*]CC(C(=O)[O-])[*]", 2))
        with pytest.raises(ValueError, match=r"different parameters within a repeat unit and between two of them"):
            parametrize(build_polymer("[*]C=C[*]", 4))


def expected_energies(positions, labels):
    """[kJ/mol], from positions [nm] and parameters as the toolkit labels them."""

    def dihedral(i, j, k, n):
        first, middle, last = positions[j] - positions[i], positions[k] - positions[j], positions[n] - positions[k]
        one, other = np.cross(first, middle), np.cross(middle, last)
        return np.arctan2(np.linalg.norm(middle) * first @ other, one @ other)

    def angle(i, j, k):
        one, other = positions[i] - positions[j], positions[k] - positions[j]
        return np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)

    def terms(parameter, phi, divided):
        for period, phase, k, by in zip(parameter.periodicity, parameter.phase, parameter.k, divided, strict=True):
            yield k.m_as("kilojoule_per_mole") / by * (1 + np.cos(period * phi - phase.m_as("radian")))

    bonds = sum(
        0.5
        * p.k.m_as("kilojoule_per_mole/nanometer**2")
        * (np.linalg.norm(positions[i] - positions[j]) - p.length.m_as("nanometer")) ** 2
        for (i, j), p in labels["Bonds"].items()
    )
    angles = sum(
        0.5 * p.k.m_as("kilojoule_per_mole/radian**2") * (angle(*atoms) - p.angle.m_as("radian")) ** 2
        for atoms, p in labels["Angles"].items()
    )
    propers = sum(sum(terms(p, dihedral(*atoms), p.idivf)) for atoms, p in labels["ProperTorsions"].items())
    assert len(labels["ImproperTorsions"])
    impropers = sum(
        sum(terms(p, dihedral(j, *turned), [3.0]))
        for (i, j, k, n), p in labels["ImproperTorsions"].items()
        for turned in ((i, k, n), (k, n, i), (n, i, k))
    )
    return {"HarmonicBondForce": bonds, "HarmonicAngleForce": angles, "PeriodicTorsionForce": propers + impropers}


def test_page(tmp_path, monkeypatch):
    """docs/own-polymer.md: the whole path in Python; settings and commands are such that are known."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "own-polymer.md").read_text(encoding="utf-8")
    blocks = {kind: found for kind, found in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)}
    for name, block in zip(("peo.toml", "rounds.toml"), re.findall(r"```toml\n(.*?)```", text, re.DOTALL), strict=True):
        (tmp_path / name).write_text(block)
    assert read_settings(cgenn.TrainingConfig, tmp_path / "peo.toml", []).network.excluded_bonds == 3
    assert read_settings(cgenn.SimulationConfig, tmp_path / "rounds.toml", []).timestep == 0.006
    known = get_command(app).commands
    for line in blocks["bash"].splitlines():
        words = shlex.split(line, comments=True)
        known[words[1]].make_context(words[1], words[2:])
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    exec(compile(blocks["python"], "docs/own-polymer.md", "exec"), names)
    assert (names["melt"].atoms, names["melt"].residues) == (360, ("END", "MID"))
    assert names["report"].html.exists()
    pace = names["pace"]
    assert pace["speed_up"] == pytest.approx(pace["ns_per_day"] / pace["ns_per_day_all_atom"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of OpenFF's toolkit, as above
def test_commands_of_the_page(tmp_path, monkeypatch):
    """docs/own-polymer.md: its commands one after the other, with OpenFF's parameters, and short runs."""
    pytest.importorskip("openff.toolkit")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "own-polymer.md").read_text(encoding="utf-8")
    settings = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "peo.toml").write_text(settings[0].replace("epochs = 6", "epochs = 1"))
    short = {"steps": 400, "equilibration": 40, "report_interval": 10}
    (tmp_path / "rounds.toml").write_text("timestep = 0.002\n" + "".join(f"{k} = {v}\n" for k, v in short.items()))
    shorter = {"--equilibration": "0.3", "--length": "1.8", "--interval": "0.06", "--rounds": "1"}
    for line in re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].splitlines():
        words = shlex.split(line, comments=True)[1:]
        pairs = zip(["", *words], words, strict=False)
        words = [shorter.get(before, word) if words[0] != "melt" else word for before, word in pairs]
        words = ["steps=400" if word.startswith("steps=") else word for word in words]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (line, result.output, result.exception)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["density"]["density"]["reference"] == pytest.approx(1.0, abs=0.1)
    assert report["polymers"][0]["radius_of_gyration"]["model"] > 0.3
