"""What orientations add: turns with the bodies, and does not see what their symmetry makes the same."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from cgenn.neighbors import neighbors
from cgenn.nn.network import EquivariantNetwork
from cgenn.nn.orientation import BodySymmetry, BodyTensors, EdgeInvariants, invariants
from cgenn.symmetry import point_group

CORNERS = [[0.14, 0.0, 0.0], [0.0, 0.1, 0.05], [0.0, 0.0, 0.12]]
GROUPS = ["C1", "Cs", "C2v", "C3", "D2d", "D3h", "D6h", "S4", "Cinfv", "Dinfh", "Cinfh"]


def body(name: str, *, sites: bool = False) -> BodySymmetry:
    return BodySymmetry(*point_group(name), sites=CORNERS if sites else ())


def turns(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


def network(bodies: list[BodySymmetry | None] | None, **options) -> EquivariantNetwork:
    torch.manual_seed(0)
    chosen = dict(
        n_types=2, cutoff=1.0, lmax=1, channels=4, layers=2, reflection_invariant=False, radial_basis=4,
        radial_width=8, average_neighbors=5.0,
        bodies=bodies and [*bodies, None][:2],
    )  # fmt: skip
    return EquivariantNetwork(**{**chosen, **options})


def cloud(types: int = 1, beads: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)[torch.randperm(27)[:beads]]
    positions = 0.45 * grid + 0.05 * torch.rand(beads, 3)
    found = neighbors(positions, 1.0)
    return dict(
        vectors=positions[found.senders] - positions[found.receivers], types=torch.arange(beads) % types,
        receivers=found.receivers, senders=found.senders, orientations=turns(beads),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "counts"),
    [("C1", [3, 5, 7]), ("Cs", [2, 3, 4]), ("Ci", [0, 5, 0]), ("C2v", [1, 2, 2]), ("D6h", [0, 1, 0, 1, 0, 2]),
     ("D2d", [0, 1, 1]), ("Cinfv", [1, 1, 1, 1, 1, 1]), ("Dinfh", [0, 1, 0, 1, 0, 1])],
)  # fmt: skip
def test_number_of_invariants(name: str, counts: list[int]) -> None:
    """Character theory: how often the trivial representation is in that of Y_l."""
    elements = point_group(name).elements
    found = [len(invariants(elements, degree)) for degree in range(1, len(counts) + 1)]
    assert found == counts


@pytest.mark.parametrize("name", [*GROUPS, "Ci", "C2", "C2h", "C4", "C6v", "D2", "D3", "D3d", "D4d", "D5d", "S6", "S8"])
def test_tensors_know_the_group_and_no_more(name: str) -> None:
    group = point_group(name)
    tensors = BodyTensors([BodySymmetry(*group)])
    about_z = Rotation.from_euler("z", 7.5 * np.arange(48)[:, None], degrees=True).as_matrix()
    candidates = np.concatenate([about_z, about_z @ np.diag([1.0, -1.0, -1.0]), turns(10).numpy()])
    same = np.ones(len(candidates), dtype=bool)
    types = torch.zeros(len(candidates) + 1, dtype=torch.int64)
    for values in tensors(torch.from_numpy(np.concatenate([np.eye(3)[None], candidates])), types):
        same &= ((values[1:] - values[0]).abs().amax((1, 2)) < 1e-8).numpy()
    proper = group.elements[np.linalg.det(group.elements) > 0]
    element = np.abs(candidates[:, None] - proper).max((2, 3)).min(1) < 1e-8
    element |= group.continuous & (np.arange(len(candidates)) < (96 if name == "Dinfh" else 48))
    assert (same == element).all()


@pytest.mark.parametrize("name", ["C1", "C2v", "D6h", "Cinfh"])
def test_tensors_turn_as_harmonics(name: str) -> None:
    tensors = BodyTensors([body(name), None])
    turn, orientations, types = turns(1, 5)[0], turns(4), torch.tensor([0, 0, 0, 1])
    before, after = tensors(orientations, types), tensors(turn @ orientations, types)
    for kind, one, other in zip(tensors.kinds, before, after, strict=True):
        wigner = o3.Irrep(kind.degree, 1).D_from_matrix(turn)
        torch.testing.assert_close(other, one @ wigner.T, atol=1e-7, rtol=0)
        assert not one[3].any()


@pytest.mark.parametrize("name", ["C1", "C3v", "D6h"])
def test_invariants_of_edges_have_unit_size(name: str) -> None:
    tensors = BodyTensors([body(name)])
    edges = EdgeInvariants(tensors.kinds, tensors.counts)
    count = 4000
    values = tensors(turns(2 * count), torch.zeros(2 * count, dtype=torch.int64))
    harmonics = o3.spherical_harmonics(list(range(edges.degree + 1)), torch.randn(count, 3), True, "component")
    found = edges(values, harmonics, torch.arange(count), torch.arange(count) + count)
    assert found.shape == (count, edges.outputs)
    torch.testing.assert_close(found.square().mean(0), torch.ones(edges.outputs), atol=0.25, rtol=0)


@pytest.mark.parametrize("reflection_invariant", [False, True])
@pytest.mark.parametrize("sites", [False, True])
@pytest.mark.parametrize("name", ["C1", "D6h", "Cinfv"])
def test_energy_does_not_change_when_all_is_turned(name: str, sites: bool, reflection_invariant: bool) -> None:
    model = network([body(name, sites=sites), None], lmax=2, reflection_invariant=reflection_invariant)
    given, turn = cloud(types=2), turns(1, 7)[0]
    energy = model(**given).energies
    turned = dict(vectors=given["vectors"] @ turn.T, orientations=turn @ given["orientations"])
    torch.testing.assert_close(model(**{**given, **turned}).energies, energy, atol=1e-10, rtol=1e-12)
    alone = model(**{**given, "orientations": turned["orientations"]}).energies
    assert not torch.allclose(alone, energy, atol=1e-3)


@pytest.mark.parametrize("sites", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_energy_does_not_change_by_operations_of_the_body(name: str, sites: bool) -> None:
    model, given = network([body(name, sites=sites)], lmax=2), cloud()
    energy = model(**given).energies
    for element in torch.from_numpy(point_group(name).elements):
        if torch.linalg.det(element) > 0:
            turned = given["orientations"].clone()
            turned[0] = turned[0] @ element
            torch.testing.assert_close(
                model(**{**given, "orientations": turned}).energies, energy, atol=1e-9, rtol=1e-10
            )


@pytest.mark.parametrize("name", ["Cs", "D6h", "Cinfv"])
def test_mirror_images_have_the_same_energy(name: str) -> None:
    """The mirror image of a body that has a mirror plane is the body, turned: -Q g, g any improper element."""
    group = point_group(name)
    model, given = network([body(name, sites=True)], lmax=2, reflection_invariant=True), cloud()
    improper = torch.from_numpy(group.elements[np.linalg.det(group.elements) < 0][0])
    mirrored = dict(vectors=-given["vectors"], orientations=-given["orientations"] @ improper)
    torch.testing.assert_close(model(**{**given, **mirrored}).energies, model(**given).energies, atol=1e-9, rtol=0)


def test_turning_all_spins_round_changes_nothing() -> None:
    model, given = network([body("Cinfh")]), cloud()
    energy = model(**given).energies
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(
        model(**{**given, "orientations": given["orientations"] @ flip}).energies, energy, atol=1e-12, rtol=0
    )
    one = given["orientations"].clone()
    one[0] = one[0] @ flip
    assert not torch.allclose(model(**{**given, "orientations": one}).energies, energy, atol=1e-3)


@pytest.mark.parametrize("name", ["C2v", "D6h"])
def test_torque_is_the_slope_along_a_turn(name: str) -> None:
    model, given = network([body(name, sites=True)]), cloud()
    orientations = given["orientations"].requires_grad_()
    (slope,) = torch.autograd.grad(model(**given).energies.sum(), orientations)
    torque = -torch.linalg.cross(orientations, slope, dim=1).sum(2).detach()
    for axis in range(3):
        energies = []
        for angle in (-1e-4, 1e-4):
            turn = torch.from_numpy(Rotation.from_rotvec(angle * np.eye(3)[axis]).as_matrix())
            turned = orientations.detach().clone()
            turned[2] = turn @ turned[2]
            energies.append(model(**{**given, "orientations": turned}).energies.sum().item())
        assert (energies[0] - energies[1]) / 2e-4 == pytest.approx(torque[2, axis].item(), abs=1e-6, rel=1e-6)


def test_every_parameter_gets_a_gradient() -> None:
    model, given = network([body("C2v", sites=True), None], lmax=2), cloud(types=2)
    model(**given).energies.sum().backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert missing == []


def test_second_derivatives() -> None:
    model, given = network([body("C2v", sites=True)], channels=2).requires_grad_(False), cloud(beads=2)

    def energy(vectors: torch.Tensor, orientations: torch.Tensor) -> torch.Tensor:
        return model(**{**given, "vectors": vectors, "orientations": orientations}).energies

    inputs = (given["vectors"].requires_grad_(), given["orientations"].requires_grad_())
    assert torch.autograd.gradcheck(energy, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


def test_orientations_are_asked_for_and_only_then_taken() -> None:
    given = cloud()
    with pytest.raises(ValueError, match="needs `orientations`"):
        network([body("C1")])(**{**given, "orientations": None})
    with pytest.raises(ValueError, match="but `orientations` are given"):
        network(None)(**given)


def test_doubling_a_float32_network_restores_equivariance() -> None:
    model, given, turn = network([body("D6h", sites=True)]).float().double(), cloud(), turns(1, 7)[0]
    turned = dict(vectors=given["vectors"] @ turn.T, orientations=turn @ given["orientations"])
    torch.testing.assert_close(model(**{**given, **turned}).energies, model(**given).energies, atol=1e-10, rtol=1e-12)
