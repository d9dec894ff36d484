"""Coulomb energies of charges and dipoles, differentiable in everything, in any cell; useful alone."""

from cgenn.electrostatics.charges import charge_groups, neutralise
from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import CoulombPairs, coulomb_pairs
from cgenn.electrostatics.settings import CoulombSettings, tune

__all__ = [
    "CoulombPairs",
    "CoulombSettings",
    "charge_groups",
    "coulomb_energy",
    "coulomb_pairs",
    "neutralise",
    "tune",
]
