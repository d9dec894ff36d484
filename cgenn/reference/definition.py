"""What an all-atom system is made of: `system.toml`, read into a checked model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from cgenn.config import Config

Constraints = Literal["none", "h-bonds", "all-bonds"]


class Solvent(Config):
    """Water to be added around the structure, by OpenMM's `Modeller`.

    Attributes:
        model: three- or four-site water whose molecules are added; `force_field` must have its parameters.
        padding: least distance between the structure and its periodic images; the edge of the cubic box is at least
            twice this [nm].
    """

    model: Literal["tip3p", "spce", "tip4pew"] = "tip3p"
    padding: PositiveFloat


class SystemDefinition(Config):
    """An all-atom system that OpenMM builds, and how it is run unless told otherwise.

    Attributes:
        description: one line, for lists.
        force_field: OpenMM ForceField files, those of OpenMM by name or own ones beside `system.toml`.
        structure: PDB file beside `system.toml`, or of OpenMM's data by name: patches of lipids such as "POPC.pdb".
        solvent: water to add; none if the structure is complete.
        nonbonded: "none" computes every pair (no box), "cutoff" and "pme" need a periodic box.
        cutoff: of nonbonded interactions [nm].
        switch: distance from which Lennard-Jones is switched off towards the cutoff [nm].
        constraints: which bonds are rigid; water always is.
        hydrogen_mass: mass that hydrogens are given at the cost of their neighbour [amu]; configurations are not
            affected, and the masses that are recorded are those of the elements.
        temperature: [K].
        pressure: [bar]; the box is equilibrated at it and, at constant volume, then kept.
        ensemble: of the production run: "nvt", "npt" with a Monte Carlo barostat, or "membrane" with one that changes
            the box along z at the pressure and across z without surface tension.
        virials: whether the derivative of the energy by strain is recorded too, at the cost of twelve energies for each
            frame: what a coarse-grained model needs to have the pressure of the atoms.
        timestep: [ps].
        friction: [1/ps].
        minimization: iterations at most before the equilibration, until it converges if not given; 0 starts as it is.
        equilibration: [ps]; with a pressure and "nvt", once at constant pressure and once at constant volume.
        length: of the production run [ps].
        interval: between recorded frames [ps].
    """

    description: str
    force_field: tuple[str, ...] = Field(min_length=1)
    structure: str = "structure.pdb"
    solvent: Solvent | None = None
    nonbonded: Literal["none", "cutoff", "pme"]
    cutoff: PositiveFloat | None = None
    switch: PositiveFloat | None = None
    constraints: Constraints = "h-bonds"
    hydrogen_mass: PositiveFloat | None = None
    temperature: PositiveFloat
    pressure: PositiveFloat | None = None
    ensemble: Literal["nvt", "npt", "membrane"] = "nvt"
    virials: bool = False
    timestep: PositiveFloat
    friction: PositiveFloat = 1.0
    minimization: NonNegativeInt | None = None
    equilibration: PositiveFloat
    length: PositiveFloat
    interval: PositiveFloat

    @property
    def periodic(self) -> bool:
        """Whether there is a box."""
        return self.nonbonded != "none"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.periodic and self.cutoff is None:
            raise ValueError(f'nonbonded = "{self.nonbonded}" needs a `cutoff` [nm]')
        if self.ensemble != "nvt" and self.pressure is None:
            raise ValueError(f'`ensemble` "{self.ensemble}" needs a `pressure` [bar]')
        for key in ("cutoff", "switch", "pressure", "solvent", "virials"):
            if not self.periodic and getattr(self, key):
                raise ValueError(f'`{key}` needs a periodic box, but nonbonded = "none"')
        if self.switch is not None and self.cutoff is not None and self.switch >= self.cutoff:
            raise ValueError(f"`switch` must be below `cutoff` ({self.cutoff} nm), got {self.switch} nm")
        return self
