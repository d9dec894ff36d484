"""Alanine dipeptide and water in a tilted box, with a few frames of each."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.backmapping.reference import AtomReference
from cgenn.mapping.definition import load_mapping
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping
from cgenn.reference.run import run_reference


@pytest.fixture(scope="session")
def peptide_run(tmp_path_factory) -> Path:
    """A reference run of alanine dipeptide in vacuum, 40 frames in 8 ps."""
    folder = tmp_path_factory.mktemp("backmapping") / "aa"
    run_reference("alanine-dipeptide-vacuum", folder, length=8.0, interval=0.2, equilibration=1.0, progress=False)
    return folder


@pytest.fixture(scope="session")
def peptide(peptide_run) -> AtomReference:
    return AtomReference.open(peptide_run)


@pytest.fixture(scope="session")
def water(tmp_path_factory) -> AtomReference:
    """48 molecules of SPC/E in a truncated octahedron, an OpenMM System of one's own, five frames as DCD."""
    field = openmm.app.ForceField("amber14/spce.xml")
    modeller = openmm.app.Modeller(openmm.app.Topology(), [])
    modeller.addSolvent(field, model="spce", numAdded=48, boxShape="octahedron", neutralize=False)
    system = field.createSystem(modeller.topology, nonbondedMethod=openmm.app.PME, nonbondedCutoff=0.45)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 5.0, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatform("CPU")
    simulation = openmm.app.Simulation(modeller.topology, system, integrator, platform)
    simulation.context.setPositions(modeller.positions)
    simulation.minimizeEnergy(maxIterations=50)
    simulation.context.setVelocitiesToTemperature(300.0, 1)
    path = tmp_path_factory.mktemp("water") / "water.dcd"
    box = np.array([list(row._value) for row in system.getDefaultPeriodicBoxVectors()])
    frames = []
    for _ in range(5):
        simulation.step(50)
        frames.append(simulation.context.getState(positions=True).getPositions(asNumpy=True)._value)
    trajectory = mdtraj.Trajectory(np.array(frames), mdtraj.Topology.from_openmm(modeller.topology))
    trajectory.unitcell_vectors = np.broadcast_to(box, (5, 3, 3))
    trajectory.save(str(path))
    return AtomReference.of(modeller.topology, system, [path], 300.0, "water")


@pytest.fixture(scope="session")
def make_map():
    """The frames of a reference, whole, and how a mapping sees them."""

    def make(reference: AtomReference, mapping: str) -> tuple[FrameMap, np.ndarray]:
        built = Mapping.build(load_mapping(mapping), reference.atoms)
        frames = reference.read(100)
        whole = frames.positions if frames.box is None else built.tree.make_whole(frames.positions, frames.box)
        return FrameMap.build(built, whole), whole

    return make
