"""Energy without a thermostat."""

from __future__ import annotations

import pytest

from cgenn.simulation.conservation import energy_drift


def test_error_of_verlet_is_of_second_order(potential, topology, positions):
    coarse, fine = energy_drift(potential, (topology, positions), [0.004, 0.002], 0.4, replicas=8, backend="python")
    assert 3.0 < coarse.fluctuation / fine.fluctuation < 5.0
    assert coarse.fluctuation < 0.05


def test_too_short(potential, topology, positions):
    with pytest.raises(ValueError, match=r"at least 100 steps of 0.01 ps"):
        energy_drift(potential, (topology, positions), [0.01], 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["double", "single"])
def test_no_drift(potential, topology, positions, precision):
    """At steps that resolve a random network, whose energy is rougher than that of a trained one."""
    results = energy_drift(potential, (topology, positions), [0.0005, 0.001], 4.0, replicas=10, precision=precision)
    for result in results:
        assert abs(result.drift) < max(5 * result.error, 0.05)
