"""Priors from a dataset by Boltzmann inversion: -kT ln p of each bond, angle, dihedral and closest approach.

Reith, Puetz and Mueller-Plathe 2003, with the volume element divided out (r^2 for bonds, sin theta for angles). Bonds
and angles with a barrier, as between trans and gauche, get a prior of several wells (wells.py), others of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import least_squares

from cgenn.neighbors import edge_vectors, neighbors
from cgenn.potential import bonded
from cgenn.potential.linkage import Linkage
from cgenn.potential.priors import (
    REPULSION_RANGE,
    AnglePrior,
    AngleWell,
    BondPrior,
    BondWell,
    DihedralPrior,
    Priors,
    RepulsionPrior,
    type_key,
)
from cgenn.topology import BeadTopology
from cgenn.training.wells import fit_wells
from cgenn.units import thermal_energy

BINS = 72
MULTIPLICITIES = 3
BEADS_AT_ONCE = 20_000
"""Beads whose pairs are looked for together; in a liquid each has more than a hundred."""

STRAIGHT, STRAIGHT_FRACTION = 0.1, 0.02
"""A dihedral has no prior if the sine of an angle of it is below the first number more often than the second:
its forces go with one over the sine, and no time step is short enough for a chain that gets straight."""

CLOSEST_FRACTION = 1e-3
"""Fraction of the pairs of two types, among those within the reach, that may come closer than sigma."""


class Sample(NamedTuple):
    """Conformations that priors are fitted to.

    Attributes:
        topology: the beads.
        positions: shape (frames, beads, 3) [nm].
        box: shape (frames, 3, 3) [nm]; None in open space.
        orientations: unit quaternions (w, x, y, z), shape (frames, beads, 4); needed where the topology has joints.
    """

    topology: BeadTopology
    positions: np.ndarray
    box: np.ndarray | None
    orientations: np.ndarray | None = None


@dataclass(frozen=True)
class PriorFit:
    """Fitted priors, and what a user should know about how well the data determined them."""

    priors: Priors
    notes: tuple[str, ...]


def fit_priors(
    samples: Iterable[Sample | tuple[BeadTopology, np.ndarray, np.ndarray | None]], temperature: float, reach: float
) -> PriorFit:
    """Fit all priors to conformations of one or several topologies.

    Args:
        samples: one entry or more per topology, so that a large dataset can be given in parts.
        temperature: of the data [K].
        reach: distance up to which closest approaches are looked for; repulsion never reaches beyond it [nm].
    """
    observed = _Observations(reach)
    for sample in samples:
        observed.add(Sample(*sample))
    kt = thermal_energy(temperature)
    notes: list[str] = []
    return PriorFit(
        Priors(
            bonds={key: _bond(key, values, kt, notes) for key, values in observed.merged("bonds")},
            angles={key: _angle(key, values, kt, notes) for key, values in observed.merged("angles")},
            dihedrals={
                key: _dihedral(key, values, kt, notes)
                for key, values in observed.merged("dihedrals")
                if not observed.straight(key, notes)
            },
            repulsion={key: _repulsion(values, kt, reach) for key, values in observed.merged("pairs")},
        ),
        tuple(notes),
    )


class _Observations:
    """Values of every internal coordinate, collected by bead types."""

    def __init__(self, reach: float) -> None:
        self.reach = reach
        self.values: dict[str, dict[str, list[np.ndarray]]] = {
            kind: {} for kind in ("bonds", "angles", "dihedrals", "sines", "pairs")
        }

    def merged(self, kind: str) -> list[tuple[str, np.ndarray]]:
        return [(key, np.concatenate(parts)) for key, parts in sorted(self.values[kind].items())]

    def straight(self, key: str, notes: list[str]) -> bool:
        """Whether the beads of a dihedral come to lie on a line, so that it says nothing there."""
        fraction = np.mean(np.concatenate(self.values["sines"][key]) < STRAIGHT)
        if fraction > STRAIGHT_FRACTION:
            notes.append(f"dihedral {key}: {fraction:.1%} of the time it is nearly straight; it has no prior")
        return bool(fraction > STRAIGHT_FRACTION)

    def add(self, sample: Sample) -> None:
        topology, positions, box, orientations = sample
        linkage = Linkage.of(topology)
        points = linkage.points(positions, orientations)
        self._internal("bonds", bonded.distances, linkage, linkage.bonds, points)
        self._internal("angles", bonded.angles, linkage, linkage.angles, points)
        self._internal("dihedrals", bonded.dihedrals, linkage, linkage.dihedrals, points)
        self._internal("sines", _least_sine, linkage, linkage.dihedrals, points)
        at_once = max(1, BEADS_AT_ONCE // len(topology))
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            self._closest(topology, positions[part], None if box is None else box[part])

    def _internal(
        self, kind: str, coordinate: Callable, linkage: Linkage, index: np.ndarray, points: torch.Tensor
    ) -> None:
        if not len(index):
            return
        frames, size = points.shape[:2]
        everywhere = torch.from_numpy(
            (index[None] + size * np.arange(frames)[:, None, None]).reshape(-1, index.shape[1])
        )
        values = coordinate(points.flatten(0, 1), everywhere).view(frames, -1).numpy()
        for column, row in enumerate(index.tolist()):
            key = type_key(linkage.names[point] for point in row)
            self.values[kind].setdefault(key, []).append(values[:, column])

    def _closest(self, topology: BeadTopology, positions: np.ndarray, box: np.ndarray | None) -> None:
        frames, beads = positions.shape[:2]
        flat = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.float64)).flatten(0, 1)
        cell = None if box is None else torch.from_numpy(np.ascontiguousarray(box, dtype=np.float64))
        batch = torch.arange(frames).repeat_interleave(beads)
        found = neighbors(flat, self.reach, cell=cell, batch=batch, n_systems=frames)
        types, codes = np.unique(topology.types, return_inverse=True)
        excluded = topology.excluded_pairs[:, 0] * beads + topology.excluded_pairs[:, 1]
        i, j = found.receivers.numpy() % beads, found.senders.numpy() % beads
        kept = (i < j) & ~np.isin(i * beads + j, excluded)
        ends = found.receivers[kept], found.senders[kept]
        cells = None if cell is None else cell[batch[ends[0]]]
        distance = torch.linalg.vector_norm(edge_vectors(flat, *ends, found.shifts[kept], cells), dim=1).numpy()
        pairs = np.sort(np.stack([codes[i[kept]], codes[j[kept]]]), axis=0)
        labels = pairs[0] * len(types) + pairs[1]
        for label in np.unique(labels).tolist():
            key = type_key((str(types[label // len(types)]), str(types[label % len(types)])))
            self.values["pairs"].setdefault(key, []).append(distance[labels == label])


def _least_sine(positions: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Of both angles of a dihedral."""
    return torch.minimum(bonded.angles(positions, index[:, :3]).sin(), bonded.angles(positions, index[:, 1:]).sin())


