"""Which atoms are put back together."""

import numpy as np

from cgenn.backmapping.units import find_kinds
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.mapping import Mapping


def test_molecules_of_several_kinds(mixture):
    kinds, free = find_kinds(Mapping.build(load_mapping("molecule-com"), mixture))
    assert [kind.atoms.shape for kind in kinds] == [(1, 22), (3, 3), (1, 1)]
    assert [kind.beads.tolist() for kind in kinds] == [[[0]], [[1], [2], [3]], [[4]]]
    assert len(free) == 0


def test_what_has_no_bead_is_free(mixture):
    kinds, free = find_kinds(Mapping.build(load_mapping("backbone"), mixture))
    assert free.tolist() == list(range(22, 32))
    (kind,) = kinds
    names = [mixture.topology.atom(atom).name for atom in kind.atoms[0]]
    owner = dict(zip(kind.atoms[0].tolist(), kind.homes.tolist(), strict=True))
    assert [names[atom] for atom in np.flatnonzero(kind.homes == 2)] == ["CA", "HA", "CB", "HB1", "HB2", "HB3"]
    assert owner[6] == owner[7] == 1  # N and H
    assert [part.tolist() for part in kind.surroundings] == [
        [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4], [2, 3, 4],
    ]  # fmt: skip


def test_unmapped_atoms_go_with_the_nearest_bead(ala2):
    (kind,), free = find_kinds(Mapping.build(load_mapping("ca"), ala2))
    assert kind.atoms.shape == (1, 22)
    assert not kind.homes.any()
    assert len(free) == 0


def test_a_bead_of_several_molecules_is_one_unit(mixture):
    rule = {"name": "W", "per": "selection", "select": "water"}
    definition = MappingDefinition.parse({"selection": "water", "beads": [rule]}, "test")
    (kind,), free = find_kinds(Mapping.build(definition, mixture))
    assert kind.atoms.shape == (1, 9)
    assert len(free) == 23
