"""The virial that a coarse-grained potential has to have for the pressure of the atoms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from cgenn.mapping.mapping import Mapping
from cgenn.units import thermal_energy


def molecule_centres(
    positions: Float[np.ndarray, "*frames atoms 3"], molecules: Int[np.ndarray, " atoms"]
) -> Float[np.ndarray, "*frames atoms 3"]:
    """Of the molecule of each atom, the mean position of its atoms [nm]."""
    members = csr_array((np.ones(len(molecules)), (molecules, np.arange(len(molecules)))))
    atoms_first = np.moveaxis(positions, -2, 0)
    means = (members @ atoms_first.reshape(len(molecules), -1)) / np.bincount(molecules)[:, None]
    return np.moveaxis(means.reshape(-1, *atoms_first.shape[1:]), 0, -2)[..., molecules, :]


def bead_virials(
    mapping: Mapping,
    virials: Float[np.ndarray, "frames 3 3"],
    positions: Float[np.ndarray, "frames atoms 3"],
    forces: Float[np.ndarray, "frames atoms 3"],
    beads: Float[np.ndarray, "frames beads 3"],
    bead_forces: Float[np.ndarray, "frames beads 3"],
    temperature: float,
) -> Float[np.ndarray, "frames 3 3"] | None:
    """Of the beads [kJ/mol], from those of the atoms; None if a bead has atoms of several molecules.

    When the box is strained and molecules move as a whole, so do their beads. What this costs in free energy at given
    positions of the beads is the mean of what it costs the atoms (Das and Andersen 2010, doi 10.1063/1.3394862), and
    the mapped forces tell what strain within molecules costs. With X the centre of a molecule, i its atoms and I its
    beads, the mean over the atoms of

        dU/de + sum_i F_i (x_i - X) - sum_I F_I (r_I - X)

    is thus the derivative of the potential of mean force by a strain of all positions of the beads and the box; like
    a mapped force, one frame is it with noise. Molecules without beads, as of a solvent that is left out, have more
    room in a larger box: that takes kT from each diagonal element for every one of them. What is left of n molecules
    that feel nothing is the virial of an ideal gas, -n kT.

    Args:
        virials: dU/de, the derivative of the energy of the atoms by a strain of all of them [kJ/mol].
        positions: of whole molecules [nm].
        forces: [kJ/mol/nm].
        temperature: [K].
    """
    molecules = mapping.atoms.molecules
    weights = mapping.matrix
    owners = molecules[weights.indices[weights.indptr[:-1]]]
    if np.any(molecules[weights.indices] != np.repeat(owners, np.diff(weights.indptr))):
        return None
    first = np.unique(molecules, return_index=True)[1]
    centres = molecule_centres(positions, molecules)
    within = np.einsum("fia,fib->fab", forces, positions - centres)
    within -= np.einsum("fia,fib->fab", bead_forces, beads - centres[:, first[owners]])
    left_out = len(np.setdiff1d(molecules, owners)) * thermal_energy(temperature) * np.eye(3)
    return virials + 0.5 * (within + within.transpose(0, 2, 1)) - left_out
