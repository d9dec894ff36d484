"""What the rounds of a refinement share: datasets, models in their folders, simulations of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cgenn.data.dataset import BeadDataset
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run, model_digest
from cgenn.simulation.run import simulate
from cgenn.simulation.start import StartSource

Source: TypeAlias = BeadDataset | str | Path
"""A bead dataset or its file."""


def opened(given: Source | Sequence[Source], config: SimulationConfig) -> list[BeadDataset]:
    """One dataset or several.

    Raises:
        ValueError: if there is none, or the simulation is not at their temperature.
    """
    sources = [given] if isinstance(given, BeadDataset | str | Path) else list(given)
    if not sources:
        raise ValueError("a refinement needs at least one dataset, got none")
    datasets = [entry if isinstance(entry, BeadDataset) else BeadDataset.open(entry) for entry in sources]
    for entry in datasets:
        if entry.temperature != datasets[0].temperature:
            said = f"{datasets[0].path} of {datasets[0].temperature} K, {entry.path} of {entry.temperature} K"
            raise ValueError(f"a refinement is at one temperature, but {said}")
        if config.temperature not in (None, entry.temperature):
            raise ValueError(f"the simulation is at {config.temperature} K, but {entry.path} of {entry.temperature} K")
    return datasets


def check_boxes(
    datasets: list[BeadDataset], config: SimulationConfig, rounds: int, ensembles: tuple[str, ...] = ("nvt",)
) -> None:
    """Of what is measured in a box.

    Raises:
        ValueError: if a dataset has no box, the simulation is not one of one copy in one of the ensembles, or there are
            no rounds.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}")
    if config.ensemble not in ensembles or config.replicas != 1:
        raise ValueError(
            f"this is measured in one copy in a box: `ensemble` must be {' or '.join(map(repr, ensembles))} and "
            f"`replicas` 1, got {config.ensemble!r} and {config.replicas}"
        )
    for dataset in datasets:
        if not dataset.periodic:
            raise ValueError(f"{dataset.path} has no box: there is no pressure to match")


def kept(potential: Potential, folder: Path, *, first: bool) -> Potential:
    """The model of a round, written into its folder unless it is there.

    Raises:
        ValueError: if the first one is there, but is another one.
    """
    saved = folder / "model.safetensors"
    if not saved.exists():
        potential.save(saved)
    elif first and model_digest(Potential.load(saved)) != model_digest(potential):
        raise ValueError(f"{folder.parent} holds the refinement of another model: choose another folder")
    return Potential.load(saved)


def runs_of(potential: Potential, datasets: list[BeadDataset], config: SimulationConfig, folder: Path) -> list[Run]:
    """A simulation of the beads of each dataset: `run`, or with several datasets `run-0` and so on."""
    names = ["run"] if len(datasets) == 1 else [f"run-{number}" for number in range(len(datasets))]
    return [
        simulate(potential, _at_mean_volume(entry) if entry.periodic else entry.path, config, folder / name)
        for entry, name in zip(datasets, names, strict=True)
    ]


def _at_mean_volume(dataset: BeadDataset) -> StartSource:
    """The frame whose volume is nearest to the mean."""
    frames = dataset.read()
    assert frames.box is not None
    volumes = np.abs(np.linalg.det(frames.box.astype(float)))
    index = int(np.abs(volumes - volumes.mean()).argmin())
    start = (dataset.topology, frames.positions[index], frames.box[index])
    return start if frames.orientations is None else (*start, frames.orientations[index])


def with_priors(potential: Potential, priors: Priors) -> Potential:
    """The potential with the same network under other priors."""
    moved = Potential(potential.config, priors, dict(potential.provenance)).to(potential.dtype)
    moved.network.load_state_dict(potential.network.state_dict())
    return moved.requires_grad_(False).eval()
