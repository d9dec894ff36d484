"""Coarse-grained equivariant neural networks: from an all-atom system to a simulation in OpenMM.

    mapping = cgenn.load_mapping("residue-com")
    dataset = cgenn.map_trajectory("aa.h5", topology, mapping, out="cg.h5")
    potential = cgenn.train(dataset, cgenn.TrainingConfig())
    potential.save("model.safetensors")
    system, bead_topology = cgenn.create_system("model.safetensors", "cg.h5")
    run = cgenn.simulate("model.safetensors", "cg.h5", cgenn.SimulationConfig(), out="run/")
    report = cgenn.compare(run, dataset, out="report/")

Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "BeadDataset": "data.dataset",
    "BeadTopology": "topology",
    "NetworkConfig": "potential.potential",
    "Potential": "potential.potential",
    "Run": "simulation.run",
    "SimulationConfig": "simulation.run",
    "TrainingConfig": "training.config",
    "check_model": "testing",
    "compare": "compare",
    "create_system": "simulation.system",
    "import_beads": "data.importing",
    "load_mapping": "mapping.definition",
    "map_trajectory": "data.map_trajectory",
    "run_reference": "reference.run",
    "select": "select",
    "simulate": "simulation.run",
    "train": "training.train",
}

if TYPE_CHECKING:
    from cgenn.compare import compare
    from cgenn.data.dataset import BeadDataset
    from cgenn.data.map_trajectory import map_trajectory
    from cgenn.mapping.definition import load_mapping
    from cgenn.potential.potential import NetworkConfig, Potential
    from cgenn.reference.run import run_reference
    from cgenn.simulation.run import Run, SimulationConfig, simulate
    from cgenn.simulation.system import create_system
    from cgenn.testing import check_model
    from cgenn.topology import BeadTopology
    from cgenn.training.config import TrainingConfig
    from cgenn.training.train import train

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cgenn' has no attribute {name!r}")
    return getattr(import_module(f"cgenn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
