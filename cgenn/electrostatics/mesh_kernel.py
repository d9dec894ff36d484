"""Charges onto a mesh and its field back to the charges, in one pass over the beads each (Warp, CPU and CUDA).

Imported only where it is used: Warp takes seconds. nvalchemiops has the same, but evaluates its splines in a way that
loses 4e-5 (order 5) to 3e-4 (order 6) of the forces in single precision; these lose 1e-6.
"""

# mypy: disable-error-code="valid-type, index, attr-defined"

from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from cgenn.electrostatics.launch import launch, precision

OPTIONS = {"max_unroll": 0}
"""A second of compilation instead of ten, and as fast."""


def spread(fractional: Tensor, charges: Tensor, batch: Tensor, shape: tuple[int, int, int, int], order: int) -> Tensor:
    """The mesh of each system, as `splines.spread_moments` for charges, without derivatives."""
    mesh = torch.zeros(shape, dtype=fractional.dtype, device=fractional.device)
    spreading, _ = _kernels(precision(fractional), order)
    launch(spreading, len(fractional), [fractional, charges, batch], [mesh])
    return mesh


def gather(fractional: Tensor, charges: Tensor, batch: Tensor, field: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """The field where the charges are, shape (beads,), and charge times its gradient, shape (beads, 3)."""
    potential, slope = torch.zeros_like(charges), torch.zeros_like(fractional)
    _, gathering = _kernels(precision(fractional), order)
    launch(gathering, len(fractional), [fractional, charges, batch, field], [potential, slope])
    return potential, slope


@cache
def _kernels(real: Any, order: int) -> tuple[Any, Any]:
    """Spreading and gathering, for a precision and an order of the splines."""
    vector, weights = wp.types.vector(3, real), wp.types.vector(order, real)
    whole = wp.types.vector(order + 1, real)(*range(order + 1))
    """0, 1, ... in the precision of the rest: Warp mixes up constants such as 1 and 1.0."""

    @wp.func
    def raised(offset: real, values: weights, p: int) -> weights:
        """Splines of order p from those of order p - 1, as in `splines.splines`."""
        above = weights()
        for j in range(order):
            if j < p:
                value = (offset + whole[j]) * values[j]
                if j > 0:
                    value += (whole[p] - whole[j] - offset) * values[j - 1]
                above[j] = value / whole[p - 1]
        return above

    @wp.func
    def lower(offset: real) -> weights:
        """Splines of one order less."""
        values = weights()
        values[0] = offset
        values[1] = whole[1] - offset
        for p in range(3, order):
            values = raised(offset, values, p)
        return values

    @wp.func
    def splines(offset: real) -> weights:
        return raised(offset, lower(offset), order)

    @wp.func
    def slopes(values: weights) -> weights:
        slope = weights()
        for j in range(order):
            slope[j] = values[j]
            if j > 0:
                slope[j] -= values[j - 1]
        return slope

    @wp.func
    def place(below: int, j: int, points: int) -> int:
        return ((below - j) % points + points) % points

    @wp.kernel(enable_backward=False, module="unique", module_options=OPTIONS)
    def spreading(
        fractional: wp.array[vector], charges: wp.array[real], batch: wp.array[wp.int64], mesh: wp.array4d[real]
    ) -> None:
        bead = wp.tid()
        system = wp.int32(batch[bead])
        x = fractional[bead][0] * real(mesh.shape[1])
        y = fractional[bead][1] * real(mesh.shape[2])
        z = fractional[bead][2] * real(mesh.shape[3])
        below = wp.vec3i(wp.int32(wp.floor(x)), wp.int32(wp.floor(y)), wp.int32(wp.floor(z)))
        x -= wp.floor(x)
        y -= wp.floor(y)
        z -= wp.floor(z)
        along_x, along_y, along_z = splines(x), splines(y), splines(z)
        for i in range(order):
            row = place(below[0], i, mesh.shape[1])
            for j in range(order):
                column = place(below[1], j, mesh.shape[2])
                plane = charges[bead] * along_x[i] * along_y[j]
                for k in range(order):
                    mesh[system, row, column, place(below[2], k, mesh.shape[3])] += plane * along_z[k]

    @wp.kernel(enable_backward=False, module="unique", module_options=OPTIONS)
    def gathering(
        fractional: wp.array[vector],
        charges: wp.array[real],
        batch: wp.array[wp.int64],
        field: wp.array4d[real],
        potential: wp.array[real],
        slope: wp.array[vector],
    ) -> None:
        bead = wp.tid()
        system = wp.int32(batch[bead])
        x = fractional[bead][0] * real(field.shape[1])
        y = fractional[bead][1] * real(field.shape[2])
        z = fractional[bead][2] * real(field.shape[3])
        below = wp.vec3i(wp.int32(wp.floor(x)), wp.int32(wp.floor(y)), wp.int32(wp.floor(z)))
        x -= wp.floor(x)
        y -= wp.floor(y)
        z -= wp.floor(z)
        lower_x, lower_y, lower_z = lower(x), lower(y), lower(z)
        along_x, along_y, along_z = raised(x, lower_x, order), raised(y, lower_y, order), raised(z, lower_z, order)
        slope_x, slope_y, slope_z = slopes(lower_x), slopes(lower_y), slopes(lower_z)
        value = whole[0]
        gradient = vector()
        for i in range(order):
            row = place(below[0], i, field.shape[1])
            for j in range(order):
                column = place(below[1], j, field.shape[2])
                line = real(0.0)
                change = real(0.0)
                for k in range(order):
                    here = field[system, row, column, place(below[2], k, field.shape[3])]
                    line += here * along_z[k]
                    change += here * slope_z[k]
                value += along_x[i] * along_y[j] * line
                gradient[0] += slope_x[i] * along_y[j] * line
                gradient[1] += along_x[i] * slope_y[j] * line
                gradient[2] += along_x[i] * along_y[j] * change
        potential[bead] = value
        gradient[0] *= real(field.shape[1])
        gradient[1] *= real(field.shape[2])
        gradient[2] *= real(field.shape[3])
        slope[bead] = charges[bead] * gradient

    return spreading, gathering
