import numpy as np
import pytest
import torch

from cgenn.potential.config import PotentialConfig
from cgenn.potential.conformation import random_conformation
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors

PRIORS = Priors(
    bonds={"A|B": {"length": 0.38, "k": 2000.0}, "B|C": {"length": 0.3, "k": 2000.0}},
    angles={"A|B|C": {"angle": 1.7, "k": 100.0}},
    repulsion={"A|W": {"sigma": 0.4, "epsilon": 1.0}, "W|W": {"sigma": 0.3, "epsilon": 1.0}},
)


def potential(types: tuple[str, ...], priors: Priors) -> Potential:
    config = PotentialConfig(types=types, average_neighbors=4.0, energy_scale=1.0, temperature=300.0, channels=2)
    return Potential(config, priors)


@pytest.mark.parametrize("seed", range(3))
def test_follows_the_priors(seed: int) -> None:
    model = potential(("A", "B", "C", "W"), PRIORS)
    topology, positions = random_conformation(model, seed=seed)
    assert set(topology.types) == {"A", "B", "C", "W"}
    assert len(topology.bonds) >= 5
    for i, j in topology.bonds:
        expected = PRIORS.bonds["|".join(sorted((topology.types[i], topology.types[j])))].length
        assert np.linalg.norm(positions[i] - positions[j]) == pytest.approx(expected, abs=0.04)
    graph = model.graph(topology, torch.from_numpy(positions)[None])
    terms = model.prior_energy(topology)(graph)
    assert 0 < float(terms["bonds"]) < 5
    assert 0 < float(terms["angles"]) < 5
    assert float(terms["repulsion"]) < 20


def test_without_priors_beads_are_apart() -> None:
    topology, positions = random_conformation(potential(("A", "B", "C"), Priors()))
    assert topology.types == ("A", "A", "B", "B", "C", "C")
    gaps = np.linalg.norm(positions[:, None] - positions, axis=-1)[np.triu_indices(6, 1)]
    assert gaps.min() > 0.2
    assert gaps.max() < 5.0


def test_one_type_bonded_to_itself_is_a_chain() -> None:
    topology, _ = random_conformation(potential(("M",), Priors(bonds={"M|M": {"length": 0.4, "k": 1.0}})))
    assert len(topology) == 6
    assert len(topology.bonds) == 5


def test_seed_decides() -> None:
    model = potential(("A", "B"), PRIORS)
    first, again, other = (random_conformation(model, seed=seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
