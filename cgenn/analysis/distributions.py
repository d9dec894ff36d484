"""Distributions of every bond, angle, dihedral and pair type of a topology, in a model and in its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.statistics import (
    block_sums,
    effective_samples,
    jackknife,
    jensen_shannon,
    moments,
    quadrature,
    sampling_floor,
)
from cgenn.analysis.structure import angles, dihedrals, distances
from cgenn.topology import BeadTopology

_BINS = 61
"""Odd, so that a coordinate that hardly moves lies in the middle of a bin, not on an edge."""
_PAIRS_PER_TYPE = 2000
"""Pairs of beads behind one pair type; of more, a random choice."""
_VALUES = 5e7
"""Pair distances computed in one ensemble; of more, a random choice of frames."""

_MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "bond": distances,
    "angle": angles,
    "dihedral": dihedrals,
    "pair": distances,
}
_NARROWEST = {"bond": 1e-3, "pair": 1e-3, "angle": 1e-2, "dihedral": 2 * np.pi}


Coordinates = dict[tuple[str, str], Int[np.ndarray, "n beads"]]
"""The beads of each coordinate, shape (n, 2 ... 4), by kind and bead types."""


class _Range(NamedTuple):
    low: float
    high: float
    sums: Float[np.ndarray, "blocks 3"]


@dataclass(frozen=True)
class Moments:
    """Mean, its standard error from blocks (None with fewer than two) and standard deviation, [nm] or [rad]."""

    mean: float
    error: float | None
    deviation: float


@dataclass(frozen=True, eq=False)
class Distribution:
    """One internal coordinate type in the reference and in the model.

    Attributes:
        kind: "bond", "angle", "dihedral" or "pair".
        types: its bead types, "A|B", the lexicographically smaller of both directions.
        edges: bin edges [nm] or [rad].
        reference: counts in the blocks of the reference; the first and last column are what lies outside the edges.
        model: the same of the model.
        reference_moments: None for dihedrals, which are periodic.
        model_moments: the same of the model.
        js: Jensen-Shannon divergence of the two.
        js_error: its standard error, by the jackknife over blocks.
        floor: divergence of a perfect model from this much sampling, and its spread.
    """

    kind: str
    types: str
    edges: Float[np.ndarray, " edges"]
    reference: Float[np.ndarray, "reference_blocks bins"]
    model: Float[np.ndarray, "model_blocks bins"]
    reference_moments: Moments | None
    model_moments: Moments | None
    js: float
    js_error: float | None
    floor: tuple[float, float]

    @property
    def unit(self) -> str:
        """Unit of the edges and moments."""
        return "nm" if self.kind in ("bond", "pair") else "rad"

    def density(self, counts: Float[np.ndarray, "blocks bins"]) -> Float[np.ndarray, " inner"]:
        """Probability density over the bins inside the edges [1/nm] or [1/rad]."""
        total = counts.sum(axis=0)
        return total[1:-1] / (total.sum() * np.diff(self.edges))

    def to_dict(self) -> dict[str, object]:
        """The numbers, for JSON."""
        entries: dict[str, object] = {
            "kind": self.kind,
            "types": self.types,
            "js": self.js,
            "js_error": self.js_error,
            "js_sampling_floor": self.floor[0],
        }
        if self.reference_moments is not None and self.model_moments is not None:
            entries |= {"unit": self.unit, "reference": vars(self.reference_moments), "model": vars(self.model_moments)}
        return entries


def compare_distributions(topology: BeadTopology, reference: Ensemble, model: Ensemble) -> tuple[Distribution, ...]:
    """Compare every bond, angle, dihedral and pair type.

    Pairs are those three or more bonds apart; in periodic systems only those within a molecule, because g(r) shows the
    others. Of pair types with very many pairs or frames, a random choice is looked at.

    Raises:
        ValueError: if the ensembles do not fit the topology or each other.
    """
    check_ensembles(topology, reference, model)
    coordinates = coordinate_types(topology, periodic=reference.box is not None)
    bonded = {key: rows for key, rows in coordinates.items() if key[0] != "pair"}
    pairs = {key: rows for key, rows in coordinates.items() if key[0] == "pair"}
    return (*_compare_all(bonded, reference, model), *_compare_all(pairs, reference, model, _VALUES))


def check_ensembles(topology: BeadTopology, reference: Ensemble, model: Ensemble) -> None:
    """Check that both ensembles are of the topology's beads and both periodic or both not.

    Raises:
        ValueError: if they are not.
    """
    for side in (reference, model):
        if side.n_beads != len(topology):
            raise ValueError(f"{side.label}: {side.n_beads} beads, but the topology has {len(topology)}")
    if (reference.box is None) != (model.box is None):
        has, lacks = (model, reference) if reference.box is None else (reference, model)
        raise ValueError(f"{has.label} has a periodic box, but {lacks.label} has none")


def coordinate_types(topology: BeadTopology, periodic: bool) -> Coordinates:
    """The beads of every bond, angle, dihedral and pair, by kind and bead types, in this order."""
    groups = {"bond": topology.bonds, "angle": topology.angles, "dihedral": topology.dihedrals}
    result: Coordinates = {}
    for kind, rows in groups.items():
        keys = [_key([topology.types[bead] for bead in row]) for row in rows.tolist()]
        for key in sorted(set(keys)):
            result[kind, key] = rows[[other == key for other in keys]]
    return result | _pair_types(topology, periodic)


def _key(types: list[str]) -> str:
    return "|".join(min(types, types[::-1]))


def _pair_types(topology: BeadTopology, periodic: bool) -> Coordinates:
    names, kinds = np.unique(np.asarray(topology.types), return_inverse=True)
    near = np.concatenate([topology.bonds, np.sort(topology.angles[:, [0, 2]], axis=1)])
    near_codes = near[:, 0] * len(topology) + near[:, 1]
    generator = np.random.default_rng(0)
    result: Coordinates = {}
    for a, b in np.stack(np.triu_indices(len(names)), axis=1):
        rows = _some_pairs(np.flatnonzero(kinds == a), np.flatnonzero(kinds == b), topology, periodic, generator)
        rows = rows[~np.isin(rows[:, 0] * len(topology) + rows[:, 1], near_codes)]
        if len(rows):
            result["pair", f"{names[a]}|{names[b]}"] = rows[:_PAIRS_PER_TYPE]
    return result


def _some_pairs(
    first: Int[np.ndarray, " a"],
    second: Int[np.ndarray, " b"],
    topology: BeadTopology,
    periodic: bool,
    generator: np.random.Generator,
) -> Int[np.ndarray, "n 2"]:
    """Pairs of beads of two types, i < j, all or so many that enough are left; within molecules if periodic."""
    wanted = 10 * _PAIRS_PER_TYPE
    if not periodic and len(first) * len(second) > wanted:
        rows = np.stack([generator.choice(first, wanted), generator.choice(second, wanted)], axis=1)
    elif not periodic:
        rows = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    else:
        rows = _within_molecules(first, second, topology.molecules, wanted)
    rows = np.sort(rows[rows[:, 0] != rows[:, 1]], axis=1)
    return generator.permutation(np.unique(rows, axis=0))


def _within_molecules(
    first: Int[np.ndarray, " a"], second: Int[np.ndarray, " b"], molecules: Int[np.ndarray, " beads"], wanted: int
) -> Int[np.ndarray, "n 2"]:
    """Pairs of one bead of each list in the same molecule, going through the molecules until there are enough."""
    rows, found = [np.empty((0, 2), dtype=np.int64)], 0
    both = np.intersect1d(molecules[first], molecules[second])
    for molecule in both[np.bincount(molecules)[both] > 3]:
        a, b = first[molecules[first] == molecule], second[molecules[second] == molecule]
        stride = max(1, len(a) * len(b) // wanted)
        rows.append(np.stack(np.meshgrid(a[::stride], b, indexing="ij"), axis=-1).reshape(-1, 2))
        found += len(rows[-1])
        if found >= wanted:
            break
    return np.concatenate(rows)


def _compare_all(
    coordinates: Coordinates, reference: Ensemble, model: Ensemble, most: float = np.inf
) -> list[Distribution]:
    """Compare all of `coordinates`, on a random choice of frames if there are more than `most` values."""
    if not coordinates:
        return []
    sides = [_Measured(coordinates, side, most) for side in (reference, model)]
    ranges = [side.ranges() for side in sides]
    edges = {key: _edges(key[0], ranges[0][key], ranges[1][key]) for key in coordinates}
    counts = [side.histograms(edges) for side in sides]
    return [
        _compare(key, edges[key], (ranges[0][key], ranges[1][key]), counts[0][key], counts[1][key])
        for key in coordinates
    ]


def _compare(
    key: tuple[str, str],
    edges: Float[np.ndarray, " edges"],
    ranges: tuple[_Range, _Range],
    reference: Float[np.ndarray, "reference_blocks bins"],
    model: Float[np.ndarray, "model_blocks bins"],
) -> Distribution:
    truth, found = reference.sum(axis=0), model.sum(axis=0)
    js, model_error = jackknife(model, lambda total: jensen_shannon(truth, total))
    reference_error = jackknife(reference, lambda total: jensen_shannon(total, found))[1]
    mean = [None if key[0] == "dihedral" else Moments(*moments(side.sums)) for side in ranges]
    return Distribution(
        kind=key[0],
        types=key[1],
        edges=edges,
        reference=reference,
        model=model,
        reference_moments=mean[0],
        model_moments=mean[1],
        js=js,
        js_error=quadrature(model_error, reference_error),
        floor=sampling_floor(truth, effective_samples(model), effective_samples(reference)),
    )


def _edges(kind: str, reference: _Range, model: _Range) -> Float[np.ndarray, " edges"]:
    """Bins over what the reference visits and what the model visits up to that width beyond it."""
    if kind == "dihedral":
        return np.linspace(-np.pi, np.pi, _BINS + 1)
    margin = max(reference.high - reference.low, _NARROWEST[kind])
    low = min(reference.low, max(model.low, reference.low - margin))
    high = max(reference.high, min(model.high, reference.high + margin))
    pad = max(0.02 * (high - low), 0.5 * (_NARROWEST[kind] - (high - low)))
    return np.linspace(low - pad, high + pad, _BINS + 1)


class _Measured:
    """Coordinates of one ensemble, measured in pieces that fit into memory."""

    def __init__(self, coordinates: Coordinates, ensemble: Ensemble, most: float) -> None:
        self.coordinates, self.ensemble = coordinates, ensemble
        fraction = most / (sum(len(rows) for rows in coordinates.values()) * ensemble.n_frames)
        self.frames = None if fraction >= 1 else np.random.default_rng(0).random(ensemble.n_frames) < fraction

    def _values(self) -> Iterator[tuple[tuple[str, str], np.ndarray, np.ndarray]]:
        largest = max(len(rows) for rows in self.coordinates.values())
        for chunk in self.ensemble.chunks(per_frame=largest, frames=self.frames):
            for key, rows in self.coordinates.items():
                yield key, _MEASURES[key[0]](chunk.positions, rows, chunk.box), chunk.blocks

    def ranges(self) -> dict[tuple[str, str], _Range]:
        result: dict[tuple[str, str], _Range] = {}
        for key, values, blocks in self._values():
            found = _Range(float(values.min()), float(values.max()), block_sums(values, blocks, self.ensemble.n_blocks))
            old = result.get(key, found)
            sums = found.sums if old is found else old.sums + found.sums
            result[key] = _Range(min(old.low, found.low), max(old.high, found.high), sums)
        return result

    def histograms(
        self, edges: dict[tuple[str, str], np.ndarray]
    ) -> dict[tuple[str, str], Float[np.ndarray, "blocks bins"]]:
        """Counts in each block; the first and the last column hold what lies below and above the edges."""
        columns = _BINS + 2
        result = {key: np.zeros((self.ensemble.n_blocks, columns)) for key in self.coordinates}
        for key, values, blocks in self._values():
            low, high = edges[key][[0, -1]]
            column = np.floor((values - low) * (_BINS / (high - low))).astype(np.int64) + 1
            column = np.clip(column, 1, _BINS) if key[0] == "dihedral" else np.clip(column, 0, _BINS + 1)
            flat = (blocks[:, None] * columns + column).ravel()
            result[key] += np.bincount(flat, minlength=result[key].size).reshape(-1, columns)
        return result
