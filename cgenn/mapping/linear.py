"""One sparse linear map from atoms to beads, applied to many frames at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.sparse import block_diag, csr_array

_BLOCK_ENTRIES = 100_000


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Y = M X for each frame.

    Attributes:
        matrix: M, shape (beads, atoms).
    """

    matrix: csr_array
    _blocks: dict[tuple[int, str], csr_array] = field(default_factory=dict, repr=False)

    def __call__(self, values: Float[np.ndarray, "frames atoms 3"]) -> Float[np.ndarray, "frames beads 3"]:
        """Map frames of positions or forces; the result has the precision of `values`.

        Several frames at a time are multiplied by a block-diagonal matrix, which stays in the processor's cache.

        Raises:
            ValueError: if the number of atoms is not that of the map.
        """
        beads, atoms = self.matrix.shape
        if values.ndim != 3 or values.shape[1:] != (atoms, 3):
            raise ValueError(f"expected an array of shape (frames, {atoms}, 3), got {values.shape}")
        frames = len(values)
        result = np.empty((frames, beads, 3), values.dtype)
        at_once = min(max(1, _BLOCK_ENTRIES // max(1, self.matrix.nnz)), 4096)
        for start in range(0, frames, at_once):
            part = values[start : start + at_once]
            mapped = self._block(len(part), values.dtype) @ part.reshape(-1, 3)
            result[start : start + at_once] = mapped.reshape(-1, beads, 3)
        return result

    def _block(self, frames: int, dtype: np.dtype) -> csr_array:
        key = (frames, dtype.str)
        if key not in self._blocks:
            if len(self._blocks) > 4:
                self._blocks.clear()
            self._blocks[key] = csr_array(block_diag([self.matrix] * frames, format="csr", dtype=dtype))
        return self._blocks[key]
