"""The classical terms under the network, as data: parameters by bead type, and what they mean for one topology."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, model_serializer, model_validator

from cgenn.config import Config
from cgenn.potential.linkage import Linkage
from cgenn.topology import BeadTopology

REPULSION_RANGE = 2.0 ** (1.0 / 6.0)
"""Where the repulsion ends, in units of sigma."""


class BondWell(Config):
    """A further well of a bond: energy + k / 2 (r - length)^2; length [nm], k [kJ/mol/nm^2], energy [kJ/mol]."""

    length: PositiveFloat
    k: PositiveFloat
    energy: float


class AngleWell(Config):
    """A further well of an angle: energy + k / 2 (theta - angle)^2; angle [rad], k [kJ/mol/rad^2], energy [kJ/mol]."""

    angle: float = Field(ge=0, le=np.pi)
    k: PositiveFloat
    energy: float


class _Wells(Config):
    """One harmonic well E_0, or with `others` the sum of the densities of several, kt [kJ/mol] that of the data:

        -kt ln sum_i exp(-E_i / kt), E_i = energy_i + k_i / 2 (x - x_i)^2, energy_0 = 0

    (Milano, Goudeau and Mueller-Plathe 2005, doi 10.1002/polb.20370.)
    """

    @model_validator(mode="after")
    def _blended(self) -> _Wells:
        given = dict(self)
        if given["others"] and not (given["k"] and given["kt"]):
            raise ValueError(f"with `others`, `k` and `kt` must be positive, got {given['k']} and {given['kt']}")
        return self

    @model_serializer(mode="wrap")
    def _as_one_well(self, entries: Callable[[Any], dict]) -> dict:
        written = entries(self)
        return written if written["others"] else {key: written[key] for key in written if key not in ("kt", "others")}


class BondPrior(_Wells):
    """k / 2 (r - length)^2, or several wells; length [nm], k [kJ/mol/nm^2]."""

    length: PositiveFloat
    k: float = Field(ge=0)
    kt: float = Field(default=0.0, ge=0)
    others: tuple[BondWell, ...] = ()

    @property
    def wells(self) -> np.ndarray:
        """Centre, k and energy of each well, shape (wells, 3)."""
        return np.array([(self.length, self.k, 0.0), *((one.length, one.k, one.energy) for one in self.others)])


class AnglePrior(_Wells):
    """k / 2 (theta - angle)^2, or several wells; angle [rad], k [kJ/mol/rad^2].

    Several have their mirror images at pi with them, so that the force on a straight chain is zero and does not jump.
    """

    angle: float = Field(ge=0, le=np.pi)
    k: float = Field(ge=0)
    kt: float = Field(default=0.0, ge=0)
    others: tuple[AngleWell, ...] = ()

    @property
    def wells(self) -> np.ndarray:
        """Centre, k and energy of each well and of its mirror image, shape (2 wells, 3)."""
        wells = np.array([(self.angle, self.k, 0.0), *((one.angle, one.k, one.energy) for one in self.others)])
        return np.concatenate([wells, wells * [-1, 1, 1] + [2 * np.pi, 0, 0]])


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


class RampPrior(Config):
    """height (1 - r / range) below `range`, zero beyond, whatever the types; height [kJ/mol], range [nm].

    The force is the same at all distances up to `range`: hardly a bead moves, but the pressure does (Reith, Puetz and
    Mueller-Plathe 2003, doi 10.1002/jcc.10307). A negative height attracts.
    """

    height: float
    range: PositiveFloat


class PairPrior(Config):
    """sum_i c_i B(n r / range - i), i = 0, ..., n - 2, between beads of the types of the key; zero beyond `range` [nm].

    B is the cubic B-spline, 2/3 at 0 and 0 from +-2 on: at `range` the force and its slope vanish. Coefficients
    [kJ/mol], n - 1 for each pair of types; a further one, c_-1 = 2 c_0 - c_1, takes the curvature away at r = 0.
    """

    range: PositiveFloat
    coefficients: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _equally_many(self) -> PairPrior:
        found = sorted({len(row) for row in self.coefficients.values()})
        if len(found) != 1 or found[0] < 2:
            raise ValueError(f"`coefficients` needs equally many, at least 2, for all pairs of types, got {found}")
        return self

    @property
    def intervals(self) -> int:
        """Between the knots, which are `range` / `intervals` apart."""
        return len(next(iter(self.coefficients.values()))) + 1


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

    In bonded terms "type:atom" stands for an atom of an oriented bead (see `Linkage`). Pair splines and the ramp act
    between the same beads as the repulsion, those more than three bonds apart.
    """

    bonds: dict[str, BondPrior] = {}
    angles: dict[str, AnglePrior] = {}
    dihedrals: dict[str, DihedralPrior] = {}
    repulsion: dict[str, RepulsionPrior] = {}
    pairs: PairPrior | None = None
    ramp: RampPrior | None = None

    @model_serializer(mode="wrap")
    def _as_before_without(self, entries: Callable[[Any], dict]) -> dict:
        return {key: value for key, value in entries(self).items() if key not in ("pairs", "ramp") or value is not None}

    @model_validator(mode="after")
    def _keys_as_looked_up(self) -> Priors:
        for term, size in {"bonds": 2, "angles": 3, "dihedrals": 4, "repulsion": 2, "pairs": 2}.items():
            given = getattr(self, term)
            for key in given.coefficients if isinstance(given, PairPrior) else given or ():
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

    @property
    def pair_cutoff(self) -> float:
        """Distance beyond which no pair repels or feels pair splines or the ramp [nm]; 0 without all."""
        return max(self.repulsion_cutoff, *(prior.range for prior in (self.pairs, self.ramp) if prior), 0.0)

    def bond_terms(self, topology: BeadTopology) -> TermList:
        """Bonds of `topology` that have a prior of one well; parameters (length, k)."""
        linkage = Linkage.of(topology)
        found = _matches(linkage, linkage.bonds, self.bonds)
        return _terms([(row, (prior.length, prior.k)) for row, prior in found if not prior.others], 2, 2)

    def angle_terms(self, topology: BeadTopology) -> TermList:
        """Angles of `topology` that have a prior of one well; parameters (angle, k)."""
        linkage = Linkage.of(topology)
        found = _matches(linkage, linkage.angles, self.angles)
        return _terms([(row, (prior.angle, prior.k)) for row, prior in found if not prior.others], 3, 2)

    def bond_well_terms(self, topology: BeadTopology) -> TermList:
        """Bonds of several wells; parameters (kt, then length, k and energy of each well)."""
        linkage = Linkage.of(topology)
        return _well_terms(_matches(linkage, linkage.bonds, self.bonds), 2)

    def angle_well_terms(self, topology: BeadTopology) -> TermList:
        """Angles of several wells; parameters (kt, then angle, k and energy of each well)."""
        linkage = Linkage.of(topology)
        return _well_terms(_matches(linkage, linkage.angles, self.angles), 3)

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

    def pair_table(self, types: list[str]) -> np.ndarray:
        """Coefficients of the four splines that are not zero in each interval, shape (types, types, intervals + 3).

        Those of interval i are i to i + 3; zero where no spline acts.
        """
        assert self.pairs is not None
        table = np.zeros((len(types), len(types), self.pairs.intervals + 3))
        for a, first in enumerate(types):
            for b, second in enumerate(types):
                row = self.pairs.coefficients.get(type_key((first, second)))
                if row is not None:
                    table[a, b, :-3] = (2 * row[0] - row[1], *row)
        return table


def _matches(linkage: Linkage, index: np.ndarray, priors: dict) -> list:
    keys = [type_key(linkage.names[point] for point in row) for row in index.tolist()]
    return [(row, priors[key]) for row, key in zip(index.tolist(), keys, strict=True) if key in priors]


def _terms(rows: list, beads: int, parameters: int) -> TermList:
    index = np.array([row for row, _ in rows], dtype=np.int64).reshape(-1, beads)
    return TermList(index, np.array([values for _, values in rows], dtype=np.float64).reshape(-1, parameters))


def _well_terms(found: list, beads: int) -> TermList:
    """Those with several wells; of fewer than the most, the last one is there n times, with energy + kt ln n."""
    several = [(row, prior.kt, prior.wells) for row, prior in found if prior.others]
    most = max((len(wells) for *_, wells in several), default=1)
    rows = []
    for row, kt, wells in several:
        times = most - len(wells) + 1
        last = wells[-1] + [0.0, 0.0, kt * np.log(times)]
        rows.append((row, (kt, *wells[:-1].ravel(), *np.tile(last, times))))
    return _terms(rows, beads, 1 + 3 * most)
