"""Reference charges of the data: their means by type, and whether they fit what the charges of a model add up to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cgenn.data.dataset import BeadDataset
from cgenn.potential.electrostatics import ElectrostaticsConfig, group_index, group_totals
from cgenn.training.config import TrainingConfig

TOLERANCE = 1e-3
"""How far the charges of a group may be from their total [e]."""

UNLIKE = 0.05
"""How far the mean charge of a bead may be from that of its type, before it is told [e]."""

SAMPLED_FRAMES = 100

CHUNK_FRAMES = 500

log = logging.getLogger(__name__)


def type_charges(
    datasets: Sequence[BeadDataset], types: Sequence[str], config: ElectrostaticsConfig
) -> tuple[float, ...]:
    """Mean reference charge of each type [e], over its beads in all frames; what constant charges lose is logged.

    Raises:
        ValueError: if a dataset has no charges at all, or those of a group of beads do not add up to the same in its
            topology and in its frames.
    """
    references = [_charges(data) for data in datasets]
    for data in datasets:
        _check_totals(data, config)
    means = _type_means(datasets, references, types)
    if config.charges == "types":
        for data, charges in zip(datasets, references, strict=True):
            given = _given(data, types, means)
            _tell_unlike_beads(data, charges.mean(axis=0), given)
            _tell_totals(data, given, config)
    return tuple(means.tolist())


def check_dipole_weights(datasets: Sequence[BeadDataset], config: TrainingConfig) -> None:
    """Errors of dipoles have a meaning only where the charges of each group of beads add up to those of the data.

    Raises:
        ValueError: if dipoles have a weight that would depend on the periodic images, or the origin, of the beads.
    """
    chosen, weights = config.network.electrostatics, config.weights
    asked = [name for name in ("molecular_dipoles", "total_dipole") if getattr(weights, name)]
    if chosen is None or not asked:
        return
    problem = f"`weights.{asked[0]}` is {getattr(weights, asked[0])}, but "
    boxed = next((data.path for data in datasets if data.periodic), None)
    if chosen.groups == "system" and boxed is not None:
        raise ValueError(
            f'{problem}{boxed} is periodic and `electrostatics.groups` is "system": with charges that add up to the '
            "same in the whole system only, a dipole depends on the images of the beads; choose smaller `groups`"
        )
    if chosen.charges == "predicted":
        return
    types = sorted({name for data in datasets for name in data.topology.types})
    references = [_charges(data) for data in datasets]
    means = _type_means(datasets, references, types)
    for data, charges in zip(datasets, references, strict=True):
        away = np.abs(group_totals(charges - _given(data, types, means), group_index(data.topology, chosen.groups)))
        if away.max() > TOLERANCE:
            raise ValueError(
                f"{problem}in {data.path} the constant charges of {chosen.groups} {int(away.max(axis=0).argmax())} "
                f"add up to {away.max():.4f} e more or less than the reference charges, so that its dipole depends on "
                'the origin; give its beads types of their own, or take `electrostatics.charges` = "predicted"'
            )


def _charges(data: BeadDataset) -> Float[np.ndarray, "frames beads"]:
    """Charges of some frames [e]; a single one where they never change."""
    if data.has_charges:
        frames = np.unique(np.linspace(0, len(data) - 1, SAMPLED_FRAMES).round().astype(int))
        charges = data.read(frames).charges
        assert charges is not None
        return charges
    if not np.any(data.topology.charges) and not data.has_dipoles:
        raise ValueError(
            f"{data.path} has no reference charges, which `electrostatics` needs: neither its topology nor its frames "
            "hold any; map it from atoms with partial charges"
        )
    return data.topology.charges[None]


def _type_means(
    datasets: Sequence[BeadDataset], references: Sequence[np.ndarray], types: Sequence[str]
) -> Float[np.ndarray, " types"]:
    """Every frame of every dataset counts the same, however many were read."""
    total, count = np.zeros(len(types)), np.zeros(len(types))
    for data, charges in zip(datasets, references, strict=True):
        index = [types.index(name) for name in data.topology.types]
        np.add.at(total, index, len(data) * charges.mean(axis=0))
        np.add.at(count, index, float(len(data)))
    return total / np.maximum(count, 1.0)


def _given(data: BeadDataset, types: Sequence[str], means: np.ndarray) -> Float[np.ndarray, " beads"]:
    return means[[types.index(name) for name in data.topology.types]]


def _check_totals(data: BeadDataset, config: ElectrostaticsConfig) -> None:
    """In every frame: a single wrong one spoils a training."""
    if config.charges == "types" or not data.has_charges:
        return
    index = group_index(data.topology, config.groups)
    wanted = group_totals(data.topology.charges, index)
    first = 0
    for chunk in data.iter_chunks(CHUNK_FRAMES):
        assert chunk.charges is not None
        away = np.abs(group_totals(chunk.charges, index) - wanted)
        if away.max() > TOLERANCE:
            frame, worst = np.unravel_index(away.argmax(), away.shape)
            bead = int(np.argmax(index == worst))
            raise ValueError(
                f"{data.path}: the charges of {config.groups} {worst}, which begins with bead {bead}, add up to "
                f"{wanted[worst]:.4f} e in the topology, but in frame {first + frame} they are {away.max():.4f} e off "
                'that; no charges with that total can be right: choose other `groups`, such as "system"'
            )
        first += len(chunk)


def _tell_unlike_beads(data: BeadDataset, reference: np.ndarray, given: np.ndarray) -> None:
    """Say of which types the beads differ from each other, or from those of other datasets; of the worst, how much."""
    names, away = np.array(data.topology.types), np.abs(reference - given)
    if away.max() > UNLIKE:
        worst = names[away.argmax()]
        own = reference[names == worst]
        others = sorted(set(names[away > UNLIKE].tolist()) - {worst})
        log.warning(
            '%s: beads of type %r have mean reference charges from %+.3f to %+.3f e, but all get %+.3f e%s; give them '
            'types of their own, or choose `electrostatics.charges` = "predicted"',
            data.path, str(worst), own.min(), own.max(), given[away.argmax()],
            f" (likewise those of {', '.join(others)})" if others else "",
        )  # fmt: skip


def _tell_totals(data: BeadDataset, given: np.ndarray, config: ElectrostaticsConfig) -> None:
    index = group_index(data.topology, config.groups)
    found, wanted = group_totals(given, index), group_totals(data.topology.charges, index)
    away = np.abs(found - wanted)
    worst = int(np.argmax(away))
    if away[worst] > TOLERANCE:
        log.warning(
            "%s: the constant charges of %s %d, which begins with bead %d, add up to %+.4f e, those of the topology to "
            '%+.4f e (%d of %d differ); give its beads types of their own, or choose `electrostatics.charges` = '
            '"predicted"',
            data.path, config.groups, worst, int(np.argmax(index == worst)), found[worst], wanted[worst],
            int((away > TOLERANCE).sum()), len(away),
        )  # fmt: skip
