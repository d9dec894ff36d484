"""A force field's System, some particles of which are taken over: energies against sums of separate Systems."""

from __future__ import annotations

import itertools

import numpy as np
import openmm
import openmm.app
import pytest

from cgenn.potential.potential import Potential
from cgenn.potential.priors import RampPrior
from cgenn.simulation.mixing import LAMBDA_INTERPOLATE, mixed_system
from cgenn.simulation.placement import Placement
from cgenn.simulation.system import create_system, potential_forces
from cgenn.topology import BeadTopology
from cgenn.units import COULOMB

BEADS = (9, 2, 7, 4, 0)
"""Which particles the beads are; the others are 1, 3, 5, 6, 8, 10."""

BOX = np.array([[2.4, 0, 0], [0.4, 2.3, 0], [-0.3, 0.5, 2.2]])
CHARGES = np.array([0.3, -0.7, 0.5, 0.2, -0.4, 0.6, -0.2, 0.1, 0.8, -0.5, -0.3])
CHAIN = [9, 2, 7, 4, 0, 1, 3]


def runs(length: int) -> list[list[int]]:
    return [CHAIN[start : start + length] for start in range(len(CHAIN) - length + 1)]


def force_field(method: str = "NoCutoff", among: set[int] | None = None, custom: bool = True) -> openmm.System:
    """Eleven particles with bonded terms along CHAIN and charges; or only what is `among` some of them."""
    among = set(range(11)) if among is None else among
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(np.diag(BOX.diagonal()) if method == "Ewald" else BOX).tolist())
    for _ in range(11):
        system.addParticle(12.0)
    nonbonded, bonds, angles = openmm.NonbondedForce(), openmm.HarmonicBondForce(), openmm.CustomAngleForce("k*theta^2")
    angles.addPerAngleParameter("k")
    torsions, compound = openmm.PeriodicTorsionForce(), openmm.CustomCompoundBondForce(2, "7*distance(p1,p2)")
    for row in runs(2):
        if set(row) <= among:
            bonds.addBond(*row, 0.15, 1000.0)
            compound.addBond(row)
            nonbonded.addException(*row, 0.0, 1.0, 0.0)
    for row in runs(3):
        if set(row) <= among:
            angles.addAngle(*row, [30.0])
            nonbonded.addException(row[0], row[2], 0.5 * CHARGES[row[0]] * CHARGES[row[2]], 0.1, 0.2)
    for row in runs(4):
        if set(row) <= among:
            torsions.addTorsion(*row, 2, 0.4, 3.0)
    nonbonded.setNonbondedMethod(getattr(openmm.NonbondedForce, method))
    nonbonded.setCutoffDistance(1.0)
    nonbonded.setEwaldErrorTolerance(1e-6)
    nonbonded.setExceptionsUsePeriodicBoundaryConditions(method != "NoCutoff")
    other = openmm.CustomNonbondedForce("0.01*a1*a2/r^2")
    other.addPerParticleParameter("a")
    other.setNonbondedMethod(min(2, nonbonded.getNonbondedMethod()))
    for particle in range(11):
        inside = particle in among
        nonbonded.addParticle(CHARGES[particle] * inside, 0.1 + 0.01 * particle, 0.5 * inside)
        other.addParticle([inside * (1.0 + particle)])
    for number in range(nonbonded.getNumExceptions()):
        other.addExclusion(*nonbonded.getExceptionParameters(number)[:2])
    nonbonded.setUseDispersionCorrection(False)
    for force in (nonbonded, bonds, angles, torsions, compound, *([other] if custom else [])):
        system.addForce(force)
    system.addForce(openmm.CMMotionRemover())
    return system


@pytest.fixture
def everything(positions: np.ndarray) -> np.ndarray:
    """Positions of all eleven particles: the beads lie as in their conformation."""
    result = np.random.default_rng(1).uniform(-0.7, 0.7, size=(11, 3))
    result[list(BEADS)] = positions
    return result


