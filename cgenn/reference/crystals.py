"""Crystals of two species of ions, strained and with displaced ions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq

from cgenn.reference.ions import IonModel, frames_of
from cgenn.topology import BeadTopology

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

    @classmethod
    def relaxed(cls, structure: str, cells: int, model: IonModel, within: tuple[float, float] = (0.25, 0.4)) -> Crystal:
        """At the distance between neighbours [nm] where the energy of a model is least.

        Raises:
            ValueError: if there is no such distance `within` the limits.
        """

        def pressure(distance: float) -> float:
            cell = cls.build(structure, 1, distance)
            return float(np.trace(frames_of(model, *cell.scaled([1.0])).virials[0]))  # type: ignore[index]

        if pressure(within[0]) * pressure(within[1]) > 0:
            raise ValueError(
                f"{structure}: the energy is not least at any distance between {within[0]} and {within[1]} nm"
            )
        return cls.build(structure, cells, brentq(pressure, *within, xtol=1e-7))

    def topology(self, vacancies: int = 0) -> BeadTopology:
        """Cations first, then anions, as the frames below have them; no more than names and a mass of 20 amu."""
        pairs = len(self.types) // 2 - vacancies
        return BeadTopology.build(["CATION"] * pairs + ["ANION"] * pairs, np.full(2 * pairs, 20.0))

    def scaled(
        self, scales: Sequence[float]
    ) -> tuple[Int[np.ndarray, " ions"], Float[np.ndarray, "frames ions 3"], Float[np.ndarray, "frames 3 3"]]:
        """Types, positions and boxes [nm], all lengths multiplied by the scale of each frame."""
        order, factors = np.argsort(self.types, kind="stable"), np.asarray(scales)[:, None, None]
        return self.types[order], self.positions[order] * factors, self.box * factors

    def disturbed(
        self, n_frames: int, *, displacement: float, strain: float, vacancies: int = 0, random: np.random.Generator
    ) -> tuple[Int[np.ndarray, " ions"], Float[np.ndarray, "frames ions 3"], Float[np.ndarray, "frames 3 3"]]:
        """Types, positions and boxes [nm] with strains, displacements of each ion, and pairs of ions left out.

        In every frame as many cations as anions are missing, at other sites in each (Schottky's defects); cations come
        first. Components of the symmetric strain of each frame are uniform between -`strain` and `strain`, those of the
        displacements between -`displacement` and `displacement` [nm].

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
        positions = positions + random.uniform(-displacement, displacement, positions.shape)
        return np.repeat([0, 1], left), positions, self.box @ deformation
