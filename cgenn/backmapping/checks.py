"""How well atoms fit the beads that they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from cgenn.body import rotation_matrices
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.whole import lattice_steps
from cgenn.symmetry import point_group


@dataclass(frozen=True, eq=False)
class Deviation:
    """Of the mapped atoms from the beads.

    Attributes:
        distances: of each bead [nm].
        angles: of each oriented bead [degrees]; of those with an axis of any order, only the angle of this axis.
    """

    distances: Float[np.ndarray, " beads"]
    angles: Float[np.ndarray, " oriented"]

    @classmethod
    def of(
        cls,
        frame_map: FrameMap,
        atoms: Float[np.ndarray, "atoms 3"],
        beads: Float[np.ndarray, "beads 3"],
        orientations: Float[np.ndarray, "beads 4"],
        box: Float[np.ndarray, "3 3"] | None,
    ) -> Self:
        """Map atoms [nm], whose molecules must be whole, and compare."""
        apart = frame_map.mapping.linear(atoms[None]) - beads
        if box is not None:
            apart -= lattice_steps(apart, box[None]) @ box
        mapped = rotation_matrices(frame_map(atoms[None]).orientations[0])
        between = np.swapaxes(rotation_matrices(orientations), 1, 2) @ mapped
        angles = []
        for one in frame_map.types:
            turns = between[one.beads]
            round_ = point_group(one.body.symmetry).continuous
            cosines = turns[:, 2, 2] if round_ else (np.trace(turns, axis1=1, axis2=2) - 1) / 2
            angles.append(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))))
        return cls(np.linalg.norm(apart[0], axis=1), np.concatenate([*angles, []]))


@dataclass(frozen=True, eq=False)
class Findings:
    """What there is to say of one frame.

    Attributes:
        box: its box vectors [nm], or None.
        energy: without restraints [kJ/mol].
        deviation: of its beads.
        clashes: pairs of atoms closer than any in the reference.
        pierced_rings: rings that a bond goes through.
    """

    box: Float[np.ndarray, "3 3"] | None
    energy: float
    deviation: Deviation
    clashes: int
    pierced_rings: int


def summary(findings: Sequence[Findings], reference: Sequence[float]) -> dict[str, Any]:
    """Fit for JSON: nm, degrees and kJ/mol."""
    distances = np.stack([one.deviation.distances for one in findings])
    angles = np.stack([one.deviation.angles for one in findings])
    turned = {} if not angles.size else {"orientation_deviation": _spread(angles, "deg")}
    return {
        "frames": len(findings),
        "deviation": _spread(distances, "nm"),
        **turned,
        "energy": _mean([one.energy for one in findings]),
        "reference_energy": _mean(reference),
        "clashes": int(sum(one.clashes for one in findings)),
        "pierced_rings": int(sum(one.pierced_rings for one in findings)),
        "frames_with_pierced_rings": [index for index, one in enumerate(findings) if one.pierced_rings],
    }


def _spread(values: np.ndarray, unit: str) -> dict[str, Any]:
    return {"max": float(values.max()), "rms": float(np.sqrt(np.mean(values**2))), "unit": unit}


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation; none of no values."""
    if not len(values):
        return {}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": deviation, "n": len(values), "unit": "kJ/mol"}
