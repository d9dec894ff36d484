import logging

import numpy as np
import pytest

from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import AnglePrior, BondPrior, DihedralPrior, Priors, RampPrior
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.simulation.transfer import beyond_training
from cgenn.topology import BeadTopology


def chain(middle: int) -> BeadTopology:
    """One chain of beads of type M between two of type E."""
    types = ["E", *["M"] * middle, "E"]
    return BeadTopology.build(types, [28.0] * len(types), bonds=[(i, i + 1) for i in range(len(types) - 1)])


@pytest.fixture
def potential():
    """Trained at 450 K on E-M-E chains."""
    config = PotentialConfig(
        types=("E", "M"), average_neighbors=4.0, energy_scale=1.0, temperature=450.0, channels=4, cutoff=0.5
    )
    bonds, angles = {"E|M": BondPrior(length=0.25, k=1e4)}, {"E|M|E": AnglePrior(angle=2.5, k=20.0)}
    return Potential(config, Priors(bonds=bonds, angles=angles))


def test_nothing_to_say(potential):
    assert beyond_training(potential, chain(1), 450.0) == []


def test_another_temperature(potential):
    (said,) = beyond_training(potential, chain(1), 300.0)
    assert "trained at 450 K and is simulated at 300 K" in said


def test_bonded_beads_that_were_never_seen(potential):
    said = beyond_training(potential, chain(2), 450.0)
    assert [sentence.split(" were")[0] for sentence in said] == ["no bonds of M|M", "no angles of E|M|M"]


def test_dihedrals_without_a_prior_may_have_been_straight(potential):
    priors = potential.priors.model_copy(update={"dihedrals": {"E|E|E|E": DihedralPrior(k=(1.0,), phase=(0.0,))}})
    bonds = {key: BondPrior(length=0.25, k=1e4) for key in ("E|M", "M|M")}
    angles = {key: AnglePrior(angle=2.5, k=20.0) for key in ("E|M|M", "M|M|M")}
    given = Potential(potential.config, priors.model_copy(update={"bonds": bonds, "angles": angles}))
    (said,) = beyond_training(given, chain(2), 450.0)
    assert said.startswith("no dihedrals of E|M|M|E were in the training data, or were nearly straight there")


def test_longer_chains_are_known_where_their_neighbourhoods_are(potential):
    bonds = {key: BondPrior(length=0.25, k=1e4) for key in ("E|M", "M|M")}
    trained = Potential(potential.config, Priors(bonds=bonds))
    assert beyond_training(trained, chain(9), 450.0) == []


def test_a_ramp_without_a_box(potential):
    """It acts there too, and that is said."""
    ramp = potential.priors.model_copy(update={"ramp": RampPrior(height=-0.3, range=0.5)})
    given = Potential(potential.config, ramp)
    (said,) = beyond_training(given, chain(1), 450.0)
    assert "in open space it acts like any other term" in said
    assert beyond_training(given, chain(1), 450.0, periodic=True) == []


def test_a_simulation_warns(potential, tmp_path, caplog):
    settings = SimulationConfig(temperature=300.0, steps=2, report_interval=2, platform="Reference", backend="python")
    start = (chain(1), 0.25 * np.eye(3))
    with caplog.at_level(logging.WARNING):
        simulate(potential, start, settings, tmp_path / "run", progress=False)
    assert "trained at 450 K and is simulated at 300 K" in caplog.text
