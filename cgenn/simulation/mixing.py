"""A force field's System in which the learned force takes over some of the particles.

What the force field says of these particles among themselves goes; what it says of them and the others stays. Charges
are counted once:

- A model without long-range electrostatics: pairs of the chosen particles are excluded in the force field's
  NonbondedForce. Under PME this removes the nearest images; farther images still act with the force field's charges.
- A model with it: the energy that the force field's PME gives to the chosen particles alone is subtracted, so that
  nothing of it remains, and the model's own is added.

Chosen particles and the others always interact by the charges of the force field.
"""

from __future__ import annotations

from collections.abc import Sequence

import openmm

from cgenn.simulation.placement import Placement
from cgenn.simulation.splitting import charges_among, terms_among, without_terms_among

LAMBDA_INTERPOLATE = "lambda_interpolate"
"""Global parameter between the force field, 0, and the potential, 1; the name is that of openmmml."""


def mixed_system(
    system: openmm.System,
    forces: Sequence[openmm.Force],
    placement: Placement,
    *,
    long_range: bool = False,
    keep_constraints: bool = False,
    interpolate: bool = False,
) -> openmm.System:
    """A copy of a System in which `forces`, those of a potential, act among the particles of `placement`.

    Args:
        system: made with a force field.
        forces: of the potential; they act on the particles of `placement` only.
        placement: which particles the beads are.
        long_range: the potential has electrostatics of its own.
        keep_constraints: keep constraints between beads.
        interpolate: the energy is lambda E(mixed) + (1 - lambda) E(force field), with the global parameter
            `lambda_interpolate`. Everything that depends on it is one force, named "interpolation".

    Raises:
        ValueError: if a force of the System cannot be split, the potential has long-range electrostatics and the force
            field cuts its own off, or interpolation is asked for with openmm-torch.
    """
    result = without_terms_among(system, placement, keep_constraints=keep_constraints)
    charges = charges_among(system, placement) if long_range else []
    if interpolate:
        _check_copyable(forces)
        added, subtracted = terms_among(system, placement)
        scaled = _weighted({LAMBDA_INTERPOLATE: (forces, charges), f"(1-{LAMBDA_INTERPOLATE})": (added, subtracted)})
        scaled.addGlobalParameter(LAMBDA_INTERPOLATE, 1.0)
        scaled.setName("interpolation")
        scaled.setForceGroup(forces[0].getForceGroup())
        result.addForce(scaled)
        return result
    for force in forces:
        result.addForce(force)
    for force in charges:
        removed = _weighted({"1": ([], [force])})
        removed.setName("charges of the force field among the beads")
        removed.setForceGroup(force.getForceGroup())
        result.addForce(removed)
    return result


def _check_copyable(forces: Sequence[openmm.Force]) -> None:
    if any(type(force).__name__ == "TorchForce" for force in forces):
        raise ValueError(
            "interpolation copies the learned force, which openmm-torch 1.5 cannot do: use backend='python'"
        )


def _weighted(parts: dict[str, tuple[Sequence[openmm.Force], Sequence[openmm.Force]]]) -> openmm.CustomCVForce:
    """sum over parts of weight * (sum of the first forces - sum of the second forces)."""
    result = openmm.CustomCVForce("")
    sums = []
    for number, (weight, signed) in enumerate(parts.items()):
        terms = ["0"]
        for sign, forces in zip("+-", signed, strict=True):
            for place, force in enumerate(forces):
                name = f"part{number}{'a' if sign == '+' else 'b'}{place}"
                result.addCollectiveVariable(name, force)
                terms.append(f"{sign}{name}")
        sums.append(f"{weight}*({''.join(terms)})")
    result.setEnergyFunction("+".join(sums))
    return result
