"""A potential with its network compiled: for simulation, where weights do not change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.graph import BeadGraph, build_graph
from cgenn.nn.network import BeadOutputs
from cgenn.potential.conformation import random_conformation
from cgenn.potential.derivatives import energy_and_forces, torques_from_slopes
from cgenn.potential.potential import Potential

if TYPE_CHECKING:
    from cgenn.compiled.network import CompiledNetwork

_log = logging.getLogger(__name__)
_TOLERATED = 1e-3
"""Many times what single precision and the tables explain, and far less than what a wrong kernel does."""


def compiled(potential: Potential) -> Potential:
    """The potential with kernels in place of its network; the same one, where that is not possible.

    Radial functions become tables: energies and forces agree with those of the network to some 1e-6, relative. Kernels
    are made by Warp when they are first used, which takes some seconds, and kept in its cache for the next time. On a
    GPU, of which there are many kinds, both are compared before the kernels are relied on.
    """
    try:
        from cgenn.compiled.network import refusal

        if reason := refusal(potential.network):
            _log.info("the network is not compiled: %s", reason)
            return potential
        fast = CompiledPotential(potential)
        if (off := _difference(fast, potential) if fast.on_gpu else 0.0) > _TOLERATED:
            _log.warning("the network is not compiled: the forces of its kernels are off by %.1g of the largest", off)
            return potential
        return fast
    except (RuntimeError, OSError) as error:
        _log.warning("the network is not compiled, and some ten times slower: %s", error)
        return potential


def _difference(fast: CompiledPotential, potential: Potential) -> float:
    """How far the forces on a few beads differ, by the largest."""
    topology, positions = random_conformation(potential)
    weight = potential.network.embedding.weight
    kinds, features = potential.type_indices(topology), potential.bead_features(topology)
    graph = build_graph(
        torch.as_tensor(positions, dtype=weight.dtype, device=weight.device),
        kinds.to(weight.device),
        potential.config.cutoff,
        features=None if features is None else features.to(weight),
    )
    _, expected = energy_and_forces(potential.network_energy, graph)
    _, found, _ = fast.network_energy_forces_torques(graph)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


class CompiledPotential(Potential):
    """See `compiled`. Graphs may hold edges beyond the cutoff, such as those in the skin of a neighbour list."""

    def __init__(self, potential: Potential) -> None:
        from cgenn.compiled.network import CompiledNetwork

        self.__dict__.update(potential.__dict__)
        self._modules = {**potential._modules, "network": CompiledNetwork(potential.network)}

    @property
    def kernels(self) -> CompiledNetwork:
        """The network."""
        return self.network  # type: ignore[return-value]

    @property
    def on_gpu(self) -> bool:
        """Whether its kernels are those for a GPU."""
        return self.kernels.embedding.weight.is_cuda

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.kernels.dtype

    def save(self, path: str | Path) -> None:
        """Not possible: the file is that of the potential it was compiled from.

        Raises:
            TypeError: always.
        """
        raise TypeError("a compiled potential is not written to a file: save the potential it was compiled from")

    def outputs(self, graph: BeadGraph) -> BeadOutputs:
        """What the network says of each bead, without units."""
        return self.kernels.at(graph)

    def network_energy_forces_torques(
        self, graph: BeadGraph
    ) -> tuple[Float[Tensor, " beads"], Float[Tensor, "beads 3"], Float[Tensor, "beads 3"]]:
        """What the network adds to the energy of each bead [kJ/mol], forces [kJ/mol/nm] and torques [kJ/mol]."""
        energies, slopes, turns = self.kernels.energies_and_slopes(graph)
        scale = self.config.energy_scale
        if graph.orientations is None or turns is None:
            torques = torch.zeros_like(slopes)
        else:
            torques = scale * torques_from_slopes(graph.orientations, turns)
        return scale * energies, -scale * slopes, torques
