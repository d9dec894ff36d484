"""What a user chooses of the training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cgenn.config import Config
from cgenn.potential.config import NetworkConfig

BATCH_BEADS, BATCH_FRAMES = 1000, 128
"""What a batch holds by default: so many beads, in no more than so many frames."""


class LossWeights(Config):
    """Weight of the mean square error of each quantity, in units of what it should be small against.

    What the datasets do not hold, or the potential does not have, does not count.

    Attributes:
        forces: in units of what the priors, and charges of the types, leave of them.
        charges: of the beads, in units of 0.1 e.
        dipoles: of the beads, in units of 0.01 e nm (half a debye).
        molecular_dipoles: of the groups of beads whose charges add up to a given number, in the same unit. They are
            made whole along their bonds; in a box that needs `electrostatics.groups` other than "system".
        total_dipole: of the system, the sum of those, per square root of the number of beads, in the same unit.
        energies: of the system per bead, in kT, whatever their zero: the mean error of the frames in a batch is free.
        virials: of the system per bead, in kT. The virial is the derivative of the potential energy by a strain of
            positions and box, dE/de, symmetric; the pressure without its kinetic part is -trace/(3 V). What errors of
            the forces within molecules, which must be whole, add to those of the virial does not count.
        torques: on the beads that have an orientation, divided by the radius of gyration of their body,
            sqrt(tr I / 2 M), in the unit of the forces.
    """

    forces: float = Field(default=1.0, ge=0)
    charges: float = Field(default=1.0, ge=0)
    dipoles: float = Field(default=1.0, ge=0)
    molecular_dipoles: float = Field(default=0.0, ge=0)
    total_dipole: float = Field(default=0.0, ge=0)
    energies: float = Field(default=0.0, ge=0)
    virials: float = Field(default=0.0, ge=0)
    torques: float = Field(default=1.0, ge=0)


class TrainingConfig(Config):
    """Force matching: how long, how fast, on what part of the data.

    Attributes:
        network: the network's architecture.
        weights: of the parts of the loss.
        virials: what virials are compared with: "recorded" in the frames, or "equilibrium", which nothing has to be
            recorded for. To strain n molecules as a whole costs n kT along each axis on average where nothing presses
            or pulls (virial theorem): in a droplet, and in a bilayer in vacuum without surface tension. Forces of
            single beads, with all their noise, hardly tell whether the whole contracts or falls apart. The mean
            over the frames of a batch counts: in small batches a large weight takes away from the fluctuations.
        balance: "fixed" takes the weights as they are; "uncertainty" multiplies each by a factor that is learnt, one
            over the variance that the part comes down to (Kendall, Gal and Cipolla 2018).
        epochs: passes over the training frames.
        batch_size: frames in one step of the optimiser; by default as many as hold about 1000 beads, 128 at most.
        learning_rate: highest rate; it rises over the first twentieth of the steps and falls to nearly zero.
        weight_decay: decay of the weights per step, times the rate.
        ema_decay: the saved weights are a running mean of the trained ones, with this factor per step.
        noise: standard deviation of the displacements that let the configurations tell their own forces, see
            training/noise.py [nm]; 0 trains on the forces alone. Charges and dipoles, which are those of the
            configurations that were displaced, then become their blurred means. Orientations stay, and so do torques.
        validation_fraction: part of the frames, in blocks of time, kept aside.
        patience: stop after so many epochs without a better validation loss; None trains to the end.
        seed: of the weights, the order of the frames and the noise; the same seed gives the same model.
        precision: of the weights and the arithmetic.
        accelerator: where to train.
        devices: number of processes (CPU) or GPUs; each takes its share of every batch.
        threads: threads of each process on a CPU; more than one pays for thousands of beads in a batch.
    """

    network: NetworkConfig = NetworkConfig()
    weights: LossWeights = LossWeights()
    virials: Literal["recorded", "equilibrium"] = "recorded"
    balance: Literal["fixed", "uncertainty"] = "fixed"
    epochs: PositiveInt = 30
    batch_size: PositiveInt | None = None
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

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainingConfig:
        if not any(self.weights.model_dump().values()):
            raise ValueError("all `weights` are zero: there is nothing to learn")
        if self.noise and (self.weights.energies or (self.weights.virials and self.virials == "recorded")):
            raise ValueError("energies and virials are not those of displaced configurations: set `noise` to 0")
        return self

    def with_batch_size(self, beads: int) -> TrainingConfig:
        """The same with a batch size, chosen for frames of so many beads if none was given.

        Raises:
            ValueError: if the one given cannot be divided among the devices.
        """
        if self.batch_size is None:
            wanted = min(BATCH_FRAMES, max(1, BATCH_BEADS // beads))
            return self.model_copy(update={"batch_size": -(-wanted // self.devices) * self.devices})
        if self.batch_size % self.devices:
            raise ValueError(f"`batch_size` ({self.batch_size}) must be a multiple of `devices` ({self.devices})")
        return self
