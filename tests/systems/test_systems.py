"""Every shipped system builds, says where its numbers come from, and its structure can be made again."""

import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import openmm
import openmm.app
import pytest
from scipy.sparse import coo_array

from cgenn import shipped
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import load_mapping
from cgenn.mapping.mapping import Mapping
from cgenn.reference.system import load_system

NAMES = shipped.names("systems")


def energy(system, positions, platform="CPU"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


def test_names():
    assert len(NAMES) == 16


@pytest.mark.parametrize("name", NAMES)
def test_builds(name):
    topology, system, positions = load_system(name).build()
    assert topology.getNumAtoms() == system.getNumParticles() == len(positions)
    assert np.isfinite(energy(system, positions))
    assert np.isfinite(positions).all()


@pytest.mark.parametrize("name", NAMES)
def test_files(name):
    folder = shipped.folder("systems") / name
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"cgenn reference {name}" in readme
    assert "doi " in readme
    entries = tomllib.loads((folder / "reference.toml").read_text(encoding="utf-8"))
    assert entries
    for entry in entries.values():
        assert entry.keys() == {"value", "unit", "source"}


@pytest.mark.parametrize("name", ["alanine-dipeptide-vacuum", "villin"])
def test_structure_is_what_the_readme_makes(name, tmp_path):
    folder = shipped.folder("systems") / name
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, check=True, env=os.environ)
    made, there = (openmm.app.PDBFile(str(path / "structure.pdb")) for path in (tmp_path, folder))
    assert [atom.name for atom in made.topology.atoms()] == [atom.name for atom in there.topology.atoms()]
    np.testing.assert_allclose(
        made.getPositions(asNumpy=True)._value, there.getPositions(asNumpy=True)._value, atol=2e-3
    )


def test_alanine_is_left_handed():
    """L-alanine: (N - CA) x (C - CA) . (CB - CA) > 0."""
    topology, _, positions = load_system("alanine-dipeptide-vacuum").build()
    atoms = {atom.name: positions[atom.index] for atom in topology.atoms() if atom.residue.name == "ALA"}
    n, c, cb = (atoms[name] - atoms["CA"] for name in ("N", "C", "CB"))
    assert np.dot(np.cross(n, c), cb) > 0


def test_methanol_has_the_energy_of_charmm36():
    topology, system, positions = load_system("methanol").build()
    field = openmm.app.ForceField("charmm36.xml")
    expected = field.createSystem(
        topology,
        nonbondedMethod=openmm.app.PME,
        nonbondedCutoff=1.2,
        switchDistance=1.0,
        constraints=openmm.app.HBonds,
    )
    assert energy(system, positions) == pytest.approx(energy(expected, positions), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "molecules", "mass"),
    [
        ("water-spce", 512, 18.015),
        ("methanol", 343, 32.042),
        ("molten-nacl", 512, 58.443 / 2),
        ("bmim-pf6", 256, 284.19 / 2),
        ("benzene", 216, 78.114),
    ],
)
def test_liquids_start_at_their_density(name, molecules, mass):
    topology, _, _ = load_system(name).build()
    assert topology.getNumResidues() == molecules
    volume = np.prod(topology.getUnitCellDimensions()._value)  # nm^3
    density = molecules * mass * 1.66053906660e-3 / volume
    expected = tomllib.loads((shipped.folder("systems") / name / "reference.toml").read_text())
    known = expected.get("experimental_density") or expected["density"]
    assert density == pytest.approx(known["value"], rel=0.05)


def test_sodium_chloride_has_its_lattice_energy():
    """As `reference.toml` says, at its distance and less far in or out; the same ions within the cutoff at each."""
    _, system, _ = load_system("molten-nacl").build()
    expected = tomllib.loads((shipped.folder("systems") / "molten-nacl" / "reference.toml").read_text())
    found = []
    for scale in (1.0, 0.995, 1.005):
        distance = scale * expected["nearest_distance"]["value"]
        for force in system.getForces():
            if hasattr(force, "setCutoffDistance"):
                force.setCutoffDistance(3.9 * distance)
        system.setDefaultPeriodicBoxVectors(*(8 * distance * np.eye(3)))
        found.append(energy(system, distance * np.array(list(np.ndindex(8, 8, 8))), "Reference") / 256)
    assert found[0] == pytest.approx(expected["lattice_energy"]["value"], abs=0.1)
    assert found[0] < min(found[1:])


