"""The whole comparison, from two ensembles to a report."""

import json

import numpy as np
import pytest

from cgenn.analysis import Ensemble, Number, Section, compare_ensembles
from cgenn.topology import BeadTopology

START = np.array([[0.0, 0.3, 0.1], [0.1, 0.1, 0.0], [0.25, 0.1, 0.05], [0.3, 0.25, 0.1], [0.2, 0.35, 0.2]])
BACKBONE = BeadTopology.build(
    ["ACE-C", "ALA-N", "ALA-CA", "ALA-C", "NME-N"],
    [12.0, 14.0, 12.0, 12.0, 14.0],
    bonds=[(0, 1), (1, 2), (2, 3), (3, 4)],
    names=["C", "N", "CA", "C", "N"],
)


def frames(n: int, seed: int) -> np.ndarray:
    return START + np.random.default_rng(seed).normal(size=(n, 5, 3)) * 0.02


def sides(n: int = 800) -> tuple[Ensemble, Ensemble]:
    return Ensemble(frames(n, 1)), Ensemble(frames(n, 2), blocks=np.arange(n) // (n // 16), label="model")


def test_a_molecule_gets_surface_distributions_and_the_callers_own(tmp_path):
    report = compare_ensembles(
        BACKBONE,
        *sides(),
        300.0,
        tmp_path,
        time_series={"time (ps)": np.arange(9), "energy (kJ/mol)": np.arange(9)},
        headline={"force_mse": Number(385.0, "force error", "kcal²/mol²/Å²")},
        sections=[Section("Speed", "12 ns/day")],
        provenance={"mapping": "backbone"},
    )
    content = json.loads(report.json.read_text())
    headline = content["headline"]
    assert set(headline) >= {"js", "js_error", "js_mirrored", "js_sampling_floor", "js_bonds", "js_angles", "force_mse"}
    assert headline["js"] < 2 * headline["js_sampling_floor"] < headline["js_mirrored"]
    assert {entry["kind"] for entry in content["distributions"]} == {"bond", "angle", "dihedral", "pair"}
    assert content["provenance"]["temperature [K]"] == 300.0
    assert content["provenance"]["mapping"] == "backbone"
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"free_energy", "distributions", "time_series"}
    page = report.html.read_text(encoding="utf-8")
    assert "12 ns/day" in page
    assert page.index("Free-energy surface") < page.index("<h2>Speed") < page.index("<h2>Provenance")


def test_a_given_histogram_also_rates_the_reference_frames(tmp_path):
    report = compare_ensembles(BACKBONE, *sides(), 300.0, tmp_path, reference_histogram=np.ones((60, 60)))
    assert report.headline["js_reference_frames"].value == pytest.approx(report.headline["js"].value, rel=0.05)


def test_a_liquid_gets_radial_distributions(tmp_path):
    generator = np.random.default_rng(3)
    box = np.repeat(np.array([[2.0, 0, 0], [0.6, 1.9, 0], [-0.5, 0.4, 1.8]])[None], 12, axis=0)
    water = BeadTopology.build(["W"] * 60 + ["I"] * 10, [18.0] * 70)
    gases = [Ensemble(generator.uniform(size=(12, 70, 3)) @ box, box, label=label) for label in ("reference", "model")]
    report = compare_ensembles(water, *gases, 300.0, tmp_path)
    entries = report.numbers["radial_distributions"]
    assert [entry["types"] for entry in entries] == ["I|I", "I|W", "W|W"]
    assert list(report.headline) == ["g_rms_difference"]
    assert {path.stem for path in tmp_path.glob("*.png")} == {"radial", "structure_factor"}


def test_many_types_are_capped_in_the_figure_and_all_in_the_numbers(tmp_path):
    n = 16
    chain = BeadTopology.build([f"T{bead}" for bead in range(n)], [1.0] * n, bonds=[(i, i + 1) for i in range(n - 1)])
    walk = np.random.default_rng(4).normal(size=(2, 60, n, 3)).cumsum(axis=2)
    report = compare_ensembles(chain, Ensemble(walk[0]), Ensemble(walk[1], label="model"), 300.0, tmp_path)
    total = len(report.numbers["distributions"])
    assert total == 15 + 14 + 13 + 13 * 14 // 2
    assert f"24 of {total} types are drawn" in report.html.read_text(encoding="utf-8")


def test_one_frame_is_enough_for_numbers_without_errors(tmp_path):
    report = compare_ensembles(BACKBONE, Ensemble(frames(1, 1)), Ensemble(frames(1, 2), label="model"), 300.0, tmp_path)
    assert "js_error" not in report.numbers["headline"]
    assert report.headline["js"].value == pytest.approx(np.log(2), abs=1e-6)


def test_bad_input_is_named_and_nothing_is_written(tmp_path):
    reference, model = sides(16)
    out = tmp_path / "report"
    broken = frames(16, 1)
    broken[3, 2, 0] = np.nan
    cases = [
        ((BACKBONE, reference, model, -5.0, out), {}, "temperature must be positive, got -5.0 K"),
        ((BACKBONE.repeat(2), reference, model, 300.0, out), {}, "reference: 5 beads, but the topology has 10"),
        ((BACKBONE, Ensemble(broken), model, 300.0, out), {}, "reference: the position of bead 2 in frame 3"),
        (
            (BeadTopology.build(["A"] * 5, [1.0] * 5), reference, model, 300.0, out),
            {"reference_histogram": np.ones((60, 60))},
            "needs a surface of two dihedrals",
        ),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            compare_ensembles(*arguments, **options)
    assert not out.exists()
