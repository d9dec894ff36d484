"""What a frame may hold, in memory and in a file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a trajectory.

    Attributes:
        positions: shape (frames, particles, 3) [nm].
        forces: shape (frames, particles, 3) [kJ/mol/nm], or None.
        box: box vectors in rows, shape (frames, 3, 3) [nm], or None if not periodic.
        velocities: shape (frames, particles, 3) [nm/ps], or None.
        charges: those that change from frame to frame, shape (frames, particles) [e], or None.
        dipoles: of the particles, each about its own position, shape (frames, particles, 3) [e nm], or None.
        energies: potential energy, shape (frames,) [kJ/mol], or None.
        virials: its derivative by a strain of positions and box, dE/de, symmetric, shape (frames, 3, 3) [kJ/mol], or
            None; the pressure without its kinetic part is -trace/(3 V).
        orientations: unit quaternions (w, x, y, z) that turn the frame of a particle from the axes of space into
            place, (1, 0, 0, 0) for particles without one, shape (frames, particles, 4), or None.
        torques: about the position of each particle, shape (frames, particles, 3) [kJ/mol], or None.
        angular_velocities: shape (frames, particles, 3) [1/ps], or None.
        times: shape (frames,) [ps], or None if they are not known.
    """

    positions: Float[np.ndarray, "frames particles 3"]
    forces: Float[np.ndarray, "frames particles 3"] | None = None
    box: Float[np.ndarray, "frames 3 3"] | None = None
    velocities: Float[np.ndarray, "frames particles 3"] | None = None
    charges: Float[np.ndarray, "frames particles"] | None = None
    dipoles: Float[np.ndarray, "frames particles 3"] | None = None
    energies: Float[np.ndarray, " frames"] | None = None
    virials: Float[np.ndarray, "frames 3 3"] | None = None
    orientations: Float[np.ndarray, "frames particles 4"] | None = None
    torques: Float[np.ndarray, "frames particles 3"] | None = None
    angular_velocities: Float[np.ndarray, "frames particles 3"] | None = None
    times: Float[np.ndarray, " frames"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, frames: slice | np.ndarray) -> Frames:
        """Those of the frames, as a slice or an array of indices."""
        parts = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return Frames(**{name: None if part is None else part[frames] for name, part in parts.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Quantity:
    """A quantity of `Frames` and its place in a file.

    Attributes:
        name: the attribute of `Frames`.
        element: its H5MD element, below the group of particles or below `observables`.
        unit: as H5MD spells it; empty if it has none.
        per_particle: whether there is one for each particle.
        shape: of one of them.
        observable: whether it belongs to the whole system.
        exact: whether it is always stored in double precision.
    """

    name: str
    element: str
    unit: str
    per_particle: bool = True
    shape: tuple[int, ...] = (3,)
    observable: bool = False
    exact: bool = False

    def path(self, group: str) -> str:
        """Where it is in a file with that group of particles."""
        return f"observables/{self.element}" if self.observable else f"particles/{group}/{self.element}"

    def frame_shape(self, n_particles: int) -> tuple[int, ...]:
        """Shape of one frame of it."""
        return (n_particles, *self.shape) if self.per_particle else self.shape


QUANTITIES = (
    Quantity("positions", "position", "nm"),
    Quantity("forces", "force", "kJ mol-1 nm-1"),
    Quantity("velocities", "velocity", "nm ps-1"),
    Quantity("box", "box/edges", "nm", per_particle=False, shape=(3, 3), exact=True),
    Quantity("charges", "charge", "e", shape=()),
    Quantity("dipoles", "dipole", "e nm"),
    Quantity("energies", "potential_energy", "kJ mol-1", per_particle=False, shape=(), observable=True, exact=True),
    Quantity("virials", "virial", "kJ mol-1", per_particle=False, shape=(3, 3), observable=True, exact=True),
    Quantity("orientations", "orientation", "", shape=(4,)),
    Quantity("torques", "torque", "kJ mol-1"),
    Quantity("angular_velocities", "angular_velocity", "ps-1"),
)


def held(file: h5py.File, group: str) -> list[Quantity]:
    """The quantities that a file holds for each of its frames; charges that never change are not among them."""
    positions = file[f"particles/{group}/position/value"]
    found = []
    for quantity in QUANTITIES:
        element = file.get(quantity.path(group))
        value = element.get("value") if isinstance(element, h5py.Group) else None
        if value is not None and value.shape[1:] == quantity.frame_shape(positions.shape[1]):
            found.append(quantity)
    return found


def open_checked(path: Path, mode: str) -> h5py.File:
    """An open H5MD file.

    Raises:
        ValueError: if there is no such file, it is truncated, or it is not H5MD.
    """
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file")
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise ValueError(f"{path}: not a complete HDF5 file, perhaps cut off while it was written: {error}") from None
    if "h5md" not in file or len(file.get("particles", ())) == 0:
        file.close()
        raise ValueError(f"{path}: an HDF5 file, but not H5MD with a group of particles")
    return file


def check_finite(frames: Frames, source: str, particle: str, first: int = 0, stride: int = 1) -> None:
    """Complain about the first number that is not finite.

    Args:
        source: where the frames come from or go to, and
        particle: what there is of each, "atom" or "bead", for the error.
        first: number of the first of the frames, and
        stride: how many lie between two of them.

    Raises:
        ValueError: naming the frame and the particle.
    """
    for quantity in QUANTITIES:
        values = getattr(frames, quantity.name)
        if values is not None and not np.isfinite(values).all():
            frame, *index = np.argwhere(~np.isfinite(values))[0][: 1 + quantity.per_particle].tolist()
            place = f"frame {(first + frame) * stride}" + "".join(f", {particle} {number}" for number in index)
            raise ValueError(f"{source}: {place}: {quantity.element} is {values[(frame, *index)].tolist()}")
