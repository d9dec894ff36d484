"""What a mapping file says: which atoms make up which bead, and with what weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cgenn import shipped
from cgenn.config import Config
from cgenn.symmetry import point_group

Selection = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FrameRule(Config):
    """How the orientation of a bead is told from its atoms.

    All beads of a type share a reference geometry: the average over frames, superposed, and made exactly as symmetric
    as declared. The axes of the frame are principal axes of this geometry through its centre of mass, and turn with it.

    Attributes:
        symmetry: point group in Schoenflies notation that the bead has for the potential, main axis along z; the
            geometry must have it, or for Cinfv, Dinfh and Cinfh, unless its atoms are on a line, equal moments of
            inertia about x and y.
        kind: what tells how a bead is turned against the reference: "superposition", the rotation of least square
            deviation, in which all atoms count the same; "atoms", the three atoms named (the plane they lie in, and the
            line from the first to the second); "principal", its own principal axes, those next to the superposition,
            so that they neither swap nor change sign. Symmetric groups have none of their own: use the others there.
        atoms: names of three atoms that are not on a line, for kind "atoms".
        z: which principal axis is z: that of the "largest", "middle" or "smallest" moment, "unique" for the one whose
            moment differs most from the others, the axis of a disc and of a rod; or names of atoms, for the one
            closest to the direction from the centre of mass to their centroid.
        x: names of atoms whose centroid x points to, as far as z and the principal axes allow. By default x is the axis
            of the smaller moment, or towards the first atom where the symmetry leaves the choice.
    """

    symmetry: Selection = "C1"
    kind: Literal["superposition", "atoms", "principal"] = "superposition"
    atoms: tuple[str, ...] = ()
    z: Literal["unique", "largest", "middle", "smallest"] | Annotated[tuple[str, ...], Field(min_length=1)] = "unique"
    x: tuple[str, ...] = ()

    @field_validator("symmetry")
    @classmethod
    def _known(cls, symmetry: str) -> str:
        point_group(symmetry)
        return symmetry

    @model_validator(mode="after")
    def _three_atoms(self) -> Self:
        wanted = 3 if self.kind == "atoms" else 0
        if len(set(self.atoms)) != wanted or len(self.atoms) != wanted:
            raise ValueError(f'`atoms` must have {wanted} different names with `kind` "{self.kind}", got {self.atoms}')
        return self


_PLACEHOLDERS = ("residue", "name", "position", "heavy", "tacticity")


class BeadRule(Config):
    """One kind of bead: made per residue, per molecule, once for a whole selection, or for each match of a SMARTS.

    With `smarts` or `atoms` hydrogens and virtual sites go with the heavy atom they are bonded to.

    Attributes:
        name: name of the bead within its residue.
        per: what one such bead is made for.
        select: its atoms, in MDTraj's selection language, within that residue or molecule.
        smarts: instead of `per`: every match within `select` is a bead. If atoms of the pattern have map numbers, as in
            "[CH2:1][CH2:1]O", only these belong to the bead, and the others are what it must be bonded to.
        atoms: instead of `per`: templates of residues, names of atoms by name of residue, as in PHE = "CB CG"; one for
            several residues has all their names, as in "HIS HIE" = "CB CG".
        merge: how many matches of `smarts` that follow one another along a chain make one bead; the first and the last
            bead of a chain take what is left over.
        weights: of its atoms: "mass" puts the bead at their centre of mass, "uniform" at their centroid, virtual sites
            not counted, "single" on the only atom selected; or one number per atom name, with `smarts` per map number,
            where hydrogens count nothing. They are scaled to sum to one.
        owns: further atoms whose mass, charge and bonds the bead takes over without their moving it.
        type: bead type, what the potential knows it by. Filled in are `{residue}`, `{name}`, `{position}` in the chain
            ("end", "middle", "branch", "single"), `{heavy}`, the number of heavy atoms, and `{tacticity}`, the
            handedness of its stereocentres (R, S) or, where both arms of the chain are alike, how it goes on to the
            neighbours (meso m, racemic r, such as mm, mr, rr).
        side: whether it is a side group, which does not count in the chain and has the position of what it hangs on.
        connected: whether its atoms must be joined by bonds; checked with `smarts` and `atoms`.
        mixed_stereo: whether beads of one type may differ in tacticity or handedness: by `smarts` an
            error if not, else a warning.
        optional: whether it is fine if no residue or molecule has such atoms.
        frame: how the orientation of the bead is told; None for a bead without one.
    """

    name: Selection
    per: Literal["residue", "molecule", "selection"] = "residue"
    select: Selection = "all"
    smarts: Selection | None = None
    atoms: Annotated[dict[Selection, Selection], Field(min_length=1)] | None = None
    merge: Annotated[int, Field(ge=1)] = 1
    weights: Literal["mass", "uniform", "single"] | dict[str, Weight] = "mass"
    owns: Selection | None = None
    type: Selection = "{residue}-{name}"
    side: bool = False
    connected: bool = True
    mixed_stereo: bool = False
    optional: bool = False
    frame: FrameRule | None = None

    @field_validator("type")
    @classmethod
    def _fillable(cls, template: str) -> str:
        try:
            template.format(**dict.fromkeys(_PLACEHOLDERS, ""))
        except (KeyError, IndexError, ValueError):
            known = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            raise ValueError(f"a bead type may contain {known}, nothing else in braces") from None
        return template

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = self.model_fields_set
        ways = [key for key in ("smarts", "atoms", "owns", "per") if key in given and getattr(self, key) is not None]
        if len(ways) > 1 and set(ways) != {"owns", "per"}:
            raise ValueError(f"`{ways[0]}` and `{ways[1]}` exclude each other")
        if self.merge > 1 and self.smarts is None:
            raise ValueError("`merge` joins matches of `smarts`, which is missing")
        return self

    @field_validator("frame")
    @classmethod
    def _about_the_centre_of_mass(cls, frame: FrameRule | None, info: ValidationInfo) -> FrameRule | None:
        if frame is not None and (info.data.get("weights") != "mass" or info.data.get("owns") is not None):
            raise ValueError(
                'a bead with a frame needs `weights` "mass" and no `owns`: it turns about its centre of mass'
            )
        return frame


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
