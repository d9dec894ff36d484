"""Physical constants and unit factors.

Inside cgenn every number is in nm, ps, kJ/mol, e, amu and K, as in OpenMM. Other units exist only where a file or
an argument from outside is read; `factor` is what converts them.
"""

GAS_CONSTANT = 0.00831446261815324
"""Molar gas constant, k_B N_A [kJ/mol/K] (CODATA 2018, exact)."""

COULOMB = 138.93545764438198
"""1 / (4 pi epsilon_0) [kJ/mol nm/e^2], as OpenMM has it."""

BAR = 0.0602214076
"""One bar [kJ/mol/nm^3]."""

AMU_PER_NM3 = 1.66053906660e-3
"""One amu/nm^3 [g/cm^3] (CODATA 2018)."""

_FACTORS: dict[str, dict[str, float]] = {
    "length": {"nm": 1.0, "A": 0.1, "angstrom": 0.1, "pm": 1e-3, "bohr": 0.0529177210903},
    "energy": {"kJ/mol": 1.0, "kcal/mol": 4.184, "eV": 96.48533212331, "hartree": 2625.4996394799},
    "force": {
        "kJ/mol/nm": 1.0,
        "kJ/mol/A": 10.0,
        "kcal/mol/A": 41.84,
        "kcal/mol/nm": 4.184,
        "eV/A": 964.8533212331,
        "hartree/bohr": 49614.7526,
    },
    "time": {"ps": 1.0, "fs": 1e-3, "ns": 1e3},
    "dipole": {"e nm": 1.0, "e A": 0.1, "D": 0.0208194},
}


def factor(quantity: str, unit: str) -> float:
    """The number that turns a `quantity` in `unit` into cgenn's: length, energy, force, time or dipole.

    Raises:
        ValueError: if the unit is not known for that quantity.
    """
    known = _FACTORS[quantity]
    if unit not in known:
        raise ValueError(f"unknown {quantity} unit {unit!r}, expected one of {', '.join(known)}")
    return known[unit]


def known_units(quantity: str) -> set[str]:
    """The units that `factor` knows for a quantity."""
    return set(_FACTORS[quantity])


def thermal_energy(temperature: float) -> float:
    """kT [kJ/mol] at `temperature` [K].

    Raises:
        ValueError: if the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature} K")
    return GAS_CONSTANT * temperature
