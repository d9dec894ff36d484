"""The checks of models with orientations: sound ones pass, and each flaw is found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cgenn import testing
from cgenn.body import Body
from cgenn.graph import BeadGraph
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology

RING = [(0.1, 0.0, 0.0), (-0.05, 0.05 * 3**0.5, 0.0), (-0.05, -0.05 * 3**0.5, 0.0)]
DISC = Body(symmetry="D3h", inertia=(0.18, 0.18, 0.36), names=("X",) * 3, masses=(12.0,) * 3, coordinates=RING)
BODIES = {
    "disc": DISC,
    "rod": Body(symmetry="Cinfv", inertia=(0.3, 0.3, 0.0)),
    "spin": Body(symmetry="Cinfh", inertia=(0.3, 0.3, 0.3)),
    "lump": Body(symmetry="C1", inertia=(0.2, 0.3, 0.4)),
}
PRIORS = Priors(repulsion={"A|disc": {"sigma": 0.3, "epsilon": 1.0}})
POSITIONS = np.array([[0.0, 0, 0], [0.4, 0.1, 0], [0.7, 0, 0.3], [0.9, 0.4, 0.1], [0.5, 0.6, 0.3], [0.1, 0.5, 0.4]])
BOX = np.array([[1.7, 0.0, 0.0], [0.3, 1.8, 0.0], [-0.3, 0.5, 1.9]])
FRAMES = Rotation.random(6, rng=0).as_matrix()


def topology(kind: str) -> BeadTopology:
    types = [kind, kind, "A", kind, "A", kind]
    return BeadTopology.build(types, [36.0 if name != "A" else 10.0 for name in types], bodies={kind: BODIES[kind]})


class Flawed(Potential):
    """A potential with something added that does not belong there."""

    def __init__(self, kind: str, flaw: Callable[[BeadGraph], Tensor] | None = None, **options) -> None:
        torch.manual_seed(0)
        config = PotentialConfig(
            types=("A", kind), average_neighbors=4.0, energy_scale=50.0, temperature=300.0, channels=4, cutoff=0.8,
            bodies={kind: BODIES[kind]}, **options,
        )  # fmt: skip
        super().__init__(config, PRIORS)
        self.flaw = flaw

    def network_energy(self, graph: BeadGraph) -> Tensor:
        energy = super().network_energy(graph)
        return energy if self.flaw is None else energy + graph.per_system(self.flaw(graph))


FLAWS: dict[str, tuple[Callable, Callable[[BeadGraph], Tensor]]] = {
    "a direction in space": (testing.check_rotation, lambda graph: graph.orientations[:, 2, 2].square()),
    "an axis that is not one of the body": (
        testing.check_bodies,
        lambda graph: (graph.orientations[:, :, 0] * torch.linalg.vector_norm(graph.positions)).sum(1),
    ),
    "a torque that is cut": (
        testing.check_torques,
        lambda graph: (graph.orientations[:, :, 2] * graph.orientations[:, :, 2].detach().roll(1, 0)).sum(1),
    ),
    "the other systems": (
        testing.check_batch,
        lambda graph: (graph.orientations[:, :, 2] * graph.orientations[:, :, 2].sum(0)).sum(1),
    ),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
def test_a_sound_model_passes(kind: str, box: np.ndarray | None) -> None:
    results = testing.check_model(Flawed(kind), topology(kind), POSITIONS, box, FRAMES)
    assert all(result.passed for result in results), [result for result in results if not result.passed]
    assert {"torques", "point groups", "backends agree"} <= {result.name for result in results}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_found(name: str) -> None:
    check, flaw = FLAWS[name]
    result = check(Flawed("disc", flaw), topology("disc"), POSITIONS, None, FRAMES)
    assert not result.passed, result
    assert result.value > result.tolerance


def test_reflection_of_bodies() -> None:
    """Discs have a mirror image; a body without any symmetry has not. What is declared is held to."""
    mirrored = testing.check_reflection(
        Flawed("disc", reflection_invariant=True, layers=3), topology("disc"), POSITIONS, None, FRAMES
    )
    assert mirrored.passed
    assert mirrored.tolerance is not None
    lump = testing.check_reflection(Flawed("lump"), topology("lump"), POSITIONS, None, FRAMES)
    assert "'lump' is not its own mirror image" in lump.detail


def test_a_file_is_enough(tmp_path: Path) -> None:
    Flawed("disc").save(tmp_path / "model.safetensors")
    results = testing.check_model(tmp_path / "model.safetensors")
    assert all(result.passed for result in results), [result for result in results if not result.passed]


def test_orientations_are_matrices() -> None:
    with pytest.raises(ValueError, match=r"`orientations` must be matrices, shape \(6, 3, 3\), got \(6, 4\)"):
        testing.check_torques(Flawed("disc"), topology("disc"), POSITIONS, None, np.tile([1.0, 0, 0, 0], (6, 1)))


@pytest.mark.parametrize("box", [None, BOX], ids=["open", "periodic"])
def test_a_sound_model_with_charges_and_dipoles_passes(box: np.ndarray | None) -> None:
    """Torques hold the change of charges and dipoles; the mirror image of a dipole is that of the mirrored frame."""
    model = Flawed(
        "disc", electrostatics={"dipoles": True, "groups": "system", "smearing": 0.05}, type_charges=(0.2, -0.1),
        reflection_invariant=True,
    )  # fmt: skip
    results = {one.name: one for one in testing.check_model(model, topology("disc"), POSITIONS, box, FRAMES)}
    assert all(result.passed for result in results.values()), results
    assert "mirrored" in results["charges and dipoles"].detail
    assert results["torques"].value < 1e-8
