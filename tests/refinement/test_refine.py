"""Refinement on a chain of four beads whose ensemble is known exactly: its internal coordinates are independent."""

import json

import numpy as np
import pytest
import torch

from cgenn.body import Body
from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import AnglePrior, BondPrior, DihedralPrior, Priors
from cgenn.refinement.features import features, moved_priors, newton_step
from cgenn.refinement.refine import refine, score
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.run import simulate
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

KT = thermal_energy(300.0)
CHAIN = BeadTopology.build(["A", "B", "B", "C"], [12.0] * 4, bonds=[(0, 1), (1, 2), (2, 3)])
TRUE = Priors(
    bonds={
        "A|B": BondPrior(length=0.20, k=8000.0),
        "B|B": BondPrior(length=0.22, k=6000.0),
        "B|C": BondPrior(length=0.20, k=8000.0),
    },
    angles={"A|B|B": AnglePrior(angle=2.0, k=80.0), "B|B|C": AnglePrior(angle=1.9, k=80.0)},
    dihedrals={"A|B|B|C": DihedralPrior(k=(2.5, 1.5), phase=(0.6, -1.0))},
)
SHORT = SimulationConfig(
    timestep=0.008, friction=5.0, steps=600, equilibration=300, report_interval=20, replicas=300, platform="Reference"
)


def potential(priors):
    """A network that says nothing, under the priors."""
    config = PotentialConfig(
        types=("A", "B", "C"), cutoff=0.5, channels=2, layers=1, lmax=0, radial_width=4, radial_basis=4,
        average_neighbors=3.0, energy_scale=1.0, temperature=300.0,
    )  # fmt: skip
    model = Potential(config, priors).requires_grad_(False).eval()
    for weights in model.network.parameters():
        weights.zero_()
    return model


def spoilt(**changes):
    return potential(TRUE.model_copy(update=changes))


def drawn(random, grid, energy, weight, shape):
    """Values of density weight(x) exp(-energy(x) / kT)."""
    density = weight(grid) * np.exp(-energy(grid) / KT)
    return np.interp(random.random(shape), np.cumsum(density) / density.sum(), grid)


def exact_frames(n):
    """Frames of the true chain, drawn one internal coordinate at a time; the dihedral has the IUPAC sign."""
    random = np.random.default_rng(3)
    lengths, bends = [], []
    for prior in TRUE.bonds.values():
        grid = prior.length + np.linspace(-6, 6, 4001) * np.sqrt(KT / prior.k)
        lengths.append(drawn(random, grid, lambda r, p=prior: 0.5 * p.k * (r - p.length) ** 2, np.square, n))
    for prior in TRUE.angles.values():
        grid = np.linspace(0.01, np.pi - 0.01, 4001)
        bends.append(drawn(random, grid, lambda x, p=prior: 0.5 * p.k * (x - p.angle) ** 2, np.sin, n))
    grid = np.linspace(-np.pi, np.pi, 8001)
    torsion = drawn(random, grid, dihedral_energy, np.ones_like, n)
    zero = np.zeros(n)
    first = np.stack([lengths[0] * np.sin(bends[0]), zero, lengths[0] * np.cos(bends[0])], axis=1)
    third = np.stack([zero, zero, lengths[1]], axis=1)
    sideways = lengths[2] * np.sin(bends[1])
    last = np.stack(
        [sideways * np.cos(torsion), sideways * np.sin(torsion), lengths[1] - lengths[2] * np.cos(bends[1])], axis=1
    )
    return np.stack([first, np.zeros((n, 3)), third, last], axis=1)


