"""There and back: beads of frames that are not among the fragments, and what their atoms are worth."""

import json
from dataclasses import replace

import MDAnalysis
import mdtraj
import numpy as np
import pytest
import torch

import cgenn
from cgenn.backmapping.reference import AtomReference
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames, H5MDFile
from cgenn.mapping.definition import MappingDefinition
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import AnglePrior, BondPrior, Priors
from cgenn.reference.run import run_reference


@pytest.fixture(scope="module")
def beads(peptide_run, tmp_path_factory):
    """Beads of another run of alanine dipeptide, by mapping."""
    folder = tmp_path_factory.mktemp("beads")
    aa = run_reference(
        "alanine-dipeptide-vacuum", folder / "aa", length=4.0, interval=0.5, equilibration=1.0, seed=1, progress=False
    )
    return {
        name: cgenn.map_trajectory(aa.folder, None, name, folder / f"{name}.h5", forces=False)
        for name in ("backbone", "dipeptide-planes", "ca")
    }


def backmap(frames, dataset, reference, out, **settings):
    chosen = {"dynamics": 0.0, "compare": 0, "progress": False, **settings}
    return cgenn.backmap(frames, dataset, reference, out, **chosen)


@pytest.mark.parametrize("mapping", ["backbone", "dipeptide-planes", "ca"])
def test_peptide(beads, peptide_run, tmp_path, mapping):
    data = beads[mapping]
    made = backmap(data, data, peptide_run, tmp_path / "atoms.h5", select=slice(0, 8, 3), compare=3, dynamics=0.1)
    record = made.record
    assert record["deviation"]["max"] < 1e-5
    assert record["energy"]["mean"] == pytest.approx(record["reference_energy"]["mean"], abs=30)  # kJ/mol; raw: +60
    assert (record["frames"], record["clashes"], record["pierced_rings"]) == (3, 0, 0)
    assert record == json.loads((tmp_path / "atoms.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"atoms.h5", "atoms.pdb", "atoms.json"}
    if mapping == "dipeptide-planes":
        assert record["orientation_deviation"]["max"] < 0.01
    universe = MDAnalysis.Universe(str(made.topology), str(made.path), format="H5MD", convert_units=False)
    frames = H5MDFile(made.path).read()
    np.testing.assert_allclose(universe.trajectory[2].positions, frames.positions[2], atol=1e-6)
    np.testing.assert_allclose(mdtraj.load(made.topology).xyz[0], frames.positions[0], atol=1e-3)
    again = cgenn.map_trajectory(
        made.path, made.topology, mapping, tmp_path / "again.h5", temperature=300.0, forces=False,
        bodies=data.topology.bodies,
    )  # fmt: skip
    np.testing.assert_allclose(again.read().positions, data.read(slice(0, 8, 3)).positions, atol=1e-3)
    assert frames.energies.mean() == pytest.approx(record["energy"]["mean"])


def test_a_run(beads, peptide_run, tmp_path):
    """Of a model that knows bonds and angles, from a folder and opened; frames no atoms have been in."""
    data = beads["backbone"]
    torch.manual_seed(0)
    config = PotentialConfig(
        types=tuple(sorted(set(data.topology.types))), cutoff=0.6, channels=4, radial_width=4, average_neighbors=4.0,
        energy_scale=0.01, temperature=300.0,
    )  # fmt: skip
    lengths = {"ACE-C|ALA-N": 0.133, "ALA-CA|ALA-N": 0.146, "ALA-C|ALA-CA": 0.153, "ALA-C|NME-N": 0.133}
    angles = {"ACE-C|ALA-N|ALA-CA": 2.12, "ALA-C|ALA-CA|ALA-N": 1.95, "ALA-CA|ALA-C|NME-N": 2.05}
    priors = Priors(
        bonds={name: BondPrior(length=length, k=2e5) for name, length in lengths.items()},
        angles={name: AnglePrior(angle=angle, k=500.0) for name, angle in angles.items()},
    )
    settings = cgenn.SimulationConfig(steps=400, report_interval=100, replicas=2, timestep=0.001, backend="python")
    run = cgenn.simulate(Potential(config, priors), data.path, settings, tmp_path / "run", progress=False)
    made = [backmap(source, data, peptide_run, tmp_path / "atoms.h5", select=[5]) for source in (run, tmp_path / "run")]
    assert made[0].record == made[1].record
    assert made[0].record["deviation"]["max"] < 1e-5
    assert made[0].record["energy"]["mean"] < 300  # kJ/mol


def test_the_same_seed_gives_the_same_atoms(beads, peptide, tmp_path):
    data = beads["ca"]
    first, again, other = (
        H5MDFile(backmap(data, data, peptide, tmp_path / f"{k}.h5", select=[2], seed=seed).path).read().positions
        for k, seed in enumerate((0, 0, 1))
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


@pytest.fixture(scope="module")
def water_beads(water, tmp_path_factory):
    folder = tmp_path_factory.mktemp("water")
    frames = {"temperature": 300.0, "forces": False}
    path = water.sources[0].path
    lone = MappingDefinition.parse(
        {"selection": "resid 0", "beads": [{"name": "COM", "select": "water"}]}, "one molecule"
    )
    return {
        "water": cgenn.map_trajectory(path, water.atoms, "water", folder / "water.h5", **frames),
        "lone": cgenn.map_trajectory(path, water.atoms, lone, folder / "lone.h5", **frames),
    }


def test_water_in_a_tilted_box(water, water_beads, tmp_path):
    """Beads anywhere in space stand for their images; molecules come out whole."""
    data = water_beads["water"]
    frames = data.read(slice(4, 5))
    shifts = np.random.default_rng(0).integers(-2, 3, (48, 3))
    moved = replace(frames, positions=frames.positions + shifts @ frames.box[0])
    fragments = replace(water, sources=water.sources)
    made = backmap(moved, data, fragments, tmp_path / "atoms.h5", dynamics=0.05, compare=1)
    assert made.record["deviation"]["max"] < 1e-5
    assert made.record["clashes"] == 0
    per_molecule = [made.record[key]["mean"] / 48 for key in ("energy", "reference_energy")]
    assert per_molecule[0] == pytest.approx(per_molecule[1], abs=5)  # kJ/mol, of about -52
    atoms = H5MDFile(made.path).read()
    assert np.linalg.norm(atoms.positions[0, 1::3] - atoms.positions[0, ::3], axis=1).max() < 0.11
    np.testing.assert_allclose(atoms.box, frames.box, atol=1e-5)


def test_molecules_without_beads_are_filled_in(water, water_beads, tmp_path):
    data = water_beads["lone"]
    frames = data.read(slice(2, 3))
    made = backmap(replace(frames, box=None), data, water, tmp_path / "atoms.h5")
    assert made.record["atoms_of_molecules_without_beads"] == 3 * 47
    assert made.record["deviation"]["max"] < 1e-5
    atoms = H5MDFile(made.path).read()
    assert atoms.positions.shape == (1, 144, 3)
    assert made.record["energy"]["mean"] < -48 * 40
    with pytest.raises(ValueError, match=r"cannot be filled with the 141 atoms that no bead is of"):
        backmap(replace(frames, box=1.1 * frames.box), data, water, tmp_path / "other.h5")
    whole = water_beads["water"]
    with pytest.raises(ValueError, match="no box, but the force field of water needs one"):
        backmap(replace(whole.read(slice(0, 1)), box=None), whole, water, tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists()


def test_wrong_beads(beads, peptide, peptide_run, tmp_path, water, water_beads):
    data = beads["backbone"]
    out = tmp_path / "atoms.h5"
    with pytest.raises(ValueError, match=r"ca.h5: 1 beads, expected 5"):
        backmap(beads["ca"], data, peptide, out)
    with pytest.raises(ValueError, match=r"the frames: 3 beads, expected 5"):
        backmap(Frames(np.zeros((1, 3, 3))), data, peptide, out)
    positions = data.read(slice(0, 2)).positions
    positions[1, 3, 2] = np.nan
    with pytest.raises(ValueError, match=r"frame 1, bead 3: position is .*nan"):
        backmap(Frames(positions), data, peptide, out)
    with pytest.raises(ValueError, match="no orientations, but beads of type 'PLANE' have one"):
        backmap(Frames(positions[:1]), beads["dipeptide-planes"], peptide, out)
    with pytest.raises(ValueError, match="no frame was selected"):
        backmap(data, data, peptide, out, select=slice(100, None))
    with pytest.raises(ValueError, match="matches no atom"):
        backmap(data, data, water, out)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        backmap(data, data, peptide, out, dynamics=-1)
    with pytest.raises(ValueError, match=r"expected finite `dynamics` and `seed` .*, got nan ps and 0"):
        backmap(data, data, peptide, out, dynamics=np.nan)
    with pytest.raises(ValueError, match=r"`seed` from 0 to 2147483646, got .* and -1"):
        backmap(data, data, peptide, out, seed=-1)
    for read in (data.path, peptide.sources[0].path):
        before = read.read_bytes()
        with pytest.raises(ValueError, match=rf"{read.name}: this file is read here and cannot be written too"):
            backmap(data, data, peptide, read)
        assert read.read_bytes() == before
    with pytest.raises(ValueError, match=r"such as atoms.h5, got .*atoms.pdb"):
        backmap(data, data, peptide, tmp_path / "atoms.pdb")
    own = tmp_path / "own.h5"
    BeadDataset.write(own, data.topology, data.read(slice(0, 1)), temperature=300.0)
    with pytest.raises(ValueError, match=r"own.h5: says nothing of a mapping"):
        backmap(data, own, peptide, out)
    assert not out.exists()


def test_what_fails_in_a_later_frame_leaves_nothing(beads, peptide, tmp_path):
    data = beads["backbone"]
    positions = data.read(slice(0, 2)).positions
    positions[1] *= 20.0  # bonds torn
    with pytest.raises(FloatingPointError, match="frame 1: "):
        backmap(Frames(positions), data, peptide, tmp_path / "atoms.h5")
    assert not list(tmp_path.iterdir())


def test_no_reference(beads, peptide_run, tmp_path):
    data, out = beads["backbone"], tmp_path / "atoms.h5"
    with pytest.raises(ValueError, match=r"reference.json is missing"):
        backmap(data, data, tmp_path / "nothing", out)
    entries = json.loads((peptide_run / "reference.json").read_text())
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "reference.json").write_text(json.dumps(entries | {"folder": str(tmp_path / "gone")}))
    with pytest.raises(ValueError, match=r"no system .*gone"):
        AtomReference.open(moved)
    other = cgenn.shipped.folder("systems") / "alanine-dipeptide-implicit"
    (moved / "reference.json").write_text(json.dumps(entries | {"folder": str(other)}))
    with pytest.raises(ValueError, match="holds a run with other settings"):
        AtomReference.open(moved)


@pytest.mark.slow
def test_villin(tmp_path):
    """Side chains of every kind from one bead each: hands, rings and contacts are right, energies near."""
    aa = run_reference(
        "villin", tmp_path / "aa", length=4.0, interval=0.5, equilibration=2.0, replicas=2, progress=False
    )
    fragments = AtomReference.open(aa.folder)
    fragments = replace(fragments, sources=fragments.sources[:1])
    for mapping in ("backbone", "ca-sidechain", "residue-com"):
        data = cgenn.map_trajectory(aa.trajectories[1], aa.topology, mapping, tmp_path / f"{mapping}.h5", forces=False)
        made = backmap(data, data, fragments, tmp_path / "atoms.h5", select=[7], compare=2, dynamics=0.5)
        assert made.record["deviation"]["max"] < 0.01
        assert (made.record["clashes"], made.record["pierced_rings"]) == (0, 0)
        assert made.record["energy"]["mean"] == pytest.approx(made.record["reference_energy"]["mean"], rel=0.06)
