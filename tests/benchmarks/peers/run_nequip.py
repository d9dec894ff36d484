"""NequIP with features of natural parity: "nequip" as it is, "nequip-aotinductor" as `nequip-compile` compiles it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version

import torch
from nequip.data import AtomicDataDict, compute_neighborlist_
from nequip.model import NequIPGNNModel
from nequip.nn.compile import DictInputOutputWrapper
from nequip.utils.aot import aot_export_model
from nequip.utils.global_state import set_global_state
from torch import Tensor

from tests.benchmarks.peers.measure import Calls, Graph, work

INPUTS = [
    AtomicDataDict.POSITIONS_KEY,
    AtomicDataDict.EDGE_INDEX_KEY,
    AtomicDataDict.ATOM_TYPE_KEY,
    AtomicDataDict.CELL_KEY,
    AtomicDataDict.EDGE_CELL_SHIFT_KEY,
]
OUTPUTS = [AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY]


def build(chosen: argparse.Namespace, typical: Graph) -> Callable[[Graph], Calls]:
    set_global_state(allow_tf32=False)
    model = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        r_max=typical.angstroms().cutoff,
        type_names=list("ABCDEFGH"),
        num_layers=chosen.layers,
        l_max=chosen.lmax,
        parity=False,
        num_features=chosen.channels,
        radial_mlp_depth=1,
        radial_mlp_width=64,
        avg_num_neighbors=typical.neighbors,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )
    model = model.to(chosen.device).eval()
    if chosen.model == "nequip-aotinductor":
        model = compiled(model, chosen, calls(typical, model).find())
    return lambda graph: calls(graph, model)


def compiled(model: torch.nn.Module, chosen: argparse.Namespace, data: dict[str, Tensor]) -> torch.nn.Module:
    """Read from a file, which is made unless it is there."""
    sizes = f"{chosen.lmax}-{chosen.layers}-{chosen.channels}-{chosen.device}"
    path = chosen.work / f"nequip-{version('nequip')}-{version('torch')}-{sizes}.nequip.pt2"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("partial-" + path.name)
        dims = {name: torch.export.Dim(f"num_{name}s", min=2, max=torch.inf) for name in ("node", "edge")}
        sizes = {"graph": torch.export.Dim.STATIC, **dims}
        aot_export_model(model, chosen.device, INPUTS, OUTPUTS, data, sizes, str(partial))
        partial.replace(path)
    return DictInputOutputWrapper(torch._inductor.aoti_load_package(str(path)), INPUTS, OUTPUTS)


def calls(graph: Graph, model: torch.nn.Module) -> Calls:
    """Neighbours as the package finds them by default."""
    graph = graph.angstroms()
    data = {
        AtomicDataDict.POSITIONS_KEY: graph.positions,
        AtomicDataDict.ATOM_TYPE_KEY: graph.types,
        AtomicDataDict.CELL_KEY: graph.cell[None],
        AtomicDataDict.PBC_KEY: torch.tensor([[True, True, True]], device=graph.positions.device),
    }

    def find() -> dict[str, Tensor]:
        found = compute_neighborlist_({**data}, graph.cutoff)
        return {name: found[name] for name in INPUTS}

    def evaluate(found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        outputs = model({**found})
        return tuple(outputs[name].detach() for name in OUTPUTS)

    return Calls(find, evaluate, lambda found: found[AtomicDataDict.EDGE_INDEX_KEY].shape[1])


if __name__ == "__main__":
    work(build, "nequip", "e3nn")
