"""Forces, torques, virial and Hessian-vector products of any energy of a bead graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.graph import BeadGraph

Energy = Callable[[BeadGraph], Float[Tensor, " systems"]]


def energy_and_forces(
    energy: Energy, graph: BeadGraph, *, create_graph: bool = False
) -> tuple[Float[Tensor, " systems"], Float[Tensor, "beads 3"]]:
    """Energies [kJ/mol] and forces F = -dE/dR [kJ/mol/nm]; with `create_graph` a loss on them can be differentiated.

    Gradients are switched on whatever the caller's mode.
    """
    with torch.inference_mode(False), torch.enable_grad():
        positions = graph.positions.detach().clone().requires_grad_(True)
        energies = energy(graph.with_positions(positions))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=create_graph, materialize_grads=True)
    return (energies if create_graph else energies.detach()), -gradient


def energy_forces_torques(
    energy: Energy, graph: BeadGraph, *, create_graph: bool = False
) -> tuple[Float[Tensor, " systems"], Float[Tensor, "beads 3"], Float[Tensor, "beads 3"]]:
    """Energies [kJ/mol], forces -dE/dR [kJ/mol/nm] and torques tau = -sum_k q_k x dE/dq_k [kJ/mol].

    q_k are the columns of an orientation, of which each element counts as a variable of its own: turned by a small
    angle dw, q_k becomes q_k + dw x q_k, and the energy changes by -tau dw. Without orientations torques are zero. With
    `create_graph` a loss on all can be differentiated; gradients are switched on whatever the caller's mode.
    """
    if graph.orientations is None:
        energies, forces = energy_and_forces(energy, graph, create_graph=create_graph)
        return energies, forces, torch.zeros_like(forces)
    with torch.inference_mode(False), torch.enable_grad():
        positions = graph.positions.detach().clone().requires_grad_(True)
        frames = graph.orientations.detach().clone().requires_grad_(True)
        energies = energy(graph.with_frames(positions, frames))
        slope, turn = torch.autograd.grad(
            energies.sum(), [positions, frames], create_graph=create_graph, materialize_grads=True
        )
        torques = torques_from_slopes(frames, turn)
    return (energies if create_graph else energies.detach()), -slope, torques if create_graph else torques.detach()


def torques_from_slopes(
    orientations: Float[Tensor, "beads 3 3"], slopes: Float[Tensor, "beads 3 3"]
) -> Float[Tensor, "beads 3"]:
    """-sum_k q_k x dE/dq_k [kJ/mol], q_k and dE/dq_k being the columns."""
    return -torch.linalg.cross(orientations, slopes, dim=1).sum(2)


def virial(energy: Energy, graph: BeadGraph) -> Float[Tensor, "systems 3 3"]:
    """dE/d(strain) of each system [kJ/mol]: positions and cell are multiplied by (1 + strain), orientations are not.

    The potential part of the pressure is -trace / (3 V).
    """
    with torch.inference_mode(False), torch.enable_grad():
        strain = graph.positions.new_zeros(graph.n_systems, 3, 3).requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(graph.strained(strain)).sum(), strain, materialize_grads=True)
    return 0.5 * (gradient + gradient.transpose(1, 2))


def hessian_vector_product(
    energy: Energy, graph: BeadGraph, vectors: Float[Tensor, "beads 3"]
) -> Float[Tensor, "beads 3"]:
    """Second derivative of the summed energy times `vectors` [kJ/mol/nm^2 times their unit]."""
    with torch.inference_mode(False), torch.enable_grad():
        positions = graph.positions.detach().clone().requires_grad_(True)
        total = energy(graph.with_positions(positions)).sum()
        (gradient,) = torch.autograd.grad(total, positions, create_graph=True)
        (product,) = torch.autograd.grad((gradient * vectors.clone()).sum(), positions, materialize_grads=True)
    return product
