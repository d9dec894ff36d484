import re

import mdtraj
import numpy as np
import openmm
import openmm.app
import pytest
from mdtraj.core.element import Element
from scipy.spatial.transform import Rotation

from cgenn import shipped
from cgenn.mapping.atoms import AtomTopology
from cgenn.mapping.definition import MappingDefinition, load_mapping
from cgenn.mapping.forces import check_oriented, optimal_force_map, sum_force_map
from cgenn.mapping.frames import FrameMap
from cgenn.mapping.mapping import Mapping

RING = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3), np.zeros(6)], axis=1)
BENZENE = np.r_[0.14 * RING, 0.248 * RING]
NONE = np.empty((0, 2), dtype=int)


def molecules(name, atoms, copies, bonds):
    """Topology of some molecules, their atoms named after their elements."""
    topology = mdtraj.Topology()
    for _ in range(copies):
        residue = topology.add_residue(name, topology.add_chain())
        for atom in atoms.split():
            topology.add_atom(atom, Element.getBySymbol(atom[0]), residue)
    pairs = [(i + len(atoms.split()) * n, j + len(atoms.split()) * n) for n in range(copies) for i, j in bonds]
    return AtomTopology.from_mdtraj(topology, bonds=pairs)


def benzenes(copies):
    names = " ".join(f"{element}{n}" for element in "CH" for n in range(6))
    return molecules("BEN", names, copies, [(i, (i + 1) % 6) for i in range(6)] + [(i, i + 6) for i in range(6)])


def oriented(topology, samples, /, **rule):
    definition = MappingDefinition.parse({"beads": [{"name": "A", "per": "molecule", "frame": rule}]}, "test")
    return FrameMap.build(Mapping.build(definition, topology), samples)


def tumbling(geometry, turns, noise=0.0, seed=0):
    """Frames of molecules that are turned and vibrate, shape (frames, molecules * atoms, 3)."""
    rng = np.random.default_rng(seed)
    frames = np.einsum("fnij,aj->fnai", turns, geometry) + noise * rng.normal(size=(*turns.shape[:2], len(geometry), 3))
    frames += rng.normal(size=(*turns.shape[:2], 1, 3))
    return frames.reshape(len(turns), -1, 3)


def random_turns(frames, beads, seed=0):
    return Rotation.random(frames * beads, rng=np.random.default_rng(seed)).as_matrix().reshape(frames, beads, 3, 3)


def matrices(quaternions):
    return (
        Rotation.from_quat(quaternions.reshape(-1, 4), scalar_first=True)
        .as_matrix()
        .reshape(*quaternions.shape[:2], 3, 3)
    )


@pytest.mark.parametrize(
    "rule", [{}, {"kind": "principal"}, {"kind": "atoms", "atoms": ["O", "C", "H"]}], ids=lambda rule: rule.get("kind")
)
def test_turned_molecules_have_the_orientation_they_were_given(rule):
    """Whatever tells the frame, if the molecule is rigid; and the same one to first order if it vibrates."""
    geometry = np.array([[0.0, 0.0, 0.0], [0.12, 0.01, 0.0], [0.2, 0.16, 0.02], [-0.05, 0.08, 0.07]])
    atoms = molecules("X", "O C N H", 6, [(0, 1), (1, 2), (0, 3)])
    turns = random_turns(40, 6)
    rigid = tumbling(geometry, turns)
    frames = oriented(atoms, rigid, **rule)
    found = frames(rigid)
    constant = matrices(found.orientations).swapaxes(2, 3) @ turns
    np.testing.assert_allclose(constant, np.broadcast_to(constant[0, 0], constant.shape), atol=1e-7)
    assert frames.rigidity(found.rigidity)["X-A"]["rms_of_atom"] < 1e-7
    vibrating = frames(tumbling(geometry, turns, 0.003))
    angles = Rotation.from_matrix(
        (matrices(vibrating.orientations).swapaxes(2, 3) @ turns @ constant[0, 0].T).reshape(-1, 3, 3)
    )
    assert 0.001 < np.sqrt(np.mean(angles.magnitude() ** 2)) < (0.15 if rule else 0.05)
    assert 0.002 < frames.rigidity(vibrating.rigidity)["X-A"]["rms_deviation"] < 0.0055


