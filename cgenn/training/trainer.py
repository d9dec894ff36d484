"""How lightning runs a training here: devices, checkpoints, logs, and what is said meanwhile."""

from __future__ import annotations

import io
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from cgenn.files import atomic
from cgenn.training.config import TrainingConfig

CHECKPOINT = "last.ckpt"

log = logging.getLogger(__name__)


def make_trainer(config: TrainingConfig, folder: Path, identity: str) -> lightning.Trainer:
    """A trainer that keeps its checkpoints in `folder`/`identity` and its logs in `folder`.

    Raises:
        ValueError: if the devices asked for are not there.
    """
    callbacks: list[Callback] = [
        ModelCheckpoint(folder / identity, filename="last", save_top_k=1, monitor=None, enable_version_counter=False),
        EMAWeightAveraging(decay=config.ema_decay, use_buffers=False),  # lists of beads are whole numbers
        _ProgressBar(refresh_rate=10) if sys.stderr.isatty() else _EpochLines(),
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
            strategy=_strategy(config),
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
            enable_progress_bar=sys.stderr.isatty(),
            plugins=[_Checkpoints()],
            logger=loggers,
        )
    except MisconfigurationException as error:
        raise ValueError(f"`accelerator` {config.accelerator!r}, `devices` {config.devices}: {error}") from None


def _strategy(config: TrainingConfig) -> str:
    """Without weights on what follows from the energy, its readouts have no gradient, which several processes mind."""
    if config.devices == 1:
        return "auto"
    weights = config.weights
    from_energy = weights.forces or weights.torques or weights.energies or weights.virials
    return "ddp" if from_energy else "ddp_find_unused_parameters_true"


@contextmanager
def interruptible(trainer: lightning.Trainer, checkpoint: Path) -> Iterator[None]:
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
def quiet() -> Iterator[None]:
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


class _ProgressBar(TQDMProgressBar):
    """Losses only."""

    def get_metrics(self, trainer: lightning.Trainer, model: lightning.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, model).items() if name != "v_num"}

    def on_exception(self, trainer: lightning.Trainer, model: lightning.LightningModule, error: BaseException) -> None:
        """What is said of it stands on a line of its own."""
        self.train_progress_bar.close()


class _EpochLines(Callback):
    """A line for each epoch, where nobody watches a progress bar."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, model: lightning.LightningModule) -> None:
        losses = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
        log.info("epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, losses)


class _Checkpoints(TorchCheckpointIO):
    """Whole or not at all, also where the folder for temporary files is on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic(path) as temporary:
            temporary.write_bytes(content.getbuffer())
