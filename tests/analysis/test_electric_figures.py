"""Figures of charges are PNG images that change with what they show."""

import numpy as np
import pytest

from cgenn.analysis.electric_figures import charge_structure_figure, dielectric_figure, infrared_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import radial_figure
from cgenn.analysis.infrared import infrared_spectrum
from cgenn.analysis.radial import radial_distributions
from cgenn.analysis.structure_factor import structure_factors
from tests.analysis.test_figures import size

CHARGES = np.tile([1.0, -1.0], 15)


def ions(seed: int, frames: int = 12) -> Ensemble:
    generator = np.random.default_rng(seed)
    return Ensemble(generator.uniform(size=(frames, 30, 3)) * 2, np.repeat(2 * np.eye(3)[None], frames, axis=0))


def test_charge_structure_figure_of_a_reference_a_model_and_a_control():
    results = [structure_factors(ions(seed), 20.0, charges=CHARGES) for seed in range(3)]
    single = structure_factors(ions(3, frames=1), 20.0, charges=CHARGES)
    three = charge_structure_figure(dict(zip(["reference", "model", "control"], results, strict=True)), 9.0)
    assert size(three) == size(charge_structure_figure({"reference": single}, 9.0))
    assert three != charge_structure_figure(dict(zip(["reference", "model", "control"], results, strict=True)), 5.0)
    with pytest.raises(ValueError, match="expected 1 to 5 curves, got 0"):
        charge_structure_figure({}, 9.0)
    with pytest.raises(ValueError, match="reference: the structure factors have no charges"):
        charge_structure_figure({"reference": structure_factors(ions(0), 20.0)}, 9.0)


def test_radial_figure_with_a_control():
    reference, model, control = (radial_distributions(["A", "B"] * 15, ions(seed), bins=20) for seed in range(3))
    without = radial_figure(reference, model, [0, 1, 2], ("reference", "model"))
    found = radial_figure(reference, model, [0, 1, 2], ("reference", "model", "control"), control)
    assert size(found) == size(without)
    assert found != without


def test_dielectric_and_infrared_figures():
    times, values = np.arange(100.0), np.linspace(1.0, 50.0, 100)
    plain = dielectric_figure(times, {"model": values})
    assert plain != dielectric_figure(times, {"model": values}, {"model": (50.0, 3.0)})
    assert size(plain)[0] > size(plain)[1]
    with pytest.raises(ValueError, match="model: 99 values, but 100 times"):
        dielectric_figure(times, {"model": values[1:]})
    series = np.random.default_rng(0).normal(size=(4000, 3))
    spectrum = infrared_spectrum(series, 0.01, 10.0, 300.0, resolution=50.0)
    assert infrared_figure({"model": spectrum}) != infrared_figure({"model": spectrum}, highest=500.0)
