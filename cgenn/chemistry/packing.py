"""Chains in a periodic box: put apart at random, then pressed together during dynamics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openmm
import openmm.app
from jaxtyping import Float
from openmm import unit
from scipy.spatial import cKDTree

APART = 0.2
"""Least distance of atoms of different molecules at first [nm]."""
_TRIES = 200
_SHRINK, _STEPS, _TIMESTEP = 0.98, 100, 0.002
"""Factor of the edge in each step of the compression, time steps between them, and their length [ps]."""
_CUTOFF = 0.6
"""Of nonbonded forces, beyond which there is a reaction field [nm]: only to keep atoms apart."""


def scatter(
    molecules: Sequence[Float[np.ndarray, "atoms 3"]], edge: float, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "all 3"], float]:
    """Put molecules at random places and turn them at random, no two nearer than `APART`; whole, not wrapped [nm].

    Args:
        molecules: positions of each [nm].
        edge: of the cubic box [nm]; it grows by a twentieth whenever a molecule finds no place.
        generator: of random numbers.

    Returns:
        Positions of all, and the edge that they have found place in [nm].
    """
    placed = np.zeros((0, 3))
    for molecule in molecules:
        tries = 0
        while True:
            turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
            found = (molecule - molecule.mean(0)) @ (turn * np.linalg.det(turn)).T + edge * generator.random(3)
            if _fits(found, placed, edge):
                break
            tries += 1
            if tries == _TRIES:
                return scatter(molecules, 1.05 * edge, generator)
        placed = np.concatenate([placed, found])
    return placed, edge


def _fits(molecule: np.ndarray, placed: np.ndarray, edge: float) -> bool:
    """Whether a molecule is far enough from the others and from its own images."""
    own = cKDTree(molecule % edge, boxsize=edge)
    if own.count_neighbors(own, APART) != (open_space := cKDTree(molecule)).count_neighbors(open_space, APART):
        return False
    return not len(placed) or cKDTree(placed % edge, boxsize=edge).query(molecule % edge)[0].min() > APART


def compress(
    topology: openmm.app.Topology,
    field: openmm.app.ForceField,
    positions: Float[np.ndarray, "atoms 3"],
    edges: tuple[float, float],
    *,
    temperature: float,
    seed: int,
) -> Float[np.ndarray, "atoms 3"]:
    """Shrink a cubic box, moving each molecule's centre with it, in steps between which there is dynamics.

    Args:
        topology: each molecule a chain.
        field: with parameters for it.
        positions: whole molecules [nm].
        edges: of the box, before and after [nm].
        temperature: [K].
        seed: of the dynamics.

    Returns:
        Positions of whole molecules [nm].

    Raises:
        ValueError: if the force field has no parameters for the topology.
        FloatingPointError: if the dynamics diverges.
    """
    edge, last = edges
    topology.setPeriodicBoxVectors(edge * np.eye(3) * unit.nanometer)
    context = _context(topology, field, temperature, seed)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    context.setVelocitiesToTemperature(temperature, seed + 1)
    molecule = np.array([atom.residue.chain.index for atom in topology.atoms()])
    masses = np.array([atom.element.mass._value for atom in topology.atoms()])
    while True:
        try:
            context.getIntegrator().step(_STEPS)
        except openmm.OpenMMException as error:
            raise FloatingPointError(
                f"the compression diverged in a box of {edge:.2f} nm: expected another `seed`, or a lower `density` "
                f"({error})"
            ) from None
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value
        if edge <= last * (1 + 1e-9):
            return positions
        factor = max(_SHRINK, last / edge)
        weights = np.bincount(molecule, masses)[:, None]
        centres = np.stack([np.bincount(molecule, masses * column) for column in positions.T], 1) / weights
        edge *= factor
        context.setPeriodicBoxVectors(*(edge * np.eye(3)))
        context.setPositions(positions + (factor - 1) * centres[molecule])


def _context(
    topology: openmm.app.Topology, field: openmm.app.ForceField, temperature: float, seed: int
) -> openmm.Context:
    system = field.createSystem(
        topology,
        nonbondedMethod=openmm.app.CutoffPeriodic,
        nonbondedCutoff=_CUTOFF,
        constraints=openmm.app.HBonds,
        hydrogenMass=3.0,
    )
    integrator = openmm.LangevinMiddleIntegrator(temperature, 10.0, _TIMESTEP)
    integrator.setRandomNumberSeed(seed + 1)
    return openmm.Context(system, integrator)
