"""What the rounds of a refinement share: datasets, models in their folders, simulations of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from cgenn.comparison import data_ensemble
from cgenn.data.dataset import BeadDataset
from cgenn.data.splits import block_split
from cgenn.files import write_json
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run, model_digest
from cgenn.simulation.run import simulate
from cgenn.simulation.start import StartSource
from cgenn.training.force_matching import force_errors

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
            raise ValueError(f"{dataset.path} has no box, in which this is measured")


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


def claim(record: Path, chosen: dict[str, Any]) -> None:
    """Note what the rounds of a folder are for, or see that it is the same as before.

    Raises:
        ValueError: if it is not, naming the difference.
    """
    if not record.exists():
        write_json(record, chosen)
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    if changed := [name for name, value in chosen.items() if before.get(name) != value]:
        said = "; ".join(f"{name} was {before.get(name)!r}, now {chosen[name]!r}" for name in changed)
        raise ValueError(f"{record.parent} holds models for something else ({said}): choose another folder")


def runs_of(
    potential: Potential,
    datasets: list[BeadDataset],
    config: SimulationConfig,
    folder: Path,
    size: Literal["volume", "area"] = "volume",
) -> list[Run]:
    """A simulation of the beads of each dataset, from the frame with about the mean volume, or area, of those in a box.

    Their folders are `run`, or with several datasets `run-0` and so on.
    """
    names = ["run"] if len(datasets) == 1 else [f"run-{number}" for number in range(len(datasets))]
    return [
        simulate(potential, at_mean_size(entry, size) if entry.periodic else entry.path, config, folder / name)
        for entry, name in zip(datasets, names, strict=True)
    ]


def at_mean_size(dataset: BeadDataset, size: Literal["volume", "area"]) -> StartSource:
    """The frame whose volume, or area across z, is nearest to the mean."""
    sizes = sizes_of(data_ensemble(dataset).box, size)
    index = int(np.abs(sizes - sizes.mean()).argmin())
    frame = dataset.read(slice(index, index + 1))
    assert frame.box is not None
    start = (dataset.topology, frame.positions[0], frame.box[0])
    return start if frame.orientations is None else (*start, frame.orientations[0])


def sizes_of(box: Any, size: Literal["volume", "area"]) -> Float[np.ndarray, " frames"]:
    """Volume [nm^3] or area across z [nm^2] of boxes, shape (frames, 3, 3)."""
    vectors = np.asarray(box, dtype=float)
    return np.abs(np.linalg.det(vectors if size == "volume" else vectors[:, :2, :2]))


def note_force_errors(potential: Potential, datasets: list[BeadDataset]) -> None:
    """Into its provenance: errors of forces and torques on the frames that its training kept aside."""
    if not all(entry.has_forces for entry in datasets):
        return
    fraction = potential.provenance.get("training", {}).get("validation_fraction", 0.1)
    held = [block_split(len(entry), entry.segments, fraction)[1] for entry in datasets]
    errors = force_errors(potential, datasets, held)
    potential.provenance["force_errors"] = errors.as_dict()
    if errors.torques is not None:
        potential.provenance["torque_errors"] = errors.torques.as_dict()


def with_priors(potential: Potential, priors: Priors) -> Potential:
    """The potential with the same network under other priors."""
    moved = Potential(potential.config, priors, dict(potential.provenance)).to(potential.dtype)
    moved.network.load_state_dict(potential.network.state_dict())
    return moved.requires_grad_(False).eval()
