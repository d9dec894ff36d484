"""The potential behind openmmml's MLPotential."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch  # isort: skip
import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.simulation.force import LAMBDA
from cgenn.simulation.moments import BeadMoments
from cgenn.simulation.placement import Placement
from cgenn.simulation.system import create_system

from .conftest import TYPE_CHARGES, with_charges
from .test_mixing import BEADS, evaluate, force_field

openmmml = pytest.importorskip("openmmml")

OPTIONS = {"precision": "double", "device": "cpu"}


ROOT = Path(__file__).parents[2]
ENTRY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch) -> None:
    """Register what the entry point of the package names, as openmmml does for installed packages."""
    module, name = ENTRY["openmmml.potentials"]["cgenn"].split(":")
    factory = getattr(importlib.import_module(module), name)()
    monkeypatch.setitem(openmmml.MLPotential._implFactories, "cgenn", factory)


@pytest.mark.parametrize("first", ["openmmml", "cgenn.simulation.mlpotential"])
def test_found_when_installed(first, model, tmp_path):
    """In a process of its own, with the metadata that an installation leaves."""
    metadata = tmp_path / "cgenn-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cgenn-under-test\nVersion: 0\n")
    lines = [f"[{group}]\n{name} = {target}\n" for group, names in ENTRY.items() for name, target in names.items()]
    (metadata / "entry_points.txt").write_text("".join(lines))
    code = (
        f"import {first}; from openmmml import MLPotential; print(MLPotential('cgenn', modelPath={str(model)!r})._impl)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "BeadPotential object" in done.stdout, done.stderr


@pytest.fixture
def model(potential, tmp_path) -> Path:
    potential.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def whole(topology) -> openmm.app.Topology:
    """The topology of the eleven particles of `force_field`: beads and others, without elements."""
    result = openmm.app.Topology()
    chain = result.addChain()
    for particle in range(11):
        bead = BEADS.index(particle) if particle in BEADS else None
        residue = result.addResidue("X" if bead is None else topology.residue_names[bead], chain)
        result.addAtom("X" if bead is None else topology.names[bead], None, residue)
    atoms = list(result.atoms())
    for i, j in topology.bonds.tolist():
        result.addBond(atoms[BEADS[i]], atoms[BEADS[j]])
    return result


@pytest.fixture
def everything(positions: np.ndarray) -> np.ndarray:
    result = np.random.default_rng(1).uniform(-0.7, 0.7, size=(11, 3))
    result[list(BEADS)] = positions
    return result


@pytest.mark.parametrize("masses", ["list", "quantity", "types"])
@pytest.mark.parametrize("box", [None, [2.0, 2.1, 2.2]])
def test_system_of_beads(potential, topology, positions, model, masses, box):
    named = dict(zip(topology.types, topology.masses.tolist(), strict=True))
    quantity = topology.masses * openmm.unit.dalton
    given = {"list": topology.masses.tolist(), "quantity": quantity, "types": named}[masses]
    beads = topology.to_openmm()
    if box is not None:
        beads.setUnitCellDimensions(box)
    system = openmmml.MLPotential("cgenn", modelPath=model).createSystem(beads, masses=given, **OPTIONS)
    expected, _ = create_system(potential, topology, box=box, **OPTIONS)
    assert [system.getParticleMass(i) for i in range(5)] == [expected.getParticleMass(i) for i in range(5)]
    assert {force.getName() for force in system.getForces()} == {force.getName() for force in expected.getForces()}
    assert system.usesPeriodicBoundaryConditions() == (box is not None)
    assert evaluate(system, positions)[0] == pytest.approx(evaluate(expected, positions)[0], rel=1e-12)


def test_elements_have_masses(model, topology):
    beads = topology.to_openmm()
    for atom in beads.atoms():
        atom.element = openmm.app.element.carbon
    system = openmmml.MLPotential("cgenn", modelPath=model).createSystem(beads)
    assert system.getParticleMass(3)._value == pytest.approx(12.011, abs=1e-3)


@pytest.mark.parametrize("method", ["NoCutoff", "PME"])
@pytest.mark.parametrize("interpolate", [False, True])
def test_mixed_system(potential, topology, model, whole, everything, method, interpolate):
    host = force_field(method)
    host.addConstraint(9, 2, 0.15)
    known = openmmml.MLPotential("cgenn", modelPath=model)
    system = known.createMixedSystem(whole, host, BEADS, forceGroup=5, interpolate=interpolate, **OPTIONS)
    assert system.getNumConstraints() == 0
    kept = known.createMixedSystem(whole, host, BEADS, removeConstraints=False, **OPTIONS)
    assert kept.getNumConstraints() == 1
    names = {force.getName(): force.getForceGroup() for force in system.getForces()}
    assert names["interpolation" if interpolate else "network"] == 5
    expected, _ = create_system(potential, topology, system=host, particles=BEADS, **OPTIONS)
    assert evaluate(system, everything)[0] == pytest.approx(evaluate(expected, everything)[0], rel=1e-7)
    if interpolate:
        found = evaluate(system, everything, parameters={"lambda_interpolate": 0.0})[0]
        assert found == pytest.approx(evaluate(force_field(method), everything)[0], rel=1e-7)


def test_long_range_is_said_rightly(potential, model, tmp_path, whole):
    assert openmmml.MLPotential("cgenn", modelPath=model)._impl.getMLLongRange() is False
    with_charges(potential, charges="predicted").save(tmp_path / "charged.safetensors")
    charged = openmmml.MLPotential("cgenn", modelPath=tmp_path / "charged.safetensors")
    assert charged._impl.getMLLongRange() is True
    assert "mechanical" in charged._impl.getSupportedEmbeddings()
    with pytest.raises(ValueError, match="cuts charges off"):
        charged.createMixedSystem(whole, force_field("CutoffPeriodic"), BEADS, **OPTIONS)


@pytest.mark.parametrize("mixed", [False, True])
def test_charges_of_the_beads(potential, topology, tmp_path, whole, everything, mixed):
    """An ion of which the mean charges of the types know nothing."""
    charged = with_charges(potential, charges="predicted", excluded_bonds=1)
    charged.save(tmp_path / "charged.safetensors")
    known = openmmml.MLPotential("cgenn", modelPath=tmp_path / "charged.safetensors")
    ion = replace(topology, charges=np.array(TYPE_CHARGES) + 0.2)
    if mixed:
        host, places = force_field("NoCutoff"), everything
        found = known.createMixedSystem(whole, host, BEADS, charges=ion.charges.tolist(), **OPTIONS)
        expected, _ = create_system(charged, ion, system=host, particles=BEADS, **OPTIONS)
        same, _ = create_system(charged, whole, system=host, particles=BEADS, charges=ion.charges, **OPTIONS)
        assert evaluate(same, places)[0] == pytest.approx(evaluate(expected, places)[0], rel=1e-9)
    else:
        places, beads = everything[list(BEADS)], topology.to_openmm()
        found = known.createSystem(beads, masses=ion.masses, charges=ion.charges, **OPTIONS)
        expected, _ = create_system(charged, ion, **OPTIONS)
    energy = evaluate(expected, places)[0]
    assert evaluate(found, places)[0] == pytest.approx(energy, rel=1e-9)


def test_interpolation_with_charges(potential, topology, tmp_path, whole, everything):
    charged = with_charges(potential, charges="predicted", excluded_bonds=1)
    charged.save(tmp_path / "charged.safetensors")
    known = openmmml.MLPotential("cgenn", modelPath=tmp_path / "charged.safetensors")
    host = force_field("PME")
    info = known.createMixedSystem(whole, host, BEADS, interpolate=True, returnInfo=True, **OPTIONS)
    whole_potential, _ = create_system(charged, whole, system=host, particles=BEADS, **OPTIONS)
    for scale in (1.0, 0.4):
        ends = [
            evaluate(whole_potential, everything, parameters={LAMBDA: scale})[0],
            evaluate(host, everything)[0],
        ]
        for weight in (1.0, 0.0, 0.6):
            parameters = {"lambda_interpolate": weight, LAMBDA: scale}
            found = evaluate(info["system"], everything, parameters=parameters)[0]
            assert found == pytest.approx(weight * ends[0] + (1 - weight) * ends[1], rel=1e-6)


@pytest.mark.parametrize("mixed", [None, False, True], ids=["alone", "mixed", "interpolated"])
def test_energy_of_constant_charges_in_any_group(potential, topology, tmp_path, whole, everything, mixed):
    """openmmml puts all forces into one, so that groups do not tell the charges from the rest."""
    charged = with_charges(potential, charges="types", excluded_bonds=1)
    charged.save(tmp_path / "charged.safetensors")
    known = openmmml.MLPotential("cgenn", modelPath=tmp_path / "charged.safetensors")
    positions = everything[list(BEADS)]
    if mixed is None:
        system = known.createSystem(topology.to_openmm(), masses=topology.masses, **OPTIONS)
    else:
        system = known.createMixedSystem(whole, force_field(), BEADS, interpolate=mixed, **OPTIONS)
    platform = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions if mixed is None else everything)
    graph = charged.graph(topology, torch.as_tensor(positions)[None])
    expected = charged.electrostatic_energy(graph).item()
    moments = BeadMoments.build(charged, topology, **OPTIONS)
    simulation = SimpleNamespace(context=context)
    assert moments.energy(simulation, positions[None], None) == pytest.approx(expected, rel=1e-6)
    context.setParameter(LAMBDA, 0.5)
    assert moments.energy(simulation, positions[None], None) == pytest.approx(0.25 * expected, rel=1e-6)


def test_forces_on_a_scratch_system(potential, topology, model, whole, everything):
    """Other embeddings of openmmml ask for the forces on some atoms."""
    system = openmm.System()
    for _ in range(11):
        system.addParticle(1.0)
    implementation = openmmml.MLPotential("cgenn", modelPath=model)._impl
    implementation.addForces(whole, system, list(BEADS), 3, masses=np.ones(11), **OPTIONS)
    expected, _ = create_system(potential, topology, **OPTIONS)
    reference = evaluate(expected, everything[list(BEADS)])[0]
    assert evaluate(system, everything)[0] == pytest.approx(reference, rel=1e-12)
    assert {force.getForceGroup() for force in system.getForces()} == {3}
    assert Placement.among(BEADS, 11).subset == BEADS


def test_bad_requests(model, topology, whole):
    known = openmmml.MLPotential("cgenn", modelPath=model)
    beads = topology.to_openmm()
    with pytest.raises(ValueError, match="the path of a model is missing"):
        openmmml.MLPotential("cgenn")
    with pytest.raises(ValueError, match="only the argument `modelPath`, got modelpath"):
        openmmml.MLPotential("cgenn", modelPath=model, modelpath=model)
    with pytest.raises(ValueError, match=r"atom 0 \(ACE-C\) has no element: pass `masses`"):
        known.createSystem(beads)
    with pytest.raises(ValueError, match="no entry for the bead types ALA-C, ALA-CA"):
        known.createSystem(beads, masses={"ACE-C": 1.0, "ALA-N": 1.0, "NME-N": 1.0})
    with pytest.raises(ValueError, match="one for each of 5 atoms, got 4"):
        known.createSystem(beads, masses=[1.0] * 4)
    with pytest.raises(ValueError, match="unknown arguments precison"):
        known.createSystem(beads, precison="double")
    with pytest.raises(ValueError, match="`masses` are those of `system`"):
        known.createMixedSystem(whole, force_field(), BEADS, masses=np.ones(11))
    with pytest.raises(ValueError, match="bead 0 has type 'X-X'"):
        known.createMixedSystem(whole, force_field(), [1])
