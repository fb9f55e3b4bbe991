"""Nested tensors, whose examples have lengths of their own, as seeds take them: padded with zeros.

`nn.TransformerEncoder` makes them in evaluation mode where a padding mask is given.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dense(tensor: Tensor) -> Tensor:
    """A nested tensor padded to the longest of its examples; any other as it is."""
    return tensor.to_padded_tensor(0.0) if tensor.is_nested else tensor


def shaped_like(model: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` with the padding cut off again where `model` is nested, else as it is."""
    if not model.is_nested:
        return tensor
    rows = zip(tensor.unbind(), model.unbind(), strict=True)
    return torch.nested.as_nested_tensor(
        [row[tuple(slice(size) for size in kept.shape)] for row, kept in rows], layout=model.layout
    )
