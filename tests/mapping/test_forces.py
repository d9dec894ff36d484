import numpy as np
import pytest

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.forces import (
    find_constraints,
    is_summable,
    mean_square,
    optimal_force_map,
    rigid_groups,
    sum_force_map,
)
from cgenn.mapping.mapping import Mapping

SHIPPED = ["backbone", "residue-com", "ca", "ca-sidechain", "molecule-com"]


@pytest.fixture(scope="module")
def run(data_folder):
    """Positions [A], forces [kcal/mol/A] and constraints of solvated alanine dipeptide, 2000 frames."""
    with np.load(data_folder / "ala2_allatom_proteka_2k.npz") as file:
        return file["positions"].astype(float), file["forces"].astype(float), file["constraints"]


def assert_valid(force_map, mapping, constraints):
    """W M^T = 1, and equal weights within each group of constrained atoms."""
    weights = force_map.matrix.toarray()
    np.testing.assert_allclose(weights @ mapping.matrix.T.toarray(), np.eye(len(mapping.topology)), atol=1e-6)
    for group in range(rigid_groups(len(mapping.atoms), constraints).max() + 1):
        members = rigid_groups(len(mapping.atoms), constraints) == group
        assert np.ptp(weights[:, members], axis=1).max() < 1e-12


def test_mean_square_forces_of_the_known_maps(ala2, run):
    """(kcal/mol/A)^2 on frames the optimal map has not seen: slice 741.1, constraints heeded 691.5, optimal 429.7."""
    _, forces, constraints = run
    mapping = Mapping.build(load_mapping("backbone"), ala2)
    unseen = forces[1000:]
    assert mean_square(sum_force_map(mapping, constraints[:0])(unseen)) == pytest.approx(741.1, abs=0.1)
    assert mean_square(sum_force_map(mapping, constraints)(unseen)) == pytest.approx(691.5, abs=0.1)
    optimal = optimal_force_map(mapping, forces[:1000], constraints)
    assert mean_square(optimal(unseen)) <= 430
    assert_valid(optimal, mapping, constraints)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_map_gives_the_same_mean_force(ala2, run, name):
    """Projected on directions that turn with the molecule, as mean forces in the laboratory frame vanish."""
    positions, forces, constraints = run
    mapping = Mapping.build(load_mapping(name), ala2)
    optimal, total = optimal_force_map(mapping, forces[::2], constraints), sum_force_map(mapping, constraints)
    assert_valid(optimal, mapping, constraints)
    assert_valid(total, mapping, constraints)
    beads = mapping.map_positions(positions)
    difference = optimal(forces) - total(forces)
    directions = [np.broadcast_to(axis, beads.shape) for axis in np.eye(3)]
    if len(mapping.topology) > 1:
        bond = np.diff(beads, axis=1)
        directions.append(np.concatenate([bond[:, :1], bond], axis=1) / np.linalg.norm(bond, axis=-1).mean())
    for direction in directions:
        samples = np.sum(difference * direction, axis=-1)
        error = samples.std(axis=0) / np.sqrt(len(samples))
        assert np.all(np.abs(samples.mean(axis=0)) < 4 * error + 1e-9)
    assert mean_square(optimal(forces[1::2])) < mean_square(total(forces[1::2]))


def test_constraints_are_seen_in_the_frames(ala2, run):
    positions, _, constraints = run
    mapping = Mapping.build(load_mapping("backbone"), ala2)
    found = find_constraints(mapping, 0.1 * positions[:20])
    assert found.tolist() == np.unique(np.sort(constraints, axis=1), axis=0).tolist()
    with pytest.raises(ValueError, match="cannot be seen in 5 frames, at least 10 are needed: pass `constraints`"):
        find_constraints(mapping, positions[:5])


