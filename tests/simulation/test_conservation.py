"""Energy without a thermostat."""

from __future__ import annotations

import pytest

from cgenn.simulation.conservation import energy_drift

from .conftest import with_charges


def test_error_of_verlet_is_of_second_order(potential, topology, positions):
    coarse, fine = energy_drift(potential, (topology, positions), [0.004, 0.002], 0.4, replicas=8, backend="python")
    assert 3.0 < coarse.fluctuation / fine.fluctuation < 5.0
    assert coarse.fluctuation < 0.05


def test_predicted_charges_conserve_energy_as_well_as_constant_ones(potential, molecules):
    constant, predicted = (
        energy_drift(with_charges(potential, charges=kind), molecules, [0.0002], 0.02, backend="python")[0]
        for kind in ("types", "predicted")
    )
    assert predicted.fluctuation < 1.5 * constant.fluctuation < 1e-3
    assert abs(predicted.drift) < abs(constant.drift) + 5 * predicted.error


def test_too_short(potential, topology, positions):
    with pytest.raises(ValueError, match=r"at least 100 steps of 0.01 ps"):
        energy_drift(potential, (topology, positions), [0.01], 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["double", "single"])
def test_no_drift(potential, topology, positions, precision):
    """At steps that resolve a random network, rougher than a trained one: Verlet's error goes as their square."""
    results = energy_drift(potential, (topology, positions), [0.00025, 0.0004], 2.0, replicas=10, precision=precision)
    for result in results:
        assert abs(result.drift) < max(5 * result.error, 0.05)
