"""The noise floor of beads with orientations: the gamma test of training/noise_floor.py, in the frames of the beads.

Two surroundings are alike if the neighbours are at the same places in the frame of a bead, and turned the same way. Of
all ways to look at a bead that its point group calls the same, the one that makes two of them most alike counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from cgenn.topology import BeadTopology
from cgenn.training.noise_floor import ALIKE, NEIGHBORS, intercept

UNLIKE = 0.2
"""Mean squared distance of the most alike surroundings, as a share of that of any two; above, they tell nothing."""

IMAGES = 20_000
"""Surroundings that are compared, at most, each counted as often as its bead can be looked at."""


def oriented_floors(
    topology: BeadTopology,
    groups: Mapping[str, Float[np.ndarray, "_ 3 3"]],
    lengths: Float[np.ndarray, " beads"],
    positions: Float[np.ndarray, "frames beads 3"],
    orientations: Float[np.ndarray, "frames beads 3 3"],
    vectors: Sequence[Float[np.ndarray, "frames beads 3"]],
) -> list[float]:
    """Mean square of the unexplainable part of a component of each of the vectors, in the square of their unit.

    Over the beads that have an orientation. NaN where surroundings are too unlike each other to tell: in a liquid there
    are never enough of them.

    Args:
        topology: what the beads are.
        groups: elements of the point group of each type that has an orientation.
        lengths: make a distance of the angle by which a bead is turned [nm].
        positions: of molecules that are whole [nm].
        orientations: columns are the axes of the frames.
        vectors: forces, torques.
    """
    kinds = _kinds(np.array(topology.types), list(groups), positions)
    marks = {name: _marks(elements) for name, elements in groups.items()}
    floors, sizes = [], []
    for (_, name, *around), members in kinds.items():
        elements = groups[name]
        proper = elements[np.linalg.det(elements) > 0]
        index = members[np.linspace(0, len(members) - 1, min(len(members), IMAGES // len(proper))).astype(int)]
        if len(index) <= 2 * ALIKE:
            continue
        frame, bead, others = index[:, :1], index[:, 1], index[:, 2:]
        own = orientations[frame[:, 0], bead]
        places = (positions[frame, others] - positions[frame, bead[:, None]]) @ own
        turned = own.transpose(0, 2, 1)[:, None] @ orientations[frame, others]
        felt = np.stack([(each[frame, bead[:, None]] @ own)[:, 0] for each in vectors], axis=1)
        scale = lengths[others[0]]
        shapes = [_shape(places @ g, g.T @ turned, scale, [marks.get(other) for other in around]) for g in proper]
        floors.append(_gamma_test(shapes, [felt @ g for g in proper]))
        sizes.append(len(members))
    return np.average(floors, axis=0, weights=sizes).tolist() if sizes else [float("nan")] * len(vectors)


def _kinds(types: np.ndarray, oriented: list[str], positions: np.ndarray) -> dict[tuple, Int[np.ndarray, "_ _"]]:
    """Frame, bead and neighbours, from near to far, of all beads of one type with neighbours of the same types.

    Where all beads are neighbours, each bead is a kind of its own, and they come in the same order each time.
    """
    found: dict[tuple, list[list[int]]] = {}
    count = min(NEIGHBORS, len(types) - 1)
    whole = count == len(types) - 1
    beads = np.flatnonzero(np.isin(types, oriented))
    for frame, places in enumerate(positions):
        around = cKDTree(places).query(places[beads], k=count + 1)[1].reshape(len(beads), -1)[:, 1:]
        for bead, others in zip(beads.tolist(), around, strict=True):
            order = np.sort(others) if whole else others[np.argsort(types[others], kind="stable")]
            key = (bead if whole else -1, str(types[bead]), *types[order].tolist())
            found.setdefault(key, []).append([frame, bead, *order.tolist()])
    return {key: np.array(rows) for key, rows in found.items()}


def _marks(elements: Float[np.ndarray, "_ 3 3"]) -> tuple[Float[np.ndarray, "3 _"], Float[np.ndarray, "_ 3 3"]]:
    """Vectors, as columns, and symmetric traceless matrices that no element of a point group changes."""
    values, vectors = np.linalg.eigh(elements.mean(0))
    trace = np.eye(3).reshape(1, 9)
    symmetric = 0.5 * (np.eye(9) + np.eye(9).reshape(3, 3, 3, 3).transpose(1, 0, 2, 3).reshape(9, 9))
    projector = symmetric @ np.mean([np.kron(g, g) for g in elements], axis=0) @ symmetric - trace.T @ trace / 3
    weights, matrices = np.linalg.eigh(projector)
    return vectors[:, values > 0.5], matrices[:, weights > 0.5].T.reshape(-1, 3, 3)


def _shape(
    places: np.ndarray, turned: np.ndarray, lengths: np.ndarray, marks: Sequence[tuple[np.ndarray, np.ndarray] | None]
) -> Float[np.ndarray, "surroundings numbers"]:
    """Places of the neighbours and what can be seen of how they are turned, as distances [nm]."""
    parts = [places.reshape(len(places), -1)]
    for other, mark in enumerate(marks):
        if mark is not None:
            axes, matrices = mark
            frame = turned[:, other]
            seen = [frame @ axes, np.einsum("nij,mjk,nlk->nmil", frame, matrices, frame)]
            parts.extend(lengths[other] * part.reshape(len(places), -1) for part in seen)
    return np.concatenate(parts, axis=1)


def _gamma_test(shapes: Sequence[np.ndarray], felt: Sequence[np.ndarray]) -> Float[np.ndarray, " vectors"]:
    """Intercept of half the mean square differences against the squared distance of the surroundings."""
    size, images = len(shapes[0]), len(shapes)
    reach = min(size * images, (ALIKE + 1) * images)
    distance, index = cKDTree(np.concatenate(shapes)).query(shapes[0], k=reach)
    everywhere, owner = np.concatenate(felt), index % size
    new = owner != np.arange(size)[:, None]
    for column in range(1, reach):
        new[:, column] &= ~(owner[:, :column] == owner[:, column : column + 1]).any(1)
    first = np.argsort(~new, axis=1, kind="stable")[:, :ALIKE]
    nearest = np.take_along_axis(index, first, 1)
    deltas = np.square(np.take_along_axis(distance, first, 1)).mean(0)
    gammas = 0.5 * np.square(everywhere[nearest] - felt[0][:, None]).mean((0, 3))
    if deltas[0] > UNLIKE * 2 * np.concatenate(shapes).var(axis=0).sum():
        return np.full(gammas.shape[1], np.nan)
    return np.array([intercept(deltas, column) for column in gammas.T])
