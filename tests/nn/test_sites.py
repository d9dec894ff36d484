"""Sites of bodies: where the symmetry lets them be, and the energy between them."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cgenn.nn.orientation import BodySymmetry
from cgenn.nn.radial import smooth_cutoff
from cgenn.nn.site_energy import site_energy
from cgenn.nn.sites import SitePairs, orbits
from cgenn.symmetry import point_group

ANGLES = math.pi / 3 * np.arange(6)
HEXAGON = np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], axis=1)
ATOMS = np.concatenate([0.14 * HEXAGON, 0.248 * HEXAGON])
TRIANGLE = np.array([[0.0, 0.0, 0.03], [0.08, 0.0, -0.03], [-0.08, 0.0, -0.03]])


def body(name: str, sites: np.ndarray) -> BodySymmetry:
    return BodySymmetry(*point_group(name), sites=sites)


def pair(distance: float = 0.5) -> dict[str, torch.Tensor]:
    vectors = torch.tensor([[0.0, 0.6, 0.8], [0.0, -0.6, -0.8]]) * distance
    turns = torch.from_numpy(Rotation.random(2, random_state=2).as_matrix())
    return dict(
        vectors=vectors, distance=vectors.norm(dim=1), types=torch.tensor([0, 0]), receivers=torch.tensor([0, 1]),
        senders=torch.tensor([1, 0]), orientations=turns,
    )  # fmt: skip


def spline(pairs: SitePairs, distance: torch.Tensor) -> torch.Tensor:
    """phi between the first orbit and itself."""
    here = torch.zeros(len(distance), 1, 3)
    there = torch.nn.functional.pad(distance[:, None, None], (0, 2))
    return site_energy(here, there, pairs.table(), pairs.first[:1, :1, :1], pairs.steps.shape[1], 0.05)


@pytest.mark.parametrize(
    ("name", "sites", "sizes"),
    [("D6h", ATOMS, [6, 6]), ("C2v", TRIANGLE, [1, 2]), ("C1", TRIANGLE, [1, 1, 1]), ("D2h", [[0.1, 0.2, 0.3]], [8]),
     ("Cinfv", [[0.0, 0.0, 0.1], [0.0, 0.0, -0.2]], [1, 1]), ("Dinfh", [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]], [2])],
)  # fmt: skip
def test_orbits_of_atoms(name: str, sites, sizes: list[int]) -> None:
    found = orbits(body(name, np.asarray(sites)))
    assert [len(orbit.maps) for orbit in found] == sizes


def test_atoms_that_are_not_quite_symmetric_are_made_so() -> None:
    shaken = ATOMS + 0.003 * np.random.default_rng(0).normal(size=ATOMS.shape)
    for orbit, radius in zip(orbits(body("D6h", shaken)), (0.14, 0.248), strict=True):
        images = orbit.maps @ orbit.point
        assert images[:, 2].abs().max() < 1e-12
        torch.testing.assert_close(images.norm(dim=1), torch.full((6,), radius), atol=0.01, rtol=0)


def test_sites_stay_symmetric_wherever_training_moves_them() -> None:
    group = point_group("D6h")
    pairs = SitePairs([BodySymmetry(*group, sites=ATOMS)], 1.0)
    torch.nn.init.normal_(pairs.points)
    sites = pairs.sites(torch.eye(3)[None], torch.tensor([0]))[0]
    for element in torch.from_numpy(group.elements):
        assert torch.cdist(sites @ element.T, sites).amin(1).max() < 1e-10


def test_energy_is_the_sum_over_pairs_of_sites() -> None:
    """Coefficients that fall evenly make a straight line of a spline: phi = slope * (end - distance)."""
    pairs, given = SitePairs([body("C2v", TRIANGLE)], 1.0), pair()
    torch.nn.init.constant_(pairs.steps, 0.01)
    sites = pairs.sites(given["orientations"], given["types"]).detach()
    apart = torch.cdist(sites[0], sites[1] + given["vectors"][0])
    phi = spline(pairs, torch.tensor([0.2, 0.4]))
    slope = (phi[1] - phi[0]) / 0.2
    expected = (phi[0] + slope * (apart - 0.2)).sum() * smooth_cutoff(given["distance"][:1], 1.0)
    found = pairs(**given)
    torch.testing.assert_close(found, expected.expand(2) / 2)


def test_energy_is_smooth_and_ends_at_the_cutoff() -> None:
    pairs = SitePairs([body("C1", np.zeros((1, 3)))], 2.0)
    torch.nn.init.normal_(pairs.steps)
    distance = torch.linspace(0.1, 1.1, 4001)
    curvature = spline(pairs, distance).diff(n=2)
    assert curvature.diff().abs().max() < 0.05 * curvature.abs().max()
    assert not pairs(**pair(2.0)).any()


def test_sites_repel_each_other_before_training() -> None:
    pairs = SitePairs([body("C1", np.zeros((1, 3)))], 1.0)
    distances = (0.05, 0.1, 0.15, 0.2, 0.5)
    energies = [pairs(**pair(distance)).sum().item() for distance in distances]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] > 100
    assert abs(energies[-1]) < 1e-9


def test_pairs_without_orientation_are_left_to_the_network() -> None:
    pairs = SitePairs([body("C1", TRIANGLE), None], 1.0)
    torch.nn.init.normal_(pairs.steps)
    energy = [pairs(**{**pair(), "types": torch.tensor(types)}) for types in ([0, 0], [0, 1], [1, 1])]
    assert energy[0].abs().min() > 0
    assert energy[1].abs().min() > 0
    assert not energy[2].any()


def test_a_bead_and_its_own_image_count_once() -> None:
    pairs, given = SitePairs([body("C1", TRIANGLE)], 1.0), pair()
    torch.nn.init.normal_(pairs.steps)
    same = {**given, "orientations": given["orientations"][:1].expand(2, 3, 3)}
    image = {
        **same, "types": torch.tensor([0]), "receivers": torch.tensor([0, 0]), "senders": torch.tensor([0, 0]),
        "orientations": given["orientations"][:1],
    }  # fmt: skip
    torch.testing.assert_close(pairs(**image).sum(), pairs(**same).sum())


@pytest.mark.parametrize("types", [[0, 0], [0, 1]])
def test_fixed_splines_give_the_same_with_all_derivatives(types: list[int]) -> None:
    pairs, given = SitePairs([body("C2v", TRIANGLE), body("C1", TRIANGLE[:2])], 1.0), pair()
    torch.nn.init.normal_(pairs.steps)
    given |= {"types": torch.tensor(types), "orientations": given["orientations"].requires_grad_()}

    def derivatives() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        energy = pairs(**given).sum()
        (first,) = torch.autograd.grad(energy, given["orientations"], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), given["orientations"])
        return energy, first, second

    expected = derivatives()
    pairs.requires_grad_(False)
    torch.testing.assert_close(derivatives(), expected)
    (once,) = torch.autograd.grad(pairs(**given).sum(), given["orientations"])
    torch.testing.assert_close(once, expected[1])
