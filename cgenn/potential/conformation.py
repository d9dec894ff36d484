"""Conformations made up for a potential: something sensible to evaluate it on where there are no data."""

from __future__ import annotations

import numpy as np

from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, type_key
from cgenn.topology import BeadTopology

_SHORTEST_CHAIN = 6
_ATTEMPTS = 200
_JITTER = 0.005
"""Beads are moved by about this much, so that no bonded term is at rest [nm]."""


def random_conformation(potential: Potential, *, seed: int = 0) -> tuple[BeadTopology, np.ndarray]:
    """Molecules that hold every bead type of the potential, and positions, shape (beads, 3) [nm].

    Types that have a bond prior follow one another in chains with about the bond lengths and angles of the priors and
    random torsions; the others are single beads, two of each. Beads that are not bonded are kept apart. Where
    the types have charges or bodies, the beads have those.
    """
    random = np.random.default_rng(seed)
    chains = _chains(potential, random)
    positions: list[np.ndarray] = []
    types: list[str] = []
    bonds: list[tuple[int, int]] = []
    for chain in chains:
        start = len(types)
        for number, name in enumerate(chain):
            types.append(name)
            clearance = _clearance(potential, types)
            positions.append(_place(potential.priors, types[start:], positions, start, clearance, random))
            if number:
                bonds.append((len(types) - 2, len(types) - 1))
    bodies, drawn = potential.config.bodies, random.uniform(10.0, 100.0, len(types))
    weights = {name: sum(body.masses) or 50.0 for name, body in bodies.items()}
    masses = [weights.get(name, mass) for name, mass in zip(types, drawn.tolist(), strict=True)]
    charges = dict(zip(potential.config.types, potential.config.type_charges, strict=False))
    drawn = random.uniform(-1.0, 1.0, len(types))
    given = [charges.get(name, charge) for name, charge in zip(types, drawn.tolist(), strict=True)]
    topology = BeadTopology.build(types, masses, bonds=bonds, charges=given, bodies=bodies)
    return topology, np.array(positions) + _JITTER * random.normal(size=(len(types), 3))


def _chains(potential: Potential, random: np.random.Generator) -> list[list[str]]:
    partners: dict[str, set[str]] = {name: set() for name in potential.config.types}
    for key in potential.priors.bonds:
        first, second = key.split("|")
        if first in partners and second in partners:
            partners[first].add(second)
            partners[second].add(first)
    unseen = dict.fromkeys(potential.config.types)
    chains = []
    while unseen:
        chain = [min(unseen, key=lambda name: len(partners[name]))]  # ends of chains have the fewest partners
        unseen.pop(chain[0])
        while around := sorted(partners[chain[-1]]):
            fresh = [name for name in around if name in unseen]
            if not fresh and len(chain) >= _SHORTEST_CHAIN:
                break
            chain.append(str(random.choice(fresh or around)))
            unseen.pop(chain[-1], None)
        chains.extend([chain] if len(chain) > 1 else [chain, chain])
    return chains


def _clearance(potential: Potential, types: list[str]) -> np.ndarray:
    """Smallest distance that the last bead should keep from each bead before it, shape (beads,) [nm]."""
    default = 0.25 * potential.config.cutoff
    known = [potential.priors.repulsion.get(type_key((types[-1], name))) for name in types[:-1]]
    return np.array([0.95 * prior.sigma if prior else default for prior in known])


def _place(
    priors: Priors,
    chain: list[str],
    before: list[np.ndarray],
    start: int,
    clearance: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """The last bead of `chain`, whose first bead has the number `start`: the best of some attempts."""
    if not before:
        return np.zeros(3)
    placed = np.array(before)
    best, margin = placed[-1], -np.inf
    others = slice(0, len(placed) - min(3, len(placed) - start))
    for _ in range(_ATTEMPTS):
        candidate = _next(priors, chain, placed, random) if len(chain) > 1 else _anywhere(placed, clearance, random)
        gaps = np.linalg.norm(placed[others] - candidate, axis=1) - clearance[others]
        closest = gaps.min(initial=np.inf)
        if closest > margin:
            best, margin = candidate, closest
        if margin >= 0:
            break
    return best


def _anywhere(placed: np.ndarray, clearance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return placed[random.integers(len(placed))] + 1.5 * clearance.mean() * random.normal(size=3)


def _next(priors: Priors, chain: list[str], placed: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One bond further along the chain, at the angle of the prior and with a random torsion."""
    length = priors.bonds[type_key(chain[-2:])].length
    away = random.normal(size=3)
    if len(chain) == 2:
        return placed[-1] + length * away / np.linalg.norm(away)
    prior = priors.angles.get(type_key(chain[-3:]))
    angle = prior.angle if prior else 2.0
    back = placed[-2] - placed[-1]
    back /= np.linalg.norm(back)
    side = away - (away @ back) * back
    return placed[-1] + length * (np.cos(angle) * back + np.sin(angle) * side / np.linalg.norm(side))
