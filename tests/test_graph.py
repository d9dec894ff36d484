import torch

from cgenn.graph import BeadGraph, build_graph


def pair(cell: torch.Tensor | None = None) -> BeadGraph:
    """Two systems: two beads that see each other, in the second through the x face; and one bead on its own."""
    return BeadGraph(
        positions=torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.2, 0.0], [0.5, 0.5, 0.5]]),
        types=torch.tensor([0, 1, 0]),
        receivers=torch.tensor([0, 1]),
        senders=torch.tensor([1, 0]),
        shifts=torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        batch=torch.tensor([0, 0, 1]),
        n_systems=2,
        cell=cell,
    )


def test_edge_vectors() -> None:
    cell = torch.tensor([[[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 1.0]]]).repeat(2, 1, 1)
    expected = torch.tensor([[-0.1, 0.2, 0.0], [0.1, -0.2, 0.0]])
    torch.testing.assert_close(pair(cell).edge_vectors(), expected)
    torch.testing.assert_close(pair().edge_vectors(), torch.tensor([[0.9, 0.2, 0.0], [-0.9, -0.2, 0.0]]))


def test_edge_vectors_use_the_cell_of_their_own_system() -> None:
    cells = torch.stack([torch.eye(3), 5 * torch.eye(3)])
    moved = BeadGraph(**{**vars(pair(cells)), "batch": torch.tensor([1, 1, 1])})
    torch.testing.assert_close(moved.edge_vectors()[0], torch.tensor([0.9 - 5.0, 0.2, 0.0]))


def test_per_system() -> None:
    assert pair().per_system(torch.tensor([1.0, 2.0, 4.0])).tolist() == [3.0, 4.0]
    assert BeadGraph(**{**vars(pair()), "n_systems": 3}).per_system(torch.ones(3)).tolist() == [2.0, 1.0, 0.0]


def test_with_positions() -> None:
    graph = pair()
    moved = graph.with_positions(2 * graph.positions)
    torch.testing.assert_close(moved.edge_vectors(), 2 * graph.edge_vectors())
    assert moved.receivers is graph.receivers


def test_within() -> None:
    graph = BeadGraph(
        **{
            **vars(pair(torch.eye(3).repeat(2, 1, 1))),
            "receivers": torch.tensor([0, 0, 1, 1]),
            "senders": torch.tensor([1, 1, 0, 0]),
            "shifts": torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        }
    )
    near = graph.within(0.5)
    assert (near.receivers.tolist(), near.senders.tolist()) == ([0, 1], [1, 0])
    assert near.shifts[:, 0].tolist() == [-1.0, 1.0]
    torch.testing.assert_close(near.edge_vectors(), graph.edge_vectors()[[0, 3]])
    assert len(graph.within(0.1).receivers) == 0


def test_strain_moves_images_along() -> None:
    graph = pair(torch.eye(3).repeat(2, 1, 1))
    strain = torch.stack([0.1 * torch.randn(3, 3), torch.zeros(3, 3)])
    strained = graph.strained(strain)
    torch.testing.assert_close(strained.edge_vectors(), graph.edge_vectors() @ (torch.eye(3) + strain[0]))
    torch.testing.assert_close(strained.positions[2], graph.positions[2])


def test_strain_turns_no_frames() -> None:
    graph = pair().with_frames(torch.rand(3, 3), torch.eye(3).repeat(3, 1, 1))
    strained = graph.strained(torch.rand(2, 3, 3))
    assert torch.equal(strained.orientations, graph.orientations)
    assert not torch.equal(strained.positions, graph.positions)


def test_build_graph() -> None:
    points, types = torch.rand(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    graph = build_graph(points, types, 0.4, cell=torch.eye(3)[None], features=torch.ones(6, 2))
    assert graph.orientations is None
    assert graph.batch.tolist() == [0] * 6
    assert (graph.edge_vectors().norm(dim=1) < 0.4).all()
    assert graph.features is not None
