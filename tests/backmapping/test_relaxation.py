"""Restrained relaxation: beads stay where they are, whatever the atoms do."""

from dataclasses import replace

import numpy as np
import openmm
import pytest

from cgenn.backmapping.relaxation import Relaxation, soft_system
from cgenn.backmapping.restraints import BeadRestraints, Targets
from cgenn.backmapping.stereo import Stereocentres


def held_energy(frames, centres, targets, atoms):
    """Of the springs alone [kJ/mol]."""
    system = openmm.System()
    for _ in range(len(atoms)):
        system.addParticle(1.0)
    restraints = BeadRestraints(frames, 3)
    restraints.add_to(system, centres)
    platform = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(atoms)
    restraints.set_targets(context, targets)
    return context.getState(energy=True, groups={3}).getPotentialEnergy()._value


@pytest.fixture(scope="module")
def planes(peptide, make_map):
    return make_map(peptide, "dipeptide-planes")


def test_springs_are_at_rest_where_the_atoms_map_to_the_beads(planes, peptide):
    frames, whole = planes
    centres = Stereocentres.find(peptide.atoms, whole)
    for atoms in whole[::10]:
        targets = Targets(frames.mapping.linear(atoms[None])[0], frames(atoms[None]).orientations[0])
        assert held_energy(frames, centres, targets, atoms) == pytest.approx(0.0, abs=1e-8)
        moved = atoms.copy()
        moved[frames.types[0].atoms[0]] += [0.002, 0.0, 0.0]
        assert held_energy(frames, centres, targets, moved) == pytest.approx(0.5e6 * 0.002**2, rel=1e-6)
        inside_out = atoms.copy()
        inside_out[[9, 12]] = atoms[[12, 9]]  # HA and CB
        assert held_energy(frames, centres, targets, inside_out) > 1000


def test_beads_stay_and_keep_their_orientation(planes, peptide):
    frames, whole = planes
    centres = Stereocentres.find(peptide.atoms, whole)
    relaxation = Relaxation(peptide, frames, centres, dynamics=0.05)
    beads, turned = frames.mapping.linear(whole)[5], frames(whole).orientations[5]
    atoms, energy = relaxation(whole[5], beads, turned, None, overlapping=False)
    np.testing.assert_allclose(frames.mapping.linear(atoms[None])[0], beads, atol=1e-6)
    again = frames(atoms[None]).orientations[0]
    assert np.degrees(2 * np.arccos(np.abs(np.sum(again * turned, axis=1)).clip(max=1))).max() < 1e-3
    assert energy < -30.0


def test_springs_are_pulled_until_bonded_beads_lie_where_they_should(peptide, make_map, monkeypatch):
    """To a tenth of what they leave open otherwise; what is then moved as a whole hardly costs energy."""
    frames, whole = make_map(peptide, "backbone")
    beads, turned = frames.mapping.linear(whole)[5], frames(whole).orientations[5]
    left = {}
    for pulls in (0, 3):
        monkeypatch.setattr("cgenn.backmapping.relaxation._PULLS", pulls)
        relaxation = Relaxation(peptide, frames, Stereocentres.find(peptide.atoms, whole), dynamics=0.0)
        relaxation(whole[5], beads, turned, None, overlapping=False)
        left[pulls] = np.abs(frames.mapping.linear(relaxation._flexible.atoms()[None])[0] - beads).max()
    assert left[3] < 0.1 * left[0]


def test_a_centre_inside_out_is_turned_back(peptide, make_map):
    frames, whole = make_map(peptide, "backbone")
    centres = Stereocentres.find(peptide.atoms, whole)
    relaxation = Relaxation(peptide, frames, centres, dynamics=0.0)
    start = whole[0].copy()
    start[[9, 12]] = start[[12, 9]]
    assert len(centres.turned(start)) == 1
    beads, turned = frames.mapping.linear(whole)[0], frames(whole).orientations[0]
    atoms, _ = relaxation(start, beads, turned, None)
    assert len(centres.turned(atoms)) == 0


def test_the_soft_system_bears_atoms_on_top_of_each_other(water):
    system = soft_system(water.system, water.atoms)
    assert system.getNumConstraints() == 0
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    positions = water.read(1).positions[0]
    positions[3:6] = positions[0:3] + 1e-4  # two molecules in one place
    context.setPositions(positions)
    before = context.getState(energy=True).getPotentialEnergy()._value
    assert before < 9 * 500 + 1e3
    openmm.LocalEnergyMinimizer.minimize(context)
    relaxed = context.getState(positions=True).getPositions(asNumpy=True)._value
    assert np.linalg.norm(relaxed[3] - relaxed[0]) > 0.18


def test_every_force_group_taken_is_told(peptide, make_map):
    frames, whole = make_map(peptide, "backbone")
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(peptide.system))
    for group in range(32):
        force = openmm.HarmonicBondForce()
        force.setForceGroup(group)
        system.addForce(force)
    centres = Stereocentres.find(peptide.atoms, whole)
    with pytest.raises(ValueError, match="32 force groups"):
        Relaxation(replace(peptide, system=system), frames, centres, 0.0)


def test_springs_for_constraints_lead_as_low_as_constraints(water, make_map):
    """From what OpenMM's own minimiser found, with the same springs on the beads, on to energies that are no higher.

    Springs on beads give way a little, which lowers the energy; where they end, molecules are moved onto their beads.
    """
    frames, whole = make_map(water, "water")
    box, beads = water.read(1).box[0], frames.mapping.linear(whole)[0]
    centres = Stereocentres.find(water.atoms, whole)
    turned = np.tile([1.0, 0.0, 0.0, 0.0], (len(beads), 1))
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(water.system))
    restraints = BeadRestraints(frames, 31)
    restraints.add_to(system, centres)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU"))
    context.setPeriodicBoxVectors(*box.tolist())
    context.setPositions(whole[0])
    restraints.set_targets(context, Targets(beads, turned))
    before = context.getState(energy=True, groups=set(range(31))).getPotentialEnergy()._value
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    places = context.getState(positions=True).getPositions(asNumpy=True)._value
    places = places + np.repeat(beads - frames.mapping.linear(places[None])[0], 3, axis=0)
    context.setPositions(places)
    least = context.getState(energy=True, groups=set(range(31))).getPotentialEnergy()._value

    relaxation = Relaxation(water, frames, centres, dynamics=0.0, platform="CPU")
    atoms, energy = relaxation(places, beads, turned, box, overlapping=False)
    np.testing.assert_allclose(np.linalg.norm(atoms[1::3] - atoms[::3], axis=1), 0.1, rtol=1e-5)
    assert energy < least + 0.01 * (before - least)
