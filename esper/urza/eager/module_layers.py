"""Which operators are layers of `torch.nn`, and how a layer is made.

A layer stands for a node whose weights are its own and bear the names that the layer gives them, so that
both state dicts have the same keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR, Node
from esper.ir.types import DType
from esper.urza.eager.module_layout import Call

_NAMES = frozenset({"weight", "bias", "running_mean", "running_var"})


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: the attribute that holds it, and the call that makes it."""

    scope: str
    made_by: Call


def layer_of(ir: BlueprintIR, node: Node, updated: frozenset[str]) -> Layer | None:
    """The layer that computes `node`; None where there is none. updated: buffers that batch norms update."""
    make = _LAYERS.get(node.op)
    held = [ir.node(o.node) if o is not None else None for o in node.operands[1:]]
    leaves = [leaf for leaf in held if leaf is not None]
    if make is None or not leaves or node.operands[0] is None:
        return None
    scopes = {leaf.name.rpartition(".")[0] for leaf in leaves}
    scope = next(iter(scopes))
    names = [leaf.name.rpartition(".")[2] for leaf in leaves]
    dtypes = {leaf.type.dtype for leaf in leaves} | {node.type.dtype}
    alone = all(leaf.op in ("param", "buffer") and ir.users(leaf.name) == (node,) for leaf in leaves)
    whole = {leaf.name for leaf in (*ir.params, *ir.buffers) if leaf.name.startswith(f"{scope}.")}
    only_first = all(
        operand.index == 0
        for user in ir.users(node.name)
        for operand in user.operands
        if operand is not None and operand.node == node.name
    )
    buffers = {leaf.name for leaf in leaves if leaf.op == "buffer"}
    sizes = [size for leaf in leaves for size in leaf.type.shape]
    if not (len(scopes) == 1 and scope and alone and only_first and len(dtypes) == 1):
        return None
    if len(whole) != len(leaves) or not set(names) <= _NAMES or names[0] != "weight":
        return None
    if not buffers <= updated or not all(isinstance(size, int) for size in sizes):
        return None
    made = make(node, [leaf.type.shape if leaf is not None else None for leaf in held])
    dtype = next(iter(dtypes))
    if made is None:
        return None
    other = () if dtype is DType.F32 else (f"dtype=torch.{TORCH_NAMES[dtype]}",)
    return Layer(scope, Call(made.function, (*made.arguments, *other)))


TORCH_NAMES = {
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.BOOL: "bool",
}

Shapes = list[tuple[object, ...] | None]
_AXES = {1: "1d", 2: "2d", 3: "3d"}


def _options(**given: tuple[object, object]) -> tuple[str, ...]:
    """`name=value` for each value that differs from its default, which comes second."""
    return tuple(f"{name}={value!r}" for name, (value, default) in given.items() if value != default)


def _linear(node: Node, shapes: Shapes) -> Call | None:
    weight, bias = shapes
    assert weight is not None
    return Call("nn.Linear", (str(weight[1]), str(weight[0]), *_options(bias=(bias is not None, True))))


def _conv(node: Node, shapes: Shapes) -> Call | None:
    weight, bias = shapes
    assert weight is not None
    kernel = weight[2:]
    groups = node.attrs.get("groups", weight[0])  # a depthwise one has as many as channels
    stride, padding, dilation = (node.attrs[name] for name in ("stride", "padding", "dilation"))
    assert isinstance(groups, int) and isinstance(dilation, int) and isinstance(kernel[0], int)
    channels = weight[1] * groups  # type: ignore[operator]
    if padding == -1:
        padding = dilation * (kernel[0] // 2)
    return Call(
        f"nn.Conv{_AXES[len(kernel)]}",
        (
            str(channels),
            str(weight[0]),
            str(kernel[0]) if len(set(kernel)) == 1 else str(kernel),
            *_options(
                stride=(stride, 1),
                padding=(padding, 0),
                dilation=(dilation, 1),
                groups=(groups, 1),
                bias=(bias is not None, True),
            ),
        ),
    )


def _layer_norm(node: Node, shapes: Shapes) -> Call | None:
    weight, bias = shapes
    assert weight is not None
    options = _options(eps=(node.attrs["eps"], 1e-5), bias=(bias is not None, True))
    return Call("nn.LayerNorm", (str(weight[0]), *options))


def _rms_norm(node: Node, shapes: Shapes) -> Call | None:
    (weight,) = shapes
    assert weight is not None
    return Call("nn.RMSNorm", (str(weight[0]), f"eps={node.attrs['eps']!r}"))


def _group_norm(node: Node, shapes: Shapes) -> Call | None:
    weight, bias = shapes
    if weight is None or bias is None:
        return None
    options = _options(eps=(node.attrs["eps"], 1e-5))
    return Call("nn.GroupNorm", (str(node.attrs["groups"]), str(weight[0]), *options))


def _batch_norm(node: Node, shapes: Shapes) -> Call | None:
    weight, bias, *_ = shapes
    axes = node.type.rank - 2
    if weight is None or bias is None or not node.attrs["training"] or axes > 3:
        return None
    options = _options(eps=(node.attrs["eps"], 1e-5), momentum=(node.attrs["momentum"], 0.1))
    return Call(f"nn.BatchNorm{_AXES[max(axes, 1)]}", (str(weight[0]), *options))


_LAYERS: Mapping[str, Callable[[Node, Shapes], Call | None]] = {
    "linear": _linear,
    "conv": _conv,
    "depthwise_conv": _conv,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
}
