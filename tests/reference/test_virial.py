import numpy as np
import openmm
import openmm.app
import pytest
from openmm import unit

from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import load_mapping
from cgenn.mapping.mapping import Mapping
from cgenn.reference.system import load_system
from cgenn.reference.virial import VirialReader


@pytest.fixture(scope="module")
def liquid():
    """A System with PME, a correction beyond the cutoff and flexible molecules, its positions and box."""
    topology, system, positions = load_system("methanol").build()
    for index in reversed(range(system.getNumConstraints())):
        system.removeConstraint(index)
    box = np.array(topology.getPeriodicBoxVectors()._value)
    atoms = AtomTopology.from_openmm(topology, system)
    return (
        system,
        Mapping.build(load_mapping("molecule-com"), atoms).tree.make_whole(positions[None], box[None])[0],
        box,
    )


def evaluate(system, positions, box, platform="Reference"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPeriodicBoxVectors(*[openmm.Vec3(*row) for row in box.tolist()])
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True).value_in_unit(
        unit.kilojoule_per_mole / unit.nanometer
    )


@pytest.mark.parametrize(("platform", "tolerance"), [("Reference", 10.0), ("CPU", 20.0)])
def test_is_the_derivative_by_strain_of_all_atoms(liquid, platform, tolerance):
    """Central differences of the energy when every atom is displaced; 20 kJ/mol are 5 bar in this box.

    They need a step that takes many pairs across the cutoff, where the energy of each makes a small jump.
    """
    system, positions, box = liquid
    _, forces = evaluate(system, positions, box)
    found = VirialReader(system, openmm.Platform.getPlatformByName(platform)).read(positions, box, forces)
    step = 1e-3
    for a, b in ((0, 0), (1, 2)):
        energies = []
        for strain in (-step, step):
            deformation = np.eye(3)
            deformation[b, a] += strain
            energies.append(evaluate(system, positions @ deformation, box @ deformation)[0])
        assert found[a, b] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=tolerance)
    np.testing.assert_array_equal(found, found.T)
