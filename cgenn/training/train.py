"""Training: priors first, then the network on what they leave, with lightning."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from cgenn.body import Body
from cgenn.data.dataset import BeadDataset
from cgenn.data.splits import block_split
from cgenn.files import write_json
from cgenn.neighbors import neighbors, without
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.threads import torch_threads
from cgenn.training.charges import check_dipole_weights, type_charges
from cgenn.training.config import TrainingConfig
from cgenn.training.force_matching import force_errors
from cgenn.training.module import ENERGY_LENGTH, ForceMatching, FrameSource
from cgenn.training.noise import NoisyLabels
from cgenn.training.priors import Sample, fit_priors
from cgenn.training.self_energy import fit_self_energies
from cgenn.training.trainer import CHECKPOINT, interruptible, make_trainer, quiet
from cgenn.units import thermal_energy

SHOWN_NOTES = 4

PRIOR_BEADS = 500_000
"""Beads that the priors are fitted to, at most."""

log = logging.getLogger(__name__)


Datasets: TypeAlias = BeadDataset | str | Path | Sequence[BeadDataset | str | Path]


def train(
    dataset: Datasets,
    config: TrainingConfig | None = None,
    out: str | Path | None = None,
    *,
    validation: Datasets | None = None,
) -> Potential:
    """Fit the priors, then train the network on the forces that they leave.

    With `out`, that folder gets the model (`model.safetensors`), a summary (`training.json`), the losses
    (`metrics.csv`, and TensorBoard's files where it is installed) and checkpoints; a run that was interrupted goes on
    from the last full epoch, with the same result as if it had not been, and a finished one is only read.

    Args:
        dataset: one bead dataset or several, of the same or of different molecules; all at one temperature, unless it
            is an input of the network (`network.temperature_input`).
        config: see `TrainingConfig`.
        out: folder for the results.
        validation: datasets to validate on, and not to train on; without any, parts of those to train on are kept
            aside.

    Raises:
        ValueError: if forces are missing, temperatures differ, there is but one bead, reference charges are missing
            or cannot be right, something has a weight that cannot be learnt, or `out` holds a run of another
            configuration or data.
        FloatingPointError: if the loss is not finite.
    """
    held = [] if validation is None else _listed(validation)
    datasets = _open([*_listed(dataset), *held])
    config = (config or TrainingConfig()).with_batch_size(max(len(data.topology) for data in datasets))
    _check_temperatures(datasets, len(held), config)
    _check_weights(datasets, config)
    with torch_threads(config.threads), ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cgenn-")) if out is None else out
        return _train(datasets, len(held), config, Path(folder))


def _train(datasets: list[BeadDataset], held: int, config: TrainingConfig, folder: Path) -> Potential:
    """With the last `held` datasets for validation only, or parts of all of them if that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    model_path = folder / "model.safetensors"
    identity = _identity(datasets, held, config)
    if model_path.exists():
        finished = Potential.load(model_path)
        if finished.provenance.get("identity") != identity:
            raise ValueError(f"{folder} holds a model of another configuration or other data; choose another folder")
        log.info("%s is finished already", folder)
        return finished
    splits = _splits(datasets, held, config)
    kept = [(data, chosen) for data, (_, chosen) in zip(datasets, splits, strict=True) if len(chosen)]
    with quiet(), _seeded(config.seed):
        dtype = torch.float64 if config.precision == "double" else torch.float32
        potential, blurred, notes = _prepare(datasets, [train for train, _ in splits], config)
        potential.to(dtype)
        before = force_errors(potential, *zip(*kept, strict=True), with_model=False)
        log.info("validation %s", before.sentence())
        floor = before.floor if np.isfinite(before.floor) else before.priors
        labels = NoisyLabels(config.noise, thermal_energy(datasets[0].temperature), floor) if config.noise else None
        topologies, temperatures = [data.topology for data in datasets], [data.temperature for data in datasets]
        module = ForceMatching(potential, blurred, topologies, temperatures, config, labels)
        frames = FrameSource(datasets, splits, config, dtype)
        trainer = make_trainer(config, folder, identity)
        checkpoint = folder / identity / CHECKPOINT
        with interruptible(trainer, checkpoint):
            trainer.fit(module, frames, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
    potential = potential.cpu().requires_grad_(False).eval()
    after = force_errors(potential, *zip(*kept, strict=True))
    log.info("validation %s", after.sentence())
    potential.provenance = {
        "identity": identity,
        "training": config.model_dump(),
        "datasets": [data.provenance for data in datasets],
        "frames": [len(train) for train, _ in splits],
        "epochs": trainer.current_epoch,
        "prior_notes": notes,
        "force_errors": after.as_dict(),
        "units": {"force_errors": "(kJ/mol/nm)^2, mean square of a component"},
    }
    if after.torques is not None:
        potential.provenance["torque_errors"] = after.torques.as_dict()
        potential.provenance["units"]["torque_errors"] = "(kJ/mol)^2, mean square of a component"
    if trainer.is_global_zero:
        write_json(folder / "training.json", potential.provenance)
        potential.save(model_path)
    return potential


def _prepare(
    datasets: list[BeadDataset], frames: list[np.ndarray], config: TrainingConfig
) -> tuple[Potential, Priors, list[str]]:
    """A potential with fitted priors and random weights; the priors of the blurred data to train with; notes."""
    used = [(data, chosen) for data, chosen in zip(datasets, frames, strict=True) if len(chosen)]
    datasets, frames = [data for data, _ in used], [chosen for _, chosen in used]
    bodies = _bodies(datasets) if config.network.oriented else {}
    samples = [
        _sample(data, chosen, PRIOR_BEADS // len(datasets), bodies)
        for data, chosen in zip(datasets, frames, strict=True)
    ]
    if not config.network.excluded_bonds and any(_of_many_chains(data) for data in datasets):
        log.info(
            "chains among others of their kind: the network takes neighbours along a chain for those of other chains, "
            "and what holds all together can fold each of them; `network.excluded_bonds=3` leaves them to the priors"
        )
    given, reach = sorted(data.temperature for data in datasets), config.network.cutoff
    temperature = 0.5 * (given[0] + given[-1])
    sharp = fit_priors(samples, temperature, reach)
    blurred = sharp
    if config.noise:
        random = np.random.default_rng((config.seed, 1))
        copies = [
            sample._replace(positions=sample.positions + config.noise * random.normal(size=sample.positions.shape))
            for sample in samples
            for _ in range(max(1, PRIOR_BEADS // (sample.positions.shape[0] * sample.positions.shape[1])))
        ]
        blurred = fit_priors(copies, temperature, reach)
    for note in sharp.notes[:SHOWN_NOTES]:
        log.warning("%s", note)
    if len(sharp.notes) > SHOWN_NOTES:
        log.warning("and %d notes more on the priors, in training.json", len(sharp.notes) - SHOWN_NOTES)
    types = tuple(sorted({name for data in datasets for name in data.topology.types}))
    full = PotentialConfig(
        **config.network.model_dump(),
        types=types,
        average_neighbors=_average_neighbors(samples, reach, config.network.excluded_bonds),
        energy_scale=1.0,
        temperature=temperature,
        temperatures=(given[0], given[-1]) if config.network.temperature_input else None,
        type_charges=type_charges(datasets, types, chosen) if (chosen := config.network.electrostatics) else (),
        bodies=bodies,
    )
    if full.electrostatics is not None and full.electrostatics.self_energy:
        fitted = fit_self_energies(datasets, frames, full)
        full = full.model_copy(update={"type_self_energies": fitted})
    potential = Potential(full, sharp.priors)
    for readout in potential.network.readouts:
        assert isinstance(readout, torch.nn.Sequential)
        torch.nn.init.zeros_(readout[-1].get_parameter("weight"))  # training starts from the priors alone
    for moment in (potential.network.charge_readout, potential.network.dipole_readout):
        if moment is not None:
            moment.start_from_zero()
    residual = force_errors(potential, datasets, [part[:1000] for part in frames], with_model=False).priors ** 0.5
    log.info(
        "%d frames to train on, %d beads each, %.0f neighbours within %g nm; %d frames in a batch",
        sum(len(part) for part in frames),
        len(datasets[0].topology),
        full.average_neighbors,
        reach,
        config.batch_size,
    )
    scale = ENERGY_LENGTH * residual
    potential.config = full.model_copy(update={"energy_scale": scale})
    return potential, blurred.priors, list(sharp.notes)


def _splits(datasets: list[BeadDataset], held: int, config: TrainingConfig) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames to train on and to validate on, of each dataset."""
    if not held:
        return [block_split(len(data), data.segments, config.validation_fraction) for data in datasets]
    none, everything = np.zeros(0, dtype=np.int64), [np.arange(len(data)) for data in datasets]
    trained, kept = everything[:-held], everything[-held:]
    return [*((frames, none) for frames in trained), *((none, frames) for frames in kept)]


def _listed(dataset: Datasets) -> list[BeadDataset | str | Path]:
    return [dataset] if isinstance(dataset, BeadDataset | str | Path) else list(dataset)


def _open(given: Sequence[BeadDataset | str | Path]) -> list[BeadDataset]:
    datasets = [entry if isinstance(entry, BeadDataset) else BeadDataset.open(entry) for entry in given]
    if not datasets:
        raise ValueError("training needs at least one dataset")
    for data in datasets:
        if len(data.topology) < 2:
            raise ValueError(f"{data.path} holds a single bead, on which nothing acts: there is nothing to train")
        if not data.has_forces:
            raise ValueError(f"{data.path} holds no forces, which training by force matching needs")
        if data.topology.bodies and not data.has_orientations:
            raise ValueError(f"{data.path}: beads have bodies, but the frames no orientations")
    _check_stereo(datasets)
    return datasets


def _check_temperatures(datasets: list[BeadDataset], held: int, config: TrainingConfig) -> None:
    """All of one temperature; or, if that is an input, those before the last `held` ones of several."""
    first = datasets[0]
    other = next((data for data in datasets if data.temperature != first.temperature), None)
    trained = datasets[: len(datasets) - held]
    if config.network.temperature_input and all(data.temperature == first.temperature for data in trained):
        raise ValueError(
            "`network.temperature_input` needs data of several temperatures to train on, but all are of "
            f"{first.temperature} K"
        )
    if config.network.temperature_input and config.noise:
        raise ValueError("`noise` is for data of one temperature, but `network.temperature_input` is set")
    if other is not None and not config.network.temperature_input:
        raise ValueError(
            f"{other.path} is of {other.temperature} K, {first.path} of {first.temperature} K; one potential is "
            "trained at one temperature, or with `network.temperature_input`"
        )


def _of_many_chains(data: BeadDataset) -> bool:
    """Whether there are several molecules of six beads or more in a box."""
    return data.periodic and int(np.sum(np.bincount(data.topology.molecules) >= 6)) > 1


def _check_stereo(datasets: list[BeadDataset]) -> None:
    """A bead type must not stand for one tacticity or hand in one dataset and for another in another one."""
    seen: dict[tuple[str, bool], tuple[BeadDataset, set[str]]] = {}
    for data in datasets:
        for name, codes in (data.provenance.get("atoms") or {}).get("stereo", {}).items():
            for diads in (False, True):
                if not (found := {code for code in codes if (code in "mr") == diads}):
                    continue
                first, known = seen.setdefault((name, diads), (data, found))
                if found != known:
                    raise ValueError(
                        f"bead type {name!r} has stereocentres of {' and '.join(sorted(known))} in {first.path} and of "
                        f"{' and '.join(sorted(found))} in {data.path}, chains of different tacticity or handedness: "
                        "expected one; put {tacticity} into its `type`, or declare `mixed_stereo = true` in the mapping"
                    )


def _check_weights(datasets: list[BeadDataset], config: TrainingConfig) -> None:
    """What was given a weight, and has none by default, must be there; so must something to learn."""
    weights, chosen = config.weights, config.network.electrostatics
    dipoles = chosen is not None and chosen.dipoles
    known = any(data.has_dipoles for data in datasets)
    moments = None
    if not config.network.predicts_charges or (dipoles and not known):
        moments = "charges and dipoles are not predicted, or no dataset holds dipoles of the beads"
    energies = None if any(data.has_energies for data in datasets) else "no dataset holds energies"
    if energies is None and (config.batch_size or 1) // config.devices < 2:
        energies = "they are compared within a batch, which holds a single frame: set a larger `batch_size`"
    recorded = any(data.has_virials for data in datasets) or config.virials == "equilibrium"
    virials = None if recorded else "no dataset holds virials"
    missing = {"energies": energies, "virials": virials, "molecular_dipoles": moments, "total_dipole": moments}
    for name, problem in missing.items():
        if problem and getattr(weights, name):
            raise ValueError(f"`weights.{name}` is {getattr(weights, name)}, but {problem}")
    predicted = chosen is not None and chosen.charges == "predicted"
    turned = config.network.oriented and any(data.topology.bodies and data.has_torques for data in datasets)
    unused = {"charges": not predicted, "dipoles": not (dipoles and known), "torques": not turned}
    for name in [name for name, idle in unused.items() if idle]:
        weight = getattr(weights, name)
        if weight and weight != type(weights).model_fields[name].default:
            raise ValueError(f"`weights.{name}` is {weight}, but {name} are not predicted, or no dataset holds them")
    learnt = {"forces"} | {name for name, problem in missing.items() if problem is None}
    learnt |= {name for name, idle in unused.items() if not idle}
    asked = [name for name, weight in weights.model_dump().items() if weight]
    if not learnt.intersection(asked):
        raise ValueError(f"`weights` are those of {' and '.join(asked)}, of which there is nothing to learn here")
    check_dipole_weights(datasets, config)


def _bodies(datasets: Sequence[BeadDataset]) -> dict[str, Body]:
    """The body of each type that has one, as in the first dataset with beads of that type."""
    found: dict[str, tuple[Body | None, BeadDataset]] = {}
    for data in datasets:
        for name in set(data.topology.types):
            body = data.topology.bodies.get(name)
            first, where = found.setdefault(name, (body, data))
            if (first and first.symmetry) != (body and body.symmetry):
                said = [f"symmetry {each.symmetry}" if each else "no orientation" for each in (first, body)]
                raise ValueError(f"beads of type {name!r} have {said[0]} in {where.path}, but {said[1]} in {data.path}")
            if first and body and not first.is_like(body):
                raise ValueError(
                    f"beads of type {name!r} have other atoms or axes in {data.path} than in {where.path}: map one of "
                    "them with the `bodies` (--bodies) of the other"
                )
    return {name: body for name, (body, _) in sorted(found.items()) if body is not None}


def _sample(data: BeadDataset, frames: np.ndarray, beads: int, bodies: dict[str, Body]) -> Sample:
    count = max(1, min(len(frames), beads // len(data.topology)))
    read = data.read(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)])
    return Sample(data.topology.with_bodies(bodies), read.positions, read.box, read.orientations)


def _average_neighbors(samples: Sequence[Sample], cutoff: float, excluded_bonds: int) -> float:
    """Mean number of neighbours of a bead in a few frames."""
    edges = beads = 0
    for topology, positions, box, _ in samples:
        excluded = topology.bonded_pairs(excluded_bonds)
        for frame in np.linspace(0, len(positions) - 1, min(10, len(positions))).round().astype(int):
            cell = None if box is None else torch.from_numpy(np.asarray(box[frame], dtype=np.float64))[None]
            found = neighbors(torch.from_numpy(positions[frame]), cutoff, cell=cell)
            if len(excluded):
                found = without(found, torch.from_numpy(excluded.T.copy()), len(topology))
            edges += len(found.receivers)
            beads += len(topology)
    return max(edges / beads, 1.0)


def _fingerprint(data: BeadDataset) -> str:
    """A digest of a hundred frames, evenly spread."""
    frames = data.read(np.unique(np.linspace(0, len(data) - 1, 100).round().astype(int)))
    unused = {"velocities", "angular_velocities", "times"}
    parts = [getattr(frames, entry.name) for entry in fields(frames) if entry.name not in unused]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()


def _identity(datasets: list[BeadDataset], held: int, config: TrainingConfig) -> str:
    """Names a run by what determines its result, apart from where it runs.

    Datasets count by their beads and frames, not by where they came from.
    """
    hidden: dict[str, Any] = dict.fromkeys(("accelerator", "devices", "threads"), True)
    if not any(data.topology.bodies for data in datasets):
        hidden |= {"weights": {"torques"}, "network": {"oriented"}}  # so that older runs keep their name
    described = [config.model_dump(exclude=hidden)]
    contents = [(data.topology.to_dict(), len(data), data.temperature, _fingerprint(data)) for data in datasets]
    parts = (described, contents, held) if held else (described, contents)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
