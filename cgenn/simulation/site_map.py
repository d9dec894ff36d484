"""Between sites and oriented beads, in tensors: positions and orientations one way, forces and torques the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_MOST = 4
"""Sites of a bead at most; those of others are filled up with sites without mass."""

_LINEAR = 1e-12
"""A second moment below this part of the largest one is that of a linear body."""


class SiteMap:
    """The maps of one copy of a system, in double precision; frames are leading dimensions of the tensors.

    With sites x_i of mass m_i at r_i in the frame of the body (columns of Q in space):

        R = sum_i m_i x_i / M
        Q S = sum_i m_i (x_i - R) r_i^T,  S = sum_i m_i r_i r_i^T
        f_i = m_i [F / M + (Q I^-1 Q^T tau) x Q r_i]

    Of Q the two axes of the largest second moments are taken and made orthonormal, the third is their cross product.
    The forces are those of a rigid motion: they add up to F and tau and leave the constraints without load.
    """

    def __init__(
        self,
        kinds: Sequence[tuple[Float[np.ndarray, " sites"], Float[np.ndarray, "sites 3"]]],
        beads: Int[np.ndarray, " beads"],
        centers: Int[np.ndarray, " beads"],
        device: torch.device,
    ) -> None:
        """Masses [amu] and coordinates [nm] of the sites of each kind; kind of each bead or -1, and its particle."""
        oriented = np.flatnonzero(beads >= 0)
        chosen = beads[oriented]
        constants = [_constants(masses, coordinates) for masses, coordinates in kinds]

        def per_bead(name: str) -> Tensor:
            return torch.tensor(np.stack([entry[name] for entry in constants])[chosen], device=device)

        real = per_bead("real")
        first = torch.tensor(centers[oriented] + 1, device=device)[:, None]
        self.n_beads = len(beads)
        self.n_particles = int(centers[-1]) + 1 + (int(constants[beads[-1]]["real"].sum()) if beads[-1] >= 0 else 0)
        self.centers, self.oriented = torch.tensor(centers, device=device), torch.tensor(oriented, device=device)
        self.real, self.sites = real, first + torch.arange(_MOST, device=device) * real
        self.masses, self.shape = per_bead("masses"), per_bead("coordinates")
        self.weights = self.masses / self.masses.sum(1, keepdim=True)
        self.duals, self.basis, self.linear = per_bead("duals"), per_bead("basis"), per_bead("linear")
        self.inverse_inertia, self.size = per_bead("inverse_inertia"), per_bead("size")

    def to_beads(
        self, particles: Float[Tensor, "*frames particles 3"]
    ) -> tuple[Float[Tensor, "*frames beads 3"], Float[Tensor, "*frames beads 3 3"]]:
        """Positions [nm] and orientations; those of beads without one are along x, y and z."""
        sites = particles.double()[..., self.sites, :]
        origin = sites[..., :1, :]  # what is averaged is small
        center = origin + torch.einsum("bi,...bix->...bx", self.weights, sites - origin)[..., None, :]
        longest, second = torch.einsum("bik,...bix->...bkx", self.duals, sites - center).unbind(-2)
        first = normalize(longest, dim=-1)
        across = one_hot(first.abs().argmin(-1), 3).to(first)  # of a linear body only one axis is known
        second = torch.where(self.linear[:, None], across, second)
        second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        axes = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        frames = axes @ self.basis.mT
        positions = particles.double()[..., self.centers, :]
        everyone = torch.eye(3, dtype=torch.float64, device=frames.device).expand(*positions.shape, 3)
        dim = positions.ndim - 2
        return (
            positions.index_copy(dim, self.oriented, center.squeeze(-2)),
            everyone.index_copy(dim, self.oriented, frames),
        )

    def to_sites(
        self, positions: Float[Tensor, "*frames beads 3"], orientations: Float[Tensor, "*frames beads 3 3"]
    ) -> Float[Tensor, "*frames particles 3"]:
        """Where all particles are [nm]."""
        particles = positions.new_zeros(*positions.shape[:-2], self.n_particles, 3)
        particles[..., self.centers, :] = positions
        sites = positions[..., self.oriented, None, :] + self.arms(orientations)
        particles[..., self.sites[self.real], :] = sites[..., self.real, :]
        return particles

    def arms(self, orientations: Float[Tensor, "*frames beads 3 3"]) -> Float[Tensor, "*frames oriented 4 3"]:
        """Q r_i [nm]: the sites of each oriented bead about its centre."""
        return torch.einsum("...bxk,bik->...bix", orientations[..., self.oriented, :, :], self.shape)

    def site_forces(
        self,
        forces: Float[Tensor, "*frames beads 3"],
        torques: Float[Tensor, "*frames beads 3"],
        orientations: Float[Tensor, "*frames beads 3 3"],
    ) -> Float[Tensor, "*frames particles 3"]:
        """Forces on all particles [kJ/mol/nm] from forces and torques [kJ/mol] on the beads, none on a virtual site."""
        frames = orientations[..., self.oriented, :, :]
        turning = self._about_axes(frames, torques[..., self.oriented, :])
        acceleration = torch.linalg.cross(turning[..., None, :], self.arms(orientations))
        share = self.weights[..., None] * forces[..., self.oriented, None, :] + self.masses[..., None] * acceleration
        dim = forces.ndim - 2
        result = forces.new_zeros(*forces.shape[:-2], self.n_particles, 3)
        alone = forces.index_fill(dim, self.oriented, 0.0)
        return result.index_copy(dim, self.centers, alone).index_add(dim, self.sites.flatten(), share.flatten(-3, -2))

    def resultants(
        self, particles: Float[Tensor, "*frames particles 3"], forces: Float[Tensor, "*frames particles 3"]
    ) -> tuple[Float[Tensor, "*frames beads 3"], Float[Tensor, "*frames beads 3"]]:
        """Forces [kJ/mol/nm] and torques [kJ/mol] on the beads from forces on all particles.

        Forces on the massless centre of an oriented bead do not count: OpenMM has passed them on to the sites.
        """
        centers, _ = self.to_beads(particles)
        pulls = forces.double()[..., self.sites, :] * self.real[..., None]
        arms = particles.double()[..., self.sites, :] - centers[..., self.oriented, None, :]
        beads = forces.double()[..., self.centers, :]
        dim = beads.ndim - 2
        torques = torch.linalg.cross(arms, pulls).sum(-2)
        return (
            beads.index_copy(dim, self.oriented, pulls.sum(-2)),
            torch.zeros_like(beads).index_copy(dim, self.oriented, torques),
        )

    def velocities(
        self, particles: Float[Tensor, "*frames particles 3"], velocities: Float[Tensor, "*frames particles 3"]
    ) -> tuple[Float[Tensor, "*frames beads 3"], Float[Tensor, "*frames beads 3"], Float[Tensor, "*frames beads 3"]]:
        """Velocities [nm/ps], angular velocities [1/ps] and angular momenta [amu nm^2/ps] of the beads.

        omega = I^-1 L, L = sum_i m_i (x_i - R) x (v_i - V); zero for beads without an orientation. What velocities
        hold along the constraints, as they do in the middle of a time step, does not count.
        """
        centers, frames = self.to_beads(particles)
        sites, moving = (values.double()[..., self.sites, :] for values in (particles, velocities))
        mean = torch.einsum("bi,...bix->...bx", self.weights, moving)
        arms = sites - centers[..., self.oriented, None, :]
        momenta = torch.einsum("bi,...bix->...bx", self.masses, torch.linalg.cross(arms, moving - mean[..., None, :]))
        turning = self._about_axes(frames[..., self.oriented, :, :], momenta)
        beads = velocities.double()[..., self.centers, :]
        dim, still = beads.ndim - 2, torch.zeros_like(beads)
        return (
            beads.index_copy(dim, self.oriented, mean),
            still.index_copy(dim, self.oriented, turning),
            still.index_copy(dim, self.oriented, momenta),
        )

    def strain(
        self,
        particles: Float[Tensor, "*frames particles 3"],
        positions: Float[Tensor, "*frames beads 3"],
        orientations: Float[Tensor, "*frames beads 3 3"],
    ) -> Float[Tensor, "*frames oriented"]:
        """How far the sites of each oriented bead are from where a rigid body has them, by the size of the body."""
        expected = positions[..., self.oriented, None, :] + self.arms(orientations)
        away = torch.linalg.vector_norm(particles.double()[..., self.sites, :] - expected, dim=-1)
        return (away * self.real).amax(-1) / self.size

    def unwrapped(
        self, particles: Float[Tensor, "*frames particles 3"], cell: Float[Tensor, "3 3"]
    ) -> Float[Tensor, "*frames particles 3"]:
        """The same with the sites of each bead in the image of the box that is nearest to the first of them [nm]."""
        result, box = particles.double().clone(), cell.double()
        sites = result[..., self.sites, :]
        images = torch.round((sites - sites[..., :1, :]) @ torch.linalg.inv(box))
        result[..., self.sites[self.real], :] = (sites - images @ box)[..., self.real, :]
        return result

    def _about_axes(self, frames: Tensor, vectors: Tensor) -> Tensor:
        """Q I^-1 Q^T v."""
        inner = torch.einsum("...bxk,...bx->...bk", frames, vectors) * self.inverse_inertia
        return torch.einsum("...bxk,...bk->...bx", frames, inner)


def _constants(masses: np.ndarray, coordinates: np.ndarray) -> dict[str, np.ndarray]:
    """What the maps need of one kind, filled up to four sites."""
    second = np.einsum("i,ij,ik->jk", masses, coordinates, coordinates).diagonal()
    longest, next_one, _ = order = np.argsort(-second, kind="stable")
    linear = second[next_one] < _LINEAR * second[longest]
    basis = np.eye(3)[order].T  # columns are axes of the body
    basis[:, 2] = np.cross(basis[:, 0], basis[:, 1])
    duals = masses[:, None] * (coordinates @ basis[:, :2])
    duals /= second[[longest, longest if linear else next_one]]
    inertia = second.sum() - second
    inverse = np.where(inertia > _LINEAR * inertia.max(), 1 / np.maximum(inertia, _LINEAR * inertia.max()), 0.0)
    empty = _MOST - len(masses)
    return {
        "real": np.arange(_MOST) < len(masses),
        "masses": np.pad(masses, (0, empty)),
        "coordinates": np.pad(coordinates, ((0, empty), (0, 0))),
        "duals": np.pad(duals, ((0, empty), (0, 0))),
        "basis": basis,
        "linear": np.array(linear),
        "inverse_inertia": inverse,
        "size": np.array(np.linalg.norm(coordinates, axis=1).max()),
    }
