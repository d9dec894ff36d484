"""Structure factors of the model against those of the reference, of number and of charge, as part of a report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cgenn.analysis.curves import Curve, Panel, curves_figure
from cgenn.analysis.electric_figures import charge_structure_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.sections import Part, Picture, Section, Table
from cgenn.analysis.structure_factor import StructureFactors, debye_wavenumber, structure_factors
from cgenn.topology import BeadTopology

_NO_CHARGE = 1e-6
"""Charges that add up to nothing but rounding [e]."""
_WAVES = 2.5
"""Structure factors reach so many times 2 pi over the mean distance of beads, but have at most ..."""
_VECTORS = 20_000
"""... so many wave vectors."""


def structure_factor_part(topology: BeadTopology, reference: Ensemble, model: Ensemble, temperature: float) -> Part:
    """S(k) of the beads, and of their charges if they have any; nothing without a box."""
    if reference.box is None or model.box is None or len(topology) < 2:
        return Part()
    density = reference.number_density
    volume = len(topology) / density
    k_max = 2.0 * np.pi * min(_WAVES * density ** (1 / 3), (1.5 * _VECTORS / (np.pi * volume)) ** (1 / 3))
    shortest = max(
        float(2.0 * np.pi / np.linalg.norm(np.asarray(side.box), axis=-1).min()) for side in (reference, model)
    )
    charges = topology.charges if np.any(np.abs(topology.charges) > _NO_CHARGE) else None
    factors = {
        side.label: structure_factors(side, max(k_max, 1.5 * shortest), charges=charges) for side in (reference, model)
    }
    curves = {label: Curve(found.k, found.number, found.number_error) for label, found in factors.items()}
    text = "How the density of beads varies over distances 2 pi / k: S(k) = <|sum_i exp(i k.r_i)|^2> / N."
    image = curves_figure([Panel("k (1/nm)", "S(k)", curves, level=1.0)])
    section = Section("Structure factor", text, (Picture("structure_factor", image, "Of all beads alike."),))
    numbers = {label: {"k": found.k.tolist(), "s": found.number.tolist()} for label, found in factors.items()}
    sections = (section,) if charges is None else (section, _charges(charges, density, temperature, factors))
    return Part(numbers={"structure_factor": numbers}, sections=sections)


def _charges(
    charges: np.ndarray, density: float, temperature: float, factors: Mapping[str, StructureFactors]
) -> Section:
    debye = debye_wavenumber(charges, density, temperature)
    rows = tuple(
        (label, float(found.k[0]), float(found.charge[0]))
        for label, found in factors.items()
        if found.charge is not None
    )
    text = (
        "Correlations of the charges of the beads. In a conducting liquid they vanish at small k as (k / k_D)^2, "
        f"k_D = {debye:.3g} /nm; a model without Coulomb forces beyond its cutoff does not do that."
    )
    heads = ("", "smallest k [1/nm]", "S_zz there [1]")
    picture = Picture("charge_structure", charge_structure_figure(factors, debye), "Charge structure factor.")
    return Section("Charges", text, (picture,), (Table(heads, rows),))
