"""What a user chooses of a simulation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cgenn.config import Config


class SimulationConfig(Config):
    """Settings of `simulate`.

    Attributes:
        temperature: [K]; by default that of the model's training data.
        timestep: [ps].
        friction: of the Langevin thermostat [1/ps].
        steps: time steps after equilibration.
        equilibration: time steps before, which are not reported.
        report_interval: steps between frames.
        dipole_interval: steps between rows of dipole.csv, the dipole of the whole system; only with charges.
        checkpoint_interval: steps between checkpoints, a multiple of `report_interval`; by default ten frames.
        ensemble: "nvt" (Langevin middle), "npt" (the same with a Monte Carlo barostat), "membrane" (with one that
            changes the box along z at `pressure` and across z at `tension`), "area" (across z alone: for a bilayer
            without solvent, which keeps no images apart along z) or "nve" (Verlet).
        pressure: of the barostat [bar].
        tension: surface tension of the box across z, "membrane" and "area" [bar nm]; 10 of them are 1 mN/m.
        minimize: minimise the energy of the start first.
        replicas: copies of the system in one System that do not feel each other; only without a box.
        seed: of everything random.
        backend: "openmm-torch", "python" or "auto".
        platform: of OpenMM; "auto" is CUDA where OpenMM and torch both have it, else Reference for small molecules
            and CPU for everything else.
        device: of the network: "auto", "cpu", "cuda", "cuda:1".
        precision: of the network (and of the platform, if it has a choice).
        threads: of the network on a CPU; more than one pays for tens of thousands of beads on a quiet machine.
        store: what trajectory.h5 holds besides positions: velocities, and forces of all terms together; of beads with
            an orientation also angular velocities and torques.
        formats: further trajectory files, written at the end from trajectory.h5.
        cutoff: what the model's cutoff is expected to be [nm]; any other is an error.
    """

    temperature: PositiveFloat | None = None
    timestep: PositiveFloat = 0.002
    friction: PositiveFloat = 1.0
    steps: PositiveInt = 500_000
    equilibration: NonNegativeInt = 0
    report_interval: PositiveInt = 500
    dipole_interval: PositiveInt | None = None
    checkpoint_interval: PositiveInt | None = None
    ensemble: Literal["nvt", "npt", "membrane", "area", "nve"] = "nvt"
    pressure: float = 1.0
    tension: float = 0.0
    minimize: bool = False
    replicas: PositiveInt = 1
    seed: int = Field(default=0, ge=0, lt=2**31)
    backend: Literal["auto", "openmm-torch", "python"] = "auto"
    platform: Literal["auto", "Reference", "CPU", "CUDA", "OpenCL", "HIP"] = "auto"
    device: str = "auto"
    precision: Literal["single", "double"] = "single"
    threads: PositiveInt = 1
    store: tuple[Literal["velocities", "forces"], ...] = ()
    formats: tuple[Literal["dcd", "xtc"], ...] = ()
    cutoff: PositiveFloat | None = None

    @model_validator(mode="after")
    def _intervals(self) -> Self:
        if self.steps % self.report_interval:
            raise ValueError(
                f"`steps` must be a multiple of `report_interval`, got {self.steps} and {self.report_interval}"
            )
        if self.checkpoint_steps % self.report_interval:
            raise ValueError(
                f"`checkpoint_interval` must be a multiple of `report_interval`, got {self.checkpoint_interval} "
                f"and {self.report_interval}"
            )
        return self

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints."""
        return self.checkpoint_interval or 10 * self.report_interval

    def check_cutoff(self, trained: float) -> None:
        """Raise ValueError if another cutoff [nm] is expected than the model was trained with."""
        if self.cutoff is not None and abs(self.cutoff - trained) > 1e-9:
            relation = "larger" if self.cutoff > trained else "smaller"
            raise ValueError(
                f"`cutoff` is {self.cutoff} nm, {relation} than the {trained} nm that the network was trained for: "
                "leave it out, or train another model"
            )
