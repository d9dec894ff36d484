"""Linear maps, gates and the message-passing layer, on features of shape (nodes, components, channels)."""

from __future__ import annotations

import torch
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.nn.dense import SIGMOID_GAIN, SILU_GAIN, Dense
from cgenn.nn.radial import RadialNetwork
from cgenn.nn.tensor_product import EdgeProduct, NodeProduct


class IrrepsLinear(nn.Module):
    """One matrix per irrep mixes its channels; components are never mixed. Unit variance in, unit variance out."""

    block: Tensor

    def __init__(self, irreps: o3.Irreps, channels_in: int, channels_out: int) -> None:
        super().__init__()
        block = torch.cat([torch.full((ir.dim,), i) for i, (_, ir) in enumerate(irreps)])
        self.register_buffer("block", block, persistent=False)
        self.weight = nn.Parameter(torch.randn(len(irreps), channels_in, channels_out))
        self.scale = channels_in**-0.5

    def forward(self, features: Float[Tensor, "nodes components inputs"]) -> Float[Tensor, "nodes components outputs"]:
        return torch.einsum("nic,ico->nio", features, self.scale * self.weight[self.block])


class Gate(nn.Module):
    """SiLU on scalars; every other irrep is multiplied by a positive number made from the scalars.

    (Weiler et al. 2018.) The first irrep has to be the scalar.
    """

    def __init__(self, irreps: o3.Irreps, channels: int) -> None:
        super().__init__()
        self.scalars = irreps[0].ir.dim
        block = (
            torch.cat([torch.full((ir.dim,), i) for i, (_, ir) in enumerate(irreps[1:])]) if len(irreps) > 1 else None
        )
        self.register_buffer("block", block, persistent=False)
        self.gates = Dense(channels, channels * (len(irreps) - 1)) if len(irreps) > 1 else None

    def forward(
        self, features: Float[Tensor, "nodes components channels"]
    ) -> Float[Tensor, "nodes components channels"]:
        scalars = features[:, :1]
        activated = SILU_GAIN * nn.functional.silu(scalars)
        if self.gates is None:
            return activated
        gates = SIGMOID_GAIN * torch.sigmoid(self.gates(scalars[:, 0])).unflatten(1, (-1, features.shape[2]))
        return torch.cat([activated, features[:, 1:] * gates.index_select(1, self.block)], dim=1)


class InteractionLayer(nn.Module):
    """Gather messages from the neighbours, multiply what came with itself, add what was there before.

    m_ij = R(r_ij) (W1 h_j) x Y(r_ij),   A_i = T_type(i) sum_j m_ij / sqrt(average number of neighbours)
    h_i' = gate( (W2 A_i + W3 A_i x W4 A_i + S_type(i) h_i) / sqrt(3) )

    R may depend on further invariants of the edge, such as how the bodies at both ends lie.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps: o3.Irreps,
        irreps_out: o3.Irreps,
        *,
        channels: int,
        n_types: int,
        cutoff: float,
        radial_basis: int,
        radial_width: int,
        average_neighbors: float,
        invariants: int = 0,
    ) -> None:
        super().__init__()
        self.product = EdgeProduct(irreps_in, irreps, irreps)
        self.radial = RadialNetwork(radial_basis, radial_width, len(self.product.paths) * channels, cutoff, invariants)
        self.before = IrrepsLinear(irreps_in, channels, channels)
        self.left = IrrepsLinear(irreps, channels, channels)
        self.right = IrrepsLinear(irreps, channels, channels)
        self.square = NodeProduct(irreps, irreps, irreps_out, channels)
        self.linear = IrrepsLinear(irreps_out, channels, channels)
        self.after = IrrepsLinear(irreps_out, channels, channels)
        self.out = irreps_out.dim
        self.kept = min(irreps_in.dim, irreps_out.dim)
        self.receiver = nn.Embedding(n_types, channels)
        self.skip = nn.Embedding(n_types, channels)
        self.gate = Gate(irreps_out, channels)
        self.channels = channels
        self.scale = max(average_neighbors, 1.0) ** -0.5

    def forward(
        self,
        features: Float[Tensor, "beads components channels"],
        types: Int[Tensor, " beads"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        distance: Float[Tensor, " edges"],
        harmonics: Float[Tensor, "edges harmonics"],
        invariants: Float[Tensor, "edges invariants"] | None = None,
    ) -> Float[Tensor, "beads out channels"]:
        hidden = self.radial.hidden(distance, invariants)
        gathered = self.product(self.before(features), harmonics, hidden, self.radial.last.matrix, receivers, senders)
        return self.update(gathered, features, types)

    def update(
        self,
        gathered: Float[Tensor, "beads gathered channels"],
        features: Float[Tensor, "beads components channels"],
        types: Int[Tensor, " beads"],
    ) -> Float[Tensor, "beads out channels"]:
        """The features after the layer, from those before it and the messages that each bead has got."""
        gathered = gathered * (self.scale * self.receiver(types)).unsqueeze(1)
        mixed = self.linear(gathered[:, : self.out]) + self.after(
            self.square(self.left(gathered), self.right(gathered))
        )
        kept = features[:, : self.kept] * self.skip(types).unsqueeze(1)
        return self.gate(3**-0.5 * (mixed + nn.functional.pad(kept, (0, 0, 0, mixed.shape[1] - self.kept))))
