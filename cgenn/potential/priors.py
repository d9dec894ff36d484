"""The classical terms under the network, as data: parameters by bead type, and what they mean for one topology."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from cgenn.config import Config
from cgenn.potential.linkage import Linkage
from cgenn.topology import BeadTopology

REPULSION_RANGE = 2.0 ** (1.0 / 6.0)
"""Where the repulsion ends, in units of sigma."""


class BondPrior(Config):
    """k / 2 (r - length)^2; length [nm], k [kJ/mol/nm^2]."""

    length: PositiveFloat
    k: float = Field(ge=0)


class AnglePrior(Config):
    """k / 2 (theta - angle)^2; angle [rad], k [kJ/mol/rad^2]."""

    angle: float = Field(ge=0, le=np.pi)
    k: float = Field(ge=0)


class DihedralPrior(Config):
    """sum_n k_n (1 + cos(n phi - phase_n)), n = 1, 2, ...; k [kJ/mol], phase [rad], IUPAC sign of phi."""

    k: tuple[float, ...]
    phase: tuple[float, ...]

    @model_validator(mode="after")
    def _one_phase_for_each(self) -> DihedralPrior:
        if len(self.k) != len(self.phase):
            raise ValueError(f"`k` and `phase` must be of one length, got {len(self.k)} and {len(self.phase)}")
        return self


class RepulsionPrior(Config):
    """4 epsilon ((sigma/r)^12 - (sigma/r)^6) + epsilon below 2^(1/6) sigma, zero beyond; sigma [nm], epsilon [kJ/mol].

    (Weeks, Chandler and Andersen 1971.)
    """

    sigma: PositiveFloat
    epsilon: PositiveFloat


def type_key(types: Iterable[str]) -> str:
    """Bead types of a term joined by "|", in the direction that sorts first."""
    forward = tuple(types)
    return "|".join(min(forward, forward[::-1]))


@dataclass(frozen=True, eq=False)
class TermList:
    """Where one kind of term acts.

    Attributes:
        index: points of each term, shape (terms, 2 to 4): beads and, after them, the atoms of a `Linkage`.
        parameters: shape (terms, parameters), columns in the order of the prior's fields.
    """

    index: np.ndarray
    parameters: np.ndarray


class Priors(Config):
    """Bonded terms and short-range repulsion; keys are bead types joined by "|" (see `type_key`).

    In bonded terms "type:atom" stands for an atom of an oriented bead (see `Linkage`).
    """

    bonds: dict[str, BondPrior] = {}
    angles: dict[str, AnglePrior] = {}
    dihedrals: dict[str, DihedralPrior] = {}
    repulsion: dict[str, RepulsionPrior] = {}

    @model_validator(mode="after")
    def _keys_as_looked_up(self) -> Priors:
        for term, size in {"bonds": 2, "angles": 3, "dihedrals": 4, "repulsion": 2}.items():
            for key in getattr(self, term):
                types = key.split("|")
                if len(types) != size:
                    raise ValueError(f"`{term}` needs {size} bead types joined by '|', got {key!r}")
                if key != type_key(types):
                    raise ValueError(f"`{term}` {key!r} must be written {type_key(types)!r}")
        return self

    @property
    def repulsion_cutoff(self) -> float:
        """Distance beyond which no pair repels [nm]; 0 without repulsion."""
        return REPULSION_RANGE * max((prior.sigma for prior in self.repulsion.values()), default=0.0)

    def bond_terms(self, topology: BeadTopology) -> TermList:
        """Bonds of `topology` that have a prior; parameters (length, k)."""
        linkage = Linkage.of(topology)
        found = _matches(linkage, linkage.bonds, self.bonds)
        return _terms([(row, (prior.length, prior.k)) for row, prior in found], 2, 2)

    def angle_terms(self, topology: BeadTopology) -> TermList:
        """Angles of `topology` that have a prior; parameters (angle, k)."""
        linkage = Linkage.of(topology)
        found = _matches(linkage, linkage.angles, self.angles)
        return _terms([(row, (prior.angle, prior.k)) for row, prior in found], 3, 2)

    def dihedral_terms(self, topology: BeadTopology) -> TermList:
        """Dihedrals of `topology` that have a prior, one row per multiplicity; parameters (n, phase, k)."""
        linkage = Linkage.of(topology)
        found = _matches(linkage, linkage.dihedrals, self.dihedrals)
        rows = [
            (row, (float(n), phase, k))
            for row, prior in found
            for n, (k, phase) in enumerate(zip(prior.k, prior.phase, strict=True), start=1)
        ]
        return _terms(rows, 4, 3)

    def repulsion_table(self, types: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """sigma [nm] and epsilon [kJ/mol] for every pair of `types`, each (types, types); zero where none acts."""
        sigma, epsilon = np.zeros((len(types),) * 2), np.zeros((len(types),) * 2)
        for a, first in enumerate(types):
            for b, second in enumerate(types):
                prior = self.repulsion.get(type_key((first, second)))
                if prior is not None:
                    sigma[a, b], epsilon[a, b] = prior.sigma, prior.epsilon
        return sigma, epsilon


def _matches(linkage: Linkage, index: np.ndarray, priors: dict) -> list:
    keys = [type_key(linkage.names[point] for point in row) for row in index.tolist()]
    return [(row, priors[key]) for row, key in zip(index.tolist(), keys, strict=True) if key in priors]


def _terms(rows: list, beads: int, parameters: int) -> TermList:
    index = np.array([row for row, _ in rows], dtype=np.int64).reshape(-1, beads)
    return TermList(index, np.array([values for _, values in rows], dtype=np.float64).reshape(-1, parameters))
