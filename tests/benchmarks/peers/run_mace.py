"""MACE as it is: "mace-2" and "mace-3" with products of two and three of what was gathered."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import mace  # isort: skip  # noqa: F401  (before e3nn, whose files it lets torch read)
import numpy as np
import torch
from e3nn import o3
from mace.data.neighborhood import get_neighborhood
from mace.modules import MACE, RealAgnosticResidualInteractionBlock
from torch import Tensor

from tests.benchmarks.peers.measure import Calls, Graph, work

TYPES = 8


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    channels = [(chosen.channels, (degree, (-1) ** degree)) for degree in range(chosen.lmax + 1)]
    model = MACE(
        r_max=typical.angstroms().cutoff,
        num_bessel=8,
        num_polynomial_cutoff=6,
        max_ell=chosen.lmax,
        interaction_cls=RealAgnosticResidualInteractionBlock,
        interaction_cls_first=RealAgnosticResidualInteractionBlock,
        num_interactions=chosen.layers,
        num_elements=TYPES,
        hidden_irreps=o3.Irreps(channels),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(TYPES),
        avg_num_neighbors=typical.neighbors,
        atomic_numbers=list(range(1, TYPES + 1)),
        correlation=int(chosen.model.removeprefix("mace-")),
        gate=torch.nn.functional.silu,
        radial_MLP=[64],
    )
    model = model.to(chosen.device).float().eval().requires_grad_(False)
    return lambda graph: calls(graph, model)


def calls(graph: Graph, model: MACE) -> Calls:
    """Neighbours as the package finds them."""
    graph = graph.angstroms()
    device = graph.positions.device
    fixed = {
        "node_attrs": torch.nn.functional.one_hot(graph.types, TYPES).float(),
        "cell": graph.cell,
        "batch": torch.zeros_like(graph.types),
        "ptr": torch.tensor([0, len(graph.types)], device=device),
        "head": torch.zeros(1, dtype=torch.int64, device=device),
    }

    def find() -> dict[str, Tensor]:
        points, cell = graph.positions.double().cpu().numpy(), graph.cell.double().cpu().numpy()
        edges, shifts, units, _ = get_neighborhood(points, graph.cutoff, (True, True, True), cell)
        found = {"edge_index": torch.from_numpy(edges).long()}
        found |= {"shifts": torch.from_numpy(shifts).float(), "unit_shifts": torch.from_numpy(units).float()}
        return {name: value.to(device) for name, value in found.items()}

    def evaluate(found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        outputs = model({**fixed, **found, "positions": graph.positions.clone()}, compute_force=True)
        return outputs["energy"].detach(), outputs["forces"].detach()

    return Calls(find, evaluate, lambda found: found["edge_index"].shape[1])


if __name__ == "__main__":
    work(build, "mace-torch", "e3nn")