def test_a_body_of_another_dataset_is_kept():
    turns = random_turns(5, 3)
    first = oriented(benzenes(3), tumbling(BENZENE, turns, 0.004), symmetry="D6h")
    mapping = first.mapping
    again = FrameMap.build(mapping, tumbling(BENZENE, turns, 0.004, seed=1), first.topology.bodies)
    assert again.topology.bodies == first.topology.bodies
    assert again.topology.oriented.all()
    other = {"BEN-A": first.types[0].body.model_copy(update={"symmetry": "C6v"})}
    with pytest.raises(ValueError, match=r"bead type 'BEN-A': the body given has the symmetry 'C6v' .* mapping 'D6h'"):
        FrameMap.build(mapping, tumbling(BENZENE, turns), other)
    with pytest.raises(ValueError, match="bead type 'BEN-A': not among the bodies given, which are X"):
        FrameMap.build(mapping, tumbling(BENZENE, turns), {"X": first.types[0].body})


def test_orientations_are_continuous_in_time_and_do_not_depend_on_where_frames_are_cut():
    angles = np.linspace(0, 25, 600)
    turns = Rotation.from_rotvec(angles[:, None] * [0.6, 0.48, 0.64]).as_matrix()[:, None]
    positions = tumbling(BENZENE, np.repeat(turns, 2, axis=1), 0.004)
    frames = oriented(benzenes(2), positions, symmetry="D6h")
    whole = frames(positions).orientations
    assert np.abs(np.diff(whole, axis=0)).max() < 0.1
    before, parts = None, []
    for start in range(0, 600, 130):
        parts.append(frames(positions[start : start + 130], before=before).orientations)
        before = parts[-1][-1]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_linear_molecules_do_not_spin():
    """The axis follows the atoms, the rest of the frame is carried along: no torque about it, no angular velocity."""
    line = np.array([[0, 0, 0.116], [0, 0, 0], [0, 0, -0.116]])
    angles = np.linspace(0, 9, 300)
    turns = Rotation.from_rotvec(angles[:, None] * [0.6, 0.8, 0.0]).as_matrix()[:, None]
    positions = tumbling(line, turns, 0.001)
    frames = oriented(molecules("CO2", "O C O", 1, [(0, 1), (1, 2)]), positions, symmetry="Dinfh")
    rng = np.random.default_rng(1)
    found = frames(positions, rng.normal(size=positions.shape), rng.normal(size=positions.shape))
    axes = matrices(found.orientations)[:, 0]
    np.testing.assert_allclose(axes[:, :, 2], turns[:, 0, :, 2], atol=0.02)
    assert np.abs(np.diff(axes, axis=0)).max() < 0.06
    np.testing.assert_allclose(axes[0][:, 0], [1, 0, 0], atol=0.05)
    assert frames.topology.bodies["CO2-A"].inertia[2] == 0.0
    assert np.isfinite(found.angular_velocities).all()
    rigid = frames(np.round(positions, 9) * 0 + tumbling(line, turns), rng.normal(size=positions.shape))
    np.testing.assert_allclose(np.sum(rigid.torques * turns[:, :, :, 2], axis=-1), 0.0, atol=1e-12)


