"""Torch tensors in Warp kernels, on the device and the stream where torch works. Imported only where it is used."""

from typing import Any

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR  # the standard output is for results
wp.init()


def precision(tensor: Tensor) -> Any:
    """Warp's name for the precision of a tensor."""
    return wp.float64 if tensor.dtype == torch.float64 else wp.float32


def launch(kernel: Any, size: int, inputs: list[Tensor | float], outputs: list[Tensor]) -> None:
    """Run a kernel `size` times; shapes (n, 3) are vectors, (n, 3, 3) matrices. Torch knows of no derivatives."""
    device = wp.device_from_torch(outputs[0].device)
    stream = wp.stream_from_torch(outputs[0].device) if device.is_cuda else None
    given, found = [_array(value) for value in inputs], [_array(value) for value in outputs]
    wp.launch(kernel, size, inputs=given, outputs=found, device=device, stream=stream)


def _array(value: Tensor | float) -> Any:
    if not isinstance(value, Tensor):
        return value
    kind = None
    if value.shape[1:] == (3,):
        kind = wp.types.vector(3, precision(value))
    elif value.shape[1:] == (3, 3):
        kind = wp.types.matrix((3, 3), precision(value))
    return wp.from_torch(value.detach().contiguous(), dtype=kind, return_ctype=True)
