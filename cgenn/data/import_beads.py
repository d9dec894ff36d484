"""Makes a bead dataset of frames that are beads already, mapped elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cgenn.data.dataset import PACKAGES, BeadDataset
from cgenn.data.trajectory import open_trajectory
from cgenn.files import check_apart
from cgenn.provenance import describe_file, versions
from cgenn.topology import BeadTopology

_FRAMES_AT_ONCE = 1000
_CHARGE_DIFFERENCE = 1e-5


def import_beads(trajectory: str | Path, topology: BeadTopology, out: str | Path, *, temperature: float) -> BeadDataset:
    """Write the frames of an npz or H5MD file of beads as a bead dataset, in nm, kJ/mol, kJ/mol/nm, e and e nm.

    Args:
        trajectory: npz file with `positions` and `units` and, where there are any, `forces`, `box`, `charges`,
            `dipoles`, `energies`, `virials`, `orientations` (unit quaternions w, x, y, z) and `torques`; or H5MD file.
            Virials are dE/de, e a strain of positions and box, symmetric; the pressure without its kinetic part is
            -trace/(3 V). Some programs call -dE/de the virial.
        out: file of the dataset; appears only when it is complete.
        topology: what the beads are, in the order of the file.
        temperature: of the ensemble the frames were drawn from [K].

    Raises:
        ValueError: if the file cannot be read, its units are not clear, or its beads are not as many as the topology's
            or have other charges.
    """
    source = open_trajectory(trajectory)
    check_apart(Path(out), [source.path])
    if source.n_atoms != len(topology):
        raise ValueError(f"{source.path} has {source.n_atoms} beads, the topology has {len(topology)}")
    if (charges := source.atoms.get("charges")) is not None:
        bead = int(np.argmax(np.abs(charges - topology.charges)))
        if abs(charges[bead] - topology.charges[bead]) > _CHARGE_DIFFERENCE:
            raise ValueError(
                f"{source.path}: bead {bead} has charge {charges[bead]} e, {topology.charges[bead]} e in the topology"
            )
    return BeadDataset.write(
        out,
        topology,
        source.iter_chunks(_FRAMES_AT_ONCE),
        temperature=temperature,
        provenance={
            "sources": [describe_file(source.path)],
            "temperature": temperature,
            "versions": versions(*PACKAGES),
        },
    )
