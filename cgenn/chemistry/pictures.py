"""Pictures of mapped molecules: drawn flat with the beads coloured, and in space as a page for the browser."""

from __future__ import annotations

import colorsys
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cgenn.files import atomic
from cgenn.mapping.bond_orders import import_rdkit
from cgenn.mapping.mapping import Mapping
from cgenn.mapping.molecules import find_kinds

if TYPE_CHECKING:
    from rdkit import Chem

_WIDTH = 900
_BOND_PIXELS = 28
_LEGEND = 26
"""Height of a line of the legend [pixels]."""


def draw_mapping(mapping: Mapping, path: str | Path) -> None:
    """Draw each kind of molecule once as SVG, without hydrogens; each bead in the colour of its type.

    Raises:
        ImportError: without RDKit.
    """
    owner = _owner(mapping)
    colours = bead_colours(mapping)
    parts, top = [], 10
    for kind in find_kinds(mapping.atoms, np.flatnonzero(owner >= 0)):
        drawing, height = _drawing(kind.molecule, owner[kind.members[0]], mapping.topology.types, colours)
        copies = f'<text x="10" y="{top + 16}" font-size="14">{len(kind.members)} of</text>'
        parts.append(f'{copies}<g transform="translate(0,{top})">{drawing}</g>')
        top += height + 10
    for number, (name, colour) in enumerate(colours.items()):
        column, line = number % 4, number // 4
        x, y = 20 + column * _WIDTH // 4, top + 16 + line * _LEGEND
        red, green, blue = (round(255 * part) for part in colour)
        parts.append(f'<circle cx="{x}" cy="{y}" r="8" fill="rgb({red},{green},{blue})"/>')
        parts.append(f'<text x="{x + 14}" y="{y + 5}" font-size="14">{escape(name)}</text>')
    height = top + _LEGEND * (-(-len(colours) // 4)) + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif">'
    with atomic(path) as temporary:
        temporary.write_text("\n".join([head, *parts, "</svg>"]), encoding="utf-8")


def view_mapping(mapping: Mapping, positions: Float[np.ndarray, "atoms 3"], path: str | Path) -> None:
    """Write a page that shows atoms and beads over one another in space; it needs no network.

    Args:
        positions: with whole molecules [nm].
    """
    colours = bead_colours(mapping)
    names = list(colours)
    owner = _owner(mapping)
    shown = np.flatnonzero(owner >= 0)
    place = np.full(len(owner), -1)
    place[shown] = np.arange(len(shown))
    bonds = place[mapping.atoms.bonds]
    beads = mapping.map_positions(positions[None])[0]
    data = {
        "atoms": (positions[shown] - beads.mean(axis=0)).round(4).tolist(),
        "elements": mapping.atoms.elements[shown].tolist(),
        "bonds": bonds[(bonds >= 0).all(axis=1)].tolist(),
        "beads": (beads - beads.mean(axis=0)).round(4).tolist(),
        "types": [names.index(name) for name in mapping.topology.types],
        "links": mapping.topology.bonds.tolist(),
        "names": names,
        "colours": [[round(255 * part) for part in colours[name]] for name in names],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = Path(__file__).with_name("view.html").read_text(encoding="utf-8")
    with atomic(path) as temporary:
        temporary.write_text(page.replace("__DATA__", text), encoding="utf-8")


def bead_colours(mapping: Mapping) -> dict[str, tuple[float, float, float]]:
    """A colour for each bead type, in red, green and blue from 0 to 1: hues far apart, first come first."""
    names = list(dict.fromkeys(mapping.topology.types))
    return {name: colorsys.hsv_to_rgb(0.618034 * place % 1.0, 0.45, 0.95) for place, name in enumerate(names)}


def _owner(mapping: Mapping) -> np.ndarray:
    """The first bead that has each atom, or -1."""
    owner = np.full(len(mapping.atoms), -1)
    beads = mapping.owners.tocoo()
    owner[beads.col[::-1]] = beads.row[::-1]
    return owner


def _drawing(
    molecule: Chem.Mol,
    owner: np.ndarray,
    types: tuple[str, ...],
    colours: dict[str, tuple[float, float, float]],
) -> tuple[str, int]:
    """Elements of SVG for a molecule, and their height."""
    chem = import_rdkit("drawing molecules")
    from rdkit.Chem.Draw import rdMolDraw2D

    copy = chem.Mol(molecule)
    for atom in copy.GetAtoms():
        atom.SetIntProp("bead", int(owner[atom.GetIdx()]))
    copy = chem.RemoveHs(copy)
    bead = [atom.GetIntProp("bead") for atom in copy.GetAtoms()]
    shown = {place: colours[types[one]] for place, one in enumerate(bead) if one >= 0}
    within = [
        (bond.GetIdx(), bead[bond.GetBeginAtomIdx()])
        for bond in copy.GetBonds()
        if bead[bond.GetBeginAtomIdx()] == bead[bond.GetEndAtomIdx()] >= 0
    ]
    extent = _extent(copy)
    height = int(np.clip(_BOND_PIXELS * extent, 120, 1200))
    canvas = rdMolDraw2D.MolDraw2DSVG(_WIDTH, height)
    options: Any = canvas.drawOptions()
    options.fixedBondLength = _BOND_PIXELS
    options.highlightRadius = 0.35
    options.highlightBondWidthMultiplier = 14
    options.clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(
        canvas, copy, highlightAtoms=list(shown), highlightAtomColors=shown,
        highlightBonds=[bond for bond, _ in within],
        highlightBondColors={bond: colours[types[one]] for bond, one in within},
    )  # fmt: skip
    canvas.FinishDrawing()
    text = canvas.GetDrawingText()
    return text[text.index("<svg") :], height


def _extent(molecule: Chem.Mol) -> float:
    """Height of the flat drawing in bonds, its long side lying."""
    from rdkit.Chem import rdDepictor

    rdDepictor.Compute2DCoords(molecule)
    flat = molecule.GetConformer().GetPositions()[:, :2]
    if len(flat) > 1:
        rdDepictor.StraightenDepiction(molecule)
        flat = molecule.GetConformer().GetPositions()[:, :2]
    return float(np.ptp(flat[:, 1]) / 1.5 + 3)
