"""What a potential is built from, except for its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_serializer, model_validator

from cgenn.body import Body
from cgenn.config import Config
from cgenn.potential.electrostatics import ElectrostaticsConfig


class NetworkConfig(Config):
    """What a user chooses of the network.

    Attributes:
        cutoff: distance within which beads see each other [nm].
        lmax: highest degree of the spherical harmonics and features.
        channels: copies of each irrep.
        layers: message-passing layers.
        reflection_invariant: give mirror images the same energy; without it the potential can tell them apart.
        radial_basis: number of Bessel functions of the distance.
        radial_width: width of the perceptron on them.
        bead_features: properties of a bead, besides its type, that enter the network.
        temperature_input: let the energy depend on the temperature, learnt from data of several temperatures.
        electrostatics: charges and their long-range energy; None for none.
        oriented: let the energy depend on the orientations of the beads that have one.
        excluded_bonds: beads so many bonds apart or fewer do not see each other, and what keeps them in place are the
            priors: 3 for chains of a few bead types, in which neighbours along the chain look like any others. Ends of
            a dihedral without a prior then do not interact at all, which is much where chains are not stiff.
    """

    cutoff: PositiveFloat = 1.0
    lmax: int = Field(default=1, ge=0, le=6)
    channels: PositiveInt = 32
    layers: PositiveInt = 2
    reflection_invariant: bool = False
    radial_basis: PositiveInt = 8
    radial_width: PositiveInt = 32
    bead_features: tuple[Literal["charge", "mass"], ...] = ()
    temperature_input: bool = False
    electrostatics: ElectrostaticsConfig | None = None
    oriented: bool = True
    excluded_bonds: int = Field(default=0, ge=0, le=3)

    @model_serializer(mode="wrap")
    def _as_before_without(self, entries: Callable[[Any], dict]) -> dict:
        """Models that exclude nothing have the digest that they always had."""
        return {key: value for key, value in entries(self).items() if key != "excluded_bonds" or value}

    @model_validator(mode="after")
    def _dipoles_need_vectors(self) -> NetworkConfig:
        if self.electrostatics and self.electrostatics.dipoles and self.lmax < 1:
            raise ValueError("dipoles need `lmax` of at least 1, got 0")
        return self

    @property
    def predicts_charges(self) -> bool:
        """Whether charges depend on where the beads are."""
        return self.electrostatics is not None and (
            self.electrostatics.charges == "predicted" or self.electrostatics.dipoles
        )


class PotentialConfig(NetworkConfig):
    """All that is needed to build the potential again, except for the weights.

    Attributes:
        types: bead types that the network knows.
        average_neighbors: mean number of neighbours in the training data, scales the messages.
        energy_scale: energy that an output of one stands for [kJ/mol].
        temperature: temperature of the training data [K]; with `temperature_input`, that at which the energy is taken.
        temperatures: the lowest and the highest one of the training data [K], with `temperature_input`.
        type_charges: charge of each type [e]: the constant one, or what the predicted ones are differences from.
        type_self_energies: chi [kJ/mol/e] and J [kJ/mol/e^2] of each type, of chi dq + J dq^2 / 2, dq the difference
            from that charge; none without `electrostatics.self_energy`.
        bodies: of the types whose energy depends on their orientation.
    """

    types: tuple[str, ...] = Field(min_length=1)
    average_neighbors: PositiveFloat
    energy_scale: PositiveFloat
    temperature: PositiveFloat
    temperatures: tuple[PositiveFloat, PositiveFloat] | None = None
    type_charges: tuple[float, ...] = ()
    type_self_energies: tuple[tuple[float, float], ...] = ()
    bodies: dict[str, Body] = {}

    @model_validator(mode="after")
    def _temperatures_to_depend_on(self) -> PotentialConfig:
        if self.temperature_input != (self.temperatures is not None):
            raise ValueError("`temperatures` come with `temperature_input`, and it with them")
        if self.temperatures is not None and not self.temperatures[0] < self.temperatures[1]:
            raise ValueError(f"`temperatures` must be a lower and a higher one, got {self.temperatures} K")
        return self

    @model_validator(mode="after")
    def _one_charge_for_each_type(self) -> PotentialConfig:
        if self.electrostatics is not None and len(self.type_charges) != len(self.types):
            raise ValueError(
                f"`type_charges` needs one charge for each of {len(self.types)} types, got {len(self.type_charges)}"
            )
        return self

    @model_validator(mode="after")
    def _bodies_of_known_types(self) -> PotentialConfig:
        if unknown := set(self.bodies) - set(self.types):
            raise ValueError(f"`bodies` names the type {min(unknown)!r}, which is not one of `types`")
        return self
