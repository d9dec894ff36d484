"""What a user chooses of the training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from cgenn.config import Config
from cgenn.potential.potential import NetworkConfig


class TrainingConfig(Config):
    """Force matching: how long, how fast, on what part of the data.

    Attributes:
        network: the network's architecture.
        epochs: passes over the training frames.
        batch_size: frames in one step of the optimiser.
        learning_rate: highest rate; it rises over the first twentieth of the steps and falls to nearly zero.
        weight_decay: decay of the weights per step, times the rate.
        ema_decay: the saved weights are a running mean of the trained ones, with this factor per step.
        noise: standard deviation of the displacements that let the configurations tell their own forces, see
            training/noise.py [nm]; 0 trains on the forces alone.
        validation_fraction: part of the frames, in blocks of time, kept aside.
        patience: stop after so many epochs without a better validation loss; None trains to the end.
        seed: of the weights, the order of the frames and the noise; the same seed gives the same model.
        precision: of the weights and the arithmetic.
        accelerator: where to train.
        devices: number of processes (CPU) or GPUs; each takes its share of every batch.
        threads: threads of each process on a CPU; more than one pays for thousands of beads in a batch.
    """

    network: NetworkConfig = NetworkConfig()
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 0.01
    weight_decay: float = Field(default=0.0, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    patience: PositiveInt | None = None
    seed: int = Field(default=0, ge=0)
    precision: Literal["single", "double"] = "single"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt = 1
    threads: PositiveInt = 1