def evaluate(
    system: openmm.System,
    positions: np.ndarray,
    platform: str = "Reference",
    parameters: dict[str, float] | None = None,
) -> tuple[float, np.ndarray]:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    for name, value in (parameters or {}).items():
        context.setParameter(name, value)
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def of_beads(potential, topology, positions: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
    """Energy of the potential, and its forces on all eleven particles."""
    system, _ = create_system(potential, topology, box=box, precision="double", backend="python", removeCMMotion=False)
    energy, forces = evaluate(system, positions[list(BEADS)])
    spread = np.zeros((11, 3))
    spread[list(BEADS)] = forces
    return energy, spread


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("backend", ["python", pytest.param("openmm-torch", marks=pytest.mark.openmmtorch)])
@pytest.mark.parametrize("method", ["NoCutoff", "CutoffPeriodic"])
def test_takes_the_place_of_the_force_field(potential, topology, everything, method, backend, platform):
    if backend == "openmm-torch":
        pytest.importorskip("openmmtorch")
    box = None if method == "NoCutoff" else BOX
    host = force_field(method)
    before = openmm.XmlSerializer.serialize(host)
    system, beads = create_system(
        potential, topology, system=host, particles=BEADS, backend=backend, precision="double", device="cpu"
    )
    assert openmm.XmlSerializer.serialize(host) == before
    assert beads is topology
    found = evaluate(system, everything, platform)
    parts = [evaluate(force_field(method), everything), of_beads(potential, topology, everything, box)]
    inside = evaluate(force_field(method, set(BEADS)), everything)
    expected = [sum(part[k] for part in parts) - inside[k] for k in (0, 1)]
    tolerance = 1e-7 if platform == "Reference" else 1e-4
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    np.testing.assert_allclose(found[1], expected[1], atol=tolerance * np.abs(expected[1]).max())
    assert abs(inside[0]) > 10


def test_repulsion_of_many_beads_has_exclusions_of_its_own(potential, topology, positions):
    given, twenty = potential, topology.repeat(20)
    potential = Potential(given.config, given.priors.model_copy(update={"ramp": RampPrior(height=-2.0, range=0.9)}))
    potential.double().requires_grad_(False).eval().load_state_dict(given.state_dict())
    shifts = 0.9 * np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 1, 3)[:20]
    close = np.r_[(positions + shifts).reshape(-1, 3), [[1.0, 1.0, 2.9]]]
    close[4], close[99] = close[0] + [0.2, 0.2, 0.2], close[95] + [0.3, 0.1, 0.1]
    host = openmm.System()
    nonbonded = openmm.NonbondedForce()
    for _ in range(101):
        host.addParticle(1.0)
        nonbonded.addParticle(0.0, 0.3, 1.0)
    host.addForce(nonbonded)
    system, _ = create_system(potential, twenty, system=host, particles=range(100), precision="double", device="cpu")
    alone, _ = create_system(potential, twenty, precision="double", device="cpu", removeCMMotion=False)
    for platform in ("Reference", "CPU"):
        mixed, beads = evaluate(system, close, platform), evaluate(alone, close[:100], platform)
        distances = np.linalg.norm(close[:100] - close[100], axis=1)
        rest = (4 * ((0.3 / distances) ** 12 - (0.3 / distances) ** 6)).sum()
        assert mixed[0] == pytest.approx(beads[0] + rest, rel=1e-5)


@pytest.mark.parametrize("method", ["PME", "Ewald", "LJPME"])
def test_nothing_of_the_charges_is_left_for_a_model_with_its_own(everything, method):
    placement = Placement.among(BEADS, 11, periodic=True)
    found = evaluate(mixed_system(force_field(method, custom=False), [], placement, long_range=True), everything)
    parts = [evaluate(force_field(method, among, custom=False), everything) for among in (None, set(BEADS))]
    assert abs(parts[1][0]) > 10
    tolerance = 1e-6 if method != "LJPME" else 1e-3  # dispersion of farther images stays
    assert found[0] == pytest.approx(parts[0][0] - parts[1][0], rel=tolerance)
    np.testing.assert_allclose(found[1], parts[0][1] - parts[1][1], rtol=tolerance, atol=1e3 * tolerance)


def test_farther_images_keep_their_charges_for_a_model_without(everything):
    host = openmm.System()
    host.setDefaultPeriodicBoxVectors(*BOX.tolist())
    nonbonded = openmm.NonbondedForce()
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setEwaldErrorTolerance(1e-6)
    for charge in CHARGES:
        host.addParticle(1.0)
        nonbonded.addParticle(charge, 1.0, 0.0)
    host.addForce(nonbonded)
    everything[4] += BOX[1]  # another image
    pairs = 0.0
    for i, j in itertools.combinations(BEADS, 2):
        images = everything[i] - everything[j] + np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ BOX
        pairs += COULOMB * CHARGES[i] * CHARGES[j] / np.linalg.norm(images, axis=1).min()
    found = evaluate(mixed_system(host, [], Placement.among(BEADS, 11, periodic=True)), everything)[0]
    assert found == pytest.approx(evaluate(host, everything)[0] - pairs, rel=1e-4)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize(
    ("method", "long_range"), [("NoCutoff", False), ("CutoffPeriodic", False), ("PME", False), ("LJPME", True)]
)
def test_interpolation(potential, topology, everything, method, long_range, platform):
    host = force_field(method, custom=method != "LJPME")
    placement = Placement.among(BEADS, 11, periodic=method != "NoCutoff")

    def forces() -> list[openmm.Force]:
        return potential_forces(potential, topology, placement, backend="python", precision="double", device="cpu")[0]

    force_field_alone = evaluate(host, everything)
    potential_alone = evaluate(mixed_system(host, forces(), placement, long_range=long_range), everything)
    system = mixed_system(host, forces(), placement, long_range=long_range, interpolate=True)
    tolerance = 1e-6 if platform == "Reference" else 1e-4
    for value in (1.0, 0.0, 0.3):
        found = evaluate(system, everything, platform, {LAMBDA_INTERPOLATE: value})
        expected = [value * a + (1 - value) * b for a, b in zip(potential_alone, force_field_alone, strict=True)]
        assert found[0] == pytest.approx(expected[0], rel=tolerance)
        np.testing.assert_allclose(found[1], expected[1], atol=tolerance * np.abs(expected[1]).max())


