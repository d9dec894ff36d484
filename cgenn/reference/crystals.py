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
        self, n_frames: int, *, displacement: float, strain: float, vacancies: int = 0, random: np.random.Generator
    ) -> tuple[Int[np.ndarray, " ions"], Float[np.ndarray, "frames ions 3"], Float[np.ndarray, "frames 3 3"]]:
        """Types, positions and boxes [nm] with strains, displacements of each ion, and pairs of ions left out.

        In every frame as many cations as anions are missing, at other sites in each (Schottky's defects); cations come
        first. Components of the symmetric strain of each frame are uniform between -`strain` and `strain`; components
        of the displacements are normal, with `displacement` [nm] for the standard deviation.

        Raises:
            ValueError: if nothing is left.
        """
        kept = [np.flatnonzero(self.types == kind) for kind in (0, 1)]
        if not 0 <= vacancies < len(kept[0]):
            raise ValueError(f"`vacancies` must be 0 to {len(kept[0]) - 1}, got {vacancies}")
        given = random.uniform(-strain, strain, (n_frames, 3, 3))
        upper = np.triu(np.ones((3, 3)))
        deformation = np.eye(3) + given * upper + np.swapaxes(given * np.triu(upper, 1), 1, 2)
        left = [len(sites) - vacancies for sites in kept]
        sites = [
            np.concatenate([random.permutation(group)[:count] for group, count in zip(kept, left, strict=True)])
            for _ in range(n_frames)
        ]
        positions = self.positions[np.array(sites)] @ deformation
        positions = positions + displacement * random.normal(size=positions.shape)
        return np.repeat([0, 1], left), positions, self.box @ deformation
