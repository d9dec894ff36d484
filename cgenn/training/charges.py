"""Reference charges of the data: their means by type, and whether they fit what predicted charges have to add up to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cgenn.data.dataset import BeadDataset
from cgenn.potential.electrostatics import ElectrostaticsConfig, group_index, group_totals

TOLERANCE = 1e-3
"""How far the charges of a group may be from their total [e]."""

SAMPLED_FRAMES = 100


def type_charges(
    datasets: Sequence[BeadDataset], types: Sequence[str], config: ElectrostaticsConfig
) -> tuple[float, ...]:
    """Mean reference charge of each type [e].

    Raises:
        ValueError: if a dataset has no charges at all, or those of a group of beads do not add up to the same in its
            topology and in its frames.
    """
    total, count = np.zeros(len(types)), np.zeros(len(types))
    number = {name: index for index, name in enumerate(types)}
    for data in datasets:
        charges = _charges(data)
        _check_totals(data, charges, config)
        index = np.array([number[name] for name in data.topology.types])
        np.add.at(total, index, charges.sum(axis=0))
        np.add.at(count, index, float(len(charges)))
    return tuple((total / np.maximum(count, 1.0)).tolist())


def _charges(data: BeadDataset) -> np.ndarray:
    """Charges of some frames, shape (frames, beads) [e]."""
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


def _check_totals(data: BeadDataset, charges: np.ndarray, config: ElectrostaticsConfig) -> None:
    if config.charges == "types":
        return
    index = group_index(data.topology, config.groups)
    wanted = group_totals(data.topology.charges, index)
    away = np.abs(group_totals(charges, index) - wanted).max(axis=0)
    worst = int(np.argmax(away))
    if away[worst] > TOLERANCE:
        bead = int(np.argmax(index == worst))
        raise ValueError(
            f"{data.path}: the charges of {config.groups} {worst}, which begins with bead {bead}, add up to "
            f"{wanted[worst]:.4f} e in the topology, but are up to {away[worst]:.4f} e off that in the frames; no "
            'charges with that total can be right: choose other `groups`, such as "system"'
        )
