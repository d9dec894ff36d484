"""What compare_ensembles adds for polymers, proteins and liquids: where it applies, and that the numbers are right."""

import json

import numpy as np
import pytest

from cgenn.analysis import Ensemble, compare_ensembles
from cgenn.analysis.density_section import density_part
from cgenn.topology import BeadTopology
from tests.analysis.chains import freely_rotating
from tests.analysis.test_proteins import helix, strand

LABELS = ("all-atom, mapped", "CG")


def melt(frames: int, cosine: float, d: float, seed: int) -> np.ndarray:
    """Twelve rigid chains of eight beads that diffuse, wrapped into a box of 4 nm, shape (frames, 96, 3)."""
    generator = np.random.default_rng(seed)
    chains = freely_rotating(12, 7, cosine, seed) + generator.uniform(0, 4, (12, 1, 3))
    walk = np.cumsum(generator.normal(size=(frames, 12, 1, 3)) * np.sqrt(2 * d), axis=0)
    return (chains + walk).reshape(frames, -1, 3) % 4.0


def chains() -> BeadTopology:
    bonds = [(i, i + 1) for i in range(7)]
    return BeadTopology.build(["M"] * 8, [44.0] * 8, bonds=bonds, residue_names=["PEO"] * 8).repeat(12)


def test_a_melt_gets_chains_dynamics_and_a_structure_factor(tmp_path):
    """Chains cut by the boundary have the sizes that they were made with; the model is four times as fast."""
    n, box = 200, np.tile(4.0 * np.eye(3), (200, 1, 1))
    reference = Ensemble(melt(n, 0.5, 0.002, 1), box, label=LABELS[0], times=2.0 * np.arange(n))
    model = Ensemble(melt(n, 0.5, 0.004, 1), box, label=LABELS[1], times=1.0 * np.arange(n))
    report = compare_ensembles(chains(), reference, model, 300.0, tmp_path)
    content = json.loads(report.json.read_text())
    made = freely_rotating(12, 7, 0.5, 1)
    span = np.sqrt(np.mean(np.square(made[:, -1] - made[:, 0]).sum(axis=1)))
    (entry,) = content["polymers"]
    for side in ("reference", "model"):
        assert entry["end_to_end_distance"][side] == pytest.approx(span, rel=1e-6)
    (diffusion,) = content["diffusion"]
    assert diffusion["reference"] == pytest.approx(0.001, rel=0.3)
    assert diffusion["model"] == pytest.approx(0.004, rel=0.3)
    assert content["headline"]["time_scaling"] == pytest.approx(4.0, rel=0.5)
    assert set(content["structure_factor"]) == set(LABELS)
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"distributions", "radial", "chains_1", "displacement", "structure_factor"}
    page = report.html.read_text(encoding="utf-8")
    assert "the dynamics of the model with its thermostat" in page
    assert "Bilayer" not in page
    assert "Protein" not in page


@pytest.mark.parametrize("times", [None, "uneven"])
def test_no_dynamics_without_equal_times(tmp_path, times):
    known = None if times is None else np.cumsum(1.0 + np.arange(40) % 2)
    box = np.tile(4.0 * np.eye(3), (40, 1, 1))
    sides = [Ensemble(melt(40, 0.5, 0.01, seed), box, label=label, times=known) for seed, label in enumerate(LABELS)]
    report = compare_ensembles(chains(), *sides, 300.0, tmp_path)
    assert "diffusion" not in report.numbers
    assert "polymers" in report.numbers


def protein(residues: int) -> BeadTopology:
    return BeadTopology.build(
        ["CA"] * residues, [110.0] * residues, bonds=[(i, i + 1) for i in range(residues - 1)],
        residue_names=["ALA"] * residues, residue_index=np.arange(residues),
    )  # fmt: skip


def folding(frames: int, helical: float, seed: int) -> np.ndarray:
    """Jumps between a helix and a strand, both with noise; the share of frames in the helix is given."""
    generator = np.random.default_rng(seed)
    ends = np.stack([strand(12), helix(12)])
    state, states = 1, []
    for _ in range(frames):
        leave = 0.02 * ((1 - helical) if state else helical)
        state = 1 - state if generator.random() < 2 * leave else state
        states.append(state)
    return ends[states] + 0.02 * generator.normal(size=(frames, 12, 3))


