"""Training: priors first, then the network on what they leave, with lightning."""

from __future__ import annotations

import hashlib
import io
import logging
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from cgenn.data.dataset import BeadDataset
from cgenn.data.splits import block_split
from cgenn.files import atomic, write_json
from cgenn.potential.potential import Potential, PotentialConfig
from cgenn.potential.priors import Priors
from cgenn.threads import torch_threads
from cgenn.topology import BeadTopology
from cgenn.training.batches import Batches, FrameGroup
from cgenn.training.config import TrainingConfig
from cgenn.training.force_matching import ResidualForces, force_errors, squared_errors
from cgenn.training.noise import NoisyLabels
from cgenn.training.priors import fit_priors
from cgenn.units import thermal_energy

PRIOR_BEADS = 500_000
"""Beads that the priors are fitted to, at most."""

ENERGY_LENGTH = 0.003
"""The network's energies come in units of the residual force times this length [nm]."""

CHECKPOINT = "last.ckpt"

log = logging.getLogger(__name__)


def train(
    dataset: BeadDataset | str | Path | Sequence[BeadDataset | str | Path],
    config: TrainingConfig | None = None,
    out: str | Path | None = None,
) -> Potential:
    """Fit the priors, then train the network on the forces that they leave.

    With `out`, that folder gets the model (`model.safetensors`), a summary (`training.json`), the losses
    (`metrics.csv`, and TensorBoard's files where it is installed) and checkpoints; a run that was interrupted goes on
    from the last full epoch, with the same result as if it had not been, and a finished one is only read.

    Args:
        dataset: one bead dataset or several, of the same or of different molecules, all at one temperature.
        config: see `TrainingConfig`.
        out: folder for the results.

    Raises:
        ValueError: if forces are missing, temperatures differ, there is but one bead, or `out` holds a run of another
            configuration or data.
        FloatingPointError: if the loss is not finite.
    """
    config = config or TrainingConfig()
    datasets = _open(dataset)
    if config.batch_size % config.devices:
        raise ValueError(f"`batch_size` ({config.batch_size}) must be a multiple of `devices` ({config.devices})")
    with torch_threads(config.threads), ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cgenn-")) if out is None else out
        return _train(datasets, config, Path(folder))


