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
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BeadDataset": "data.dataset",
    "BeadTopology": "topology",
    "ElectrostaticsConfig": "potential.electrostatics",
    "LossWeights": "training.config",
    "NetworkConfig": "potential.config",
    "Potential": "potential.potential",
    "Run": "simulation.folder",
    "SimulationConfig": "simulation.config",
    "TrainingConfig": "training.config",
    "add_orientation_sites": "simulation.orientation_sites",
    "audit_mapping": "chemistry.audit",
    "backmap": "backmapping.backmap",
    "build_melt": "chemistry.melt",
    "build_polymer": "chemistry.polymer",
    "check_model": "testing",
    "compare": "comparison",
    "create_system": "simulation.system",
    "import_beads": "data.import_beads",
    "load_mapping": "mapping.definition",
    "map_trajectory": "data.map_trajectory",
    "match_pairs": "refinement.pairs",
    "match_pressure": "refinement.pressure",
    "run_reference": "reference.run",
    "refine": "refinement.refine",
    "simulate": "simulation.run",
    "suggest_mapping": "chemistry.suggest",
    "train": "training.train",
}

__all__ = [
    "BeadDataset",
    "BeadTopology",
    "ElectrostaticsConfig",
    "LossWeights",
    "NetworkConfig",
    "Potential",
    "Run",
    "SimulationConfig",
    "TrainingConfig",
    "add_orientation_sites",
    "audit_mapping",
    "backmap",
    "build_melt",
    "build_polymer",
    "check_model",
    "compare",
    "create_system",
    "import_beads",
    "load_mapping",
    "map_trajectory",
    "match_pairs",
    "match_pressure",
    "refine",
    "run_reference",
    "simulate",
    "suggest_mapping",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cgenn' has no attribute {name!r}")
    return getattr(import_module(f"cgenn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
