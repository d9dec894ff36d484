"""The pressure of a potential in the frames of a run: what a barostat would have to be set to there."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from cgenn.body import rotation_matrices
from cgenn.h5md import Frames
from cgenn.potential.derivatives import Energy, virial
from cgenn.potential.potential import Potential
from cgenn.topology import BeadTopology
from cgenn.units import BAR, thermal_energy

_BEADS_AT_ONCE = 2000
"""Of several frames together, whose virials are computed in one go."""


def pressures(
    potential: Potential, topology: BeadTopology, frames: Frames, temperature: float
) -> Float[np.ndarray, " frames"]:
    """n kT / V - tr(dE/de) / (3 V) of each frame [bar], n beads, dE/de the derivative by a strain of positions and box.

    A coarse-grained potential seldom has the pressure of the atoms at their density: its dependence on the volume is
    not in the forces on beads. The mean over a run at that density, p, tells what is missing: with the barostat at p,
    which is as good as an energy (p - p_0) V at the pressure p_0, the density is that of the atoms.

    Args:
        temperature: of the momenta [K].

    Raises:
        ValueError: if there is no box.
    """
    momenta = len(topology) * thermal_energy(temperature) / _volumes(frames) / BAR
    return momenta + energy_pressures(lambda graph: potential(graph, topology), potential, topology, frames)


def energy_pressures(
    energy: Energy, potential: Potential, topology: BeadTopology, frames: Frames
) -> Float[np.ndarray, " frames"]:
    """What an energy adds to the pressure, -tr(dE/de) / (3 V) of each frame [bar].

    Args:
        energy: of a graph as the potential makes it [kJ/mol], such as one of its terms.

    Raises:
        ValueError: if there is no box.
    """
    volumes, strain = _volumes(frames), _virials(energy, potential, topology, frames)
    return -strain.trace(axis1=1, axis2=2) / 3.0 / volumes / BAR


def tensions(
    potential: Potential, topology: BeadTopology, frames: Frames, temperature: float
) -> Float[np.ndarray, " frames"]:
    """(tr_xy(dE/de) / 2 - n kT) / A of each frame, z the normal, A the area of the box [bar nm].

    The mean over a run at a given area is the `tension` that the ensemble "area" needs to keep it there on average.
    Forces alone tell a model its tension no better than its pressure (see `pressures`).

    Args:
        temperature: of the momenta [K].

    Raises:
        ValueError: if there is no box.
    """
    momenta = len(topology) * thermal_energy(temperature) / _areas(frames) / BAR
    return energy_tensions(lambda graph: potential(graph, topology), potential, topology, frames) - momenta


def energy_tensions(
    energy: Energy, potential: Potential, topology: BeadTopology, frames: Frames
) -> Float[np.ndarray, " frames"]:
    """What an energy adds to the tension, tr_xy(dE/de) / (2 A) of each frame [bar nm].

    Args:
        energy: of a graph as the potential makes it [kJ/mol], such as one of its terms.

    Raises:
        ValueError: if there is no box.
    """
    areas, strain = _areas(frames), _virials(energy, potential, topology, frames)
    return 0.5 * (strain[:, 0, 0] + strain[:, 1, 1]) / areas / BAR


def _virials(
    energy: Energy, potential: Potential, topology: BeadTopology, frames: Frames
) -> Float[np.ndarray, "frames 3 3"]:
    """dE/de of each frame [kJ/mol]."""
    assert frames.box is not None
    found, at_once = [], max(1, _BEADS_AT_ONCE // len(topology))
    for index in range(0, len(frames), at_once):
        part = frames[slice(index, index + at_once)]
        turned = None
        if potential.config.bodies and part.orientations is not None:
            turned = torch.from_numpy(rotation_matrices(part.orientations)).to(potential.dtype)
        positions, box = (torch.from_numpy(np.asarray(x)).to(potential.dtype) for x in (part.positions, part.box))
        graph = potential.graph(topology, positions, box, turned)
        found.append(virial(energy, graph).double().numpy())
    return np.concatenate(found)


def _volumes(frames: Frames) -> Float[np.ndarray, " frames"]:
    """Of the box [nm^3]."""
    if frames.box is None:
        raise ValueError("a pressure or tension needs a box in every frame, got none")
    return np.abs(np.linalg.det(np.asarray(frames.box, dtype=float)))


def _areas(frames: Frames) -> Float[np.ndarray, " frames"]:
    """Of the box across z [nm^2]."""
    return _volumes(frames) / np.asarray(frames.box, dtype=float)[:, 2, 2]
