"""From potential and topology to a System."""

from __future__ import annotations

import torch  # isort: skip
import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.data.dataset import BeadDataset
from cgenn.h5md import Frames
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors, RampPrior, RepulsionPrior
from cgenn.simulation.system import box_vectors, create_system
from cgenn.topology import BeadTopology


def terms(system: openmm.System) -> dict[str, int]:
    return {force.getName(): force.getForceGroup() for force in system.getForces()}


def test_is_an_ordinary_system(potential, topology, positions):
    system, beads = create_system(potential, topology, replicas=3)
    assert terms(system) == {
        "network": 0, "bonds": 1, "angles": 1, "dihedrals": 1, "repulsion": 1, "CMMotionRemover": 0
    }  # fmt: skip
    assert len(beads) == system.getNumParticles() == 15
    assert system.getParticleMass(6)._value == pytest.approx(14.007)
    assert not system.usesPeriodicBoundaryConditions()
    simulation = openmm.app.Simulation(beads.to_openmm(), system, openmm.LangevinMiddleIntegrator(300, 1, 0.002))
    simulation.context.setPositions(np.tile(positions, (3, 1)))
    simulation.step(5)
    assert "CMMotionRemover" not in terms(create_system(potential, topology, removeCMMotion=False)[0])


def test_energy_is_that_of_the_potential(potential, topology, positions):
    system, _ = create_system(potential, topology, precision="double")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    energy = potential(potential.graph(topology, torch.as_tensor(positions)[None]), topology).item()
    assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(energy, rel=1e-6)


def test_from_files(potential, topology, positions, tmp_path):
    potential.save(tmp_path / "model.safetensors")
    box = np.array([[3.0, 0, 0], [0.5, 3, 0], [0, 0, 3]])
    BeadDataset.write(tmp_path / "cg.h5", topology, Frames(positions[None], box=box[None]), temperature=300.0)
    system, beads = create_system(tmp_path / "model.safetensors", tmp_path / "cg.h5")
    assert beads.to_dict() == topology.to_dict()
    assert system.usesPeriodicBoundaryConditions()
    np.testing.assert_allclose([list(row._value) for row in system.getDefaultPeriodicBoxVectors()], box)


@pytest.mark.parametrize("keep_types", [True, False])
def test_from_an_openmm_topology(potential, topology, keep_types):
    other = topology.to_openmm()
    if not keep_types:  # as read from a PDB file
        for number, atom in enumerate(other.atoms()):
            atom.id = str(number)
    with pytest.raises(ValueError, match="pass `masses`"):
        create_system(potential, other)
    masses = topology.masses * openmm.unit.dalton
    system, beads = create_system(potential, other, masses=masses, box=[4, 4, 4])
    assert beads.types == topology.types
    assert system.usesPeriodicBoundaryConditions()


def test_box_vectors():
    assert box_vectors(None) is None
    np.testing.assert_allclose(box_vectors([1, 2, 3] * openmm.unit.angstrom), np.diag([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(box_vectors([[2, 0, 0], [1.5, 2, 0], [0, 0, 2]])[1], [-0.5, 2, 0])
    with pytest.raises(ValueError, match="with a volume"):
        box_vectors([1, 1, 0])
    with pytest.raises(ValueError, match="a along x"):
        box_vectors([[1, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_bad_requests(potential, topology):
    with pytest.raises(ValueError, match="bead 0 has type 'X', which this model does not know"):
        create_system(potential, BeadTopology.build(["X"], [1.0]))
    with pytest.raises(ValueError, match="only without a box"):
        create_system(potential, topology, box=[3, 3, 3], replicas=2)
    with pytest.raises(ValueError, match="`replicas` must be at least 1"):
        create_system(potential, topology, replicas=0)
    with pytest.raises(ValueError, match="unknown device 'gpu7'"):
        create_system(potential, topology, device="gpu7")
    with pytest.raises(ValueError, match="no device 'cuda:99'"):
        create_system(potential, topology, device="cuda:99")


def test_box_too_small_for_the_repulsion_only(potential, topology, positions):
    with pytest.raises(ValueError, match=r"0.700 nm wide, but the repulsion reaches 0.449 nm"):
        create_system(potential, topology, box=[0.7, 0.7, 0.7])
    ramp = Priors(ramp=RampPrior(height=1.0, range=0.4))
    with pytest.raises(ValueError, match=r"0.700 nm wide, but the ramp reaches 0.400 nm"):
        create_system(Potential(potential.config, ramp), topology, box=[0.7, 0.7, 0.7])
    system, _ = create_system(Potential(potential.config, Priors()), topology, box=[0.7, 0.7, 0.7])
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    assert np.isfinite(context.getState(energy=True).getPotentialEnergy()._value)
    other = Priors(repulsion={"X|X": RepulsionPrior(sigma=3.0, epsilon=1.0)})
    create_system(Potential(potential.config, other), topology, box=[0.7, 0.7, 0.7])
