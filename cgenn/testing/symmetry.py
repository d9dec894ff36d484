"""Checks of symmetry: a system turned, moved, mirrored, or with its beads in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cgenn.potential.electrostatics import DIPOLE_UNIT, group_index, group_totals
from cgenn.potential.potential import Moments, Potential
from cgenn.symmetry import PointGroup, point_group
from cgenn.testing.case import Case, CheckResult, error, judged, worst
from cgenn.topology import BeadTopology


def check_rotation(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """A rotated system has the same energy, and forces and torques turned with it."""
    case = Case(potential, topology, positions, box, orientations)
    turn = case.turn()
    energy, forces, torques = case.evaluate(case.positions)
    found = case.evaluate(case.positions @ turn, case.turned_box(turn), orientations=case.turned_frames(turn))
    return judged(
        "rotation",
        worst(found, (energy, forces @ turn, torques @ turn)),
        tolerance,
        "energy, and forces turned with the system" + ("; about z: a slab" if case.slab else ""),
    )


def check_translation(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """A system moved as a whole has the same energy and forces."""
    case = Case(potential, topology, positions, box, orientations)
    found = case.evaluate(case.positions + 3 * case.length * case.normal(3))
    return judged(
        "translation",
        worst(found, case.evaluate(case.positions)),
        tolerance,
        "energy and forces of the system moved as a whole",
    )


def check_permutation(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """The order of the beads does not matter."""
    case = Case(potential, topology, positions, box, orientations)
    order = case.random.permutation(len(topology))
    place = np.argsort(order)
    mixed = BeadTopology.build(
        [topology.types[bead] for bead in order],
        topology.masses[order],
        bonds=place[topology.bonds],
        charges=topology.charges[order],
        residue_index=topology.residue_index[order],
        bodies=topology.bodies,
        joints=np.concatenate([place[topology.joints[:, :2]], topology.joints[:, 2:]], axis=1),
    )
    energy, forces, torques = case.evaluate(case.positions)
    frames = None if case.orientations is None else case.orientations[order]
    found = case.evaluate(case.positions[order], topology=mixed, orientations=frames)
    return judged(
        "permutation",
        worst(found, (energy, forces[:, :, order], torques[:, :, order])),
        tolerance,
        "energy and forces with the beads in another order",
    )


def check_reflection(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """Mirror images have the same learned energy where the configuration says so; otherwise tells how they differ.

    Torsion priors have a handedness of their own and are left out.
    """
    case = Case(potential, topology, positions, box, orientations)
    mirror = _mirror(case)
    frames, chiral = _mirrored_frames(case, mirror)
    if chiral:
        detail = f"a bead of type {chiral!r} is not its own mirror image"
        return CheckResult("reflection", 0.0, None, True, detail)
    energy = case.learned(case.positions)
    image = case.learned(case.positions @ mirror, case.turned_box(mirror), orientations=frames)
    difference = float((image - energy).abs().max())
    if potential.config.reflection_invariant:
        return judged("reflection", error(image, energy), tolerance, "declared: the same energy")
    seen = difference > tolerance * max(1.0, float(energy.abs().max()))
    detail = f"differ by {difference:.3g} kJ/mol" if seen else "have the same energy"
    return CheckResult("reflection", difference, None, True, f"declared: free; mirror images {detail}")


def check_bodies(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """Energy, forces and torques stay when beads are turned or mirrored by elements of the point group of their body.

    For bodies with a full axis also by any angle about it. Axial vectors may only be turned over all together, which is
    what a reversal of time does to them.
    """
    case = Case(potential, topology, positions, box, orientations)
    bodies = case.potential.config.bodies
    if case.orientations is None or not bodies:
        return CheckResult("point groups", 0.0, None, True, "no bead has an orientation")
    groups = {name: point_group(body.symmetry) for name, body in bodies.items()}
    expected = case.evaluate(case.positions)
    largest = 0.0
    for _ in range(8):
        reversal = bool(case.random.integers(2))
        changes = torch.eye(3).to(case.positions).repeat(len(topology), 1, 1)
        for bead, name in enumerate(topology.types):
            if name in groups:
                change = _random_element(case, groups[name])
                if groups[name].axial and reversal:
                    change = change @ np.diag([1.0, -1.0, -1.0])
                changes[bead] = torch.from_numpy(change).to(changes)
        found = case.evaluate(case.positions, orientations=case.orientations @ changes)
        largest = max(largest, worst(found, expected))
    names = ", ".join(sorted({body.symmetry for body in bodies.values()}))
    return judged("point groups", largest, tolerance, f"beads replaced by equivalent ones, {names}")


def _random_element(case: Case, group: PointGroup) -> np.ndarray:
    """Of a point group; of an infinite one not only of the finite subgroup that stands for it."""
    elements = group.elements
    if group.axial:  # in a left-handed frame an axial vector would have to be turned round
        elements = elements[np.linalg.det(elements) > 0]
    element = elements[case.random.integers(len(elements))]
    turn = Rotation.from_euler("z", case.random.uniform(0, 2 * np.pi) if group.continuous else 0.0)
    return element @ turn.as_matrix()


def check_moments(
    potential: Potential,
    topology: BeadTopology,
    positions: Any,
    box: Any = None,
    orientations: Any = None,
    *,
    tolerance: float = 1e-10,
) -> CheckResult:
    """Charges stay and dipoles turn with the system, neither is changed by translation; groups have their totals.

    Mirror images have mirrored dipoles where the configuration says so. In e and in units of 0.01 e nm.
    """
    case = Case(potential, topology, positions, box, orientations)
    if case.electrostatics is None:
        return CheckResult("charges and dipoles", 0.0, None, True, "there are none")
    expected = case.moments(case.positions)
    turn, mirror = case.turn(), _mirror(case)
    maps = [(turn, case.turned_frames(turn))]
    image, chiral = _mirrored_frames(case, mirror)
    if potential.config.reflection_invariant and not chiral:
        maps.append((turn @ mirror, image if image is None else (mirror @ turn @ mirror).T @ image))
    errors = [
        _off(case.moments(case.positions @ each, case.turned_box(each), frames), expected, each)
        for each, frames in maps
    ]
    moved = case.moments(case.positions + 3 * case.length * case.normal(3))
    errors.append(_off(moved, expected, torch.eye(3).to(turn)))
    detail = "turned, mirrored and moved" if len(maps) == 2 else "turned and moved"
    if case.electrostatics.charges == "predicted":
        index = group_index(topology, case.electrostatics.groups)
        charges = expected.charges.cpu().numpy()
        errors.append(float(np.abs(group_totals(charges - topology.charges, index)).max()))
        detail += f"; total charge of each {case.electrostatics.groups}"
    return judged("charges and dipoles", max(errors), tolerance, detail)


def _off(found: Moments, expected: Moments, turn: Tensor) -> float:
    charges = float((found.charges - expected.charges).abs().max())
    if found.dipoles is None or expected.dipoles is None:
        return charges
    scale = max(DIPOLE_UNIT, float(expected.dipoles.abs().max()))
    return max(charges, float((found.dipoles - expected.dipoles @ turn).abs().max()) / scale)


def _mirrored_frames(case: Case, mirror: Tensor) -> tuple[Tensor | None, str | None]:
    """Orientations in the mirror image of a system, or a type whose body has none there: a chiral one.

    A mirrored frame is left-handed; multiplied by an improper element of the point group it is a frame of the body.
    """
    if case.orientations is None:
        return None, None
    back = torch.eye(3).to(mirror).repeat(len(case.topology), 1, 1)
    for bead, name in enumerate(case.topology.types):
        body = case.potential.config.bodies.get(name)
        if body is not None:
            elements = point_group(body.symmetry).elements
            improper = elements[np.linalg.det(elements) < 0]
            if not len(improper):
                return None, name
            back[bead] = torch.from_numpy(improper[0]).to(back)
    return mirror.T @ case.orientations @ back, None


def _mirror(case: Case) -> Tensor:
    return torch.diag(case.positions.new_tensor([-1.0, 1.0, 1.0]))
