"""The rigid body that a bead with an orientation stands for."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from scipy.spatial.transform import Rotation

from cgenn.config import Config
from cgenn.symmetry import point_group

ALIKE = 0.02
"""Atoms of two bodies closer than this to each other are those of one body [nm]."""

_ROUNDED = 0.01
"""How far the length of a quaternion may be from one."""

_UNEVEN = 0.05
"""Difference of two moments, relative to the largest, above which they are not equal."""

Coordinate = Annotated[float, Field(allow_inf_nan=False)]


def rotation_matrices(quaternions: Float[np.ndarray, "*shape 4"]) -> Float[np.ndarray, "*shape 3 3"]:
    """Orientation matrices of unit quaternions (w, x, y, z).

    Raises:
        ValueError: naming the first bead whose quaternion is not of unit length.
    """
    check_unit(quaternions)
    flat = Rotation.from_quat(quaternions.reshape(-1, 4), scalar_first=True).as_matrix()
    return flat.reshape(*quaternions.shape[:-1], 3, 3)


def check_unit(quaternions: Float[np.ndarray, "*shape 4"]) -> None:
    """Complain about the first quaternion that is not of unit length; the last but one dimension is that of beads."""
    off = np.abs(np.linalg.norm(quaternions, axis=-1) - 1)
    if len(wrong := np.argwhere(~(off < _ROUNDED))):
        found = quaternions[tuple(wrong[0])].tolist()
        bead = f"the orientation of bead {wrong[0, -1]}" if wrong.shape[1] else "an orientation"
        raise ValueError(f"{bead} must be a unit quaternion (w, x, y, z), got {found}")


class Body(Config):
    """What all oriented beads of a type have in common, in the frame that turns with them.

    The columns of an orientation matrix Q are the axes of this frame in space: a vector v of the frame is Q v.

    Attributes:
        symmetry: point group in Schoenflies notation, main axis along z: "C1", "Cs", "C2v", "D6h", "Cinfv", "Dinfh".
        inertia: principal moments about x, y and z [amu nm^2].
        names: of the atoms of the reference geometry.
        masses: of these atoms [amu].
        coordinates: of these atoms about their centre of mass [nm].
    """

    symmetry: str = "C1"
    inertia: tuple[Coordinate, Coordinate, Coordinate]
    names: tuple[str, ...] = ()
    masses: tuple[Coordinate, ...] = ()
    coordinates: tuple[tuple[Coordinate, Coordinate, Coordinate], ...] = ()

    @field_validator("symmetry")
    @classmethod
    def _known(cls, symmetry: str) -> str:
        point_group(symmetry)
        return symmetry

    @field_validator("inertia")
    @classmethod
    def _moments_of_a_body(cls, inertia: tuple[float, float, float]) -> tuple[float, float, float]:
        largest, rest = max(inertia), sum(inertia) - max(inertia)
        if min(inertia) < 0 or largest <= 0 or largest > rest * (1 + 1e-6):
            raise ValueError(
                f"`inertia` must be three moments of a body, none above the sum of the others, got {inertia} amu nm^2"
            )
        return inertia

    @model_validator(mode="after")
    def _one_entry_per_atom(self) -> Body:
        if not len(self.names) == len(self.masses) == len(self.coordinates):
            raise ValueError(
                f"`names`, `masses` and `coordinates` must have one entry per atom, got {len(self.names)}, "
                f"{len(self.masses)} and {len(self.coordinates)}"
            )
        return self

    @model_validator(mode="after")
    def _moments_of_the_atoms(self) -> Body:
        masses, places = np.array(self.masses), np.reshape(self.coordinates, (-1, 3))
        second = np.einsum("a,ai,aj->ij", masses, places, places)
        tensor = np.trace(second) * np.eye(3) - second
        if self.names and np.abs(tensor - np.diag(self.inertia)).max() > _UNEVEN * max(self.inertia):
            rows = "; ".join(", ".join(f"{entry:.4g}" for entry in row) for row in tensor)
            raise ValueError(
                f"`inertia` must be that of the atoms, whose `masses` and `coordinates` have the tensor {rows}, got "
                f"{self.inertia} amu nm^2 about x, y and z"
            )
        return self

    @model_validator(mode="after")
    def _moments_of_the_symmetry(self) -> Body:
        tensor, elements = np.diag(self.inertia), point_group(self.symmetry).elements
        if np.abs(elements @ tensor @ np.swapaxes(elements, 1, 2) - tensor).max() > _UNEVEN * max(self.inertia):
            raise ValueError(
                f"the symmetry {self.symmetry!r} needs equal moments of inertia about x and y, got {self.inertia} "
                "amu nm^2"
            )
        return self

    def is_like(self, other: Body) -> bool:
        """Whether an orientation means the same for both: their atoms, or else their moments, are about the same."""
        if self.names != other.names:
            return False
        if self.names:
            return np.allclose(self.coordinates, other.coordinates, atol=ALIKE)
        return np.allclose(self.inertia, other.inertia, atol=0.1 * max(self.inertia))