@pytest.mark.openmmtorch
def test_interpolation_needs_the_python_backend(potential, topology):
    pytest.importorskip("openmmtorch")
    placement = Placement.among(BEADS, 11)
    forces, _ = potential_forces(potential, topology, placement, backend="openmm-torch")
    with pytest.raises(ValueError, match="use backend='python'"):
        mixed_system(force_field(), forces, placement, interpolate=True)


def test_beads_from_the_topology_of_the_whole_system(potential, topology, everything):
    whole = openmm.app.Topology()
    chain = whole.addChain()
    names = {particle: (topology.residue_names[bead], topology.names[bead]) for bead, particle in enumerate(BEADS)}
    atoms = []
    for particle in range(11):
        residue, name = names.get(particle, ("X", "X"))
        atoms.append(whole.addAtom(name, None, whole.addResidue(residue, chain)))
    for i, j in runs(2):
        whole.addBond(atoms[i], atoms[j])
    options = {"particles": BEADS, "precision": "double", "device": "cpu", "backend": "python"}
    system, beads = create_system(potential, whole, system=force_field(), **options)
    assert beads.types == topology.types
    np.testing.assert_array_equal(beads.bonds, topology.bonds)
    assert (beads.masses == 12.0).all()
    expected, _ = create_system(potential, topology, system=force_field(), **options)
    assert evaluate(system, everything)[0] == pytest.approx(evaluate(expected, everything)[0], rel=1e-12)
    with pytest.raises(ValueError, match="that of the whole System, 11 particles, got one of 5 atoms"):
        create_system(potential, topology.to_openmm(), system=force_field(), particles=BEADS)


def test_constraints_between_beads_go_and_are_named(potential, topology, caplog):
    host = force_field()
    host.addConstraint(9, 2, 0.15)
    host.addConstraint(0, 1, 0.15)
    system, _ = create_system(potential, topology, system=host, particles=BEADS)
    assert [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())] == [[0, 1]]
    assert "1 constraints between beads were removed (particles 9-2)" in caplog.text


def test_offsets_of_exceptions_between_beads_go(everything):
    host = force_field(custom=False)
    nonbonded = host.getForce(0)
    nonbonded.addGlobalParameter("scale", 1.0)
    nonbonded.addExceptionParameterOffset("scale", 0, 5.0, 0.0, 0.0)
    assert set(nonbonded.getExceptionParameters(0)[:2]) <= set(BEADS)
    placement = Placement.among(BEADS, 11)
    expected = evaluate(mixed_system(force_field(custom=False), [], placement), everything)
    assert evaluate(mixed_system(host, [], placement), everything)[0] == pytest.approx(expected[0], rel=1e-9)


def test_bad_requests(potential, topology):
    def mix(system=None, beads=topology, particles=BEADS, **options):
        create_system(potential, beads, system=system or force_field(), particles=particles, **options)

    with pytest.raises(ValueError, match="`system` and `particles` belong together"):
        create_system(potential, topology, particles=BEADS)
    with pytest.raises(ValueError, match="are those of `system`"):
        mix(replicas=2)
    with pytest.raises(ValueError, match="names particle 11, but the System has 11"):
        mix(particles=(9, 2, 7, 4, 11))
    with pytest.raises(ValueError, match="names particle 9 more than once"):
        mix(particles=(9, 2, 7, 4, 9))
    with pytest.raises(ValueError, match="at least one particle"):
        mix(particles=[])
    for wrong in ([0.5] * 5, [True] * 5, [[0, 1, 2, 3, 4]], list("abcde")):
        with pytest.raises(ValueError, match="whole numbers in a row, got shape"):
            mix(particles=wrong)
    with pytest.raises(ValueError, match="one particle for each of 5 beads, got 4"):
        mix(particles=BEADS[:4])
    with pytest.raises(ValueError, match="bead 0 has type 'X'"):
        mix(beads=BeadTopology.build(["X"] * 5, [1.0] * 5))
    host = force_field()
    host.addForce(openmm.GBSAOBCForce())
    with pytest.raises(ValueError, match="holds a GBSAOBCForce"):
        mix(host)


def test_model_with_pme_and_force_field_with_cutoff():
    placement = Placement.among(BEADS, 11, periodic=True)
    with pytest.raises(ValueError, match=r"long-range .* \(PME\), but the NonbondedForce .* cuts charges off at 1 nm"):
        mixed_system(force_field("CutoffPeriodic"), [], placement, long_range=True)
    host = force_field("PME")
    host.getForce(0).addGlobalParameter("scale", 1.0)
    host.getForce(0).addParticleParameterOffset("scale", 3, 0.5, 0.0, 0.0)
    with pytest.raises(ValueError, match="depend on a global parameter"):
        mixed_system(host, [], placement, long_range=True)
