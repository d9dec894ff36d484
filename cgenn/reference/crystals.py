"""Crystals of two species of ions, strained and with displaced ions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_BASES = {
    "rock-salt": (
        [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [0, 0, 0, 0, 1, 1, 1, 1],
        2.0,
    ),
    "caesium-chloride": ([[0, 0, 0], [1, 1, 1]], [0, 1], 2.0 / np.sqrt(3.0)),
}
"""Of one cubic cell: sites in halves of its edge, their types, and the edge in distances of neighbours."""

STRUCTURES = tuple(_BASES)
"""The crystals known here."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """Some cubic cells of a crystal.

    Attributes:
        positions: shape (ions, 3) [nm].
        types: 0 for cations, 1 for anions, shape (ions,).
        box: cell vectors as rows [nm].
    """

    positions: Float[np.ndarray, "ions 3"]
    types: Int[np.ndarray, " ions"]
    box: Float[np.ndarray, "3 3"]

    @classmethod
    def build(cls, structure: str, cells: int, distance: float) -> Crystal:
        """`cells` in each direction; `distance` between nearest neighbours [nm].

        Raises:
            ValueError: if the structure is not known, or there is no cell.
        """
        if structure not in _BASES:
            raise ValueError(f"unknown structure {structure!r}, expected one of {', '.join(_BASES)}")
        if cells < 1 or not distance > 0:
            raise ValueError(f"`cells` and `distance` must be positive, got {cells} and {distance} nm")
        sites, types, edge = _BASES[structure]
        corners = np.array(list(np.ndindex(cells, cells, cells)), dtype=float)
        positions = (corners[:, None] + 0.5 * np.array(sites)).reshape(-1, 3) * edge * distance
        return cls(positions, np.tile(types, len(corners)), cells * edge * distance * np.eye(3))

    def disturbed(
        self, n_frames: int, *, displacement: float, strain: float, random: np.random.Generator
    ) -> tuple[Float[np.ndarray, "frames ions 3"], Float[np.ndarray, "frames 3 3"]]:
        """Positions and boxes [nm] with normal displacements of each ion [nm] and strains of each frame.

        Both are standard deviations of a component, and those of the most disturbed frame; the size of the disturbance
        is uniform between nothing and that. Half of the strain's variance lies in the volume.
        """
        identity, size = np.eye(3), random.uniform(size=(n_frames, 1, 1))
        shear = random.normal(size=(n_frames, 3, 3))
        shear = 0.5 * (shear + shear.transpose(0, 2, 1))
        volume = random.normal(size=(n_frames, 1, 1)) * identity
        deformation = identity + strain * size * (shear + volume) / np.sqrt(2.0)
        positions = self.positions @ deformation + displacement * size * random.normal(
            size=(n_frames, *self.positions.shape)
        )
        return positions, self.box @ deformation