def _train(datasets: list[BeadDataset], config: TrainingConfig, folder: Path) -> Potential:
    folder.mkdir(parents=True, exist_ok=True)
    model_path = folder / "model.safetensors"
    identity = _identity(datasets, config)
    if model_path.exists():
        finished = Potential.load(model_path)
        if finished.provenance.get("identity") != identity:
            raise ValueError(f"{folder} holds a model of another configuration or other data; choose another folder")
        log.info("%s is finished already", folder)
        return finished
    splits = [block_split(len(data), data.segments, config.validation_fraction) for data in datasets]
    with _quiet(), _seeded(config.seed):
        dtype = torch.float64 if config.precision == "double" else torch.float32
        potential, blurred, notes = _prepare(datasets, [train for train, _ in splits], config)
        potential.to(dtype)
        before = force_errors(potential, datasets, [held for _, held in splits], with_model=False)
        log.info("validation %s", before.sentence())
        floor = before.floor if np.isfinite(before.floor) else before.priors
        labels = NoisyLabels(config.noise, thermal_energy(datasets[0].temperature), floor) if config.noise else None
        module = ForceMatching(potential, blurred, [data.topology for data in datasets], config, labels)
        frames = FrameSource(datasets, splits, config, dtype)
        trainer = _trainer(config, folder, identity)
        checkpoint = folder / identity / CHECKPOINT
        with _interruptible(trainer, checkpoint):
            trainer.fit(module, frames, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
    potential = potential.cpu().requires_grad_(False).eval()
    after = force_errors(potential, datasets, [held for _, held in splits])
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
    if trainer.is_global_zero:
        write_json(folder / "training.json", potential.provenance)
        potential.save(model_path)
    return potential


def _prepare(
    datasets: list[BeadDataset], frames: list[np.ndarray], config: TrainingConfig
) -> tuple[Potential, Priors, list[str]]:
    """A potential with fitted priors and random weights; the priors of the blurred data to train with; notes."""
    samples = [
        _sample(data, chosen, PRIOR_BEADS // len(datasets)) for data, chosen in zip(datasets, frames, strict=True)
    ]
    temperature, reach = datasets[0].temperature, config.network.cutoff
    sharp = fit_priors(samples, temperature, reach)
    blurred = sharp
    if config.noise:
        random = np.random.default_rng((config.seed, 1))
        copies = [
            (topology, positions + config.noise * random.normal(size=positions.shape), box)
            for topology, positions, box in samples
            for _ in range(max(1, PRIOR_BEADS // (positions.shape[0] * positions.shape[1])))
        ]
        blurred = fit_priors(copies, temperature, reach)
    for note in sharp.notes:
        log.warning("%s", note)
    types = tuple(sorted({name for data in datasets for name in data.topology.types}))
    full = PotentialConfig(
        **config.network.model_dump(),
        types=types,
        average_neighbors=_average_neighbors(samples, reach),
        energy_scale=1.0,
        temperature=temperature,
    )
    potential = Potential(full, sharp.priors)
    for readout in potential.network.readouts:
        torch.nn.init.zeros_(readout[-1].weight)  # training starts from the priors alone
    residual = force_errors(potential, datasets, [part[:1000] for part in frames], with_model=False).priors ** 0.5
    scale = ENERGY_LENGTH * residual
    potential.config = full.model_copy(update={"energy_scale": scale})
    return potential, blurred.priors, list(sharp.notes)


class ForceMatching(lightning.LightningModule):
    """Mean square force error of the network, as a fraction of what the priors leave."""

    def __init__(
        self,
        potential: Potential,
        priors: Priors,
        topologies: list[BeadTopology],
        config: TrainingConfig,
        labels: NoisyLabels | None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.residual = ResidualForces(potential, priors, topologies)
        self.config, self.labels = config, labels

    def training_step(self, batch: list[FrameGroup], number: int) -> Tensor:
        """Loss of a batch, with displacements that depend on seed, epoch, batch and process only."""
        loss = self._loss(batch, (self.config.seed, self.current_epoch, number, self.global_rank), create_graph=True)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, batch {number}; a smaller `learning_rate` "
                f"than {self.config.learning_rate} may help"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        return loss

    def validation_step(self, batch: list[FrameGroup], number: int) -> None:
        """The same for the frames kept aside, with the same displacements in every epoch."""
        loss = self._loss(batch, (self.config.seed, -1, number, self.global_rank), create_graph=False)
        size = sum(len(group.positions) for group in batch)
        self.log("validation_loss", loss, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)

    def _loss(self, batch: list[FrameGroup], key: tuple[int, ...], *, create_graph: bool) -> Tensor:
        error, count = torch.zeros((), device=self.device), 0
        for group in batch:
            if self.labels is not None:
                digest = hashlib.sha256(repr((*key, group.dataset)).encode()).digest()
                random = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
                moved, forces = self.labels.displace(group.positions, group.forces, random)
                group = FrameGroup(group.dataset, moved, forces, group.box)
            part, size = squared_errors(self.potential, self.residual, group, create_graph=create_graph)
            error, count = error + part, count + size
        return error / count / (self.potential.config.energy_scale / ENERGY_LENGTH) ** 2

    def configure_optimizers(self) -> Any:
        """Adam with decoupled weight decay; the rate rises for a twentieth of the steps and falls as a cosine."""
        config = self.config
        optimizer = torch.optim.AdamW(
            self.potential.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=steps, pct_start=0.05
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_model_eval(self) -> None:
        """Forces need gradients with respect to positions, also when validating."""
        torch.set_grad_enabled(True)


class _ProgressBar(TQDMProgressBar):
    """Losses only."""

    def get_metrics(self, trainer: lightning.Trainer, model: lightning.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, model).items() if name != "v_num"}

    def on_exception(self, trainer: lightning.Trainer, model: lightning.LightningModule, error: BaseException) -> None:
        """What is said of it stands on a line of its own."""
        self.train_progress_bar.close()


class _Checkpoints(TorchCheckpointIO):
    """Whole or not at all, also where the folder for temporary files is on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic(path) as temporary:
            temporary.write_bytes(content.getbuffer())


class FrameSource(lightning.LightningDataModule):
    """Gives the trainer the batches of its current epoch."""

    def __init__(
        self,
        datasets: list[BeadDataset],
        splits: list[tuple[np.ndarray, np.ndarray]],
        config: TrainingConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.datasets, self.splits, self.config, self.dtype = datasets, splits, config, dtype

    def train_dataloader(self) -> DataLoader:
        """Shuffled by seed and epoch."""
        return self._loader([train for train, _ in self.splits], shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """In the order of time."""
        return self._loader([held for _, held in self.splits], shuffle=False)

    def _loader(self, frames: list[np.ndarray], *, shuffle: bool) -> DataLoader:
        trainer = self.trainer
        batches = Batches(
            self.datasets,
            frames,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epoch=trainer.current_epoch if trainer else 0,
            shuffle=shuffle,
            dtype=self.dtype,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return DataLoader(batches, batch_size=None)


def _trainer(config: TrainingConfig, folder: Path, identity: str) -> lightning.Trainer:
    callbacks: list[Callback] = [
        ModelCheckpoint(folder / identity, filename="last", save_top_k=1, monitor=None, enable_version_counter=False),
        EMAWeightAveraging(decay=config.ema_decay),
        _ProgressBar(refresh_rate=10),
    ]
    if config.patience:
        callbacks.append(EarlyStopping("validation_loss", patience=config.patience))
    loggers: list[Any] = [CSVLogger(folder, name="", version="metrics", flush_logs_every_n_steps=1000)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    try:
        return lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            strategy="ddp" if config.devices > 1 else "auto",
            precision="64-true" if config.precision == "double" else "32-true",
            max_epochs=config.epochs,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=10.0,
            num_sanity_val_steps=0,
            inference_mode=False,
            use_distributed_sampler=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            callbacks=callbacks,
            plugins=[_Checkpoints()],
            logger=loggers,
        )
    except MisconfigurationException as error:
        raise ValueError(f"`accelerator` {config.accelerator!r}, `devices` {config.devices}: {error}") from None


def _open(dataset: BeadDataset | str | Path | Sequence[BeadDataset | str | Path]) -> list[BeadDataset]:
    given = [dataset] if isinstance(dataset, BeadDataset | str | Path) else list(dataset)
    datasets = [entry if isinstance(entry, BeadDataset) else BeadDataset.open(entry) for entry in given]
    if not datasets:
        raise ValueError("training needs at least one dataset")
    for data in datasets:
        if len(data.topology) < 2:
            raise ValueError(f"{data.path} holds a single bead, on which nothing acts: there is nothing to train")
        if not data.has_forces:
            raise ValueError(f"{data.path} holds no forces, which training by force matching needs")
        if data.temperature != datasets[0].temperature:
            raise ValueError(
                f"{data.path} is of {data.temperature} K, {datasets[0].path} of {datasets[0].temperature} K; one "
                "potential is trained at one temperature"
            )
    return datasets


def _sample(data: BeadDataset, frames: np.ndarray, beads: int) -> tuple[BeadTopology, np.ndarray, np.ndarray | None]:
    count = max(1, min(len(frames), beads // len(data.topology)))
    read = data.read(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)])
    return data.topology, read.positions, read.box


def _average_neighbors(samples: Sequence[tuple[BeadTopology, np.ndarray, np.ndarray | None]], cutoff: float) -> float:
    """Mean number of neighbours of a bead in a few frames."""
    from cgenn.neighbors import neighbors

    edges = beads = 0
    for topology, positions, box in samples:
        for frame in np.linspace(0, len(positions) - 1, min(10, len(positions))).round().astype(int):
            cell = None if box is None else torch.from_numpy(np.asarray(box[frame], dtype=np.float64))[None]
            edges += len(neighbors(torch.from_numpy(positions[frame]), cutoff, cell=cell).receivers)
            beads += len(topology)
    return max(edges / beads, 1.0)


def _identity(datasets: list[BeadDataset], config: TrainingConfig) -> str:
    """Names a run by what determines its result, apart from where it runs.

    Datasets count by their provenance, which holds the sources' hashes, and not by their frames.
    """
    described = [config.model_dump(exclude={"accelerator", "devices", "threads"})]
    contents = [(data.topology.to_dict(), len(data), data.provenance, data.temperature) for data in datasets]
    return hashlib.sha256(repr((described, contents)).encode()).hexdigest()[:16]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _interruptible(trainer: lightning.Trainer, checkpoint: Path) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, where lightning would end the process and ignore any further Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        goes_on = f"goes on from epoch {trainer.current_epoch}" if checkpoint.exists() else "starts again"
        raise KeyboardInterrupt(f"the same command {goes_on}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what lightning says about itself and about choices made here on purpose.

    Its progress bar goes to the standard error: the standard output is for results.
    """
    named = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    ]
    levels = [logger.level for logger in named]
    try:
        for logger in named:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)