def test_angular_velocity_and_torque_of_a_rigid_turn():
    """v = v0 + omega x r gives omega back, and dQ/dt = omega x Q."""
    rng, step = np.random.default_rng(2), 1e-5
    turns, omega = random_turns(1, 4), rng.normal(size=(1, 4, 3))
    atoms = benzenes(4)
    samples = tumbling(BENZENE, random_turns(9, 4), 0.003)
    frames = oriented(atoms, samples, symmetry="D6h")
    positions = tumbling(BENZENE, turns, 0.003).reshape(1, 4, 12, 3)
    centre = np.average(positions, axis=2, weights=atoms.masses[:12])[:, :, None]
    velocities = rng.normal(size=(1, 4, 1, 3)) + np.cross(omega[:, :, None], positions - centre)
    forward, back = (positions + sign * step * velocities for sign in (1, -1))
    found = frames(positions.reshape(1, -1, 3), velocities=velocities.reshape(1, -1, 3))
    np.testing.assert_allclose(found.angular_velocities, omega, atol=1e-10)
    rates = (
        matrices(frames(forward.reshape(1, -1, 3)).orientations) - matrices(frames(back.reshape(1, -1, 3)).orientations)
    ) / (2 * step)
    expected = np.cross(omega[..., None], matrices(found.orientations), axis=2)
    np.testing.assert_allclose(rates, expected, atol=1e-7)


@pytest.fixture(scope="module")
def liquid():
    """Some benzene molecules, distorted, and the OpenMM context of their force field."""
    folder = shipped.find("systems", "benzene")
    structure = openmm.app.PDBFile(str(folder / "structure.pdb"))
    model = openmm.app.Modeller(structure.topology, structure.positions)
    model.delete(list(model.topology.residues())[8:])
    system = openmm.app.ForceField(str(folder / "benzene.xml")).createSystem(model.topology)
    positions = np.array(model.positions.value_in_unit(openmm.unit.nanometer))
    positions += 0.004 * np.random.default_rng(3).normal(size=positions.shape)
    return AtomTopology.from_openmm(model.topology, system), system, positions


def evaluate(context, positions):
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def test_virtual_work_of_real_forces(liquid):
    """dU = -F.dR - tau.dtheta when a molecule of distorted benzene is moved as a rigid body."""
    atoms, system, positions = liquid
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    frames = FrameMap.build(Mapping.build(load_mapping("benzene"), atoms), positions[None])
    forces = evaluate(context, positions)[1]
    force = sum_force_map(frames.mapping, NONE)(forces[None])[0]
    mapped = frames(positions[None], forces[None])
    assert np.abs(mapped.torques).min(axis=(0, 2)).max() > 1.0
    rng, step = np.random.default_rng(4), 1e-4
    for bead in range(0, 8, 3):
        members, moved, turned = slice(12 * bead, 12 * bead + 12), rng.normal(size=3) * 0.2, rng.normal(size=3)
        centre = np.average(positions[members], axis=0, weights=atoms.masses[members])
        energies = []
        for sign in (1, -1):
            trial, turn = positions.copy(), Rotation.from_rotvec(sign * step * turned).as_matrix()
            trial[members] = (positions[members] - centre) @ turn.T + centre + sign * step * moved
            energies.append(evaluate(context, trial)[0])
            assert np.allclose(
                matrices(frames(trial[None]).orientations)[0, bead], turn @ matrices(mapped.orientations)[0, bead]
            )
        work = (energies[1] - energies[0]) / (2 * step)
        assert work == pytest.approx(force[bead] @ moved + mapped.torques[0, bead] @ turned, rel=1e-5, abs=1e-4)


def test_benzene_of_the_reference_data(data_folder):
    """Normals and centres as in the file; root mean square force and torque of held-out frame 1 are the known ones."""
    with np.load(data_folder / "benzene_oplsaa_300K_7x500.npz") as file:
        data = {key: file[key].astype(float) for key in ("positions", "forces", "com", "axes")}
    positions, forces = (data[key].reshape(7, 6000, 3) for key in ("positions", "forces"))
    frames = FrameMap.build(Mapping.build(load_mapping("benzene"), benzenes(500)), 0.1 * positions)
    found = frames(0.1 * positions[:2], forces[:2])
    np.testing.assert_allclose(frames.mapping.map_positions(positions), data["com"], atol=1e-4)
    cosines = np.abs(np.sum(matrices(found.orientations)[..., 2] * data["axes"][:2, :, 2], axis=-1))
    assert cosines.min() > 0.997
    force = sum_force_map(frames.mapping, NONE)(forces[:1])
    assert np.sqrt(np.mean(force**2)) == pytest.approx(4.03, abs=0.005)
    assert 10 * np.sqrt(np.mean(found.torques[0] ** 2)) == pytest.approx(5.62, abs=0.005)
    report = frames.rigidity(found.rigidity)["BEN"]
    assert report["rms_deviation"] == pytest.approx(0.0094, abs=2e-4)
    assert report["inertia"][2] == pytest.approx(2 * report["inertia"][0])
    np.testing.assert_allclose(report["mean_inertia"], report["inertia"], rtol=0.02)
    assert all(0.01 < spread / report["inertia"][2] < 0.03 for spread in report["inertia_fluctuation"])


