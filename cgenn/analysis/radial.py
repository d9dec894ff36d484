"""Radial distribution functions and coordination numbers of periodic systems, in any cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vesin
from jaxtyping import Float, Int
from scipy.sparse import coo_array

from cgenn.analysis.ensemble import Ensemble, some_frames
from cgenn.analysis.structure import heights

_PAIRS = 3e7
"""Pairs looked at in all; of larger ensembles, a random choice of frames."""


@dataclass(frozen=True, eq=False)
class RadialDistributions:
    """g(r) of every pair of bead types.

    Attributes:
        types: the bead types, sorted.
        n_beads: beads of each type.
        pairs: the two types of each function, indices into `types`, shape (pairs, 2).
        n_pairs: pairs of beads behind each function, shape (pairs,).
        edges: bin edges [nm], shape (bins + 1,).
        counts: pairs of beads found in each bin, shape (blocks, pairs, bins).
        frames: frames looked at in each block, shape (blocks,).
        inverse_volume: sum of 1/V over the frames of each block [1/nm^3], shape (blocks,).
    """

    types: tuple[str, ...]
    n_beads: Int[np.ndarray, " types"]
    pairs: Int[np.ndarray, "pairs 2"]
    n_pairs: Float[np.ndarray, " pairs"]
    edges: Float[np.ndarray, " edges"]
    counts: Float[np.ndarray, "blocks pairs bins"]
    frames: Int[np.ndarray, " blocks"]
    inverse_volume: Float[np.ndarray, " blocks"]

    @property
    def names(self) -> tuple[str, ...]:
        """ "A|B" for each function."""
        return tuple(f"{self.types[a]}|{self.types[b]}" for a, b in self.pairs)

    @property
    def r(self) -> Float[np.ndarray, " bins"]:
        """Bin centres [nm]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def g(self) -> Float[np.ndarray, "pairs bins"]:
        """g(r): pairs found over those of an ideal gas at the same density, n / (N_pairs V_shell sum 1/V)."""
        return self.counts.sum(axis=0) / self._ideal(self.inverse_volume.sum())

    @property
    def error(self) -> Float[np.ndarray, "pairs bins"] | None:
        """Standard error of g(r) from the blocks; None with fewer than two."""
        used = self.frames > 0
        if used.sum() < 2:
            return None
        per_block = self.counts[used] / np.stack([self._ideal(inverse) for inverse in self.inverse_volume[used]])
        return per_block.std(axis=0, ddof=1) / np.sqrt(used.sum())

    def _ideal(self, inverse_volume: float) -> Float[np.ndarray, "pairs bins"]:
        shell = 4.0 / 3.0 * np.pi * np.diff(self.edges**3)
        return self.n_pairs[:, None] * shell * inverse_volume

    def coordination(self, cutoff: float) -> dict[str, float]:
        """Mean number of beads of type B within `cutoff` [nm] of a bead of type A, by "A|B" (and "B|A").

        Raises:
            ValueError: if the cutoff is not positive or lies beyond the last bin.
        """
        if not 0 < cutoff <= self.edges[-1]:
            raise ValueError(f"`cutoff` must lie between 0 and {self.edges[-1]:.4g} nm, got {cutoff} nm")
        running = np.concatenate([np.zeros((len(self.pairs), 1)), self.counts.sum(axis=0).cumsum(axis=1)], axis=1)
        result = {}
        for (a, b), row in zip(self.pairs, running, strict=True):
            found = float(np.interp(cutoff, self.edges, row)) / float(self.frames.sum())
            result[f"{self.types[a]}|{self.types[b]}"] = found * (2 if a == b else 1) / float(self.n_beads[a])
            if a != b:
                result[f"{self.types[b]}|{self.types[a]}"] = found / float(self.n_beads[b])
        return result


def default_range(ensembles: Sequence[Ensemble]) -> float:
    """Five mean distances, rho^(-1/3), between beads, but at most half the shortest height of any cell [nm]."""
    half = min(float(heights(np.asarray(e.box, dtype=float)).min()) for e in ensembles) / 2
    density = min(e.n_beads / float(np.abs(np.linalg.det(np.asarray(e.box, dtype=float))).max()) for e in ensembles)
    return min(half, 5.0 * density ** (-1 / 3))


