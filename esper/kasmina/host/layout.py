"""Which axis of a host's tensor holds its features: the second, as in maps, or the last, as in tokens.

The module that made the tensor tells: a convolution has its channels on axis 1, a linear layer its features
on the last. Where neither shows, as after arithmetic of the host's own, the layout is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

Layout = Literal["channels", "features"]
"""`channels`: [N, C, ...]. `features`: [N, ..., F]."""

SIZES: tuple[tuple[type[nn.Module], str, Layout], ...] = (
    (_ConvNd, "out_channels", "channels"),
    (_BatchNorm, "num_features", "channels"),
    (_InstanceNorm, "num_features", "channels"),
    (nn.GroupNorm, "num_channels", "channels"),
    (nn.Linear, "out_features", "features"),
    (nn.LayerNorm, "normalized_shape", "features"),
    (nn.RMSNorm, "normalized_shape", "features"),
    (nn.Embedding, "embedding_dim", "features"),
    (nn.MultiheadAttention, "embed_dim", "features"),
    (nn.RNNBase, "hidden_size", "features"),
)
"""A kind of module, the attribute that says how many features it returns, and the axis it has them on."""


ELEMENTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout", "torch.nn.modules.pooling")
"""Where torch keeps the modules that leave each axis where it is."""


@dataclass(frozen=True, eq=False)
class Witness:
    """What is known of a tensor that a module has just returned: `size` features, on this side."""

    tensor: Tensor
    size: int
    layout: Layout


def witness(module: nn.Module, arguments: Any, result: Any, last: Witness | None) -> Witness | None:
    """What `module`, which has just run, adds to what `last` says; `last` where that is nothing."""
    if isinstance(result, tuple) and result:
        result = result[0]
    if not isinstance(result, Tensor) or result.dim() < 2 or result.is_nested:
        return last
    for kind, attribute, expected in SIZES:
        if isinstance(module, kind):
            size = getattr(module, attribute)
            size = size[-1] if isinstance(size, tuple) else size
            layout = _side(tuple(result.shape), size, expected)
            return last if layout is None else Witness(result, size, layout)
    if type(module).__module__ in ELEMENTWISE and last is not None and last.tensor is arguments[0]:
        return Witness(result, last.size, last.layout)
    return last


def layout_of(tensor: Tensor, last: Witness | None) -> Layout | None:
    """The layout of a tensor, by the last module that had something to say before it, or None."""
    if last is None or tensor.dim() < 2:
        return None
    if tensor is last.tensor:
        return last.layout
    channels, features = tensor.shape[1] == last.size, tensor.shape[-1] == last.size
    return None if channels == features else "channels" if channels else "features"


def _side(shape: Sequence[int], size: int, expected: Layout) -> Layout | None:
    """Where `size` stands: where it is expected, else on the other side, as after a transposition."""
    sides: dict[Layout, int] = {"channels": shape[1], "features": shape[-1]}
    if sides[expected] == size:
        return expected
    other: Layout = "features" if expected == "channels" else "channels"
    return other if sides[other] == size else None
