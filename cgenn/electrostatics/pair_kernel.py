"""Energy and first derivatives of point charges in real space in one pass over the pairs (Warp, CPU and CUDA).

Imported only where it is used: Warp takes seconds.
"""

# mypy: disable-error-code="valid-type, index"

from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from cgenn.electrostatics.launch import launch, precision


def pair_sums(
    positions: Tensor,
    charges: Tensor,
    receivers: Tensor,
    senders: Tensor,
    shifts: Tensor,
    cells: Tensor,
    batch: Tensor,
    alpha: float,
    cutoff: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of q q erfc(alpha r)/r, without the Coulomb constant and without derivatives of their own.

    Returns:
        The energy of each bead's pairs as receiver (in double precision), its derivatives with respect to positions
        and to charges, shapes (beads,), (beads, 3) and (beads,).
    """
    energy = torch.zeros(len(positions), dtype=torch.float64, device=positions.device)
    slope, potential = torch.zeros_like(positions), torch.zeros_like(charges)
    inputs: list[Tensor | float] = [positions, charges, batch, cells, receivers, senders, shifts, alpha, cutoff**2]
    launch(_kernel(precision(positions)), len(receivers), inputs, [energy, slope, potential])
    return energy, slope, potential


@cache
def _kernel(real: Any) -> Any:
    """For single or double precision."""
    vector, matrix = wp.types.vector(3, real), wp.types.matrix((3, 3), real)
    single = real is wp.float32
    edge = 1.1283791670955126  # 2 / sqrt(pi)

    @wp.func
    def erfc(x: real, gaussian: real) -> real:
        if wp.static(single):  # Abramowitz and Stegun 7.1.26: wrong by less than 1.5e-7
            t = real(1.0) / (real(1.0) + real(0.3275911) * x)
            series = real(-1.453152027) + real(1.061405429) * t
            series = real(-0.284496736) + (real(1.421413741) + series * t) * t
            return (real(0.254829592) + series * t) * t * gaussian
        return wp.erfc(x)

    @wp.kernel(enable_backward=False, module="unique")
    def kernel(
        positions: wp.array[vector],
        charges: wp.array[real],
        batch: wp.array[wp.int64],
        cells: wp.array[matrix],
        receivers: wp.array[wp.int64],
        senders: wp.array[wp.int64],
        shifts: wp.array[vector],
        alpha: real,
        cutoff2: real,
        energy: wp.array[wp.float64],
        slope: wp.array[vector],
        potential: wp.array[real],
    ) -> None:
        pair = wp.tid()
        i, j = wp.int32(receivers[pair]), wp.int32(senders[pair])
        apart = positions[j] - positions[i] + shifts[pair] * cells[wp.int32(batch[i])]
        r2 = wp.dot(apart, apart)
        if r2 < cutoff2:
            inverse = real(1.0) / wp.sqrt(r2)
            x = alpha * r2 * inverse
            gaussian = wp.exp(-x * x)
            value = erfc(x, gaussian) * inverse
            product = charges[i] * charges[j]
            along = (product * (value + alpha * real(edge) * gaussian) * inverse * inverse) * apart
            energy[i] += wp.float64(product * value)
            slope[i] += along
            slope[j] += -along
            potential[i] += charges[j] * value
            potential[j] += charges[i] * value

    return kernel
