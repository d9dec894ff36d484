"""Checks with more than one system or copy: size, batches, the cutoff, periodic images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cgenn.potential.derivatives import energy_forces_torques
from cgenn.potential.potential import Potential
from cgenn.testing.case import Case, CheckResult, error, judged, worst
from cgenn.topology import BeadTopology


def check_extensivity(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """Two copies far apart have twice the energy and the same forces; any box is left out, and so are charges."""
    case = Case(potential, topology, positions, None, orientations, long_range=False)
    extent = (case.positions.max(0).values - case.positions.min(0).values).max()
    away = (2 * extent + 2 * case.potential.reach) * case.positions.new_tensor([1.0, 0.0, 0.0])
    energy, *each = case.evaluate(case.positions)
    found = case.evaluate(torch.cat([case.positions, case.positions + away]), topology=topology.repeat(2))
    return judged(
        "extensivity",
        worst(found, (2 * energy, *(torch.cat([values, values], dim=2) for values in each))),
        tolerance,
        "two copies far apart" + _without_charges(potential),
    )


def check_batch(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """A system in a batch, each with its own box, has the energy and forces that it has alone."""
    case = Case(potential, topology, positions, box, orientations)
    many = case.positions + 0.02 * case.length * case.normal(4, len(topology), 3)
    boxes = None if case.box is None else case.box * torch.linspace(1.0, 1.1, 4).to(case.box)[:, None, None]
    alone = [case.evaluate(many[i], None if boxes is None else boxes[i]) for i in range(4)]
    return judged(
        "batch independence",
        worst(case.evaluate(many, boxes), tuple(torch.cat(parts, dim=1) for parts in zip(*alone, strict=True))),
        tolerance,
        "4 systems together and alone",
    )


def check_cutoff(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """Network energy and forces do not jump where the first bead of a second copy comes within the cutoff."""
    case = Case(potential, topology, positions, None, orientations, long_range=False)
    twice = topology.repeat(2)
    along = case.normal(3)
    along /= along.norm()
    apart = (case.positions[None] - case.positions[:, None]).reshape(-1, 3)
    forward = apart @ along
    room = case.length**2 - (apart - forward[:, None] * along).square().sum(1)
    touching = (torch.sqrt(room[room > 0]) - forward[room > 0]).max()

    def at(shift: Tensor) -> tuple[Tensor, ...]:
        both = torch.cat([case.positions, case.positions + shift * along])
        energy, *slopes = energy_forces_torques(case.potential.network_energy, case.graph(both, topology=twice))
        return energy[None], *(values[None] for values in slopes)

    inside, outside = at(touching - 1e-5 * case.length), at(touching + 1e-5 * case.length)
    return judged(
        "smooth at the cutoff",
        worst(inside, outside),
        tolerance,
        "a copy just outside and just inside" + _without_charges(potential),
    )


def check_images(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """Doubling a periodic box along each of its vectors doubles the energies of network and charges.

    Without a box it is made just a little larger than the system, tilted, so that images are seen. A slab is doubled
    along x and y only, with vacuum for that. No pairs are excluded, from the Coulomb sum and from the network: in a
    small box the nearest image of a bonded bead may be another one than that of the bond, and images are told apart in
    the larger one.
    """
    case = Case(potential, topology, positions, box, orientations)
    case.choose(excluded_bonds=0)
    case.potential.config = case.potential.config.model_copy(update={"excluded_bonds": 0})
    extent = case.positions.max(0).values - case.positions.min(0).values
    if case.box is None:
        edges = extent + 0.35 * case.length
        case.box = torch.diag(edges)
        case.box[1, 0], case.box[2, 0], case.box[2, 1] = 0.3 * edges[0], -0.2 * edges[0], 0.25 * edges[1]
    elif case.slab:
        case.box = case.box.clone()
        case.box[2, 2] = torch.maximum(case.box[2, 2], extent[2] + 2.1 * case.box[:2].norm(dim=1).max())
    expected = 2 * case.learned(case.positions)
    largest = 0.0
    for axis in range(2 if case.slab else 3):
        wide = case.box.clone()
        wide[axis] *= 2
        both = torch.cat([case.positions, case.positions + case.box[axis]])
        largest = max(largest, error(case.learned(both, wide, topology.repeat(2)), expected))
    detail = "the box doubled along each vector" + (" in the plane of the slab" if case.slab else "")
    return judged("periodic images", largest, tolerance, detail)


def _without_charges(potential: Potential) -> str:
    return "; without charges, which reach far" if potential.config.electrostatics else ""
