"""Density and stiffness of the model against those of the reference, as part of a report."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cgenn.analysis.compared import Compared, compared_table
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.molecules import is_lipid, molecule_kinds
from cgenn.analysis.sections import Part, Section
from cgenn.analysis.statistics import BlockAverages, Estimate, jackknife
from cgenn.topology import BeadTopology
from cgenn.units import AMU_PER_NM3, BAR, thermal_energy

_TEXT = (
    "Mass of the beads over the volume of the box, where that fluctuates. Bulk modulus from these fluctuations, "
    "K = kT <V> / var(V): of small boxes and short runs no more than an estimate."
)


def density_part(topology: BeadTopology, reference: Ensemble, model: Ensemble, temperature: float) -> Part:
    """Where a volume fluctuates; nothing for lipids, whose box may be empty above them."""
    sides = (reference, model)
    if any(is_lipid(topology, kind) for kind in molecule_kinds(topology)):
        return Part()
    boxes = [np.asarray(side.box, dtype=float) for side in sides if side.box is not None]
    volumes = [np.abs(np.linalg.det(box)) for box in boxes]
    moves = [bool(np.ptp(volume) > 1e-6 * volume.mean()) for volume in volumes]
    if len(volumes) < 2 or not any(moves):
        return Part()
    mass, labels = float(topology.masses.sum()) * AMU_PER_NM3, (reference.label, model.label)
    found = [_averages(side, volume, mass) for side, volume in zip(sides, volumes, strict=True)]
    numbers = [Compared("density", "Density", "g/cm^3", *(side.estimate(0) for side in found))]
    if all(moves):
        moduli = [bulk_modulus(side, temperature) for side in found]
        numbers.append(Compared("bulk_modulus", "Bulk modulus", "bar", *moduli))
    headline = {"density": numbers[0].number(labels)}
    section = Section("Density", _TEXT, tables=(compared_table(numbers, labels),))
    return Part(headline, {"density": {entry.key: entry.to_dict() for entry in numbers}}, (section,))


def _averages(side: Ensemble, volumes: Float[np.ndarray, " frames"], mass: float) -> BlockAverages:
    """Columns: density, volume, and its square about the mean of all frames, which keeps its digits."""
    centred = volumes - volumes.mean()
    return BlockAverages.of(np.column_stack([mass / volumes, volumes, centred**2, centred]), side.block_index)


def bulk_modulus(found: BlockAverages, temperature: float) -> Estimate:
    """K [bar] at `temperature` [K], with the error of leaving out one block after the other (jackknife)."""

    def modulus(sums: np.ndarray) -> float:
        _, volume, square, shift = sums[:-1] / sums[-1]
        return float(thermal_energy(temperature) * volume / (square - shift**2) / BAR)

    sums = np.column_stack([found.sums, found.frames])
    if found.frames.sum() < 2 * np.count_nonzero(found.frames):
        return Estimate(modulus(sums.sum(axis=0)), None)
    return Estimate(*jackknife(sums, modulus))
