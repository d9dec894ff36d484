"""Parameters of a chain by SMARTS, from a force field of the Open Force Field Initiative, as one of OpenMM."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Float

from cgenn.chemistry.polymer import Polymer
from cgenn.chemistry.units import Units

CHARGES = "openff-gnn-am1bcc-1.0.0.pt"
"""Model of charges where the force field names none."""
_KNOWN = {"Constraints", "Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW"}
_SIGMA = 2.0 ** (5.0 / 6.0)
"""Sigma of a Lennard-Jones potential over half of its minimum's distance."""


@dataclass(frozen=True)
class Parameters:
    """A force field for one kind of chain.

    Attributes:
        xml: as `openmm.app.ForceField` reads it.
        spread: largest difference of a charge from the mean of those that were made one [e].
        shift: largest change of a charge that makes repeat units neutral [e].
    """

    xml: str
    spread: float
    shift: float


def parametrize(chain: Polymer, force_field: str = "openff-2.3.0") -> Parameters:
    """Residue templates and parameters of a chain, for chains of its repeat unit that are as long or longer.

    Bonds, angles, dihedrals and Lennard-Jones by SMIRNOFF (Mobley et al. 2018, doi 10.1021/acs.jctc.8b00640), charges
    of AM1-BCC as a graph network predicts them (NAGL). Atoms of one type have the mean of their charges; then the
    middle units are made neutral, and the ends together.

    Args:
        chain: with both ends and all neighbourhoods of repeat units that are to have parameters: eight units, or all.
        force_field: name of an OFFXML file that is installed, such as "openff-2.3.0", or its path.

    Raises:
        ValueError: if there is no such force field, it has none for the chain, or the chain is charged.
        ImportError: without openff-toolkit and openff-nagl.
    """
    if charge := sum(atom.GetFormalCharge() for atom in chain.molecule.GetAtoms()):
        raise ValueError(f"expected a neutral chain, as no counterions are added, got a charge of {charge:+d} e")
    labels, predicted = _labelled(chain, force_field)
    units = Units.of(chain)
    charges, spread, shift = _shared(chain, units, predicted)
    root = ElementTree.Element("ForceField")
    _write_types(root, chain, units)
    _write_residues(root, chain, units, charges)
    _write_bonded(root, units, labels)
    _write_nonbonded(root, units, labels)
    ElementTree.indent(root)
    return Parameters(ElementTree.tostring(root, encoding="unicode") + "\n", spread, shift)


@contextmanager
def _as_openff_wants_it() -> Iterator[None]:
    """Its networks are of single precision; toolkits that are not installed are nothing to speak of."""
    loggers = [logging.getLogger(name) for name in ("openff", "pint")]
    levels, precision = [one.level for one in loggers], torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        torch.set_default_dtype(precision)
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _labelled(chain: Polymer, name: str) -> tuple[dict[str, Any], Float[np.ndarray, " atoms"]]:
    """Parameters of each handler by atoms, and charges [e]."""
    with _as_openff_wants_it():
        try:
            from openff.toolkit import ForceField, Molecule
            from openff.toolkit.utils.toolkits import NAGLToolkitWrapper
        except ImportError as error:
            raise ImportError(f'parameters by OpenFF need `pip install "cgenn[openff]"` ({error})') from None
        try:
            field = ForceField(_file(name))
        except (OSError, ValueError):
            raise ValueError(
                f"no force field {name!r}: expected OpenFF's by name, such as openff-2.3.0, or an OFFXML file"
            ) from None
        molecule = Molecule.from_rdkit(chain.molecule, allow_undefined_stereo=True, hydrogens_are_explicit=True)
        labels = field.label_molecules(molecule.to_topology())[0]
        if other := {key for key, found in labels.items() if len(found)} - _KNOWN:
            raise ValueError(f"{name}: {', '.join(sorted(other))} cannot be written in OpenMM's format here")
        handlers = field.registered_parameter_handlers
        model = field.get_parameter_handler("NAGLCharges").model_file if "NAGLCharges" in handlers else CHARGES
        molecule.assign_partial_charges(model, toolkit_registry=NAGLToolkitWrapper())
    return labels, np.asarray(molecule.partial_charges.m_as("elementary_charge"), dtype=float)


def _file(name: str) -> str:
    """OFFXML files without constraints, which are chosen when a System is made."""
    if name.endswith(".offxml"):
        return name
    family, _, version = name.partition("-")
    return f"{family}_unconstrained-{version}.offxml" if family == "openff" and version else f"{name}.offxml"


def _shared(
    chain: Polymer, units: Units, predicted: Float[np.ndarray, " atoms"]
) -> tuple[dict[str, float], float, float]:
    """One charge for each type, neutral units, and what that changed [e]."""
    groups: dict[str, list[int]] = defaultdict(list)
    for atom, kind in enumerate(units.types):
        groups[kind].append(atom)
    means = {kind: float(predicted[atoms].mean()) for kind, atoms in groups.items()}
    spread = max(float(abs(predicted[atoms] - means[kind]).max()) for kind, atoms in groups.items())
    shift, middle = 0.0, {"MID"}
    for names in (middle, set(units.names) - middle):
        residues = dict(zip(units.names, chain.topology.residues(), strict=True))
        members = [units.types[atom.index] for name in names & set(residues) for atom in residues[name].atoms()]
        change = -sum(means[kind] for kind in members) / max(1, len(members))
        for kind in set(members):
            means[kind] += change
        shift = max(shift, abs(change))
    return means, spread, shift


