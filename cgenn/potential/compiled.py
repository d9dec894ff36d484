"""A potential with its network compiled: for simulation, where weights do not change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.graph import BeadGraph
from cgenn.nn.network import BeadOutputs
from cgenn.potential.potential import Potential

if TYPE_CHECKING:
    from cgenn.compiled.network import CompiledNetwork

_log = logging.getLogger(__name__)


def compiled(potential: Potential) -> Potential:
    """The potential with kernels in place of its network; the same one, where that is not possible.

    Radial functions become tables: energies and forces agree with those of the network to some 1e-6, relative. Kernels
    are made by Warp when they are first used, which takes some seconds, and kept in its cache for the next time.
    """
    try:
        from cgenn.compiled.network import refusal

        if reason := refusal(potential.network):
            _log.info("the network is not compiled: %s", reason)
            return potential
        return CompiledPotential(potential)
    except (RuntimeError, OSError) as error:
        _log.warning("the network is not compiled, and some ten times slower: %s", error)
        return potential


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

    def network_energy_and_forces(self, graph: BeadGraph) -> tuple[Float[Tensor, " beads"], Float[Tensor, "beads 3"]]:
        """What the network adds to the energy of each bead [kJ/mol], and the forces [kJ/mol/nm]."""
        energies, slopes = self.kernels.energies_and_slopes(graph)
        return self.config.energy_scale * energies, -self.config.energy_scale * slopes
