"""The only TorchScript in cgenn: a module that calls back into Python through a registered operator.

No annotations from the future here: TorchScript reads them as they stand.
"""

from functools import cache
from typing import Optional

import torch
from torch import Tensor

from cgenn.simulation.force import LearnedForce


class OperatorModule(torch.nn.Module):
    """Passes positions and box on to `cgenn::learned_force`, together with the content of the force."""

    def __init__(self, force: LearnedForce) -> None:
        super().__init__()
        self.key = force.key
        self.register_buffer("state", torch.frombuffer(bytearray(force.state), dtype=torch.uint8))

    def forward(self, positions: Tensor, box: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:  # noqa: UP045
        return torch.ops.cgenn.learned_force(positions, box, self.key, self.state)


@cache
def register_operator() -> torch.library.Library:
    """Make `cgenn::learned_force` known to torch, once; call it before a System with a TorchForce is read from XML.

    The implementation is one for all devices and not differentiable, so that torch hands the tensors straight on.
    """
    library = torch.library.Library("cgenn", "DEF")
    library.define("learned_force(Tensor positions, Tensor? box, str key, Tensor state) -> (Tensor, Tensor)")
    library.impl("learned_force", _learned_force, "CompositeExplicitAutograd")
    return library


def _learned_force(positions: Tensor, box: Tensor | None, key: str, state: Tensor) -> tuple[Tensor, Tensor]:
    force = LearnedForce.find(key) or LearnedForce.restore(state.cpu().numpy().tobytes())
    energy, forces = force.guarded(positions, box)
    return energy.to(positions.device, positions.dtype), forces
