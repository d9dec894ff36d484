"""Groups of atoms by residue: tables of atom names, one for each residue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int

from cgenn.mapping.atoms import AtomTopology


def find_templates(
    tables: Mapping[str, str], atoms: AtomTopology, chosen: Bool[np.ndarray, " atoms"], purpose: str
) -> Iterator[Int[np.ndarray, " members"]]:
    """The atoms that the tables name in each of the residues they are for.

    Raises:
        ValueError: if a residue lacks an atom of its table; begins with `purpose`.
    """
    names = {residue: entry.split() for keys, entry in tables.items() for residue in keys.split()}
    for residue in atoms.topology.residues:
        wanted = names.get(residue.name)
        if wanted is None or not chosen[[atom.index for atom in residue.atoms]].any():
            continue
        found = {atom.name: atom.index for atom in residue.atoms}
        if missing := [name for name in wanted if name not in found]:
            raise ValueError(f"{purpose}: residue {residue} has no atom {missing[0]!r}, which its template names")
        members = np.array([found[name] for name in wanted])
        yield members[chosen[members]]
