"""What a mapping file says: which atoms make up which bead, and with what weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cgenn import shipped
from cgenn.config import Config

Selection = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BeadRule(Config):
    """One kind of bead: made once per residue, per molecule, or once for a whole selection.

    Attributes:
        name: name of the bead within its residue.
        per: what one such bead is made for.
        select: its atoms, in MDTraj's selection language, within that residue or molecule.
        weights: of its atoms: "mass" puts the bead at their centre of mass, "uniform" at their centroid, virtual sites
            not counted, "single" on the only atom selected; or one number per atom name. They are scaled to sum to one.
        owns: further atoms whose mass, charge and bonds the bead takes over without their moving it.
        type: bead type, what the potential knows it by; `{residue}` and `{name}` are filled in.
        optional: whether it is fine if no residue or molecule has such atoms.
    """

    name: Selection
    per: Literal["residue", "molecule", "selection"] = "residue"
    select: Selection = "all"
    weights: Literal["mass", "uniform", "single"] | dict[str, Weight] = "mass"
    owns: Selection | None = None
    type: Selection = "{residue}-{name}"
    optional: bool = False

    @field_validator("type")
    @classmethod
    def _fillable(cls, template: str) -> str:
        try:
            template.format(residue="", name="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("a bead type may contain {residue} and {name}, nothing else in braces") from None
        return template


class MappingDefinition(Config):
    """A whole mapping: rules for beads, and which atoms are allowed to be in none or in several.

    Attributes:
        description: one line for people.
        selection: the atoms that the mapping is about; the others, such as solvent, are left out.
        unmapped: those within `selection` that may belong to no bead.
        shared: those that may belong to several beads.
        beads: the rules, in the order of the beads within a residue.
        types: other names for bead types, such as "HID-CA" = "HIS-CA".
    """

    description: str = ""
    selection: Selection = "all"
    unmapped: Selection | None = None
    shared: Selection | None = None
    beads: Annotated[tuple[BeadRule, ...], Field(min_length=1)]
    types: dict[str, str] = Field(default_factory=dict)


def load_mapping(name_or_path: str | Path) -> MappingDefinition:
    """Read a mapping that comes with cgenn, by name, or the caller's own, by path.

    Raises:
        ValueError: if there is none, or the file has a key or value that is not understood.
    """
    return MappingDefinition.read(shipped.find("mappings", name_or_path))
