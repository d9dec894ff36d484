"""Ions of models against those of a reference: radial distributions, charge structure factors, perfect screening."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cgenn.analysis.electric_figures import charge_structure_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import radial_figure
from cgenn.analysis.radial import radial_distributions
from cgenn.analysis.structure_factor import debye_wavenumber, structure_factors
from cgenn.files import atomic
from cgenn.topology import BeadTopology

_MEANINGS = {
    "k_min": "1/nm",
    "s_zz": "1, per sum of squared charges",
    "rdf_error": "1, mean |difference of g(r)|",
}


def compare_ions(
    topology: BeadTopology,
    reference: Ensemble,
    model: Ensemble,
    control: Ensemble,
    temperature: float,
    folder: str | Path,
    *,
    k_max: float = 40.0,
) -> dict[str, Any]:
    """Write `radial.png` and `charge-structure.png` into `folder` and return the numbers behind them, with `units`.

    The charge structure factor at the smallest wave vector, k_min, of the three; what it tends to there in any
    conducting liquid, (k_min / k_D)^2 (Stillinger and Lovett, J. Chem. Phys. 49, 1991, 1968); and the mean error of the
    radial distribution functions of the model ("long_range") and of the control ("short_range").

    Args:
        topology: beads with their charges.
        reference: frames of the mapped all-atom run.
        model: of a model with charges.
        control: of one without.
        temperature: [K].
        folder: for the figures.
        k_max: of the structure factors [1/nm].

    Raises:
        ValueError: if the reference has no box, or no bead a charge.
    """
    if reference.box is None or not np.any(topology.charges):
        missing = "there is no box" if reference.box is None else "no bead has a charge"
        raise ValueError(f"{reference.label}: ions are compared by their charges in a box, but {missing}")
    ensembles = {"reference": reference, "long_range": model, "short_range": control}
    radial = {name: radial_distributions(topology.types, entry, bins=100) for name, entry in ensembles.items()}
    factors = {name: structure_factors(entry, k_max, charges=topology.charges) for name, entry in ensembles.items()}
    debye = debye_wavenumber(topology.charges, reference.number_density, temperature)
    figures = {
        "radial.png": _radial_figure(radial, ensembles),
        "charge-structure.png": charge_structure_figure(
            {entry.label: factors[name] for name, entry in ensembles.items()}, debye
        ),
    }
    for name, picture in figures.items():
        with atomic(Path(folder) / name) as temporary:
            temporary.write_bytes(picture)
    k = float(factors["reference"].k[0])
    numbers = {"k_min": k, "s_zz_screening_limit": (k / debye) ** 2}
    for name, entry in factors.items():
        assert entry.charge is not None
        numbers[f"s_zz_at_k_min_{name}"] = float(entry.charge[0])
    for name in ("long_range", "short_range"):
        numbers[f"rdf_error_{name}"] = float(np.abs(radial[name].g - radial["reference"].g).mean())
    units = {key: unit for key in numbers for start, unit in _MEANINGS.items() if key.startswith(start)}
    return {**numbers, "figures": [str(Path(folder) / name) for name in figures], "units": units}


def _radial_figure(radial: Mapping[str, Any], ensembles: Mapping[str, Ensemble]) -> bytes:
    labels = tuple(entry.label for entry in ensembles.values())
    rows = range(len(radial["reference"].names))
    return radial_figure(radial["reference"], radial["long_range"], rows, labels, radial["short_range"])
