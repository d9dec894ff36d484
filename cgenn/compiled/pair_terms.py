"""Repulsion, splines and ramp between beads, all in one pass over a neighbour list; potential/repulsion.py has them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cgenn.compiled.launch import Launch, kernel, load

_TERMS = """\
def pair_terms(
    begin: wp.int32,
    rows: wp.array(dtype=wp.int32),
    senders: wp.array(dtype=wp.int64),
    offsets: wp.array(dtype=Vector),
    positions: wp.array(dtype=Vector),
    types: wp.array(dtype=wp.int32),
    kinds: wp.int32,
    widest: Real,
    sigmas: wp.array(dtype=Real),
    epsilons: wp.array(dtype=Real),
    splines: wp.array(dtype=Real),
    intervals: wp.int32,
    reach: Real,
    height: Real,
    ramp: Real,
    energies: wp.array(dtype=Real),
    forces: wp.array(dtype=Vector),
) -> None:
    row, single = wp.tid()
    bead = begin + row
    here = positions[bead]
    energy = Real(0.0)
    force = Vector(Real(0.0), Real(0.0), Real(0.0))
    for edge in range(rows[bead], rows[bead + 1]):
        other = wp.int32(senders[edge])
        along = positions[other] - here + offsets[edge]
        square = wp.dot(along, along)
        if square < widest * widest:
            r = wp.sqrt(square)
            kind = types[bead] * kinds + types[other]
            slope = Real(0.0)
            inside = sigmas[kind] / r
            sixth = inside * inside * inside
            sixth = sixth * sixth
            if sixth > Real(0.5):
                energy += epsilons[kind] * (Real(4.0) * sixth * (sixth - Real(1.0)) + Real(1.0))
                slope -= Real(24.0) * epsilons[kind] * sixth * (Real(2.0) * sixth - Real(1.0)) / r
            if r < reach:
                place = r * Real(intervals) / reach
                first = wp.min(wp.int32(place), intervals - 1)
                t = place - Real(first)
                u = Real(1.0) - t
                at = kind * (intervals + 3) + first
                a = splines[at]
                b = splines[at + 1]
                c = splines[at + 2]
                d = splines[at + 3]
                middle = b * (t * t * (Real(3.0) * t - Real(6.0)) + Real(4.0))
                middle += c * (u * u * (Real(3.0) * u - Real(6.0)) + Real(4.0))
                energy += (a * u * u * u + middle + d * t * t * t) / Real(6.0)
                turned = b * t * (Real(3.0) * t - Real(4.0)) - c * u * (Real(3.0) * u - Real(4.0))
                slope += (turned - a * u * u + d * t * t) * Real(intervals) / (Real(2.0) * reach)
            if r < ramp:
                energy += height * (Real(1.0) - r / ramp)
                slope -= height / ramp
            force += (slope / r) * along
    energies[bead] = Real(0.5) * energy
    forces[bead] = force
"""
"""Each pair is in the rows of both beads. 2^(1/6) sigma is where (sigma / r)^6 is one half."""
_LANES = 8
"""Not used by this kernel."""


class PairTerms:
    """The sum of the three terms, in double precision.

    Args:
        types: of each bead.
        sigma, epsilon: of the repulsion, shape (types, types) [nm, kJ/mol].
        splines: coefficients, see `Priors.pair_table`, shape (types, types, intervals + 3); None for no splines.
        reach: where splines end [nm].
        height, ramp: of the ramp, and where it ends [kJ/mol, nm].
        widest: where everything ends [nm].

    Raises:
        RuntimeError: if the kernel cannot be compiled.
    """

    def __init__(
        self,
        types: Int[Tensor, " beads"],
        sigma: Float[Tensor, "types types"],
        epsilon: Float[Tensor, "types types"],
        splines: Float[Tensor, "types types coefficients"] | None,
        reach: float,
        height: float,
        ramp: float,
        widest: float,
    ) -> None:
        beads, device = len(types), types.device
        table = sigma.new_zeros(1) if splines is None else splines.flatten()
        intervals, reach = (1, 0.0) if splines is None else (splines.shape[-1] - 3, reach)
        self.energies, self.forces = sigma.new_zeros(beads), sigma.new_zeros(beads, 3)
        source = kernel(_TERMS, torch.float64, _LANES)
        load([source], device)
        rows, senders = torch.zeros(beads + 1).int().to(device), torch.zeros(1).long().to(device)
        constants: list[Tensor | float] = [types.int(), len(sigma), widest]
        constants += [each.flatten().contiguous() for each in (sigma, epsilon, table)]
        constants += [intervals, reach, height, ramp, self.energies, self.forces]
        self.launch = Launch(source, beads, 1, [rows, senders, self.forces[:1], self.forces, *constants], device)

    def __call__(
        self,
        positions: Float[Tensor, "beads 3"],
        rows: Int[Tensor, " rows"],
        senders: Int[Tensor, " edges"],
        offsets: Float[Tensor, "edges 3"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "beads 3"]]:
        """Energy [kJ/mol] and forces [kJ/mol/nm], which the next call overwrites.

        Args:
            positions: [nm].
            rows: where the neighbours of each bead begin, and the end, as 32-bit numbers.
            senders: the neighbours, each pair in the rows of both.
            offsets: what is added to their positions [nm].
        """
        self.launch.give({0: rows, 1: senders, 2: offsets, 3: positions})
        self.launch()
        return self.energies.sum(), self.forces
