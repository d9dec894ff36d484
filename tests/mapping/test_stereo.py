"""Tacticity and handedness, on chains built with one or the other."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from cgenn.chemistry.polymer import build_polymer
from cgenn.data.map_trajectory import map_trajectory
from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.molecules import find_kinds
from cgenn.mapping.stereo import label_stereocentres

pytest.importorskip("rdkit")


@cache
def chain(smiles, tacticity, length=7):
    return build_polymer(smiles, length, tacticity=tacticity)


def labels(polymer, positions=None):
    kinds = find_kinds(polymer.atoms, np.arange(len(polymer.atoms)))
    return label_stereocentres(kinds, polymer.positions if positions is None else positions)


@pytest.mark.parametrize(("tacticity", "diad"), [("isotactic", "m"), ("syndiotactic", "r")])
@pytest.mark.parametrize("smiles", ["[*]CC(Cl)[*]", "[*]CC(C)(C(=O)OC)[*]"])
def test_diads_of_vinyl_chains(tacticity, diad, smiles):
    """The first and the last stereocentre see the end of the chain, those between them only their neighbours."""
    found = Counter(labels(chain(smiles, tacticity)).values())
    assert set("".join(found)) - {"R", "S"} == {diad}
    assert found[2 * diad] >= 2


def test_mirroring_changes_hands_and_keeps_tacticity():
    polymer = chain("[*]CC(Cl)[*]", "atactic")
    before, after = labels(polymer), labels(polymer, -polymer.positions)
    swapped = {"R": "S", "S": "R"}
    assert {atom: swapped.get(label, label) for atom, label in before.items()} == after
    assert {"R", "S"} & set(before.values())


def test_a_chain_with_a_direction_has_hands():
    assert set(labels(chain("[*]OC(C)C(=O)[*]", "isotactic")).values()) in ({"R"}, {"S"})
    alternating = labels(chain("[*]OC(C)C(=O)[*]", "syndiotactic"))
    assert list(alternating.values()) in (["R", "S"] * 3 + ["R"], ["S", "R"] * 3 + ["S"])


def build(polymer, **more):
    bead = {"name": "L", "smarts": "[CH:1]([CH3:1])[CX3;H0:1]=[O:1]", "type": "L", **more}
    definition = MappingDefinition.parse({"beads": [bead], "unmapped": "all"}, "test")
    return Mapping.build(definition, polymer.atoms, polymer.positions)


def test_both_hands_never_share_a_type_silently():
    build(chain("[*]OC(C)C(=O)[*]", "isotactic"))
    mixed = chain("[*]OC(C)C(=O)[*]", "syndiotactic")
    with pytest.raises(
        ValueError,
        match=r"bead type 'L' has stereocentres of different handedness: [RS] at UNT.* and [RS] at UNT.*; put "
        r"\{tacticity\} into its `type`, or declare `mixed_stereo = true`",
    ):
        build(mixed)
    build(mixed, mixed_stereo=True)
    types = set(build(mixed, type="L-{tacticity}").topology.types)
    assert types == {"L-R", "L-S"}


def test_tacticity_never_shares_a_type_silently():
    beads = [
        {"name": "C", "smarts": "[CX4]", "merge": 2, "type": "C-{position}"},
        {"name": "Cl", "smarts": "Cl", "side": True},
    ]
    for tacticity in ("isotactic", "syndiotactic"):
        polymer = chain("[*]CC(Cl)[*]", tacticity)
        Mapping.build(MappingDefinition.parse({"beads": beads}, "test"), polymer.atoms, polymer.positions)
    polymer = build_polymer("[*]CC(Cl)[*]", 12, tacticity="atactic")
    with pytest.raises(
        ValueError, match=r"bead type 'C-middle' has stereocentres of different (tacticity: [mr]|handedn)"
    ):
        Mapping.build(MappingDefinition.parse({"beads": beads}, "test"), polymer.atoms, polymer.positions)


@pytest.mark.parametrize("smiles", ["[*]CC(Cl)[*]", "[*]OC(C)C(=O)[*]"])
def test_beads_of_residues_that_hide_tacticity_are_warned_of(smiles, tmp_path, caplog):
    """Chains of one kind are fine; a bead of residues that stands for both is told of."""
    said = {}
    for tacticity in ("isotactic", "atactic"):
        caplog.clear()
        build_polymer(smiles, 12, tacticity=tacticity).save(tmp_path / f"{tacticity}.pdb")
        structure = tmp_path / f"{tacticity}.pdb"
        out = tmp_path / f"{tacticity}.h5"
        map_trajectory(structure, structure, "residue-com", out, temperature=300.0, forces=False)
        said[tacticity] = [record.getMessage() for record in caplog.records if "tacticity" in record.getMessage()]
    assert not said["isotactic"]
    (message,) = said["atactic"]
    assert re.match(r"bead type '\w+-COM' stands for residues of different handedness .*\([RSm] at UNT", message)
    declared = MappingDefinition.parse({"beads": [{"name": "COM", "mixed_stereo": True}]}, "test")
    caplog.clear()
    map_trajectory(structure, structure, declared, tmp_path / "meant.h5", temperature=300.0, forces=False)
    assert not [record for record in caplog.records if "tacticity" in record.getMessage()]