def test_constraints_must_not_leave_an_oriented_bead():
    atoms = benzenes(2)
    mapping = oriented(atoms, tumbling(BENZENE, random_turns(1, 2)), symmetry="D6h").mapping
    within = np.array([(0, 1), (0, 5), (13, 14)])
    for force_map in (sum_force_map(mapping, within), optimal_force_map(mapping, np.zeros((1, 24, 3)), within)):
        np.testing.assert_array_equal(force_map.matrix.toarray(), np.kron(np.eye(2), np.ones(12)))
    message = (
        r"bead 0 \(BEN-A\) .* whole groups of constrained atoms: BEN0-C1 \(atom 1\) is tied to BEN1-C0 \(atom 12\)"
    )
    for wrong in ([(12, 1)], [(1, 2), (12, 1)]):
        with pytest.raises(ValueError, match=message):
            check_oriented(mapping, np.array(wrong))


def test_other_beads_leave_the_atoms_of_oriented_ones_alone(ala2):
    """The optimal map of the others is still a map: W M^T = 1."""
    rng = np.random.default_rng(6)
    entries = {
        "beads": [{"name": "A", "select": "resname ALA", "frame": {}}, {"name": "B", "select": "not resname ALA"}]
    }
    mapping = Mapping.build(MappingDefinition.parse(entries, "test"), ala2)
    weights = optimal_force_map(mapping, rng.normal(size=(400, 22, 3)), NONE).matrix.toarray()
    np.testing.assert_allclose(weights @ mapping.matrix.T.toarray(), np.eye(3), atol=1e-6)
    inside = mapping.matrix.toarray()[1] > 0
    assert mapping.oriented.tolist() == [False, True, False]
    np.testing.assert_array_equal(weights[1], inside.astype(float))
    assert not weights[[0, 2]][:, inside].any()
    assert np.ptp(weights[0, :6]) > 0.01


@pytest.mark.parametrize(
    ("bead", "message"),
    [
        (
            {"frame": {"kind": "atoms", "atoms": ["C0", "C1"]}},
            '`atoms` must have 3 different names with `kind` "atoms"',
        ),
        ({"frame": {"kind": "atoms", "atoms": ["C0", "H0", "C3"]}}, "`frame.atoms` C0, H0, C3 are on a line"),
        (
            {"frame": {"kind": "atoms", "atoms": ["C0", "H0", "X"]}},
            "`frame.atoms` names 'X', expected one of the atoms C0",
        ),
        ({"frame": {"kind": "principal"}}, '`kind` "principal" needs three different moments of inertia, got'),
        ({"frame": {}, "weights": "uniform"}, "`beads.0.frame`: a bead with a frame needs `weights`"),
        ({"frame": {}, "owns": "all"}, "`beads.0.frame`: a bead with a frame needs `weights`"),
        (
            {"frame": {}, "select": "name C0"},
            "needs at least two atoms with mass, the bead has",
        ),
        ({"frame": {"symmetry": "Oh"}}, "test: `beads.0.frame.symmetry`: unknown point group 'Oh', expected C1"),
        ({"frame": {"symmetry": "D5h"}}, "does not have the symmetry 'D5h'"),
        ({"frame": {"z": []}}, "z"),
    ],
)
def test_mistakes_are_named(bead, message):
    with pytest.raises(ValueError, match=message):
        map_benzene({"name": "A", "per": "molecule", **bead})


