"""What it costs to charge a bead of each type, from reference charges that minimise the energy."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from cgenn.data.dataset import BeadDataset
from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import coulomb_graph

SAMPLED_FRAMES = 50

_log = logging.getLogger(__name__)


def fit_self_energies(
    datasets: Sequence[BeadDataset], frames: Sequence[np.ndarray], config: PotentialConfig
) -> tuple[tuple[float, float], ...]:
    """chi [kJ/mol/e] and J [kJ/mol/e^2] of each type of the configuration.

    Where charges minimise sum_i (chi dq_i + J dq_i^2 / 2) + Coulomb energy, dq from the charge of the type, and those
    of a group add up to a given number, chi + J dq_i + V_i is the same for all beads of the group (Rappe and Goddard
    1991); V is the Coulomb potential on the bead. Least squares over the frames; chi is found up to a constant, which
    changes nothing.

    Raises:
        ValueError: if the charges of the frames are not known or predicted ones not wanted, or a hardness J that comes
            out is not positive.
    """
    if config.electrostatics is None or config.electrostatics.charges != "predicted":
        raise ValueError('`electrostatics.self_energy` is for `electrostatics.charges` = "predicted"')
    rows, targets = zip(
        *(_equations(data, part, config) for data, part in zip(datasets, frames, strict=True)), strict=True
    )
    matrix, wanted = np.concatenate(rows), np.concatenate(targets)
    found = np.linalg.lstsq(matrix, wanted, rcond=1e-10)[0]
    chi, hardness = found[: len(config.types)], found[len(config.types) :]
    away = float(np.sqrt(np.square(matrix @ found - wanted).mean()))
    of_types = dict(zip(config.types, np.stack([chi, hardness], axis=1).tolist(), strict=True))
    if not (hardness > 0).all():
        wrong = config.types[int(np.argmin(hardness))]
        raise ValueError(
            f"the reference charges do not minimise an energy with a hardness for each type: that of {wrong!r} comes "
            f"out as {of_types[wrong][1]:.4g} kJ/mol/e^2; leave `electrostatics.self_energy` out"
        )
    _log.info("energy of charging, chi [kJ/mol/e] and J [kJ/mol/e^2]: %s; potentials unexplained: %.3g", of_types, away)
    return tuple((first, second) for first, second in of_types.values())


def _equations(data: BeadDataset, frames: np.ndarray, config: PotentialConfig) -> tuple[np.ndarray, np.ndarray]:
    """One for each bead: factors of all chi and all J, and minus the potential; each less its mean in the group."""
    if not data.has_charges:
        raise ValueError(f"{data.path} has no charges of each frame, which `electrostatics.self_energy` needs")
    assert config.electrostatics is not None
    read = data.read(frames[np.unique(np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).round().astype(int))])
    assert read.charges is not None
    kinds = np.array([config.types.index(name) for name in data.topology.types])
    mine = np.eye(len(config.types))[kinds]
    parts = []
    for frame in range(len(read)):
        positions = torch.from_numpy(read.positions[frame].astype(np.float64))
        cell = None if read.box is None else torch.from_numpy(read.box[frame : frame + 1].astype(np.float64))
        batch = torch.zeros(len(positions), dtype=torch.int64)
        graph = coulomb_graph(config.electrostatics, data.topology, positions, cell, batch, 1)
        charges = torch.from_numpy(read.charges[frame].astype(np.float64)).requires_grad_()
        energy = coulomb_energy(positions, charges, None, graph.pairs, graph.settings, cell=cell)
        (potential,) = torch.autograd.grad(energy.sum(), charges)
        change = charges.detach().numpy() - np.array(config.type_charges)[kinds]
        table = np.column_stack([mine, mine * change[:, None], -potential.numpy()])
        sums, sizes = np.zeros((len(graph.totals), table.shape[1])), np.bincount(graph.groups.numpy())
        np.add.at(sums, graph.groups.numpy(), table)
        parts.append(table - (sums / sizes[:, None])[graph.groups.numpy()])
    whole = np.concatenate(parts)
    return whole[:, :-1], whole[:, -1]
