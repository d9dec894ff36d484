"""Numbers that are not learnt, right to the last digit in any precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Holds a float64 tensor and gives it in the precision and on the device that the module was moved to.

    A plain buffer would keep the digits lost in float32 when the module is turned to float64 afterwards, and with
    them the equivariance to 1e-8 only.
    """

    value: Tensor

    def __init__(self, exact: Tensor) -> None:
        super().__init__()
        self.exact = exact.to(torch.float64)
        self.register_buffer("value", self.exact.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.value = self.exact.to(self.value)
        return self

    def forward(self) -> Tensor:
        return self.value
