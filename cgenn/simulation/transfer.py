"""What a simulation asks of a potential that was not in its training data."""

from __future__ import annotations

from cgenn.potential.linkage import Linkage
from cgenn.potential.potential import Potential
from cgenn.potential.priors import type_key
from cgenn.topology import BeadTopology

_SAME_TEMPERATURE = 0.01
"""Relative difference of temperatures that does not matter."""


def beyond_training(
    potential: Potential, topology: BeadTopology, temperature: float, *, periodic: bool = False
) -> list[str]:
    """Sentences for a warning: another temperature [K], bonded beads of types that were never bonded like that, or
    pair splines or a ramp where there is no box.

    A potential of beads is a free energy and holds at the temperature of its training data. Priors go by the types of
    beads, so that chains of other lengths have them too, as long as the shorter ones had all their neighbourhoods.
    """
    trained, found = potential.config.temperature, []
    if (known := potential.config.temperatures) is not None:
        if not known[0] * (1 - _SAME_TEMPERATURE) < temperature < known[1] * (1 + _SAME_TEMPERATURE):
            found.append(
                f"the model was trained from {known[0]:g} to {known[1]:g} K and is simulated at {temperature:g} K: how "
                "the free energy of beads changes with temperature out there was not in the data"
            )
    elif abs(temperature - trained) > _SAME_TEMPERATURE * trained:
        found.append(
            f"the model was trained at {trained:g} K and is simulated at {temperature:g} K: a potential of beads is a "
            "free energy, and how it changes with temperature was not in the data"
        )
    corrections = {"a ramp": potential.priors.ramp, "pair splines": potential.priors.pairs}
    if (matched := [name for name, prior in corrections.items() if prior is not None]) and not periodic:
        found.append(
            f"the model has {' and '.join(matched)}, which gives beads in a box the pressure or the structure of the "
            "atoms; in open space it acts like any other term, but nothing asked for it there"
        )
    linkage = Linkage.of(topology.with_bodies(potential.config.bodies))
    for kind in ("bonds", "angles", "dihedrals"):
        there = getattr(potential.priors, kind)
        keys = {type_key(linkage.names[point] for point in row) for row in getattr(linkage, kind).tolist()}
        if there and (new := sorted(keys - there.keys())):
            named, straight = ", ".join(new[:3]) + (", ..." if len(new) > 3 else ""), ""
            if kind == "dihedrals":
                straight = ", or were nearly straight there, so that they are not defined"
            found.append(f"no {kind} of {named} were in the training data{straight}: no prior acts there")
    return found