def radial_distributions(
    types: Sequence[str],
    ensemble: Ensemble,
    *,
    r_max: float | None = None,
    bins: int = 150,
    molecules: Int[np.ndarray, " beads"] | None = None,
) -> RadialDistributions:
    """g(r) of every pair of bead types, 0 < r < r_max.

    Args:
        types: bead type of each bead.
        ensemble: with a box; of many frames of many beads, a random choice of frames is looked at.
        r_max: at most half the shortest height of the cell in any frame [nm]; `default_range` if None.
        bins: number of bins.
        molecules: molecule of each bead, shape (beads,); pairs within one are left out. None keeps all pairs.

    Raises:
        ValueError: if there is no box, `types` does not fit, or `r_max` reaches beyond half the cell.
    """
    if ensemble.box is None:
        raise ValueError(f"{ensemble.label}: a radial distribution function needs a box in every frame, got none")
    if len(types) != ensemble.n_beads:
        raise ValueError(f"{ensemble.label}: {ensemble.n_beads} beads, but {len(types)} bead types")
    half = float(heights(np.asarray(ensemble.box, dtype=float)).min()) / 2
    r_max = default_range([ensemble]) if r_max is None else r_max
    if not 0 < r_max <= half * (1 + 1e-6):
        expected = f"between 0 and half the shortest height of the cell, {half:.4g} nm"
        raise ValueError(f"`r_max` must lie {expected}, got {r_max} nm")
    names, kinds = np.unique(np.asarray(types), return_inverse=True)
    pairs = np.stack(np.triu_indices(len(names)), axis=1)
    n_pairs = _pair_numbers(kinds, molecules)[pairs[:, 0], pairs[:, 1]]
    counts, frames, inverse = _count(ensemble, kinds, len(names), molecules, r_max, bins)
    present = n_pairs > 0
    return RadialDistributions(
        types=tuple(names.tolist()),
        n_beads=np.bincount(kinds),
        pairs=pairs[present],
        n_pairs=n_pairs[present],
        edges=np.linspace(0.0, r_max, bins + 1),
        counts=counts[:, present],
        frames=frames,
        inverse_volume=inverse,
    )


def _pair_numbers(
    kinds: Int[np.ndarray, " beads"], molecules: Int[np.ndarray, " beads"] | None
) -> Float[np.ndarray, "types types"]:
    """Number of pairs of beads of two types, those within one molecule left out."""
    beads = np.bincount(kinds).astype(float)
    ordered = np.outer(beads, beads) - np.diag(beads)
    if molecules is not None:
        composition = coo_array((np.ones(len(kinds)), (molecules, kinds))).tocsr()
        ordered -= (composition.T @ composition).toarray() - np.diag(beads)
    return np.where(np.eye(len(beads), dtype=bool), ordered / 2, ordered)


def _count(
    ensemble: Ensemble,
    kinds: Int[np.ndarray, " beads"],
    n_types: int,
    molecules: Int[np.ndarray, " beads"] | None,
    r_max: float,
    bins: int,
) -> tuple[Float[np.ndarray, "blocks pairs bins"], Int[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
    row_of_pair = np.zeros((n_types, n_types), dtype=np.int64)
    row_of_pair[np.triu_indices(n_types)] = np.arange(n_types * (n_types + 1) // 2)
    row_of_pair = np.maximum(row_of_pair, row_of_pair.T)
    n_rows, n_blocks = n_types * (n_types + 1) // 2, ensemble.n_blocks
    counts = np.zeros((n_blocks, n_rows, bins))
    frames, inverse = np.zeros(n_blocks, dtype=np.int64), np.zeros(n_blocks)
    finder = vesin.NeighborList(cutoff=r_max, full_list=False)
    for chunk in ensemble.chunks(frames=chosen_frames(ensemble, r_max)):
        assert chunk.box is not None
        for positions, box, block in zip(chunk.positions, chunk.box, chunk.blocks, strict=True):
            i, j, distance = finder.compute(positions, box, True, "ijd")
            kept = slice(None) if molecules is None else molecules[i] != molecules[j]
            row = row_of_pair[kinds[i[kept]], kinds[j[kept]]]
            column = np.minimum((distance[kept] * (bins / r_max)).astype(np.int64), bins - 1)
            counts[block] += np.bincount(row * bins + column, minlength=n_rows * bins).reshape(n_rows, bins)
            frames[block] += 1
            inverse[block] += 1.0 / abs(np.linalg.det(box))
    return counts, frames, inverse


def chosen_frames(ensemble: Ensemble, r_max: float) -> np.ndarray | None:
    """A random choice of frames, at least two of each block, that keeps the number of pairs bounded; None means all."""
    volume = float(np.abs(np.linalg.det(np.asarray(ensemble.box, dtype=float))).mean())
    per_frame = 0.5 * ensemble.n_beads**2 * min(1.0, 4 / 3 * np.pi * r_max**3 / volume)
    return some_frames(ensemble, _PAIRS / max(per_frame, 1e-9))