def dihedral_energy(phi):
    prior = TRUE.dihedrals["A|B|B|C"]
    return sum(k * (1 + np.cos(n * phi - p)) for n, (k, p) in enumerate(zip(prior.k, prior.phase, strict=True), 1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("refinement") / "chain.h5"
    return BeadDataset.write(path, CHAIN, Frames(exact_frames(20_000)), temperature=300.0)


def test_features_of_joints_are_those_of_the_atoms():
    body = Body(
        symmetry="Cinfv", inertia=(0.0782, 0.0782, 0.0), names=("C", "N"), masses=(12.0, 14.0),
        coordinates=((0.0, 0.0, -0.06), (0.0, 0.0, 0.05)),
    )  # fmt: skip
    pair = BeadTopology.build(["R", "A"], [26.0, 9.0], bonds=[(0, 1)], bodies={"R": body}, joints=[(0, 1, 1, -1)])
    priors = Priors(bonds={"A|R:N": BondPrior(length=0.2, k=1e4)}, angles={"A|R:N|R:C": AnglePrior(angle=2.0, k=9.0)})
    positions, turns = np.array([[[0.0, 0.0, 0.0], [0.15, 0.0, 0.05]]]), np.tile([1.0, 0.0, 0.0, 0.0], (1, 2, 1))
    names, values, _ = features(priors, pair, positions, turns)
    assert [(kind, function) for kind, _, function in names] == [
        ("bonds", "x"), ("bonds", "x2"), ("angles", "x"), ("angles", "x2"),
    ]  # fmt: skip
    np.testing.assert_allclose(values[0, [0, 2]], [0.15 - 0.2, np.pi / 2 - 2.0])


def prior_energies(priors, topology, positions):
    model = potential(priors)
    graph = model.graph(topology, torch.from_numpy(positions))
    return sum(model.prior_energy(topology)(graph).values()).numpy()


@pytest.mark.parametrize("types", [["A", "B", "B", "C"], ["B", "B", "B", "B", "B"]])
def test_the_prior_energy_is_linear_in_the_features(types):
    """Exactly: moving the coefficients changes the energy by step times feature, but for a constant."""
    random = np.random.default_rng(0)
    topology = BeadTopology.build(types, [12.0] * len(types), bonds=[(i, i + 1) for i in range(len(types) - 1)])
    one = {
        "bonds": {"B|B": BondPrior(length=0.2, k=900.0)},
        "angles": {"B|B|B": AnglePrior(angle=1.8, k=40.0)},
        "dihedrals": {"B|B|B|B": DihedralPrior(k=(1.0, 0.0, 2.0), phase=(0.4, 0.0, -2.0))},
    }
    priors = TRUE if "A" in types else Priors(**one)
    positions = random.normal(size=(30, len(types), 3))
    names, values, _ = features(priors, topology, positions)
    assert values.shape == (30, len(names))
    step = random.uniform(-1, 1, len(names))
    moved = moved_priors(priors, dict(zip(names, step.tolist(), strict=True)))
    change = prior_energies(moved, topology, positions) - prior_energies(priors, topology, positions)
    expected = values @ step
    np.testing.assert_allclose(change - change[0], expected - expected[0], rtol=0, atol=1e-9)


def test_features_are_named_and_summed_over_terms_of_the_same_types():
    names, values, terms = features(TRUE, CHAIN, exact_frames(5))
    assert terms.tolist() == [1.0] * len(names)
    assert names[:2] == [("bonds", "A|B", "x"), ("bonds", "A|B", "x2")]
    assert names[-4:] == [("dihedrals", "A|B|B|C", name) for name in ("cos1", "sin1", "cos2", "sin2")]
    alike = BeadTopology.build(["B"] * 4, [12.0] * 4, bonds=[(0, 1), (1, 2), (2, 3)])
    one = Priors(bonds={"B|B": BondPrior(length=0.2, k=1.0)})
    _, summed, terms = features(one, alike, exact_frames(5))
    assert terms.tolist() == [3.0, 3.0]
    np.testing.assert_allclose(summed[:, 0] + 3 * 0.20, values[:, [0, 2, 4]].sum(axis=1) + 0.62)


def test_energies_of_wells_are_moved():
    """The share of a well is the derivative of the energy by that of the well; one step moves it by kT at most."""
    well = {"k": 60.0, "energy": 1.0}
    priors = Priors(
        bonds={"A|B": BondPrior(length=0.2, k=900.0, kt=KT, others=[{"length": 0.3, **well}])},
        angles={"A|B|B": AnglePrior(angle=3.0, k=90.0, kt=KT, others=[{"angle": 2.0, **well}, {"angle": 1.2, **well}])},
    )
    positions = np.random.default_rng(0).normal(scale=0.3, size=(30, 4, 3))
    names, values, _ = features(priors, CHAIN, positions)
    assert names == [("bonds", "A|B", "well0"), ("angles", "A|B|B", "well0"), ("angles", "A|B|B", "well1")]
    step = 1e-4 * np.array([1.0, -2.0, 3.0])
    either = [moved_priors(priors, dict(zip(names, (sign * step).tolist(), strict=True))) for sign in (1, -1)]
    change = prior_energies(either[0], CHAIN, positions) - prior_energies(either[1], CHAIN, positions)
    np.testing.assert_allclose(change, 2 * values @ step, atol=1e-10)
    far = moved_priors(priors, dict.fromkeys(names, 1e3))
    assert far.angles["A|B|B"].others[1].energy == pytest.approx(1.0 + KT)
    assert far.angles["A|B|B"].angle == 3.0


def test_a_step_is_kept_within_bounds():
    """Half or twice as stiff, a fifth off the centre, no angle beyond a straight line; what is not there stays so."""
    priors = Priors(
        bonds={"A|B": BondPrior(length=0.2, k=100.0), "B|B": BondPrior(length=0.2, k=0.0)},
        angles={"A|B|B": AnglePrior(angle=3.0, k=10.0)},
    )
    far = {("bonds", "A|B", "x2"): 1e6, ("bonds", "A|B", "x"): 1e6, ("bonds", "B|B", "x"): 5.0}
    moved = moved_priors(priors, far | {("angles", "A|B|B", "x"): -1e6})
    assert moved.bonds["A|B"].k == 200.0
    assert moved.bonds["A|B"].length == pytest.approx(0.16)
    assert moved_priors(priors, {("bonds", "A|B", "x2"): -1e6}).bonds["A|B"] == BondPrior(length=0.2, k=50.0)
    assert moved.bonds["B|B"] == priors.bonds["B|B"]
    assert moved.angles["A|B|B"] == AnglePrior(angle=np.pi, k=10.0)
    assert moved_priors(TRUE, {}).bonds == TRUE.bonds


def test_a_step_finds_a_well_in_the_wrong_place_and_of_the_wrong_strength():
    """Normal coordinates of three equal bonds: both in one step, as far as they are linear in it."""
    random = np.random.default_rng(2)
    names, terms = [("bonds", "A|A", "x"), ("bonds", "A|A", "x2")], np.array([3.0, 3.0])
    values = random.normal(0.0, 0.01, size=(200_000, 3))
    found = np.stack([values.sum(axis=1), (values**2).sum(axis=1)], axis=1)
    off, deviation = 0.02, 0.0095
    wanted = 3 * np.array([off, deviation**2 + off**2])
    step = newton_step(names, terms, wanted, found)
    k = 1 / 0.01**2 + 2 * step[1]  # of kT
    assert k == pytest.approx(1 / 0.01**2 * (2 - deviation**2 / 0.01**2), rel=0.01)
    assert -step[0] * 0.01**2 == pytest.approx(off, rel=0.03)


@pytest.fixture(scope="module")
def refined(dataset, tmp_path_factory):
    """Spoilt: a bond too long and too soft, an angle too wide, a dihedral nearly free. Three rounds."""
    out = tmp_path_factory.mktemp("refined")
    model = spoilt(
        bonds={**TRUE.bonds, "A|B": BondPrior(length=0.21, k=5000.0)},
        angles={**TRUE.angles, "B|B|C": AnglePrior(angle=2.1, k=80.0)},
        dihedrals={"A|B|B|C": DihedralPrior(k=(0.3, 0.1), phase=(2.0, 2.0))},
    )
    return model, refine(model, dataset, SHORT, out, rounds=3), out


def test_spoilt_priors_are_brought_back(refined, dataset):
    _, found, out = refined
    priors = found.priors
    assert priors.bonds["A|B"].length == pytest.approx(0.20, abs=0.001)
    assert priors.bonds["A|B"].k == pytest.approx(8000.0, rel=0.1)
    assert priors.angles["B|B|C"].angle == pytest.approx(1.9, abs=0.02)
    for n in range(2):
        wave = priors.dihedrals["A|B|B|C"].k[n] * np.exp(1j * priors.dihedrals["A|B|B|C"].phase[n])
        true = TRUE.dihedrals["A|B|B|C"]
        assert abs(wave - true.k[n] * np.exp(1j * true.phase[n])) < 0.35  # kJ/mol, of kT = 2.5
    entries = json.loads((out / "refinement.json").read_text())
    divergences = [entry["js"] for entry in entries["scores"]]
    assert divergences[0] > 10 * min(divergences)
    assert min(divergences) < 3 * entries["scores"][0]["floor"]


def test_averages_agree_after_refinement(refined, dataset, tmp_path):
    """In a run with other random numbers, within five standard errors of the 300 replicas."""
    _, found, _ = refined
    run = simulate(found, dataset.path, SHORT.model_copy(update={"seed": 9}), tmp_path / "run", progress=False)
    wanted = features(found.priors, CHAIN, dataset.read().positions)[1]
    names, reached, _ = features(found.priors, CHAIN, run.positions)
    by_replica = reached.reshape(-1, 300, len(names)).mean(axis=0)
    error = np.hypot(by_replica.std(axis=0) / np.sqrt(300), wanted.std(axis=0) / np.sqrt(len(wanted)))
    late = np.abs(reached.mean(axis=0) - wanted.mean(axis=0)) / error
    assert late.max() < 8, dict(zip(names, late.round(1), strict=True))


def test_the_network_and_the_origin_of_the_model_stay(refined):
    model, found, _ = refined
    before, after = model.network.state_dict(), found.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found.provenance["refinement"]["chosen"].startswith("round-")


def test_what_is_there_is_not_done_again_and_rounds_can_be_added(refined, dataset):
    model, found, out = refined
    runs = sorted(out.rglob("run/*"))
    before = [path.stat().st_mtime_ns for path in runs]
    again = refine(model, dataset, SHORT, out, rounds=3)
    assert again.priors == found.priors
    assert [path.stat().st_mtime_ns for path in runs] == before
    with pytest.raises(ValueError, match="holds the refinement of another model"):
        refine(potential(TRUE), dataset, SHORT, out, rounds=3)


def test_several_datasets_make_one_step(tmp_path):
    """Two that are the same: the mean of two equal steps."""
    dataset = BeadDataset.write(tmp_path / "few.h5", CHAIN, Frames(exact_frames(500)), temperature=300.0)
    quick = SHORT.model_copy(update={"steps": 60, "equilibration": 40, "replicas": 20})
    model = spoilt(bonds={**TRUE.bonds, "A|B": BondPrior(length=0.21, k=5000.0)})
    refine(model, dataset, quick, tmp_path / "one", rounds=1)
    refine(model, [dataset, dataset.path], quick, tmp_path / "two", rounds=1)
    one, two = (Potential.load(tmp_path / name / "round-1/model.safetensors").priors for name in ("one", "two"))
    assert one.bonds["A|B"].length == pytest.approx(two.bonds["A|B"].length, rel=1e-12) != 0.21
    scores = [json.loads((tmp_path / name / "refinement.json").read_text())["scores"] for name in ("one", "two")]
    assert scores[0] == scores[1]
    assert (tmp_path / "two/round-1/run-1").exists()


def test_the_best_model_is_chosen_not_the_last(dataset, tmp_path):
    """The second one is there already, and bad."""
    spoilt(bonds={**TRUE.bonds, "A|B": BondPrior(length=0.25, k=8000.0)}).save(tmp_path / "round-1/model.safetensors")
    quick = SHORT.model_copy(update={"steps": 100, "equilibration": 100, "replicas": 50})
    chosen = refine(potential(TRUE), dataset, quick, tmp_path, rounds=1)
    assert chosen.priors == TRUE
    assert Potential.load(tmp_path / "model.safetensors").priors == TRUE
    assert json.loads((tmp_path / "refinement.json").read_text())["chosen"] == "round-0"


def test_mistakes_are_named(dataset, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="`rounds` must not be negative, got -1"):
        refine(potential(TRUE), dataset, SHORT, out, rounds=-1)
    with pytest.raises(ValueError, match=r"the simulation is at 350.0 K, but .*chain.h5 of 300.0 K"):
        refine(potential(TRUE), dataset, SHORT.model_copy(update={"temperature": 350.0}), out)
    with pytest.raises(ValueError, match=r"no bonded priors for the beads of .*: nothing can be refined"):
        refine(potential(Priors()), dataset, SHORT, out)
    with pytest.raises(ValueError, match="at least one dataset, got none"):
        refine(potential(TRUE), [], SHORT, out)
    assert not out.exists()


def test_single_beads_cannot_be_scored(tmp_path):
    alone = BeadTopology.build(["A"], [12.0])
    data = BeadDataset.write(tmp_path / "a.h5", alone, Frames(np.zeros((30, 1, 3))), temperature=300.0)
    settings = SHORT.model_copy(update={"steps": 20, "equilibration": 0, "replicas": 2})
    run = simulate(potential(Priors()), data.path, settings, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="neither bonds nor pairs"):
        score(data, run, "alone")
