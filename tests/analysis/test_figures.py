"""Figures are PNG images, drawn without touching pyplot, also for awkward input."""

import struct
import sys

import numpy as np
import pytest

from cgenn.analysis.conformations import compare_surfaces
from cgenn.analysis.distributions import compare_distributions
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import (
    distributions_figure,
    radial_figure,
    series_figure,
    surface_figure,
    training_figure,
)
from cgenn.analysis.radial import radial_distributions
from cgenn.topology import BeadTopology

LABELS = ("reference", "model")


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG image."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.fixture(scope="module")
def walks():
    steps = np.random.default_rng(0).normal(size=(2, 300, 5, 3))
    return Ensemble(steps[0].cumsum(axis=1)), Ensemble(steps[1].cumsum(axis=1), label="model")


def test_surface_figure_is_wide_also_when_the_sides_share_no_bin(walks):
    comparison = compare_surfaces(*walks, ((0, 1, 2, 3), (1, 2, 3, 4)))
    width, height = size(surface_figure(comparison, 300.0, ("φ", "ψ"), LABELS))
    assert width > 2 * height
    single = Ensemble(walks[0].positions[:1])
    apart = compare_surfaces(single, Ensemble(walks[1].positions[:1]), ((0, 1, 2, 3), (1, 2, 3, 4)))
    assert size(surface_figure(apart, 300.0, ("φ", "ψ"), LABELS)) == (width, height)


def test_distribution_panels_fill_rows_of_four(walks):
    chain = BeadTopology.build(["X"] * 5, [1.0] * 5, bonds=[(i, i + 1) for i in range(4)])
    entries = compare_distributions(chain, *walks)
    assert len(entries) == 4
    one_row = size(distributions_figure(entries, LABELS))
    two_rows = size(distributions_figure([*entries, entries[0]], LABELS))
    assert one_row[0] == two_rows[0]
    assert one_row[1] < two_rows[1]
    assert size(distributions_figure(entries[:1], LABELS))[0] < one_row[0]


def test_radial_figure_with_and_without_errors():
    generator = np.random.default_rng(1)
    gas = Ensemble(generator.uniform(size=(12, 30, 3)) * 2, np.repeat(2 * np.eye(3)[None], 12, axis=0))
    many = radial_distributions(["A"] * 15 + ["B"] * 15, gas)
    one = radial_distributions(["A"] * 15 + ["B"] * 15, Ensemble(gas.positions[:1], gas.box[:1]))
    assert size(radial_figure(one, many, [0, 1, 2], LABELS)) == size(radial_figure(many, one, [0, 1, 2], LABELS))


def test_training_figure_skips_gaps_and_takes_lines():
    history = {
        "epoch": np.arange(6),
        "training": np.array([700.0, 500.0, np.nan, 400.0, 380.0, 376.0]),
        "validation": np.array([720.0, np.nan, np.nan, 420.0, 390.0, 377.0]),
    }
    plain = training_figure(history)
    assert size(plain) == size(training_figure(history, noise_floor=370.0, null_model=729.0))
    assert plain != training_figure(history, noise_floor=370.0)
    assert plain == training_figure(history)  # the same numbers give the same file


@pytest.mark.parametrize("draw", [series_figure, training_figure])
@pytest.mark.parametrize("columns", [{"time": np.ones(3)}, {"time": np.ones(3), "energy": np.ones(4)}])
def test_columns_that_do_not_fit_are_refused(draw, columns):
    with pytest.raises(ValueError, match="two or more columns of the same length, got"):
        draw(columns)


def test_series_grow_with_the_number_of_columns():
    columns = {"time (ps)": np.arange(20), "energy (kJ/mol)": np.ones(20)}
    assert size(series_figure(columns))[1] < size(series_figure({**columns, "temperature (K)": np.ones(20)}))[1]


def test_no_figure_touches_the_global_state_of_pyplot():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
