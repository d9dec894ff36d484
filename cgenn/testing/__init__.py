"""Checks that anybody can run on any model: symmetries, derivatives, size, cutoff, images, compilation, backends.

Every check takes `(potential, topology, positions, box=None, orientations=None)`, positions in nm with shape
(beads, 3), box vectors as rows in nm, orientations as matrices with shape (beads, 3, 3), and gives a `CheckResult`. All
are made in float64, whatever the precision of the model, and on the network, the electrostatics (summed up to 1e-11,
whatever the accuracy of the model) and the priors each by itself, so that stiff bonds hide nothing. Errors are relative
to the largest energy, force or torque, or to 1 kJ/mol and 1 kJ/mol/nm where those are smaller. They are meant for
conformations of some tens of beads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from cgenn.potential.conformation import random_conformation
from cgenn.potential.potential import Potential
from cgenn.testing.backends import check_backends
from cgenn.testing.case import CheckResult
from cgenn.testing.compiled import check_compiled
from cgenn.testing.derivatives import check_forces, check_hessian, check_torques, check_virial
from cgenn.testing.symmetry import (
    check_bodies,
    check_moments,
    check_permutation,
    check_reflection,
    check_rotation,
    check_translation,
)
from cgenn.testing.systems import check_batch, check_cutoff, check_extensivity, check_images
from cgenn.topology import BeadTopology

__all__ = [
    "CHECKS",
    "CheckResult",
    "check_backends",
    "check_batch",
    "check_bodies",
    "check_compiled",
    "check_cutoff",
    "check_extensivity",
    "check_forces",
    "check_hessian",
    "check_images",
    "check_model",
    "check_moments",
    "check_permutation",
    "check_reflection",
    "check_rotation",
    "check_torques",
    "check_translation",
    "check_virial",
]

CHECKS = (
    check_rotation,
    check_translation,
    check_permutation,
    check_reflection,
    check_moments,
    check_bodies,
    check_forces,
    check_torques,
    check_virial,
    check_hessian,
    check_extensivity,
    check_batch,
    check_cutoff,
    check_images,
    check_compiled,
    check_backends,
)


def check_model(
    model: str | Path | Potential,
    topology: BeadTopology | None = None,
    positions: Any = None,
    box: Any = None,
    orientations: Any = None,
) -> list[CheckResult]:
    """Every check on a potential or model file, on the conformation given or on one made up for its bead types.

    Args:
        model: a potential or the path of its file.
        topology: the beads of the conformation.
        positions: shape (beads, 3) [nm]; molecules whole.
        box: box vectors as rows, shape (3, 3) [nm].
        orientations: matrices whose columns are the axes of the beads, shape (beads, 3, 3); of a conformation that is
            made up, random ones.

    Raises:
        ValueError: if the file is not a model, or a topology came without positions or positions without a topology.
    """
    potential = model if isinstance(model, Potential) else Potential.load(model)
    if (topology is None) != (positions is None):
        raise ValueError("`topology` and `positions` must be given together")
    electrostatics = potential.config.electrostatics
    if topology is None:
        topology, positions = random_conformation(potential)
        orientations = Rotation.random(len(topology), rng=0).as_matrix() if potential.config.bodies else None
        if electrostatics is not None and electrostatics.slab:
            box = _slab_around(positions, potential.reach)
    needs = {
        check_moments: electrostatics is not None,
        check_bodies: bool(potential.config.bodies),
        check_torques: bool(potential.config.bodies),
    }
    return [check(potential, topology, positions, box, orientations) for check in CHECKS if needs.get(check, True)]


def _slab_around(positions: np.ndarray, reach: float) -> np.ndarray:
    """A box with as much vacuum along z as it is wide, twice over."""
    extent = np.ptp(positions, axis=0)
    width = float(max(extent[0], extent[1])) + 2.2 * reach
    return np.diag([width, width, float(extent[2]) + 2.1 * width])
