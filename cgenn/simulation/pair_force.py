"""Repulsion, pair splines and ramp of beads in a box as one force, for processors.

OpenMM's CPU platform looks every tabulated function up by a call of its own, pair by pair, which took five sixths of a
step of a bilayer. Here the three terms are one kernel over a neighbour list. On a GPU, in double precision, in open
space and among other particles they are OpenMM's own forces (bonded.py).
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import numpy as np
import openmm
import torch
from torch import Tensor

from cgenn.neighbors import VerletList
from cgenn.potential.priors import Priors
from cgenn.simulation.bonded import PRIOR_GROUP, pair_cutoff, type_numbers
from cgenn.simulation.placement import Placement
from cgenn.topology import BeadTopology

_log = logging.getLogger(__name__)


def pair_forces(
    priors: Priors, topology: BeadTopology, placement: Placement, precision: str, device: str
) -> list[openmm.Force]:
    """All terms of pairs as one force named "pairs"; none where there are none, or OpenMM's own are to be taken."""
    on_processor = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    alone = placement.periodic and not placement.shared and placement.subset is None and not placement.members
    cutoff = pair_cutoff(priors, topology)
    if precision != "single" or not on_processor or not alone or not cutoff:
        return []
    terms = PairForce(priors, topology.types, topology.excluded_pairs.tolist(), cutoff)
    try:
        terms.prepare()
    except (RuntimeError, OSError) as error:
        _log.warning("pairs of beads are left to OpenMM, which takes some ten times as long: %s", error)
        return []
    force = openmm.PythonForce(terms, {})
    force.setName("pairs")
    force.setForceGroup(PRIOR_GROUP)
    force.setUsesPeriodicBoundaryConditions(True)
    return [force]


class PairForce:
    """What `openmm.PythonForce` calls; pickled by its arguments.

    Args:
        priors: only their terms of pairs are used.
        types: of the beads.
        excluded: pairs of beads without these terms.
        cutoff: where all terms have ended [nm].
    """

    def __init__(self, priors: Priors, types: tuple[str, ...], excluded: list[list[int]], cutoff: float) -> None:
        self.priors, self.types, self.excluded, self.cutoff = priors, tuple(types), excluded, cutoff
        pairs = torch.tensor(excluded, dtype=torch.int64).reshape(-1, 2).T
        self._verlet = VerletList(cutoff, excluded=pairs)
        self._terms: Any = None
        self._built = 0
        self._rows, self._offsets = torch.zeros(0).int(), torch.zeros(0, 3)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (json.dumps(self.priors.model_dump()), self.types, self.excluded, self.cutoff)

    def prepare(self) -> None:
        """Compile the kernel.

        Raises:
            RuntimeError: if that is not possible.
        """
        from cgenn.compiled.pair_terms import PairTerms

        kinds, numbers = type_numbers(self.types)
        splines, ramp = self.priors.pairs, self.priors.ramp
        sigma, epsilon = self.priors.repulsion_table(kinds)
        self._terms = PairTerms(
            types=torch.tensor(numbers),
            sigma=torch.from_numpy(sigma),
            epsilon=torch.from_numpy(epsilon),
            splines=None if splines is None else torch.from_numpy(self.priors.pair_table(kinds)),
            reach=0.0 if splines is None else splines.range,
            height=0.0 if ramp is None else ramp.height,
            ramp=0.0 if ramp is None else ramp.range,
            widest=self.cutoff,
        )

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        """Energy [kJ/mol] and forces [kJ/mol/nm]; not a number where positions are none, as OpenMM's own forces do."""
        places = np.ascontiguousarray(state.getPositions(asNumpy=True)._value)
        box = np.ascontiguousarray(state.getPeriodicBoxVectors(asNumpy=True)._value)
        if not np.isfinite(places).all():
            return np.nan, np.full(places.shape, np.nan)
        with self._lock:  # several Contexts may use this
            if self._terms is None:
                self.prepare()
            energy, forces = self._evaluate(torch.from_numpy(places), torch.from_numpy(box))
            return energy.item(), forces.numpy().copy()

    def _evaluate(self, positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        found = self._verlet.find(positions, cell=cell[None])
        if self._verlet.rebuilds != self._built:
            self._built = self._verlet.rebuilds
            every = torch.arange(len(positions) + 1)
            self._rows = torch.searchsorted(found.receivers, every).to(torch.int32)
            self._offsets = found.shifts @ cell
        return self._terms(positions, self._rows, found.senders, self._offsets)


def _restored(priors: str, types: tuple[str, ...], excluded: list[list[int]], cutoff: float) -> PairForce:
    return PairForce(Priors.parse(json.loads(priors), "the pairs stored in the System"), types, excluded, cutoff)