def test_molecules_that_are_alike_share_their_weights(mixture):
    """Rigid water: the only valid map is the sum. Flexible: less noise, and one set of weights for all molecules."""
    definition = MappingDefinition.parse({"selection": "water", "beads": [{"name": "W"}]}, "test")
    mapping = Mapping.build(definition, mixture)
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(50, len(mixture), 3))
    bonds = mixture.bonds[-6:]
    forces[:, bonds[:, 1]] *= 3.0
    rigid = optimal_force_map(mapping, forces, bonds)
    np.testing.assert_allclose(rigid.matrix.toarray(), sum_force_map(mapping, bonds).matrix.toarray(), atol=1e-9)
    flexible = optimal_force_map(mapping, (chunk for chunk in np.split(forces, 5)), bonds[:0])
    weights = flexible.matrix.toarray()[:, 22:31].reshape(3, 3, 3)
    for molecule in range(3):
        np.testing.assert_allclose(weights[molecule, molecule], weights[0, 0])
    assert_valid(flexible, mapping, bonds[:0])
    assert mean_square(flexible(forces)) < mean_square(rigid(forces))


def test_the_optimum_is_that_of_independent_forces():
    """Two atoms, a bead at w1 x1 + w2 x2: minimising v1 W1^2 + v2 W2^2 with w1 W1 + w2 W2 = 1 by hand."""
    import mdtraj
    from mdtraj.core.element import carbon

    topology = mdtraj.Topology()
    residue = topology.add_residue("XX", topology.add_chain())
    for name in ("A", "B"):
        topology.add_atom(name, carbon, residue)
    atoms = AtomTopology.from_mdtraj(topology, bonds=[(0, 1)])
    definition = MappingDefinition.parse({"beads": [{"name": "P", "weights": {"A": 0.7, "B": 0.3}}]}, "test")
    forces = np.random.default_rng(0).normal(size=(100_000, 2, 3)) * np.array([1.0, 2.0])[:, None]
    force_map = optimal_force_map(Mapping.build(definition, atoms), forces, np.empty((0, 2), dtype=int))
    expected = np.array([0.7 / 1.0, 0.3 / 4.0])
    np.testing.assert_allclose(force_map.matrix.toarray()[0], expected / (expected @ [0.7, 0.3]), rtol=0.02)


def test_virtual_sites_do_not_count_twice(mixture):
    atoms = AtomTopology.from_mdtraj(mixture.topology, masses=np.where(np.arange(32) == 24, 0.0, mixture.masses))
    definition = MappingDefinition.parse({"selection": "water", "beads": [{"name": "W"}]}, "test")
    mapping = Mapping.build(definition, atoms)
    forces = np.random.default_rng(0).normal(size=(50, 32, 3))
    no_constraints = np.empty((0, 2), dtype=int)
    for force_map in (sum_force_map(mapping, no_constraints), optimal_force_map(mapping, forces, no_constraints)):
        assert force_map.matrix.toarray()[:, 24].tolist() == [0.0, 0.0, 0.0]


def test_what_cannot_be_is_refused(ala2):
    two = [{"name": "A", "select": "name CA"}, {"name": "H", "select": "name HA"}]
    mapping = Mapping.build(MappingDefinition.parse({"beads": two, "unmapped": "all"}, "test"), ala2)
    tied = np.array([[8, 9]])
    forces = np.random.default_rng(0).normal(size=(100, 22, 3))
    assert is_summable(mapping, tied[:0])
    assert not is_summable(mapping, tied)
    with pytest.raises(ValueError, match=r"ALA2-CA \(atom 8\) is in two beads, or constrained to an atom of another"):
        sum_force_map(mapping, tied)
    with pytest.raises(ValueError, match=r"no force map exists for bead 0 \(ALA-A\): constraints tie it"):
        optimal_force_map(mapping, forces, tied)
    with pytest.raises(ValueError, match="has 21 weights and needs at least 35 frames, got 3: use the sum force map"):
        optimal_force_map(mapping, forces[:3], tied)