def _write_types(root: ElementTree.Element, chain: Polymer, units: Units) -> None:
    parent = ElementTree.SubElement(root, "AtomTypes")
    written = set()
    for atom, kind in zip(chain.topology.atoms(), units.types, strict=True):
        if kind not in written:
            words = {
                "name": kind,
                "class": kind,
                "element": atom.element.symbol,
                "mass": repr(atom.element.mass._value),
            }
            ElementTree.SubElement(parent, "Type", words)
        written.add(kind)


def _write_residues(root: ElementTree.Element, chain: Polymer, units: Units, charges: dict[str, float]) -> None:
    parent = ElementTree.SubElement(root, "Residues")
    written = set()
    for residue, name in zip(chain.topology.residues(), units.names, strict=True):
        if name in written:
            continue
        written.add(name)
        entry = ElementTree.SubElement(parent, "Residue", name=name)
        for atom in residue.atoms():
            kind = units.types[atom.index]
            ElementTree.SubElement(entry, "Atom", name=atom.name, type=kind, charge=repr(charges[kind]))
        for bond in residue.internal_bonds():
            ElementTree.SubElement(entry, "Bond", atomName1=bond[0].name, atomName2=bond[1].name)
        for bond in residue.external_bonds():
            (inside,) = (atom for atom in bond if atom.residue is residue)
            ElementTree.SubElement(entry, "ExternalBond", atomName=inside.name)


def _write_bonded(root: ElementTree.Element, units: Units, labels: dict[str, Any]) -> None:
    area, angular = "kilojoule_per_mole / nanometer**2", "kilojoule_per_mole / radian**2"
    bonds = _by_type(labels["Bonds"], units, lambda p: {"length": p.length.m_as("nanometer"), "k": p.k.m_as(area)})
    angles = _by_type(labels["Angles"], units, lambda p: {"angle": p.angle.m_as("radian"), "k": p.k.m_as(angular)})
    propers = _by_type(labels["ProperTorsions"], units, lambda p: _torsion(p, p.idivf or [1.0] * len(p.k)))
    impropers = _by_type(labels["ImproperTorsions"], units, lambda p: _torsion(p, [3.0] * len(p.k)), centre=1)
    parts: tuple[tuple[str, dict[str, str], str, dict[tuple[str, ...], dict[str, float]]], ...] = (
        ("HarmonicBondForce", {}, "Bond", bonds),
        ("HarmonicAngleForce", {}, "Angle", angles),
        ("PeriodicTorsionForce", {}, "Proper", propers),
        ("PeriodicTorsionForce", {"ordering": "smirnoff"}, "Improper", impropers),
    )
    for force, attributes, tag, entries in parts:
        parent = ElementTree.SubElement(root, force, attributes)
        for kinds, values in entries.items():
            words = {f"type{number}": kind for number, kind in enumerate(kinds, start=1)}
            ElementTree.SubElement(parent, tag, words | {key: repr(value) for key, value in values.items()})


def _torsion(parameter: Any, divided: Iterable[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    terms = zip(parameter.periodicity, parameter.phase, parameter.k, divided, strict=True)
    for number, (periodicity, phase, k, by) in enumerate(terms, start=1):
        found[f"periodicity{number}"] = int(periodicity)
        found[f"phase{number}"] = float(phase.m_as("radian"))
        found[f"k{number}"] = float(k.m_as("kilojoule_per_mole")) / float(by)
    return found


def _by_type(
    labels: Any, units: Units, values: Callable[[Any], dict[str, float]], centre: int | None = None
) -> dict[tuple[str, ...], dict[str, float]]:
    """Parameters by types of atoms; in an improper the centre comes first.

    Raises:
        ValueError: if atoms of the same types have different ones: a single and a double bond between equal atoms.
    """
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for atoms, parameter in labels.items():
        kinds = tuple(units.types[atom] for atom in atoms)
        if centre is not None:
            kinds = (kinds[centre], *sorted(kinds[:centre] + kinds[centre + 1 :]))
        key, entry = min(kinds, kinds if centre is not None else kinds[::-1]), values(parameter)
        if found.setdefault(key, entry) != entry:
            raise ValueError(
                f"the atoms {', '.join(key)} have different parameters within a repeat unit and between two of them: "
                "expected one; write the repeat unit twice, as [*]C=CC=C[*]"
            )
    return found


def _write_nonbonded(root: ElementTree.Element, units: Units, labels: dict[str, Any]) -> None:
    parent = ElementTree.SubElement(root, "NonbondedForce", coulomb14scale="0.8333333333333334", lj14scale="0.5")
    ElementTree.SubElement(parent, "UseAttributeFromResidue", name="charge")
    entries = _by_type(
        labels["vdW"],
        units,
        lambda p: {
            "sigma": _SIGMA * p.rmin_half.m_as("nanometer") if p.rmin_half is not None else p.sigma.m_as("nanometer"),
            "epsilon": p.epsilon.m_as("kilojoule_per_mole"),
        },
    )
    for (kind,), values in entries.items():
        words = {"type": kind} | {key: repr(float(value)) for key, value in values.items()}
        ElementTree.SubElement(parent, "Atom", words)
