"""The operators: one entry each, grouped by family; importing this package fills the table of `esper.ir`.

Entries name their torch references and must not import torch; `evaluate` and `initialise` do, so they are
imported by name where a graph is run.
"""

from esper.ops import (
    activation,
    attention,
    batch_norm,
    conv,
    convolution,
    group_norm,
    leaf,
    normalization,
    pointwise,
    product,
    random,
    reduction,
    shape,
    softmax,
)

__all__ = [
    "activation",
    "attention",
    "batch_norm",
    "conv",
    "convolution",
    "group_norm",
    "leaf",
    "normalization",
    "pointwise",
    "product",
    "random",
    "reduction",
    "shape",
    "softmax",
]
