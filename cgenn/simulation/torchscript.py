"""The only TorchScript in cgenn: a module that calls back into Python through a registered operator.

No annotations from the future here: TorchScript reads them as they stand.
"""

from collections.abc import Sequence
from functools import cache
from typing import Optional

import torch
from torch import Tensor

from cgenn.simulation.force import LearnedForce


class OperatorModule(torch.nn.Module):
    """Passes positions, box and scale of charges on to `cgenn::learned_force`, together with the content of the force.

    With `particles` these are the positions of some particles; the others feel no force.
    """

    particles: Tensor

    def __init__(self, force: LearnedForce, particles: Sequence[int] | None = None) -> None:
        super().__init__()
        self.key = force.key
        self.register_buffer("state", torch.frombuffer(bytearray(force.state), dtype=torch.uint8))
        self.periodic, self.all = force.periodic, particles is None
        self.register_buffer("particles", torch.tensor([] if particles is None else list(particles), dtype=torch.long))

    def forward(
        self,
        positions: Tensor,
        first: Optional[Tensor] = None,  # noqa: UP045
        second: Optional[Tensor] = None,  # noqa: UP045
    ) -> tuple[Tensor, Tensor]:
        """OpenMM passes on the box where there is one, and then the parameter where there is one."""
        box, scale = (first, second) if self.periodic else (second, first)
        if self.all:
            return torch.ops.cgenn.learned_force(positions, box, scale, self.key, self.state)
        energy, inner = torch.ops.cgenn.learned_force(positions[self.particles], box, scale, self.key, self.state)
        return energy, torch.zeros_like(positions).index_copy(0, self.particles, inner)


@cache
def register_operator() -> torch.library.Library:
    """Make `cgenn::learned_force` known to torch, once; call it before a System with a TorchForce is read from XML.

    The implementation is one for all devices and not differentiable, so that torch hands the tensors straight on.
    """
    library = torch.library.Library("cgenn", "DEF")
    arguments = "Tensor positions, Tensor? box, Tensor? scale, str key, Tensor state"
    library.define(f"learned_force({arguments}) -> (Tensor, Tensor)")
    library.impl("learned_force", _learned_force, "CompositeExplicitAutograd")
    return library


def _learned_force(
    positions: Tensor, box: Tensor | None, scale: Tensor | None, key: str, state: Tensor
) -> tuple[Tensor, Tensor]:
    force = LearnedForce.find(key) or LearnedForce.restore(state.cpu().numpy().tobytes())
    energy, forces = force.guarded(positions, box, 1.0 if scale is None else scale.item())
    return energy.to(positions.device, positions.dtype), forces
