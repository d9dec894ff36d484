"""Charges at random in a box: the plainest system that a network with a cutoff cannot describe.

As many ions of charge +1 as of -1 lie anywhere in a cubic box, no two closer than a least distance; point charges, and
a repulsion epsilon (sigma / r)^12 between all pairs. Like the gas of 128 random charges of Kim et al. 2025
(doi 10.1038/s41467-025-63852-x), whose density is not followed. The numbers are chosen by this project; see
docs/ion-models.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from cgenn.h5md import Frames
from cgenn.reference.ions import Ions, frames_of
from cgenn.topology import BeadTopology


@dataclass(frozen=True)
class RandomCharges:
    """Ions of charge +1 and -1 [e] that repel each other at short distance.

    Attributes:
        ions: in one frame, an even number.
        edge: of the cubic box [nm].
        closest: least distance between ions [nm].
        sigma: of the repulsion [nm].
        epsilon: of the repulsion [kJ/mol].
    """

    ions: int = 128
    edge: float = 2.0
    closest: float = 0.2
    sigma: float = 0.2
    epsilon: float = 20.0
    smearing: float = 0.0

    @property
    def topology(self) -> BeadTopology:
        """Cations and anions in turn, each a molecule of its own."""
        return BeadTopology.build(["CATION", "ANION"] * (self.ions // 2), np.ones(self.ions) * 20.0)

    def frames(self, n_frames: int, seed: int) -> Frames:
        """Configurations with their forces, energies, virials and charges.

        Raises:
            ValueError: if so many ions do not fit into the box.
        """
        random = np.random.default_rng(seed)
        positions = np.stack([self._placed(random) for _ in range(n_frames)])
        box = np.broadcast_to(self.edge * np.eye(3), (n_frames, 3, 3)).copy()
        return frames_of(self, np.arange(self.ions) % 2, positions, box)

    def charges(self, ions: Ions) -> Float[Tensor, " ions"]:
        """+1 for the first type, -1 for the second [e]."""
        return 1.0 - 2.0 * ions.types.to(torch.float64)

    def energy(self, ions: Ions, charges: Float[Tensor, " ions"]) -> Float[Tensor, " systems"]:
        """Coulomb and repulsion [kJ/mol]."""
        return ions.coulomb(charges) + ions.sum_pairs(self.epsilon * (self.sigma / ions.distances()) ** 12)

    def _placed(self, random: np.random.Generator) -> Float[np.ndarray, "ions 3"]:
        """One ion after another, each anywhere that is free (random sequential addition)."""
        placed = np.empty((0, 3))
        for _ in range(200 * self.ions):
            trial = random.uniform(0.0, self.edge, (1, 3))
            if len(placed) == 0 or cKDTree(placed, boxsize=self.edge).query(trial)[0][0] > self.closest:
                placed = np.concatenate([placed, trial])
            if len(placed) == self.ions:
                return placed
        raise ValueError(
            f"{self.ions} ions do not fit into a box of {self.edge} nm at distances of {self.closest} nm or more"
        )
