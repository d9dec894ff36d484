"""TorchMD-NET: "tensornet", "equivariant-transformer", and "schnet", its graph network of SchNet's kind.

The last is the network of published coarse-grained protein models (Majewski et al. 2023); that of mlcg is of the same
kind, but mlcg is not on PyPI. It gets 50 radial functions, as is usual. The models find the neighbours by themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torchmdnet.extensions.neighbor_utils import get_cell_dimensions
from torchmdnet.models.model import create_model

from tests.benchmarks.peers.measure import Calls, Graph, work

NAMES = {"schnet": "graph-network"}


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    model = create_model(
        {
            "model": NAMES.get(chosen.model, chosen.model),
            "embedding_dimension": chosen.channels,
            "num_layers": chosen.layers,
            "num_rbf": 8 if chosen.model != "schnet" else 50,
            "rbf_type": "expnorm",
            "trainable_rbf": False,
            "activation": "silu",
            "attn_activation": "silu",
            "num_heads": 8,
            "distance_influence": "both",
            "neighbor_embedding": chosen.model != "schnet",
            "aggr": "add",
            "equivariance_invariance_group": "O(3)",
            "cutoff_lower": 0.0,
            "cutoff_upper": typical.angstroms().cutoff,
            "max_z": 9,
            "max_num_neighbors": 96,
            "precision": 32,
            "atom_filter": -1,
            "prior_model": None,
            "output_model": "Scalar",
            "reduce_op": "sum",
            "derivative": True,
        }
    )
    model = model.to(chosen.device).eval().requires_grad_(False)
    return lambda graph: calls(graph, model)


def calls(graph: Graph, model: torch.nn.Module) -> Calls:
    """The list of cells is the faster one from some hundreds of beads on."""
    graph = graph.angstroms()
    distance, batch = model.representation_model.distance, torch.zeros_like(graph.types)
    distance.strategy = "cell" if len(graph.types) > 500 else "brute"
    distance.num_cells = int(get_cell_dimensions(*graph.cell.diag().cpu(), graph.cutoff).prod())
    numbers, cell = graph.types + 1, graph.cell

    def pairs(found: tuple[torch.Tensor, ...]) -> int:
        return int((found[0][0] != found[0][1]).sum())

    def evaluate(_: object) -> tuple[torch.Tensor, torch.Tensor]:
        energy, forces = model(numbers, graph.positions.detach().clone(), batch, box=cell)
        return energy.detach(), forces.detach()

    return Calls(lambda: distance(graph.positions.detach(), batch, cell), evaluate, pairs, finds_again=True)


if __name__ == "__main__":
    work(build, "torchmd-net", "warp-lang")