def test_a_protein_gets_contacts_structure_and_slow_coordinates(tmp_path):
    """Half folded in the reference, a fifth in the model: RMSD, Q and helix say so, and the slow coordinate is it."""
    pytest.importorskip("deeptime")
    sides = [
        Ensemble(folding(2000, helical, seed), label=label, times=10.0 * np.arange(2000))
        for helical, seed, label in zip((0.5, 0.2), (1, 2), LABELS, strict=True)
    ]
    report = compare_ensembles(protein(12), *sides, 300.0, tmp_path, native=helix(12))
    entry = json.loads(report.json.read_text())["protein"]
    folded = [(side.positions[:, -1, 0] < 1.0).mean() for side in sides]
    assert [entry["native_contacts"][side] for side in ("reference", "model")] == pytest.approx(folded, abs=0.1)
    assert entry["helix"]["reference"] > 1.5 * entry["helix"]["model"]
    assert entry["rmsd"]["reference"] < entry["rmsd"]["model"]
    slow = report.numbers["slow_coordinates"]
    slowest = slow["timescale_1"]
    assert slowest["reference"] == pytest.approx(-10.0 / np.log(1 - 0.04), abs=4 * slowest["reference_error"])
    assert 0 < slowest["reference_error"] < slowest["reference"]
    assert slow["js"] > slow["js_sampling_floor"]
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures >= {"protein", "contacts", "secondary_structure", "slow_coordinates", "timescales", "chains_1"}


def test_a_protein_of_one_frame_has_numbers_without_errors(tmp_path):
    sides = [Ensemble(folding(1, 1.0, seed), label=label) for seed, label in enumerate(LABELS)]
    report = compare_ensembles(protein(12), *sides, 300.0, tmp_path)
    assert report.numbers["protein"]["rmsd"]["reference_error"] is None
    assert report.numbers["protein"]["rmsd"]["reference"] == pytest.approx(0.0, abs=1e-7)
    assert "slow_coordinates" not in report.numbers


def test_a_native_structure_of_other_beads_is_named(tmp_path):
    sides = [Ensemble(folding(4, 1.0, seed), label=label) for seed, label in enumerate(LABELS)]
    with pytest.raises(ValueError, match=r"`native` must have the shape \(12, 3\), got \(11, 3\)"):
        compare_ensembles(protein(12), *sides, 300.0, tmp_path, native=helix(11))


def test_density_and_bulk_modulus_where_the_volume_fluctuates(tmp_path):
    """Volumes drawn with a known mean and variance: K = kT <V> / var(V); the model is denser and stiffer."""
    n, generator = 1000, np.random.default_rng(0)
    sides = []
    for label, mean, spread in zip(LABELS, (64.0, 60.0), (1.0, 0.5), strict=True):
        edges = np.cbrt(generator.normal(mean, spread, n))
        positions = melt(n, 0.5, 0.001, 1) * edges[:, None, None] / 4.0
        sides.append(Ensemble(positions, edges[:, None, None] * np.eye(3), label=label))
    part = density_part(chains(), *sides, 300.0)
    density, modulus = part.numbers["density"]["density"], part.numbers["density"]["bulk_modulus"]
    mass = 96 * 44.0 * 1.66053906660e-3
    assert (density["unit"], modulus["unit"]) == ("g/cm^3", "bar")
    for side, mean, spread in (("reference", 64.0, 1.0), ("model", 60.0, 0.5)):
        assert density[side] == pytest.approx(mass / mean, rel=2e-3)
        assert density[f"{side}_error"] == pytest.approx(mass / mean**2 * spread / n**0.5, rel=0.8)
        expected = 8.31446261815324 * 300.0 / 6.02214076e23 * mean * 1e27 / spread**2 / 1e5  # J, m^3, Pa -> bar
        assert modulus[side] == pytest.approx(expected, rel=0.2)
        assert abs(modulus[side] - expected) < 4 * modulus[f"{side}_error"] < 0.5 * expected
    assert part.headline["density"].value == density["model"]
    few = [Ensemble(side.positions[:20], side.box[:20], label=side.label) for side in sides]
    report = compare_ensembles(chains(), *few, 300.0, tmp_path)
    assert "Bulk modulus" in report.html.read_text(encoding="utf-8")


def test_no_density_in_a_box_that_is_kept(tmp_path):
    box = np.tile(4.0 * np.eye(3), (40, 1, 1))
    sides = [Ensemble(melt(40, 0.5, 0.01, seed), box, label=label) for seed, label in enumerate(LABELS)]
    assert "density" not in compare_ensembles(chains(), *sides, 300.0, tmp_path).numbers
