"""How rigid the groups of atoms are that oriented beads stand for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from cgenn.body import Body


@dataclass(frozen=True, eq=False)
class Rigidity:
    """Sums over beads of a type and frames.

    Attributes:
        count: how many beads and frames there are.
        squares: squared distance of each atom from the superposed reference geometry, shape (atoms,) [nm^2].
        inertia: in the axes of the bead, shape (3, 3) [amu nm^2].
        inertia_squares: squares of its elements, shape (3, 3) [amu^2 nm^4].
    """

    count: int
    squares: Float[np.ndarray, " atoms"]
    inertia: Float[np.ndarray, "3 3"]
    inertia_squares: Float[np.ndarray, "3 3"]

    @classmethod
    def of(
        cls,
        apart: Float[np.ndarray, "frames beads atoms 3"],
        inertia: Float[np.ndarray, "frames beads 3 3"],
        orientations: Float[np.ndarray, "frames beads 3 3"],
    ) -> Rigidity:
        """From the displacements of atoms [nm], and the inertia in space [amu nm^2]."""
        local = np.swapaxes(orientations, 2, 3) @ inertia @ orientations
        sums = (np.sum(part, axis=(0, 1)) for part in (np.square(apart).sum(axis=3), local, local**2))
        return cls(apart.shape[0] * apart.shape[1], *sums)

    def __add__(self, other: Rigidity) -> Rigidity:
        return Rigidity(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))

    def report(self, body: Body) -> dict[str, Any]:
        """What can be said of it, fit for JSON.

        `rms_deviation` is the root mean square distance of the atoms from the superposed reference geometry, `atom` the
        one that moves most and `rms_of_atom` its own [nm]; `inertia` are the moments of the reference about x, y and z,
        `mean_inertia` the means of those of each frame, and `inertia_fluctuation` their standard deviations [amu nm^2].
        """
        squares, mean = self.squares / self.count, np.diag(self.inertia) / self.count
        most = int(np.argmax(squares))
        spread = np.sqrt(np.maximum(np.diag(self.inertia_squares) / self.count - mean**2, 0.0))
        return {
            "rms_deviation": float(np.sqrt(squares.mean())),
            "atom": body.names[most],
            "rms_of_atom": float(np.sqrt(squares[most])),
            "symmetry": body.symmetry,
            "inertia": list(body.inertia),
            "mean_inertia": mean.tolist(),
            "inertia_fluctuation": spread.tolist(),
        }
