"""Splits frames into a training and a validation part by blocks of time.

Neighbouring frames of a trajectory are correlated: single frames drawn at random would be validated against their own
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int


def block_split(
    n_frames: int, segments: Sequence[tuple[int, int]] | None = None, fraction: float = 0.2, blocks: int = 10
) -> tuple[Int[np.ndarray, " training"], Int[np.ndarray, " validation"]]:
    """Indices of the training and the validation frames, both sorted.

    The frames are cut into about `blocks` pieces of equal length, and wherever one trajectory ends and the next
    begins; `fraction` of the frames, in pieces spread evenly over all of them, are for validation.

    Args:
        segments: (start, stop) of each trajectory, by default a single one.

    Raises:
        ValueError: if `fraction` is not between 0 and 1 or one of the parts would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must lie between 0 and 1, got {fraction}")
    if blocks < 2:
        raise ValueError(f"`blocks` must be at least 2, got {blocks}")
    ends = [n_frames] if segments is None else [stop for _, stop in segments]
    cuts = np.unique([*np.linspace(0, n_frames, blocks + 1).round().astype(int), *ends])
    validation = np.zeros(n_frames, dtype=bool)
    due = 0.5 * n_frames / blocks
    for start, stop in pairwise(cuts.tolist()):
        due += fraction * (stop - start)
        if due >= stop - start:
            validation[start:stop] = True
            due -= stop - start
    if validation.all() or not validation.any():
        raise ValueError(f"{n_frames} frames in {blocks} blocks cannot be split with `fraction` {fraction}")
    return np.flatnonzero(~validation), np.flatnonzero(validation)
