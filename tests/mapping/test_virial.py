import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import carbon

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.forces import sum_force_map
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.virial import bead_virials
from cgenn.units import thermal_energy

MOLECULES, FRAMES = 6, 3


@pytest.fixture
def pairs():
    """Molecules of two carbon atoms."""
    topology = mdtraj.Topology()
    for _ in range(MOLECULES):
        residue = topology.add_residue("CC", topology.add_chain())
        topology.add_bond(*(topology.add_atom(name, carbon, residue) for name in ("C1", "C2")))
    return AtomTopology.from_mdtraj(topology)


def test_of_centres_of_mass_that_attract_each_other(pairs):
    """Atoms of a molecule are held by a spring and share the force on its centre: the beads have a virial of their own.

    dE/de = -sum_i F_i x_i, here of springs k/2 R^2 between all pairs of molecules: k sum_(I<J) R_IJ R_IJ.
    """
    mapping = Mapping.build(load_mapping("molecule-com"), pairs)
    positions = np.random.default_rng(0).normal(size=(FRAMES, 2 * MOLECULES, 3))
    centres = mapping.map_positions(positions)
    apart = centres[:, :, None] - centres[:, None]
    bead_forces = -5.0 * apart.sum(2)
    inside = positions.reshape(FRAMES, MOLECULES, 2, 3)
    springs = 100.0 * (inside[:, :, ::-1] - inside)
    forces = (0.5 * bead_forces[:, :, None] + springs).reshape(positions.shape)
    virials = -np.einsum("fia,fib->fab", forces, positions)
    expected = 0.5 * 5.0 * np.einsum("fija,fijb->fab", apart, apart)
    mapped = sum_force_map(mapping, np.zeros((0, 2), dtype=int))(forces)
    np.testing.assert_allclose(mapped, bead_forces, atol=1e-9)
    found = bead_virials(mapping, virials, positions, forces, centres, mapped, 300.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    images = positions + 7.0 * np.repeat(np.arange(MOLECULES), 2)[:, None]
    found = bead_virials(mapping, virials, images, forces, mapping.map_positions(images), mapped, 300.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_molecules_without_beads_are_integrated_out(pairs):
    """Each is held at a bead by k/2 |x - R|^2: its room around the bead does not depend on the box, and dW/de is zero.

    W = -kT ln of the integral of exp(-U / kT) over them is the energy of the beads alone, in every frame on average;
    of molecules that feel nothing at all it is -n kT ln V besides.
    """
    frames, kt, k, n = 4000, thermal_energy(300.0), 50.0, MOLECULES - 2
    mapping = Mapping.build(
        MappingDefinition.parse({"beads": [{"name": "A", "select": "resid 0 1"}], "unmapped": "all"}, "test"), pairs
    )
    random = np.random.default_rng(1)
    places = np.zeros((frames, MOLECULES, 3))
    places[:, 1] = 1.0
    places[:, 2:] = random.normal(scale=np.sqrt(kt / k), size=(frames, n, 3))
    forces = np.zeros_like(places)
    forces[:, 2:] = -k * places[:, 2:]
    forces[:, 0] = -forces[:, 2:].sum(1)
    positions, forces = np.repeat(places, 2, axis=1), np.repeat(0.5 * forces, 2, axis=1)
    virials = -np.einsum("fia,fib->fab", forces, positions)
    mapped = sum_force_map(mapping, np.zeros((0, 2), dtype=int))(forces)
    given = positions, forces, mapping.map_positions(positions), mapped, 300.0
    found = bead_virials(mapping, virials, *given)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=5 * kt * np.sqrt(2 * n / frames))
    free = bead_virials(mapping, 0.0 * virials, given[0], 0.0 * forces, given[2], 0.0 * mapped, 300.0)
    np.testing.assert_allclose(free, np.broadcast_to(-n * kt * np.eye(3), free.shape))


def test_needs_beads_of_one_molecule(pairs):
    arrays = [np.zeros((1, 3, 3))] + [np.zeros((1, 2 * MOLECULES, 3))] * 2 + [np.zeros((1, 1, 3))] * 2
    mapping = Mapping.build(MappingDefinition.parse({"beads": [{"name": "A", "per": "selection"}]}, "test"), pairs)
    assert bead_virials(mapping, *arrays, 300.0) is None
