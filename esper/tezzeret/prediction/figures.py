"""The figures of each kind of operator: what its time depends on, as logarithms to base 2.

A model in them is one of powers. Libraries work in blocks of sixteen elements, so how far a size is from
filling its last block is a figure, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from esper.ir.graph import Node
from esper.ir.operator import OPERATORS, Attrs, AttrValue, Pointwise

BLOCK = 16
DRAWN_AHEAD = 1 << 14
"""So many elements of masks, in all, does a seed draw for calls that are still to come; see `masks_ahead`."""

Shape = tuple[int, ...]


class Occurrence(NamedTuple):
    """Shapes of operands (empty where there is none) and results, and whether masks are drawn ahead."""

    operands: Sequence[Shape]
    results: Sequence[Shape]
    attrs: Attrs
    is_ahead: bool


Describe = Callable[[Occurrence], tuple[float, ...]]


def log(number: float) -> float:
    return math.log2(max(number, 1))


def number(value: AttrValue) -> float:
    assert isinstance(value, int | float), value
    return float(value)


def _elementwise(use: Occurrence) -> tuple[float, ...]:
    """Elements, how often the smallest operand is repeated, whether along a row, and for making a scalar."""
    shapes = [operand for operand in use.operands if operand]
    smallest = min(shapes, key=math.prod, default=())
    elements = math.prod(use.results[0])
    repeated = elements / max(math.prod(smallest), 1)
    along = bool(smallest) and smallest[-1] < use.results[0][-1]
    return log(elements), log(repeated), float(along), float(len(shapes) < len(use.operands))


def _unfilled(size: float) -> float:
    """How much larger the blocks are that hold `size`."""
    return log(math.ceil(size / BLOCK) * BLOCK / size)


def _linear(use: Occurrence) -> tuple[float, ...]:
    *rows, width = use.operands[0]
    out = use.results[0][-1]
    return log(math.prod(rows)), log(width), log(out), _unfilled(width), _unfilled(out)


def _rows(use: Occurrence) -> tuple[float, ...]:
    *rows, width = use.operands[0]
    return log(math.prod(rows)), log(width)


def _convolution(use: Occurrence) -> tuple[float, ...]:
    """Images, channels in and out of a group, positions, columns, taps, stride, dilation, groups, whether in
    a row, how full the blocks of channels are, and whose code runs."""
    (images, channels, *area), (out, _, *window), *_ = use.operands
    groups = number(use.attrs.get("groups", channels))
    return (
        log(images),
        log(channels / groups),
        log(out / groups),
        log(math.prod(use.results[0][2:])),
        log(use.results[0][-1]),
        log(math.prod(window)),
        log(number(use.attrs["stride"])),
        log(number(use.attrs["dilation"])),
        log(groups),
        float(len(area) == 1),
        _unfilled(channels / groups),
        _unfilled(out / groups),
        2 * float(_is_by_onednn(use, groups)),
    )


def _is_by_onednn(use: Occurrence, groups: float) -> bool:
    """Whether oneDNN computes a float32 convolution, or ATen itself: ATen's own choice on one thread.

    As in `ConvParams::use_mkldnn` of `aten/src/ATen/native/Convolution.cpp`; a row is a map of height one.
    """
    (images, *_), (_, _, *window) = use.operands[0], use.operands[1]
    height, width = (1, *window)[-2:]
    is_plain = number(use.attrs["stride"]) == 1 == number(use.attrs["dilation"])
    may = not is_plain or images >= 16 or (height, width) != (1, 1)
    should = groups > 1 or min(height, width) > 3 or images > 1
    return may and (should or math.prod(use.operands[0]) > 20480)


def _maps(use: Occurrence) -> tuple[float, ...]:
    """Images, channels, positions before, and after."""
    images, channels, *area = use.operands[0]
    return log(images), log(channels), log(math.prod(area)), log(math.prod(use.results[0][2:]))


def _grouped(use: Occurrence) -> tuple[float, ...]:
    images, channels, *area = use.operands[0]
    return log(images), log(channels), log(math.prod(area)), log(number(use.attrs["groups"]))


def _pooled(use: Occurrence) -> tuple[float, ...]:
    found = _maps(use)
    return *found, log(number(use.attrs["kernel"])), log(number(use.attrs["stride"]))


def _product(use: Occurrence) -> tuple[float, ...]:
    inner = use.operands[0][-2 if use.attrs["transpose_a"] else -1]
    *batch, rows, columns = use.results[0]
    return log(math.prod(batch)), log(rows), log(inner), log(columns)


def _attention(use: Occurrence) -> tuple[float, ...]:
    """Examples, heads, length of queries, and of keys, size of a head, dropout, whether causal."""
    (examples, heads, length, size), (_, _, keys, _) = use.operands[0], use.operands[1]
    dropped = _draws(use, "dropout")
    causal = float(bool(use.attrs["causal"]))
    return log(examples), log(heads), log(length), log(keys), log(size), dropped, causal


def _heads(use: Occurrence) -> tuple[float, ...]:
    """Examples, length, and of the context, width, heads, heads of keys, dropout, whether causal."""
    (examples, length, width), context = use.operands[0], use.operands[1]
    heads = number(use.attrs["heads"])
    keys = number(use.attrs["kv_heads"]) or heads
    dropped = _draws(use, "dropout")
    causal = float(bool(use.attrs["causal"]))
    kept = context[1] if context else length
    return log(examples), log(length), log(kept), log(width), log(heads), log(keys), dropped, causal


def _recurrent(use: Occurrence) -> tuple[float, ...]:
    """Examples, steps, width, size of the state, and whether from the end."""
    (examples, steps, width), state = use.operands[0], use.results[0][-1]
    return log(examples), log(steps), log(width), log(state), float(bool(use.attrs["reverse"]))


def _draws(use: Occurrence, share: str) -> float:
    """0 where nothing is dropped, 1 where masks were drawn ahead, 2 where the call draws its own."""
    return 0.0 if number(use.attrs[share]) == 0 else 1.0 if use.is_ahead else 2.0


def _dropped(use: Occurrence) -> tuple[float, ...]:
    """Elements, and what is drawn. A mask that is not drawn ahead costs the host as much as one of the
    smallest that never is: uses of one operator have no smaller ones."""
    elements, draws = math.prod(use.results[0]), _draws(use, "p")
    return log(max(elements, DRAWN_AHEAD) if draws == 2.0 else elements), draws


def _post_norm(use: Occurrence) -> tuple[float, ...]:
    return *_rows(use), _draws(use, "dropout")


def _moved(use: Occurrence) -> tuple[float, ...]:
    """Elements in and out."""
    return log(sum(map(math.prod, use.operands))), log(math.prod(use.results[0]))


def _joined(use: Occurrence) -> tuple[float, ...]:
    return log(math.prod(use.results[0])), log(len(use.operands)), log(math.prod(use.results[0][2:]))


def _interpolated(use: Occurrence) -> tuple[float, ...]:
    return *_maps(use), float(use.attrs["mode"] == "nearest")


def _along(use: Occurrence) -> tuple[float, ...]:
    """Rows, their width, and what lies between two elements of one."""
    axis = int(number(use.attrs["axis"])) % len(use.operands[0])
    width, between = use.operands[0][axis], math.prod(use.operands[0][axis + 1 :])
    return log(math.prod(use.operands[0]) / width), log(width), log(between)


def _reduced(use: Occurrence) -> tuple[float, ...]:
    """Results, how many elements each is of, and what lies between two of these."""
    axes = use.attrs["axes"]
    assert isinstance(axes, tuple)
    last = max(int(number(axis)) % len(use.operands[0]) for axis in axes)
    between = math.prod(use.operands[0][last + 1 :])
    results = math.prod(use.results[0])
    return log(results), log(math.prod(use.operands[0]) / results), log(between)


def describe(node: Node) -> Describe:
    """What an operator that has no figures of its own is described by."""
    return _elementwise if isinstance(OPERATORS[node.op].lowering, Pointwise) else _moved


FIGURES: Mapping[str, Describe] = {
    "linear": _linear,
    **dict.fromkeys(("conv", "depthwise_conv", "conv_transpose"), _convolution),
    **dict.fromkeys(("layer_norm", "rms_norm"), _rows),
    "add_and_norm": _post_norm,
    **dict.fromkeys(("batch_norm", "instance_norm"), _maps),
    **dict.fromkeys(("group_norm", "channel_shuffle"), _grouped),
    **dict.fromkeys(("max_pool", "avg_pool"), _pooled),
    **dict.fromkeys(("global_avg_pool", "global_max_pool"), _maps),
    "interpolate": _interpolated,
    "matmul": _product,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention": _heads,
    **dict.fromkeys(("gru", "lstm", "rnn"), _recurrent),
    **dict.fromkeys(("dropout", "feature_dropout", "drop_path"), _dropped),
    "concat": _joined,
    **dict.fromkeys(("softmax", "log_softmax", "glu", "geglu", "swiglu", "reglu"), _along),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std"), _reduced),
}
"""By operator; what is not here is described by its elements."""
