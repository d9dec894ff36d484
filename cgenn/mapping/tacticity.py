"""Whether beads of whole residues hide that chains differ in handedness or tacticity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from cgenn.mapping.mapping import Mapping
from cgenn.mapping.molecules import find_kinds
from cgenn.mapping.stereo import label_stereocentres
from cgenn.mapping.types import hand_codes

_FEWEST = 5
"""Atoms of a residue with a stereocentre: water and ions have fewer."""


def hidden_stereo(mapping: Mapping, positions: Callable[[], Float[np.ndarray, "atoms 3"]]) -> dict[str, dict[str, str]]:
    """What each bead type that is told by residues stands for, where that is more than one: R and S, or m and r diads.

    Beads by SMARTS are checked when they are made, and `mixed_stereo` says that it is meant. Amino acids are left out,
    and nothing is said without RDKit or where bond orders cannot be told, as in models with united atoms. In chains
    with diads the centres at both ends are R and S by the direction that they are seen from: there only diads count.

    Args:
        positions: gives those of some frame, with whole molecules [nm]; called where there is something to look at.

    Returns:
        By type: the first atom of a bead of each hand or diad.
    """
    atoms = mapping.atoms
    asked = [rule.smarts is None and not rule.mixed_stereo for rule in mapping.definition.beads]
    chosen = [bead for bead, rule in enumerate(mapping.rules.tolist()) if asked[rule]]
    owned = {bead: mapping.owners[[bead]].indices for bead in chosen}
    residues = {bead: atoms.topology.atom(int(members[0])).residue for bead, members in owned.items() if len(members)}
    chosen = [bead for bead, found in residues.items() if found.n_atoms >= _FEWEST and not found.is_protein]
    if not chosen:
        return {}
    try:
        kinds = find_kinds(atoms, np.concatenate([owned[bead] for bead in chosen]))
        labels = label_stereocentres(kinds, positions())
    except (ImportError, ValueError):
        return {}
    with_diads = {atoms.molecules[atom] for atom, label in labels.items() if set(label) & {"m", "r"}}
    labels = {
        atom: label for atom, label in labels.items() if atoms.molecules[atom] not in with_diads or label not in "RS"
    }
    seen: dict[str, dict[str, str]] = {}
    for bead in chosen:
        for code in hand_codes([labels[atom] for atom in sorted(owned[bead].tolist()) if atom in labels]):
            where = atoms.describe(int(owned[bead][0]))
            seen.setdefault(mapping.topology.types[bead], {}).setdefault(code, where)
    return {name: codes for name, codes in seen.items() if not _alike(set(codes))}


def _alike(codes: set[str]) -> bool:
    """Whether centres have one hand, and diads are of one kind."""
    diads = codes & {"m", "r"}
    return len(diads) < 2 and len(codes - diads) < 2
