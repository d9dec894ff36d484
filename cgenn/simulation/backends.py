"""How the learned force gets into an OpenMM System: through openmm-torch, or through OpenMM's own PythonForce.

"openmm-torch": positions and forces stay on the device of the platform. "python": needs nothing beyond OpenMM. They
give the same numbers. A System with the python backend can be copied and written to XML; openmm-torch 1.5 from PyPI
can write, but crashes the process when it reads (also `copy.deepcopy(system)`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch  # isort: skip  (before openmm: its torch plugin needs the libraries that torch loads)
import openmm

from cgenn.simulation.force import LAMBDA, LearnedForce
from cgenn.simulation.torchscript import OperatorModule, register_operator

Backend = Literal["auto", "openmm-torch", "python"]

NETWORK_GROUP = 0
"""Force group of the learned force."""

_log = logging.getLogger(__name__)


def openmm_force(
    force: LearnedForce, backend: Backend = "auto", particles: Sequence[int] | None = None
) -> openmm.Force:
    """The learned force as an OpenMM force named "network"; "auto" takes openmm-torch where it works.

    It acts on all particles of a System, or on `particles`, which it sees as if they were alone.

    Raises:
        ValueError: if the backend is unknown.
        ImportError: if openmm-torch was asked for and does not work here, with the reason.
    """
    chosen = choose_backend(backend)
    make = _torch_force if chosen == "openmm-torch" else _python_force
    result = make(force, particles)
    result.setName("network")
    result.setForceGroup(NETWORK_GROUP)
    result.setUsesPeriodicBoundaryConditions(force.periodic)
    _log.info("learned force: backend %s, %s precision, device %s", chosen, force.precision, force.device)
    return result


def choose_backend(backend: Backend = "auto") -> Literal["openmm-torch", "python"]:
    """The backend that will be used; see `openmm_force`."""
    if backend not in ("auto", "openmm-torch", "python"):
        raise ValueError(f"unknown backend {backend!r}, expected 'auto', 'openmm-torch' or 'python'")
    if backend == "python":
        return "python"
    problem = openmm_torch_problem()
    if problem is None:
        return "openmm-torch"
    if backend == "openmm-torch":
        raise ImportError(f"backend 'openmm-torch' does not work here: {problem}; 'python' needs nothing more")
    _log.info("backend openmm-torch is not used: %s", problem)
    return "python"


@cache
def openmm_torch_problem() -> str | None:
    """Why openmm-torch cannot be used, or None if it can: found out by evaluating a small force with it."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # openmmtorch 1.5 warns, through the root logger, about its own imports
        import openmmtorch
    except ImportError as error:
        return f"it cannot be imported ({error}); install cgenn[openmm-torch]"
    finally:
        logging.disable(before)
    load_plugins()
    try:
        module = torch.jit.script(_Zero())
        system = openmm.System()
        system.addParticle(1.0)
        system.addForce(openmmtorch.TorchForce(module))
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions([(0.0, 0.0, 0.0)])
        context.getState(energy=True)
    except (openmm.OpenMMException, RuntimeError) as error:
        return f"it was not made for torch {torch.__version__} ({str(error).splitlines()[0]})"
    return None


def load_plugins() -> None:
    """Load the torch plugins of OpenMM that failed because openmm was imported before torch."""
    platforms = {openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())}
    for failure in openmm.Platform.getPluginLoadFailures():
        library = failure.removeprefix("Error loading library ").split(": ", 1)[0]
        if any(library.endswith(f"OpenMMTorch{platform}.so") for platform in platforms):
            try:
                openmm.Platform.loadPluginLibrary(library)
            except openmm.OpenMMException as error:
                _log.info("plugin %s: %s", library, error)


def _python_force(force: LearnedForce, particles: Sequence[int] | None) -> Any:
    result = openmm.PythonForce(force, {} if force.charged is None else {LAMBDA: 1.0})
    if particles is not None:
        result.setParticles(particles)
    return result


def _torch_force(force: LearnedForce, particles: Sequence[int] | None) -> Any:
    import openmmtorch

    register_operator()
    result = openmmtorch.TorchForce(torch.jit.script(OperatorModule(force, particles)))
    result.setOutputsForces(True)
    if force.charged is not None:
        result.addGlobalParameter(LAMBDA, 1.0)
    return result


class _Zero(torch.nn.Module):
    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        return 0.0 * positions.sum()
