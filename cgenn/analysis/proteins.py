"""Proteins by one bead for each residue: RMSD, native contacts, contact maps, secondary structure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from cgenn.analysis.structure import angles, dihedrals, distances
from cgenn.mapping.superposition import superpose

CONTACT = 0.8
"""Distance of two CA atoms in contact [nm]."""
_APART = 3
"""Residues are in contact only if they are farther apart along the chain."""
_STEEPNESS, _STRETCH = 50.0, 1.2

_HELIX = {"turn": (50.0, 20.0), "bend": (89.0, 12.0), "third": (0.53, 0.05), "fourth": (0.64, 0.06)}
_STRAND = {
    "turn": (-170.0, 45.0),
    "bend": (124.0, 14.0),
    "second": (0.67, 0.06),
    "third": (0.99, 0.09),
    "fourth": (1.24, 0.11),
}
_SHORTEST = {"helix": 5, "strand": 3}
"""Residues in a row."""


def rmsd(positions: Float[np.ndarray, "frames n 3"], native: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " frames"]:
    """Root mean square deviation from a structure after the best superposition, without reflection [nm].

    Raises:
        ValueError: if the structure has not as many beads.
    """
    _check_native(positions, native)
    moved = positions - positions.mean(axis=1, keepdims=True)
    fixed = native - native.mean(axis=0)
    turned = np.einsum("fij,nj->fni", superpose(fixed, moved), fixed)
    return np.sqrt(np.square(moved - turned).sum(axis=2).mean(axis=1))


def native_pairs(native: Float[np.ndarray, "n 3"], cutoff: float = CONTACT) -> Int[np.ndarray, "pairs 2"]:
    """Residues in contact in a structure: more than three apart along the chain, and closer than `cutoff` [nm]."""
    pairs = np.stack(np.triu_indices(len(native), _APART + 1), axis=1)
    return pairs[distances(native[None], pairs)[0] < cutoff]


def native_contacts(
    positions: Float[np.ndarray, "frames n 3"], native: Float[np.ndarray, "n 3"], cutoff: float = CONTACT
) -> Float[np.ndarray, " frames"]:
    """Q, the share of native contacts that are there: mean of 1 / (1 + exp(beta (r - lambda r_native))).

    Best, Hummer and Eaton, Proc. Natl. Acad. Sci. USA 110, 17874 (2013), eq. 1, with beta = 50 /nm. Their lambda of 1.8
    is for atoms closer than 0.45 nm; between CA atoms closer than 0.8 nm it would count residues that have lost each
    other, and it is 1.2 here. Q of the native structure itself is 1 within 1e-2.

    Raises:
        ValueError: if the structure has not as many beads, or no contacts.
    """
    _check_native(positions, native)
    pairs = native_pairs(native, cutoff)
    if not len(pairs):
        raise ValueError(f"no two of the {len(native)} residues are in contact in the native structure")
    excess = distances(positions, pairs) - _STRETCH * distances(native[None], pairs)
    return (1.0 / (1.0 + np.exp(np.minimum(_STEEPNESS * excess, 500.0)))).mean(axis=1)


def in_contact(positions: Float[np.ndarray, "frames n 3"], cutoff: float = CONTACT) -> Bool[np.ndarray, "frames n n"]:
    """Whether residues are closer than `cutoff` [nm], for a map of contacts."""
    return np.linalg.norm(positions[:, :, None] - positions[:, None, :], axis=-1) < cutoff


def secondary_structure(
    trace: Float[np.ndarray, "frames residues 3"],
) -> tuple[Bool[np.ndarray, "frames residues"], Bool[np.ndarray, "frames residues"]]:
    """Which residues are in helices, and which in strands, by their CA atoms alone.

    The criteria of P-SEA (Labesse et al., Comput. Appl. Biosci. 13, 291, 1997): the angle of residues i-1, i, i+1 and
    the dihedral of i-1 ... i+2, or the distances from i-1 to i+2 and i+3 (for strands also to i+1), are those of the
    structure, in five residues in a row for a helix and three for a strand. Besides, a helix has to be right-handed,
    which distances do not tell. Elements are not extended at their ends, and strands need no partner, so that both are
    fewer, or more, than those of DSSP.

    Raises:
        ValueError: if there are fewer than five residues.
    """
    n = trace.shape[1]
    if n < 5:
        raise ValueError(f"secondary structure needs five or more residues, got {n}")
    found = _measures(np.asarray(trace, dtype=float))
    helix = _like(found, _HELIX, ("turn", "bend")) | _like(found, _HELIX, ("third", "fourth"))
    strand = _like(found, _STRAND, ("turn", "bend")) | _like(found, _STRAND, ("second", "third", "fourth"))
    helix = _runs(helix & ~(found["turn"] < 0.0), _SHORTEST["helix"])
    return helix, _runs(strand & ~helix, _SHORTEST["strand"])


def _measures(trace: np.ndarray) -> dict[str, np.ndarray]:
    """Angles [degrees] and distances [nm] about each residue; NaN where the chain ends before."""
    frames, n = trace.shape[:2]

    def about(measure: np.ndarray, start: int) -> np.ndarray:
        result = np.full((frames, n), np.nan)
        result[:, start : start + measure.shape[1]] = measure
        return result

    def rows(size: int) -> np.ndarray:
        return np.arange(n - size + 1)[:, None] + np.arange(size)

    def apart(steps: int) -> np.ndarray:
        return about(np.linalg.norm(trace[:, steps:] - trace[:, :-steps], axis=-1), 1)

    return {
        "bend": about(np.degrees(angles(trace, rows(3))), 1),
        "turn": about(np.degrees(dihedrals(trace, rows(4))), 1),
        "second": apart(2)[:, :n],
        "third": apart(3),
        "fourth": apart(4),
    }


def _like(
    found: dict[str, np.ndarray], wanted: dict[str, tuple[float, float]], names: tuple[str, ...]
) -> Bool[np.ndarray, "frames residues"]:
    """Where all of the measures are within their width of the ideal."""
    result = np.ones(found["bend"].shape, dtype=bool)
    for name in names:
        centre, width = wanted[name]
        away = found[name] - centre
        away = (away + 180.0) % 360.0 - 180.0 if name == "turn" else away
        result &= np.abs(away) <= width  # false where it is not known
    return result


def _runs(marks: Bool[np.ndarray, "frames residues"], shortest: int) -> Bool[np.ndarray, "frames residues"]:
    """Marks in rows of at least `shortest`."""
    windows = np.lib.stride_tricks.sliding_window_view(marks, shortest, axis=1).all(axis=2)
    result = np.zeros_like(marks)
    for start in range(shortest):
        result[:, start : start + windows.shape[1]] |= windows
    return result


def _check_native(positions: np.ndarray, native: np.ndarray) -> None:
    if np.shape(native) != np.shape(positions)[1:]:
        raise ValueError(f"the native structure must have the shape {np.shape(positions)[1:]}, got {np.shape(native)}")