def test_ionic_liquid_is_rigid_and_beads_without_a_dipole():
    """Sites of a cation are where the constraints say and do not interact; its charge is where the mapping puts it."""
    topology, system, positions = load_system("bmim-pf6").build()
    edge = topology.getUnitCellDimensions()[0]._value
    triangle = {(0, 1): 0.27076, (0, 2): 0.38213, (1, 2): 0.55691}
    assert system.getNumConstraints() == 3 * 128
    for number in range(system.getNumConstraints()):
        i, j, length = system.getConstraintParameters(number)
        apart = positions[j] - positions[i]
        assert np.linalg.norm(apart - edge * np.round(apart / edge)) == pytest.approx(length._value, abs=2e-4)
        first = min(atom.index for atom in list(topology.atoms())[i].residue.atoms())
        assert length._value == triangle[tuple(sorted((i - first, j - first)))]
    nonbonded = next(force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    assert nonbonded.getNumExceptions() == 3 * 128
    assert all(nonbonded.getExceptionParameters(pair)[2]._value == 0 for pair in range(3 * 128))
    mapping = Mapping.build(load_mapping("bmim-pf6"), AtomTopology.from_openmm(topology, system))
    expected = [{"BMI": 0.78, "PF6": -0.78}[name] for name in mapping.topology.types]
    np.testing.assert_allclose(mapping.topology.charges, expected, atol=1e-12)
    box = np.array(topology.getPeriodicBoxVectors()._value)[None]
    np.testing.assert_allclose(mapping.map_dipoles(positions[None], box), 0.0, atol=1e-12)


def test_benzene_has_the_forces_and_torques_of_published_frames(data_folder):
    """Of whole molecules, in kcal/mol/A and kcal/mol: what is left is the rounding of the published positions."""
    with np.load(data_folder / "benzene_oplsaa_300K_7x500.npz") as file:
        positions, forces, masses = file["positions"][0] / 10.0, file["forces"][0] * 41.84, file["masses"]
        edge = float(file["box"][0]) / 10.0
    first = next(load_system("benzene").build()[0].residues())
    atoms = [(atom.name, atom.element) for atom in first.atoms()]
    topology = openmm.app.Topology()
    chain = topology.addChain()
    for _ in range(len(positions)):
        residue = topology.addResidue(first.name, chain)
        added = [topology.addAtom(name, element, residue) for name, element in atoms]
        for i in range(6):
            topology.addBond(added[i], added[(i + 1) % 6])
            topology.addBond(added[i], added[i + 6])
    topology.setUnitCellDimensions(openmm.Vec3(edge, edge, edge))
    field = openmm.app.ForceField(str(shipped.folder("systems") / "benzene" / "benzene.xml"))
    system = field.createSystem(topology, nonbondedMethod=openmm.app.PME, nonbondedCutoff=1.0)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions.reshape(-1, 3))
    found = context.getState(forces=True).getForces(asNumpy=True)._value.reshape(forces.shape)
    arms = positions - np.average(positions, axis=1, weights=masses)[:, None]
    force, torque = (found - forces).sum(axis=1), np.cross(arms, found - forces).sum(axis=1)
    assert np.sqrt(np.mean(force**2)) / 41.84 < 0.032
    assert np.sqrt(np.mean(torque**2)) / 4.184 < 0.052


def test_polyethylene_has_the_lennard_jones_energy_of_published_numbers():
    """Summed over pairs from those of L-OPLS in kcal/mol and A; half of it three bonds apart, nothing nearer."""
    topology, system, positions = load_system("polyethylene-c12").build()
    carbon = np.array([atom.element.symbol == "C" for atom in topology.atoms()])
    methyl = np.array([atom.residue.name == "END" and atom.name[1] == "1" for atom in topology.atoms()])
    epsilon = 4.184 * np.where(carbon, 0.066, np.where(methyl, 0.03, 0.026290630975))
    sigma = 0.1 * np.where(carbon, 3.5, 2.5)
    bonds = np.array([(bond[0].index, bond[1].index) for bond in topology.bonds()])
    one = coo_array((np.ones(len(bonds)), bonds.T), shape=(len(carbon),) * 2).tocsr()
    one = one + one.T
    apart = [one.toarray() > 0, (one @ one).toarray() > 0, (one @ one @ one).toarray() > 0]
    scale = np.where(apart[0] | apart[1], 0.0, np.where(apart[2], 0.5, 1.0))
    edges = np.array(topology.getUnitCellDimensions()._value)
    vectors = positions[:, None] - positions
    vectors -= edges * np.round(vectors / edges)
    distance = np.linalg.norm(vectors, axis=2) + 10.0 * np.eye(len(carbon))
    ratio = np.sqrt(np.outer(sigma, sigma)) / distance
    pairs = 4.0 * np.sqrt(np.outer(epsilon, epsilon)) * (ratio**12 - ratio**6) * scale * (distance < 1.0)
    found = 0.0
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            force.setUseDispersionCorrection(False)
            for atom in range(force.getNumParticles()):
                force.setParticleParameters(atom, 0.0, *force.getParticleParameters(atom)[1:])
            for pair in range(force.getNumExceptions()):
                first, second, _, *rest = force.getExceptionParameters(pair)
                force.setExceptionParameters(pair, first, second, 0.0, *rest)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    for force in system.getForces():
        if force.getName() in ("NonbondedForce", "Repulsion", "LennardJones14"):
            group = {force.getForceGroup()}
            found += context.getState(energy=True, groups=group).getPotentialEnergy()._value
    assert found == pytest.approx(0.5 * pairs.sum(), rel=1e-5)
