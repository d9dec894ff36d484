"""Charges and dipoles from the features of a bead."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cgenn.nn.dense import perceptron


class ChargeReadout(nn.Module):
    """A charge and a positive weight for each bead: the two numbers that are made into a neutral set of charges.

    (Neural spin equilibration, Zubatyuk et al., Nat. Commun. 12, 4870, 2021, of one spin, as in AIMNet2; Anstine,
    Zubatyuk and Isayev 2025.) They have perceptrons of their own: charges can start from zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.charge = perceptron(channels, channels, 1, hidden=1)
        self.weight = perceptron(channels, channels, 1, hidden=1)

    def forward(
        self, scalars: Float[Tensor, "beads channels"]
    ) -> tuple[Float[Tensor, " beads"], Float[Tensor, " beads"]]:
        """Charges and weights; a weight is between 1/e and e, so that no bead takes all and none is left out."""
        return self.charge(scalars).squeeze(1), torch.exp(torch.tanh(self.weight(scalars).squeeze(1)))

    def start_from_zero(self) -> None:
        """Make all charges zero, until training changes that."""
        nn.init.zeros_(self.charge[-1].get_parameter("weight"))


class DipoleReadout(nn.Module):
    """sum_c g_c(scalars) v_c of the vectors v of a bead: turns with them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = perceptron(channels, channels, channels, hidden=1)
        self.scale = channels**-0.5

    def forward(
        self, scalars: Float[Tensor, "beads channels"], vectors: Float[Tensor, "beads 3 channels"]
    ) -> Float[Tensor, "beads 3"]:
        return self.scale * torch.einsum("bc,bic->bi", self.gates(scalars), vectors)

    def start_from_zero(self) -> None:
        """Make all dipoles zero, until training changes that."""
        nn.init.zeros_(self.gates[-1].get_parameter("weight"))