def test_atoms_in_one_place_tell_no_frame():
    rule = {"symmetry": "D6h", "kind": "atoms", "atoms": ["C0", "C1", "C2"]}
    positions = tumbling(BENZENE, random_turns(3, 2))
    frames = oriented(benzenes(2), positions, **rule)
    with pytest.raises(ValueError, match=r"`frame\.atoms` C0, C1, C2 are on a line"):
        frames(np.zeros_like(positions))


@pytest.mark.parametrize("flaw", [0.0, [1.0, 0.0, 0.0]], ids=["point", "line"])
@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "its atoms do not tell how it is turned: they are in one point, or on a line"),
        ({"kind": "principal"}, "its atoms do not tell how it is turned: they are in one point, or on a line"),
        ({"kind": "atoms", "atoms": ["O", "C", "H"]}, "`frame.atoms` O, C, H are on a line"),
    ],
)
def test_a_molecule_that_collapsed_is_named(rule, problem, flaw):
    """The second in the third of some frames, of which every fifth was read."""
    geometry = np.array([[0.0, 0.0, 0.0], [0.12, 0.01, 0.0], [0.2, 0.16, 0.02], [-0.05, 0.08, 0.07]])
    positions = tumbling(geometry, random_turns(4, 2))
    frames = oriented(molecules("X", "O C N H", 2, [(0, 1), (1, 2), (0, 3)]), positions, **rule)
    positions[2, 4:] *= flaw
    with pytest.raises(ValueError, match=rf"^frame 60, bead 1 \(type 'X-A'\): {re.escape(problem)}"):
        frames(positions, first=10, stride=5)


def test_a_linear_molecule_that_collapsed_is_named():
    line = np.array([[0, 0, 0.116], [0, 0, 0], [0, 0, -0.116]])
    positions = tumbling(line, random_turns(4, 2), 0.001)
    frames = oriented(molecules("CO2", "O C O", 2, [(0, 1), (1, 2)]), positions, symmetry="Dinfh")
    positions[3, :3] = 0.7
    with pytest.raises(ValueError, match=r"^frame 3, bead 0 \(type 'CO2-A'\): its atoms do not tell how it is turned"):
        frames(positions)


def map_benzene(bead):
    definition = MappingDefinition.parse({"beads": [bead], "unmapped": "all"}, "test")
    FrameMap.build(Mapping.build(definition, benzenes(2)), tumbling(BENZENE, random_turns(3, 2)))


def test_beads_of_a_type_must_be_alike(ala2):
    entries = {"beads": [{"name": "A", "type": "T", "frame": {}}]}
    mapping = Mapping.build(MappingDefinition.parse(entries, "test"), ala2)
    with pytest.raises(
        ValueError, match=r"bead type 'T': oriented beads of one type must have the same atoms .* bead 0 has H1"
    ):
        FrameMap.build(mapping, np.random.default_rng(0).normal(size=(2, 22, 3)))
    beads = [{"name": "A", "frame": {}, "select": "resname ALA"}, {"name": "B", "select": "not resname ALA"}]
    same = {"ALA-A": "T", "ACE-B": "T", "NME-B": "T"}
    mapping = Mapping.build(MappingDefinition.parse({"beads": beads, "types": same}, "test"), ala2)
    with pytest.raises(ValueError, match="bead type 'T': beads of one type must all have the same `frame`"):
        FrameMap.build(mapping, np.zeros((2, 22, 3)))
    entries = {
        "beads": [{"name": "A", "type": "T", "frame": {}, "per": "selection"}, {"name": "B", "per": "selection"}]
    }
    with pytest.raises(ValueError, match="a bead with a frame cannot share atoms, it shares ACE1-H1"):
        Mapping.build(MappingDefinition.parse({**entries, "shared": "all"}, "test"), ala2)
