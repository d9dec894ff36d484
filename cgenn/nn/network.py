"""The equivariant message-passing network: positions and types in; energies, charges and dipoles of the beads out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from cgenn.nn.dense import Dense, perceptron
from cgenn.nn.harmonics import SphericalHarmonics
from cgenn.nn.layers import InteractionLayer
from cgenn.nn.orientation import BodySymmetry, BodyTensors, EdgeInvariants, TensorEmbedding
from cgenn.nn.readouts import ChargeReadout, DipoleReadout
from cgenn.nn.sites import SitePairs


class BeadOutputs(NamedTuple):
    """What the network says of each bead, without units.

    Attributes:
        energies: shape (beads,).
        charges: before they are made neutral, shape (beads,); None without that readout.
        weights: share of each bead in what is missing from neutrality, positive, shape (beads,).
        dipoles: shape (beads, 3); None without that readout.
    """

    energies: Float[Tensor, " beads"]
    charges: Float[Tensor, " beads"] | None = None
    weights: Float[Tensor, " beads"] | None = None
    dipoles: Float[Tensor, "beads 3"] | None = None


class BodyFeatures(nn.Module):
    """All that orientations add to the network."""

    def __init__(self, bodies: Sequence[BodySymmetry | None], cutoff: float, lmax: int, channels: int) -> None:
        super().__init__()
        self.tensors = BodyTensors(bodies)
        kinds, counts = self.tensors.kinds, self.tensors.counts
        self.embedding = TensorEmbedding(kinds, counts, lmax, len(bodies), channels)
        self.edges = EdgeInvariants(kinds, counts)
        self.sites = SitePairs(bodies, cutoff)


class EquivariantNetwork(nn.Module):
    """Layers of equivariant messages on e3nn irreps, with an energy read from the scalars of every layer.

    With `reflection_invariant` the irreps are 0e, 1o, 2e, ... of O(3), and the energy of a mirror image is the same.
    Without it they are those of SO(3), written 0e, 1e, 2e, ...: a pseudoscalar is then a scalar like any other, and
    mirror images may differ in energy. Charges and dipoles are read from the features of the last layer.

    `bodies` says which types have an orientation, and with which symmetry. It enters as features of the first layer,
    as invariants of the edges that the radial functions depend on, and as an energy between sites of the bodies.
    """

    def __init__(
        self,
        *,
        n_types: int,
        n_features: int = 0,
        cutoff: float,
        lmax: int,
        channels: int,
        layers: int,
        reflection_invariant: bool,
        radial_basis: int,
        radial_width: int,
        average_neighbors: float,
        charges: bool = False,
        dipoles: bool = False,
        bodies: Sequence[BodySymmetry | None] | None = None,
    ) -> None:
        super().__init__()
        if dipoles and lmax < 1:
            raise ValueError(f"dipoles need features of degree one: `lmax` must be at least 1, got {lmax}")
        self.cutoff = cutoff
        irreps = o3.Irreps.spherical_harmonics(lmax, p=-1 if reflection_invariant else 1)
        self.frames = None if bodies is None else BodyFeatures(bodies, cutoff, lmax, channels)
        self.harmonics = SphericalHarmonics(lmax if self.frames is None else max(lmax, self.frames.edges.degree))
        self.components = irreps.dim
        scalar = o3.Irreps("0e")
        self.embedding = nn.Embedding(n_types, channels)
        self.feature_embedding = Dense(n_features, channels, bias=False) if n_features else None
        first = scalar if self.frames is None else irreps[: self.frames.embedding.lmax + 1]
        widths = [first] + [irreps] * (layers - 1) + [irreps[:2] if dipoles else scalar]
        self.layers = nn.ModuleList(
            InteractionLayer(
                irreps_in,
                irreps,
                irreps_out,
                channels=channels,
                n_types=n_types,
                cutoff=cutoff,
                radial_basis=radial_basis,
                radial_width=radial_width,
                average_neighbors=average_neighbors,
                invariants=0 if self.frames is None else self.frames.edges.outputs,
            )
            for irreps_in, irreps_out in pairwise(widths)
        )
        self.readouts = nn.ModuleList(perceptron(channels, channels, 1, hidden=1) for _ in range(layers))
        self.charge_readout = ChargeReadout(channels) if charges else None
        self.dipole_readout = DipoleReadout(channels) if dipoles else None

    def forward(
        self,
        vectors: Float[Tensor, "edges 3"],
        types: Int[Tensor, " beads"],
        receivers: Int[Tensor, " edges"],
        senders: Int[Tensor, " edges"],
        inputs: Float[Tensor, "beads features"] | None = None,
        orientations: Float[Tensor, "beads 3 3"] | None = None,
    ) -> BeadOutputs:
        """Energy of each bead and, where they are read out, its charge and dipole.

        Args:
            vectors: from receiver to sender, in the unit of the cutoff.
            types: type of each bead.
            receivers, senders: ends of each edge.
            inputs: further scalar inputs of each bead.
            orientations: axes of the frame of each bead as columns; those of types without a body are not looked at.

        Raises:
            ValueError: if there are orientations and no bodies, or the reverse.
        """
        self.check_orientations(orientations)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = self.harmonics(vectors, distance)
        scalars = self.embedding(types)
        if self.feature_embedding is not None:
            scalars = scalars + self.feature_embedding(inputs)
        features, energy, invariants = scalars.unsqueeze(1), vectors.new_zeros(len(types)), None
        if self.frames is not None and orientations is not None:
            tensors = self.frames.tensors(orientations, types)
            features = self.frames.embedding(tensors, types, scalars)
            invariants = self.frames.edges(tensors, harmonics, receivers, senders)
            energy = self.frames.sites(vectors, distance, types, receivers, senders, orientations)
            harmonics = harmonics[:, : self.components]
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            features = layer(features, types, receivers, senders, distance, harmonics, invariants)
            energy = energy + readout(features[:, 0]).squeeze(1)
        charges = weights = None
        if self.charge_readout is not None:
            charges, weights = self.charge_readout(features[:, 0])
        dipoles = None if self.dipole_readout is None else self.dipole_readout(features[:, 0], features[:, 1:4])
        return BeadOutputs(energy, charges, weights, dipoles)

    def check_orientations(self, orientations: Tensor | None) -> None:
        """Raises ValueError if there are orientations and no bodies, or the reverse."""
        if (orientations is None) != (self.frames is None):
            raise ValueError(
                "no bead type of this network has an orientation, but `orientations` are given"
                if self.frames is None
                else "this network needs `orientations`"
            )