def _inverted(values: np.ndarray, measure: Callable, kt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-kT ln(p / volume element) at the centres of the sampled bins, with the counts as weights."""
    counts, edges = np.histogram(values, bins=BINS)
    centres = 0.5 * (edges[1:] + edges[:-1])
    sampled = counts > 0
    return centres[sampled], -kt * np.log(counts[sampled] / measure(centres[sampled])), counts[sampled].astype(float)


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < 1e-9 * abs(values.mean()))


def _parabola(values: np.ndarray, measure: Callable, kt: float) -> tuple[float, float] | None:
    """Centre and curvature of the inverted distribution; None if it is not a well."""
    if _constant(values):
        return None
    centres, energy, counts = _inverted(values, measure, kt)
    if len(centres) < 4:
        return None
    a, b, _ = np.polyfit(centres, energy, 2, w=np.sqrt(counts))
    centre = -b / (2 * a) if a > 0 else np.nan
    return (float(centre), float(2 * a)) if values.min() <= centre <= values.max() else None


def _wells(values: np.ndarray, measure: Callable, kt: float, *, mirror: bool) -> list[tuple[float, float, float]]:
    """Centre, k and energy of each well, the deepest first; none if there is but one."""
    if _constant(values):
        return []
    counts, edges = np.histogram(values, bins=BINS)
    found = fit_wells(counts, edges, measure, kt, mirror=mirror)
    return [] if found is None else found.tolist()


def _bond(key: str, values: np.ndarray, kt: float, notes: list[str]) -> BondPrior:
    if wells := _wells(values, np.square, kt, mirror=False):
        first, *others = (BondWell(length=length, k=k, energy=energy) for length, k, energy in wells)
        return BondPrior(length=first.length, k=first.k, kt=kt, others=tuple(others))
    fitted = _parabola(values, np.square, kt)
    if fitted is None:
        notes.append(f"bond {key}: -kT ln p is not a single well; mean and variance were used")
        fitted = float(values.mean()), kt / max(float(values.var()), 1e-8)
    return BondPrior(length=fitted[0], k=fitted[1])


def _angle(key: str, values: np.ndarray, kt: float, notes: list[str]) -> AnglePrior:
    if wells := _wells(values, np.sin, kt, mirror=True):
        first, *others = (AngleWell(angle=min(angle, np.pi), k=k, energy=energy) for angle, k, energy in wells)
        return AnglePrior(angle=first.angle, k=first.k, kt=kt, others=tuple(others))
    fitted = _parabola(values, np.sin, kt)
    if fitted is None:
        notes.append(f"angle {key}: -kT ln p is not a single well; mean and variance were used")
        fitted = _angle_of_moments(values, kt)
    return AnglePrior(angle=fitted[0], k=fitted[1])


def _angle_of_moments(values: np.ndarray, kt: float) -> tuple[float, float]:
    """Centre and curvature with which p ~ sin(theta) exp(-E / kT) has mean and variance of the angles.

    Without the sine chains of soft angles, as of a few carbons in a bead, would be bent by 0.2 rad too much.
    """
    grid = np.linspace(0.0, np.pi, 1001)
    wanted = np.array([values.mean(), max(values.std(), 1e-3)])

    def away(given: np.ndarray) -> np.ndarray:
        weights = np.sin(grid) * np.exp(-0.5 * ((grid - given[0]) / given[1]) ** 2)
        mean = np.average(grid, weights=weights)
        return np.array([mean, np.sqrt(np.average((grid - mean) ** 2, weights=weights))]) - wanted

    found = least_squares(away, wanted, bounds=([0.0, 0.5 * wanted[1]], [np.pi, 5.0])).x
    return float(found[0]), kt / float(found[1]) ** 2


def _dihedral(key: str, values: np.ndarray, kt: float, notes: list[str]) -> DihedralPrior:
    """Fourier series through -kT ln p; an unsampled bin counts as if half a frame had been seen there."""
    counts, edges = np.histogram(values, bins=BINS, range=(-np.pi, np.pi))
    phi = 0.5 * (edges[1:] + edges[:-1])
    unsampled = int(np.sum(counts == 0))
    if unsampled:
        notes.append(f"dihedral {key}: {unsampled} of {BINS} bins of 5 degrees were never visited")
    seen = np.maximum(counts, 0.5)
    orders = np.arange(1, MULTIPLICITIES + 1)
    basis = np.concatenate([np.ones((1, BINS)), np.cos(orders[:, None] * phi), np.sin(orders[:, None] * phi)])
    weight = np.sqrt(seen)
    fitted = np.linalg.lstsq((basis * weight).T, -kt * np.log(seen / seen.max()) * weight, rcond=None)[0]
    cosine, sine = fitted[1 : 1 + MULTIPLICITIES], fitted[1 + MULTIPLICITIES :]
    return DihedralPrior(k=tuple(np.hypot(cosine, sine).tolist()), phase=tuple(np.arctan2(sine, cosine).tolist()))


def _repulsion(values: np.ndarray, kt: float, reach: float) -> RepulsionPrior:
    """One kT where only the closest thousandth of the pairs come."""
    sigma = float(np.quantile(values, CLOSEST_FRACTION))
    return RepulsionPrior(sigma=min(sigma, reach / REPULSION_RANGE), epsilon=kt)
