import pytest
import torch

from cgenn.electrostatics.charges import charge_groups, neutralise


def test_groups_have_their_totals() -> None:
    groups, totals = torch.tensor([0, 2, 0, 2, 2, 1]), torch.tensor([1.0, 0.0, -0.5, 0.0])
    raw, weights = torch.randn(6), torch.rand(6)
    weights[3] = 0.0
    charges = neutralise(raw, weights, groups, totals)
    torch.testing.assert_close(torch.zeros(4).index_add(0, groups, charges), totals, rtol=0, atol=1e-15)
    assert charges[3] == raw[3]
    ratio = (charges - raw) / weights
    torch.testing.assert_close(ratio[0], ratio[2])
    torch.testing.assert_close(neutralise(charges, weights, groups, totals), charges)


def test_derivatives_of_neutral_charges() -> None:
    groups, totals = torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, 0.0])
    inputs = (torch.randn(4).requires_grad_(), torch.rand(4).requires_grad_())
    assert torch.autograd.gradcheck(lambda raw, weights: neutralise(raw, weights, groups, totals), inputs)


def test_what_cannot_be_neutralised() -> None:
    raw, groups = torch.randn(4), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="group 1 cannot be neutralised"):
        neutralise(raw, torch.tensor([1.0, 0.0, 1.0, 0.0]), groups, torch.zeros(2))
    with pytest.raises(ValueError, match="there are 1 total charges but a bead belongs to group 1"):
        neutralise(raw, torch.ones(4), groups, torch.zeros(1))


def test_charge_groups() -> None:
    assert charge_groups([[2, 0], [1, 3]], 4).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 1], [1, 2]], "bead 1 is in charge groups 0 and 1"),
        ([[0, 0], [1, 2]], "bead 0 is in charge groups 0 and 0"),
        ([[0, 1]], "bead 2 is in no charge group"),
        ([[0, 1, 3], [2]], "charge group 0 names bead 3, but there are 3"),
        ([[0, 1, 2], []], "charge group 1 is empty"),
    ],
)
def test_wrong_groups(groups: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        charge_groups(groups, 3)
