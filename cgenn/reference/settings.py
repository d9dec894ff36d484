"""What a reference run does, fixed when it starts: a run that is resumed must be given the same."""

from __future__ import annotations

from typing import Self

import openmm
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cgenn.config import Config

_SMALL = 60


class RunSettings(Config):
    """Settings of a reference run; see `SystemDefinition` for those they share.

    Attributes:
        platform: name of the OpenMM platform.
        seed: of velocities, thermostat and barostat.
        replicas: independent runs that differ in their random numbers only.
    """

    temperature: PositiveFloat
    pressure: PositiveFloat | None
    timestep: PositiveFloat
    friction: PositiveFloat
    equilibration: PositiveFloat
    length: PositiveFloat
    interval: PositiveFloat
    platform: str
    seed: NonNegativeInt = Field(lt=2**63)
    replicas: PositiveInt

    @model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        for long, short in (("interval", "timestep"), ("length", "interval")):
            ratio = getattr(self, long) / getattr(self, short)
            if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
                raise ValueError(
                    f"`{long}` must be a whole number of {short}s, got {getattr(self, long)} ps "
                    f"for a {short} of {getattr(self, short)} ps"
                )
        return self

    @property
    def steps_per_frame(self) -> int:
        """Time steps between recorded frames."""
        return round(self.interval / self.timestep)

    @property
    def n_frames(self) -> int:
        """Frames that each replica records."""
        return round(self.length / self.interval)

    def label(self, replica: int) -> str:
        """What distinguishes the files of a replica: nothing if there is one only."""
        return f"-{replica}" if self.replicas > 1 else ""


def choose_platform(name: str | None, n_atoms: int) -> str:
    """The platform asked for; by default the fastest: for a few dozen atoms Reference, which has no overhead.

    Raises:
        ValueError: if OpenMM has no platform of that name.
    """
    known = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
    if name is not None and name not in known:
        raise ValueError(f"no platform {name!r}, expected one of {', '.join(known)}")
    if name is None and n_atoms <= _SMALL:
        return "Reference"
    return name or _fastest()


def _fastest() -> str:
    """The platform that OpenMM chooses by itself; one is tried, as its library may be there but no device."""
    system = openmm.System()
    system.addParticle(1.0)
    return openmm.Context(system, openmm.VerletIntegrator(0.001)).getPlatform().getName()
