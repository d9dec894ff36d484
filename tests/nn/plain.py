"""The convolution as one would write it down, for autograd: what that of the network has to agree with."""

import torch
from torch import Tensor

from cgenn.nn.tensor_product import EdgeProduct


def plain_convolution(
    product: EdgeProduct,
    features: Tensor,
    harmonics: Tensor,
    hidden: Tensor,
    weights: Tensor,
    receivers: Tensor,
    senders: Tensor,
) -> Tensor:
    """Messages from e3nn's coupling coefficients as one matrix per edge, then their sums."""
    of_edge = (hidden @ weights).unflatten(1, (-1, features.shape[2]))
    there, slices = features.index_select(0, senders), product.features.slices()
    rotation = torch.einsum("ej,jkp->ekp", harmonics, product.coupling())
    columns = [there[:, slices[i]] * of_edge[:, p : p + 1] for p, (i, _, _) in enumerate(product.paths)]
    messages = rotation @ torch.cat(columns, dim=1)
    return messages.new_zeros(len(features), *messages.shape[1:]).index_add(0, receivers, messages)
