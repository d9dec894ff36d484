"""The same potential with its network compiled: for simulation, where weights do not change."""

from __future__ import annotations

import copy
import logging

import torch

from cgenn.potential.potential import Potential

_log = logging.getLogger(__name__)


def compiled(potential: Potential) -> Potential:
    """The potential with kernels in place of its network; the same one, where that is not possible.

    Radial functions become tables: energies and forces agree with those of the network to some 1e-6, relative. Kernels
    are made by Warp when they are first used, which takes some seconds, and kept in its cache for the next time.
    """
    from cgenn.compiled.network import CompiledNetwork, refusal

    if reason := refusal(potential.network):
        _log.info("the network is not compiled: %s", reason)
        return potential
    result = copy.copy(potential)
    result._modules = {**potential._modules, "network": CompiledNetwork(potential.network)}
    return result
