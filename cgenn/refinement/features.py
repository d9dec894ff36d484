"""Functions that prior energies are linear in, and steps of the relative entropy along them.

The relative entropy of data and model is smallest where the averages of these functions are the same in both (Shell
2008); a Newton step (Chaimovich and Shell 2011) moves the coefficients towards that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cgenn.potential import bonded
from cgenn.potential.linkage import Linkage
from cgenn.potential.priors import AnglePrior, BondPrior, DihedralPrior, Priors, type_key
from cgenn.topology import BeadTopology

RIDGE = 0.02
"""Added to the variance of every feature, in units of it: keeps a step small where the simulation says little."""

Name = tuple[str, str, str]
"""A feature: kind of term, bead types, function."""


def newton_step(
    names: list[Name],
    terms: Float[np.ndarray, " features"],
    wanted: Float[np.ndarray, " features"],
    found: Float[np.ndarray, "frames features"],
) -> Float[np.ndarray, " features"]:
    """What to add to the coefficients, in kT per unit of each feature, so that `found` gets the averages `wanted`.

    covariance^-1 (found - wanted), with squares taken about the mean of each side: a well in the wrong place then
    moves and does not become softer first.
    """
    mean, basis = found.mean(axis=0), np.eye(len(names))
    squares = np.array([number for number, name in enumerate(names) if name[2] == "x2"], dtype=int)
    basis[squares - 1, squares] = -2 * mean[squares - 1] / terms[squares]
    difference = mean - wanted
    difference[squares] -= (mean[squares - 1] ** 2 - wanted[squares - 1] ** 2) / terms[squares]
    turned = found @ basis
    scale = turned.std(axis=0) + 1e-12
    covariance = np.cov((turned / scale).T, ddof=0).reshape(len(names), len(names)) + RIDGE * np.eye(len(names))
    return basis @ (np.linalg.solve(covariance, difference / scale) / scale)


def features(
    priors: Priors,
    topology: BeadTopology,
    positions: Float[np.ndarray, "frames beads 3"],
    orientations: Float[np.ndarray, "frames beads 4"] | None = None,
) -> tuple[list[Name], Float[np.ndarray, "frames features"], Float[np.ndarray, " features"]]:
    """Functions that the prior energy is linear in, summed over the terms of the same types, and how many those are.

    Bonds and angles: x - x0 and its square, x0 where the prior's well lies; with several wells, the share that each of
    the others has in the density there: linear for small steps. Dihedrals: cos(n phi) and sin(n phi).
    """
    linkage = Linkage.of(topology)
    points = linkage.points(positions, orientations)
    columns: dict[Name, np.ndarray] = {}
    terms: dict[Name, int] = {}

    def add(kind: str, key: str, function: str, values: np.ndarray) -> None:
        name = (kind, key, function)
        columns[name] = columns.get(name, 0) + values
        terms[name] = terms.get(name, 0) + 1

    kinds: list[tuple[str, np.ndarray, dict, Callable]] = [
        ("bonds", linkage.bonds, priors.bonds, bonded.distances),
        ("angles", linkage.angles, priors.angles, bonded.angles),
        ("dihedrals", linkage.dihedrals, priors.dihedrals, bonded.dihedrals),
    ]
    for kind, index, known, coordinate in kinds:
        for row in index.tolist():
            key = type_key(linkage.names[point] for point in row)
            if key not in known:
                continue
            values = coordinate(
                points[:, row].flatten(0, 1), torch.arange(points[:, row].shape[0] * len(row)).view(-1, len(row))
            )
            x = values.numpy()
            if kind == "dihedrals":
                for n in range(1, len(known[key].k) + 1):
                    add(kind, key, f"cos{n}", np.cos(n * x))
                    add(kind, key, f"sin{n}", np.sin(n * x))
            elif known[key].others:
                shares = _shares(known[key], values)
                for number in range(len(known[key].others)):
                    add(kind, key, f"well{number}", shares[:, number + 1])
            else:
                away = x - (known[key].length if kind == "bonds" else known[key].angle)
                add(kind, key, "x", away)
                add(kind, key, "x2", away**2)
    values = np.stack(list(columns.values()), axis=1) if columns else np.empty((len(positions), 0))
    return list(columns), values, np.array(list(terms.values()), dtype=float)


def _shares(prior: BondPrior | AnglePrior, values: torch.Tensor) -> Float[np.ndarray, "values wells"]:
    """Of each well, with its mirror image, in the density at the values: the derivative of the energy by the well's."""
    parameters = torch.tensor([[prior.kt, *prior.wells.ravel()]], dtype=values.dtype)
    shares = bonded.well_exponents(values, parameters.expand(len(values), -1)).softmax(1)
    return shares.unflatten(1, (-1, len(prior.others) + 1)).sum(1).numpy()


def moved_priors(priors: Priors, step: dict[Name, float]) -> Priors:
    """Priors with `step` added to the coefficient of every feature [kJ/mol per unit of the feature]."""
    bonds = {
        key: _moved_wells(prior, step, ("bonds", key))
        if prior.others
        else BondPrior.model_validate(_well(prior.length, prior.k, step, ("bonds", key), "length"))
        for key, prior in priors.bonds.items()
    }
    angles = {
        key: _moved_wells(prior, step, ("angles", key))
        if prior.others
        else AnglePrior.model_validate(_well(prior.angle, prior.k, step, ("angles", key), "angle", highest=np.pi))
        for key, prior in priors.angles.items()
    }
    dihedrals = {}
    for key, prior in priors.dihedrals.items():
        orders = range(1, len(prior.k) + 1)
        cosine = [
            k * np.cos(p) + step.get(("dihedrals", key, f"cos{n}"), 0.0)
            for n, k, p in zip(orders, prior.k, prior.phase, strict=True)
        ]
        sine = [
            k * np.sin(p) + step.get(("dihedrals", key, f"sin{n}"), 0.0)
            for n, k, p in zip(orders, prior.k, prior.phase, strict=True)
        ]
        dihedrals[key] = DihedralPrior(
            k=tuple(np.hypot(cosine, sine).tolist()), phase=tuple(np.arctan2(sine, cosine).tolist())
        )
    return priors.model_copy(update={"bonds": bonds, "angles": angles, "dihedrals": dihedrals})


def _moved_wells(prior: Any, step: dict[Name, float], name: tuple[str, str]) -> Any:
    """The prior with the energies of its wells but the first moved, by kt at most."""
    limit = (-prior.kt, prior.kt)
    others = [
        one.model_copy(update={"energy": one.energy + float(np.clip(step.get((*name, f"well{number}"), 0.0), *limit))})
        for number, one in enumerate(prior.others)
    ]
    return prior.model_copy(update={"others": tuple(others)})


def _well(
    centre: float, k: float, step: dict[Name, float], name: tuple[str, str], label: str, highest: float = np.inf
) -> dict[str, float]:
    """Harmonic well of k/2 (x - x0)^2 with the coefficients of x - x0 and its square moved.

    At most halved or doubled in strength, and at most a fifth off the centre.
    """
    stiffness = float(np.clip(k + 2 * step.get((*name, "x2"), 0.0), 0.5 * k, 2 * k))
    moved = centre - step.get((*name, "x"), 0.0) / stiffness if stiffness else centre
    return {label: float(np.clip(moved, 0.8 * centre, min(1.2 * centre, highest))), "k": stiffness}
