"""Bonds and angles of several wells as expressions of OpenMM; in torch they are in potential/bonded.py."""

from __future__ import annotations


def wells_expression(coordinate: str, parameters: int) -> tuple[str, list[str]]:
    """The energy of a coordinate [kJ/mol] and the names of its parameters, as many as columns of the `TermList`.

    -kt ln sum_i exp(-E_i / kt), taken from the deepest well there: exponentials of others vanish, but not all of them.
    """
    wells = range((parameters - 1) // 3)
    names = ["kt", *(f"{name}{well}" for well in wells for name in ("centre", "k", "energy"))]
    lowest = "e0"
    for well in wells[1:]:
        lowest = f"min({lowest},e{well})"
    energies = [f"e{well}=energy{well}+0.5*k{well}*(value-centre{well})^2" for well in wells]
    total = "+".join(f"exp((lowest-e{well})/kt)" for well in wells)
    return "; ".join([f"lowest-kt*log({total})", f"lowest={lowest}", *energies, f"value={coordinate}"]), names
