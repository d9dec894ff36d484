"""The sum of terms, what a model file keeps, and what is refused."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cgenn.potential.config import NetworkConfig, PotentialConfig
from cgenn.potential.derivatives import energy_and_forces
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

PRIORS = Priors(
    bonds={"A|B": {"length": 0.35, "k": 2000.0}},
    dihedrals={"A|B|A|B": {"k": (1.0, 2.0), "phase": (0.4, 1.0)}},
    repulsion={"A|A": {"sigma": 0.5, "epsilon": 1.0}},
)
TOPOLOGY = BeadTopology.build(
    ["A", "B", "A", "B", "A"],
    [12.0, 14.0, 16.0, 18.0, 20.0],
    bonds=[(0, 1), (1, 2), (2, 3)],
    charges=[1, 0, -1, 0, 0.5],
)


def potential(dtype: torch.dtype = torch.float64, **options) -> Potential:
    torch.manual_seed(0)
    chosen = dict(types=("A", "B"), average_neighbors=4.0, energy_scale=10.0, temperature=300.0, channels=4, cutoff=0.8)
    return Potential(PotentialConfig(**{**chosen, **options}), PRIORS, {"seed": 7}).to(dtype)


def conformations(systems: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    torch.manual_seed(1)
    chain = torch.tensor([[0.0, 0, 0], [0.3, 0.1, 0], [0.6, 0, 0.2], [0.9, 0.2, 0.1], [0.5, 0.5, 0.3]])
    return (chain + 0.03 * torch.randn(systems, 5, 3)).to(dtype)


def test_energy_is_the_sum_of_its_terms() -> None:
    model = potential()
    graph = model.graph(TOPOLOGY, conformations())
    terms = model.terms(graph, TOPOLOGY)
    assert list(terms) == ["network", "bonds", "angles", "dihedrals", "repulsion"]
    assert all(value.shape == (2,) for value in terms.values())
    torch.testing.assert_close(model(graph, TOPOLOGY), sum(terms.values()))
    torch.testing.assert_close(terms["network"], model.network_energy(graph))


def test_graph_reaches_as_far_as_the_longest_term() -> None:
    assert potential().reach == 0.8
    assert potential(cutoff=0.2).reach == PRIORS.repulsion_cutoff
    short = potential(cutoff=0.2)
    wider = short.graph(TOPOLOGY, conformations())
    found = short.network(wider.edge_vectors(), wider.types, wider.receivers, wider.senders).energies
    near = wider.edge_vectors().norm(dim=1) < 0.2
    expected = short.network(wider.edge_vectors()[near], wider.types, wider.receivers[near], wider.senders[near])
    torch.testing.assert_close(found, expected.energies)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, default: torch.dtype) -> None:
    """Same numbers, to the last digit, whatever the default precision of the program that loads it."""
    model = potential(dtype, lmax=2, reflection_invariant=True, bead_features=("charge", "mass"))
    model.save(tmp_path / "model.safetensors")
    here = conformations(dtype=dtype)
    expected = energy_and_forces(lambda at: model(at, TOPOLOGY), model.graph(TOPOLOGY, here))
    torch.set_default_dtype(default)
    again = Potential.load(tmp_path / "model.safetensors")
    found = energy_and_forces(lambda at: again(at, TOPOLOGY), again.graph(TOPOLOGY, here))
    assert again.dtype == found[0].dtype == dtype
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert (again.config, again.priors, again.provenance) == (model.config, model.priors, {"seed": 7})
    assert not any(value.requires_grad for value in again.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_bead_type_that_is_not_known() -> None:
    topology = BeadTopology.build(["A", "X"], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"bead 1 has type 'X', which this model does not know; .* A, B"):
        potential().graph(topology, torch.zeros(1, 2, 3))


def test_positions_of_other_beads() -> None:
    with pytest.raises(ValueError, match="positions hold 4 beads, the topology 5"):
        potential().graph(TOPOLOGY, torch.zeros(1, 4, 3))


def test_bodies() -> None:
    """Orientations are asked for where they matter, and refused where they do not."""
    flat = PotentialConfig.model_validate({**potential().config.model_dump(), "bodies": {"B": {"inertia": (1, 1, 2)}}})
    model, frames = Potential(flat, PRIORS).double(), torch.eye(3).repeat(2, 5, 1, 1)
    graph = model.graph(TOPOLOGY, conformations(), orientations=frames)
    assert graph.orientations.shape == (10, 3, 3)
    with pytest.raises(ValueError, match=r"bead 1 has type 'B', whose energy .* but there are no `orientations`"):
        model.graph(TOPOLOGY, conformations())
    with pytest.raises(ValueError, match="no bead type of this model has one"):
        potential().graph(TOPOLOGY, conformations(), orientations=frames)
    with pytest.raises(ValueError, match="`bodies` names the type 'X'"):
        PotentialConfig.parse({**flat.model_dump(), "bodies": {"X": {"inertia": (1, 1, 2)}}}, "model")


def test_bead_features() -> None:
    model = potential(bead_features=("charge", "mass"))
    features = model.bead_features(TOPOLOGY)
    np.testing.assert_allclose(features.numpy(), np.stack([TOPOLOGY.charges, TOPOLOGY.masses / 100], axis=1))
    graph = model.graph(TOPOLOGY, conformations())
    assert graph.features.shape == (10, 2)
    entries = {**TOPOLOGY.to_dict(), "charges": [0.5, 0, -1, 0, 1]}
    other = model.graph(BeadTopology.from_dict(entries), conformations())
    assert not torch.allclose(model.network_energy(graph), model.network_energy(other))
    assert potential().bead_features(TOPOLOGY) is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"cutoff": -1.0}, r"`cutoff`: Input should be greater than 0, got -1.0"),
        ({"cut_off": 1.0}, r"unknown key `cut_off`"),
        ({"lmax": -1}, r"`lmax`: .*greater than or equal to 0"),
        ({"bead_features": ["colour"]}, r"`bead_features.0`: Input should be 'charge' or 'mass', got 'colour'"),
    ],
)
def test_configuration_is_checked(tmp_path: Path, entries: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.parse(entries, "network.toml")


def edit(path: Path, **changes) -> None:
    """Write the model again with another header."""
    weights = load_file(path)
    header = {"format_version": 1, "config": potential().config.model_dump(), "priors": {}, "provenance": {}}
    save_file(weights, path, metadata={"cgenn": json.dumps({**header, **changes})})


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    path.write_bytes(bytes(content[: len(content) // 2]))


DAMAGE = {
    "missing": (lambda path: path.unlink(), ""),
    "cut short": (corrupt, "not a readable safetensors file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"weights": [1.0]})), "not a readable safetensors file"),
    "torch": (lambda path: torch.save({"weights": torch.ones(2)}, path), "not a readable safetensors file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable safetensors file"),
    "text": (lambda path: path.write_text("cutoff = 1.0"), "not a readable safetensors file"),
    "another model": (lambda path: save_file({"w": torch.ones(2)}, path), "but not a cgenn model"),
    "broken header": (
        lambda path: save_file({"w": torch.ones(2)}, path, metadata={"cgenn": "{"}),
        "the header is damaged",
    ),
    "header of a list": (
        lambda path: save_file({"w": torch.ones(2)}, path, metadata={"cgenn": "[1]"}),
        "the header is damaged",
    ),
    "parts that are lists": (lambda path: edit(path, config=[1]), "the header is damaged"),
    "version": (lambda path: edit(path, format_version=99), "model format 99 is not known"),
    "wrong key": (lambda path: edit(path, config={"colour": 1}), "unknown key `colour`"),
    "priors": (lambda path: edit(path, priors={"bonds": {"A|B": {"k": 1.0}}}), "`bonds.A|B.length` is missing"),
    "other shape": (
        lambda path: edit(path, config=potential(channels=5).config.model_dump()),
        "the weights do not fit the configuration",
    ),
    "no weights": (lambda path: save_file({}, path, metadata={"cgenn": '{"format_version": 1}'}), "configuration"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_no_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    potential().save(path)
    damage, message = DAMAGE[name]
    damage(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        Potential.load(path)


BODIES = {"A": {"inertia": (1, 1, 2)}, "B": {"inertia": (1, 2, 2)}}


def bodies_changed(tmp_path: Path, before: dict, after: dict, **header) -> Path:
    """A model of which `bodies` were changed by hand."""
    path = tmp_path / "model.safetensors"
    config = {**potential().config.model_dump(), "bodies": before}
    Potential(PotentialConfig.model_validate(config), PRIORS).save(path)
    edit(path, config={**config, "bodies": after}, **header)
    return path


def test_bodies_changed_by_hand(tmp_path: Path) -> None:
    """Of a type without atoms the weights have the same shapes with and without a body."""
    alone = {"B": BODIES["B"]}
    Potential.load(bodies_changed(tmp_path, BODIES, BODIES, oriented=["A", "B"]))
    path = bodies_changed(tmp_path, BODIES, alone, oriented=["A", "B"])
    message = r"they were saved with bodies of the types \['A', 'B'\], `bodies` has \['B'\]$"
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: the weights do not fit .*: {message}"):
        Potential.load(path)
    Potential.load(bodies_changed(tmp_path, BODIES, alone))  # a file without that entry


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            BODIES,
            {},
            r"with bodies of the types \[\] 'frames\.[a-z.0-9]*' must have the shape none, got \(.*\); \d+ differ$",
        ),
        (
            {},
            BODIES,
            r"with bodies of the types \['A', 'B'\] 'frames.*' must have the shape \(.*\), got none; \d+ differ$",
        ),
    ],
)
def test_weights_of_other_bodies(tmp_path: Path, before: dict, after: dict, message: str) -> None:
    """In one line, also of files that do not say which types had a body."""
    path = bodies_changed(tmp_path, before, after)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the weights do not fit .*{message}") as caught:
        Potential.load(path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = potential()
    with torch.no_grad():
        model.network.embedding.weight[0, 0] = torch.nan
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"the weights 'embedding.weight' are not finite"):
        Potential.load(tmp_path / "model.safetensors")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model file"):
        Potential.load(tmp_path)


def test_saving_over_a_model_keeps_it_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    potential().save(path)
    before = path.read_bytes()
    broken = potential()
    broken.provenance = {"not JSON": object()}
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
