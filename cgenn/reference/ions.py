"""Frames of model ions: energies, forces, virials and charges of configurations that were made here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import CoulombPairs, coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.h5md import Frames
from cgenn.neighbors import edge_vectors

ACCURACY = 1e-8
"""Of the Coulomb forces, relative."""

_IONS_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class Ions:
    """Several frames of the same ions, in float64.

    Attributes:
        positions: all ions of the first frame, then those of the next, shape (ions, 3) [nm].
        cell: cell vectors of each frame as rows, shape (systems, 3, 3) [nm].
        types: type of each ion, shape (ions,).
        batch: frame of each ion, shape (ions,).
        settings: how the Coulomb sum is done.
        pairs: all pairs within its cutoff, each once.
    """

    positions: Float[Tensor, "ions 3"]
    cell: Float[Tensor, "systems 3 3"]
    types: Int[Tensor, " ions"]
    batch: Int[Tensor, " ions"]
    settings: CoulombSettings
    pairs: CoulombPairs

    @classmethod
    def of(
        cls,
        positions: Float[np.ndarray, "systems ions 3"],
        box: Float[np.ndarray, "systems 3 3"],
        types: Int[np.ndarray, " ions"],
        smearing: float = 0.0,
    ) -> Ions:
        """Find the pairs; positions and box in nm, the types of one frame, the width of the charges in nm."""
        systems, ions = positions.shape[:2]
        flat = torch.from_numpy(np.asarray(positions, dtype=np.float64)).flatten(0, 1)
        cell = torch.from_numpy(np.asarray(box, dtype=np.float64))
        batch = torch.arange(systems).repeat_interleave(ions)
        settings = tune(cell, ions, accuracy=ACCURACY, smearing=smearing, method="ewald")
        pairs = coulomb_pairs(flat, settings, cell=cell, batch=batch, n_systems=systems)
        return cls(flat, cell, torch.from_numpy(np.asarray(types)).repeat(systems), batch, settings, pairs)

    @property
    def n_systems(self) -> int:
        """Number of frames."""
        return len(self.cell)

    def moved(self, positions: Float[Tensor, "ions 3"], cell: Float[Tensor, "systems 3 3"]) -> Ions:
        """The same pairs elsewhere."""
        return Ions(positions, cell, self.types, self.batch, self.settings, self.pairs)

    def distances(self) -> Float[Tensor, " pairs"]:
        """Of all pairs within the cutoff [nm]."""
        pairs = self.pairs
        cell = self.cell[self.batch[pairs.receivers]]
        vectors = edge_vectors(self.positions, pairs.receivers, pairs.senders, pairs.shifts, cell)
        return torch.linalg.vector_norm(vectors, dim=1)

    def sum_pairs(self, values: Float[Tensor, " pairs"]) -> Float[Tensor, " systems"]:
        """Sum over the pairs of each frame."""
        return values.new_zeros(self.n_systems).index_add(0, self.batch[self.pairs.receivers], values)

    def sum_ions(self, values: Float[Tensor, " ions"]) -> Float[Tensor, " systems"]:
        """Sum over the ions of each frame."""
        return values.new_zeros(self.n_systems).index_add(0, self.batch, values)

    def coulomb(self, charges: Float[Tensor, " ions"]) -> Float[Tensor, " systems"]:
        """Coulomb energy of each frame, without self-energy [kJ/mol]."""
        return coulomb_energy(
            self.positions, charges, None, self.pairs, self.settings,
            cell=self.cell, batch=self.batch, n_systems=self.n_systems,
        )  # fmt: skip


class IonModel(Protocol):
    """What makes energies of ions; the charges either are constant or minimise the energy."""

    @property
    def smearing(self) -> float:
        """Width of the charges [nm]."""

    def charges(self, ions: Ions) -> Float[Tensor, " ions"]:
        """[e]."""

    def energy(self, ions: Ions, charges: Float[Tensor, " ions"]) -> Float[Tensor, " systems"]:
        """At given charges [kJ/mol]."""


def frames_of(
    model: IonModel,
    types: Int[np.ndarray, " ions"],
    positions: Float[np.ndarray, "systems ions 3"],
    box: Float[np.ndarray, "systems 3 3"],
) -> Frames:
    """Forces, energies, virials dE/dstrain and charges of the configurations; positions and box in nm.

    Where the charges minimise the energy, dE/dq is the same for all of them and their sum is fixed: the forces are
    those at constant charges (Hellmann and Feynman).
    """
    return _joined(list(_labelled(model, types, positions, box)))


def _labelled(model: IonModel, types: np.ndarray, positions: np.ndarray, box: np.ndarray) -> Iterator[Frames]:
    at_once = max(1, _IONS_AT_ONCE // positions.shape[1])
    for start in range(0, len(positions), at_once):
        part = slice(start, start + at_once)
        ions = Ions.of(positions[part], box[part], types, model.smearing)
        charges = model.charges(ions).detach()
        place = ions.positions.requires_grad_()
        strain = torch.zeros_like(ions.cell).requires_grad_()
        deformation = torch.eye(3, dtype=strain.dtype) + 0.5 * (strain + strain.transpose(1, 2))
        moved = torch.einsum("bi,bij->bj", place, deformation[ions.batch])
        energy = model.energy(ions.moved(moved, ions.cell @ deformation), charges)
        gradient, virial = torch.autograd.grad(energy.sum(), [place, strain])
        yield Frames(
            positions=positions[part],
            forces=-gradient.view(positions[part].shape).numpy(),
            box=box[part],
            charges=charges.view(positions[part].shape[:2]).numpy(),
            energies=energy.detach().numpy(),
            virials=virial.numpy(),
        )


def _joined(parts: list[Frames]) -> Frames:
    names = ("positions", "forces", "box", "charges", "energies", "virials")
    return Frames(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
