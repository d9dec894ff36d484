import mdtraj
import numpy as np
import pytest
from mdtraj.core.element import carbon

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.forces import sum_force_map
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.virial import bead_virials

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
    found = bead_virials(mapping, virials, positions, forces, centres, mapped)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    images = 7.0 * np.repeat(np.arange(MOLECULES), 2)[:, None]
    np.testing.assert_allclose(
        bead_virials(mapping, virials, positions + images, forces, mapping.map_positions(positions + images), mapped),
        expected, rtol=1e-10,
    )  # fmt: skip


def test_needs_a_bead_of_its_own_in_every_molecule(pairs):
    arrays = [np.zeros((1, 3, 3))] + [np.zeros((1, 2 * MOLECULES, 3))] * 2 + [np.zeros((1, 1, 3))] * 2
    for bead in ({"select": "resid 0"}, {"per": "selection"}):
        definition = {"beads": [{"name": "A", **bead}], "unmapped": "all"}
        mapping = Mapping.build(MappingDefinition.parse(definition, "test"), pairs)
        assert bead_virials(mapping, *arrays) is None
