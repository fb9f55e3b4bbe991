"""Uses of single operators at random sizes: what a device's profile is measured on.

Each use is a blueprint of one operator, or of one between transposed views, in the language itself. No use
is taken from a blueprint, so what a model learns here says nothing about any of them in particular.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR
from esper.lang.library import Loaded, reject
from esper.lang.lower import lower_loaded
from esper.lang.source import Source
from esper.lang.units import source_unit

MOST_ELEMENTS = 1 << 20
MOST_FLOPS = 8e7
"""Of the forward direction."""

FEW = 30
"""Uses of an operator that depends on little more than the number of its elements."""


@dataclass(frozen=True, slots=True)
class Use:
    """An operator's use: the shapes of `x`, `y` and `z`, and an expression in them.

    op: the operator that is measured; others in the expression are views.
    """

    op: str
    inputs: tuple[tuple[int, ...], ...]
    expression: str

    @property
    def source(self) -> str:
        """The blueprint."""
        named = zip("xyz", self.inputs, strict=False)
        lines = [f"    input {name}: f32[{', '.join(map(str, shape))}]" for name, shape in named]
        return "\n".join(["blueprint use() {", *lines, f"    output {self.expression}", "}", ""])

    def lower(self) -> BlueprintIR:
        """Raises `BlueprintRejected` for an expression that is none."""
        unit, report = source_unit(Source(f"<{self.op}>", self.source))
        reject(report, unit.sources)
        return lower_loaded(Loaded(unit.program.blueprints[0], unit), {}, {})[0]


def uses(seed: int, scale: float = 1.0) -> Iterator[Use]:
    """The same for the same `seed`; scale: how many of each operator, as a share of the usual number."""
    for op, (count, draw) in DRAWS.items():
        for number in range(max(1, round(count * scale))):
            yield draw(op, random.Random(f"{seed} {op} {number}"))


# How the sizes of each kind of operator are drawn.

Draw = Callable[[str, random.Random], Use]


def _log_uniform(rng: random.Random, low: float, high: float) -> int:
    return round(low * math.exp(math.log(high / low) * rng.random()))


def _width(rng: random.Random, low: int = 8, high: int = 512) -> int:
    """A multiple of eight."""
    return 8 * max(1, round(_log_uniform(rng, low, high) / 8))


def _rows(rng: random.Random, most: float = MOST_ELEMENTS) -> tuple[int, int, int]:
    """Examples, positions, features."""
    while True:
        shape = _log_uniform(rng, 1, 32), _log_uniform(rng, 4, 256), _width(rng)
        if 64 <= shape[0] * shape[1] * shape[2] <= most:
            return shape


def _maps(rng: random.Random, most: float = MOST_ELEMENTS) -> tuple[int, int, int, int]:
    """Images, channels, height, width."""
    while True:
        side = _log_uniform(rng, 4, 48)
        shape = _log_uniform(rng, 1, 32), _width(rng, 8, 384), side, side
        if 64 <= shape[0] * shape[1] * side * side <= most:
            return shape


def _shape(rng: random.Random) -> tuple[int, ...]:
    return _rows(rng) if rng.random() < 0.5 else _maps(rng)


def _unary(op: str, rng: random.Random) -> Use:
    shape = _shape(rng)
    kind = rng.random()
    if kind < 0.15:
        return Use(op, (shape,), f"{op}(transpose(x, 1, -1))")
    if kind < 0.3 and shape[-1] % 2 == 0:
        return Use(op, (shape,), f"{op}(chunk(x, 2, 0))")
    return Use(op, (shape,), f"{op}(x)")


def _binary(op: str, rng: random.Random) -> Use:
    shape = _shape(rng)
    kind = rng.random()
    if kind < 0.2:
        return Use(op, (shape,), f"{op}(x, {rng.choice((0.5, 2.0, 3.0))})")
    if kind < 0.5:
        other = (*shape[:2], *(1 for _ in shape[2:])) if rng.random() < 0.5 else shape[-1:]
        return Use(op, (shape, other), f"{op}(x, y)")
    if kind < 0.65:
        turned = (shape[0], shape[-1], *shape[2:-1], shape[1])
        return Use(op, (shape, turned), f"{op}(x, transpose(y, 1, -1))")
    return Use(op, (shape, shape), f"{op}(x, y)")


def _linear(op: str, rng: random.Random) -> Use:
    while True:
        shape: tuple[int, ...] = _rows(rng)
        out = _width(rng, 8, 1024)
        if rng.random() < 0.25:  # of low rank
            small = rng.choice((1, 2, 4, 8, 16, 32))
            shape, out = ((*shape[:2], small), out) if rng.random() < 0.5 else (shape, small)
        rows = shape[0] * shape[1]
        if 2 * rows * shape[2] * out <= MOST_FLOPS and rows * out <= MOST_ELEMENTS:
            break
    kind = rng.random()
    bias = "" if rng.random() < 0.7 else ", bias=false"
    if kind < 0.15:
        shape = shape[0], shape[2], shape[1]
        return Use(op, (shape,), f"linear(transpose(x, 1, 2), {out}{bias})")
    if kind < 0.3:
        return Use(op, (shape,), f"transpose(linear(x, {out}{bias}), 1, 2)")
    if kind < 0.5:  # the flat rows of what is given beside maps
        shape = shape[1:] if shape[0] == 1 else shape
    return Use(op, (shape,), f"linear(x, {out}{bias})")


def _conv(op: str, rng: random.Random) -> Use:
    while True:
        shape: tuple[int, ...] = _maps(rng)
        kernel = rng.choice((1, 1, 1, 2, 3, 3, 3, 5, 7))
        stride = rng.choice((1, 1, 1, 1, 2))
        dilation = rng.choice((1, 1, 1, 1, 2, 4, 8)) if kernel > 1 else 1
        out, taps = _width(rng, 8, 384), kernel * kernel
        if rng.random() < 0.25:
            shape, taps = (shape[0], shape[1], _log_uniform(rng, 8, 256)), kernel
            dilation = rng.choice((1, 1, 2, 4, 8, 16)) if kernel > 1 else 1
        if rng.random() < 0.08:
            shape = shape[0], rng.choice((1, 2, shape[1])), *shape[2:]
            out = rng.choice((1, 2, 8))
        if rng.random() < 0.1:
            shape, kernel, taps, stride, dilation = (*shape[:2], *(1 for _ in shape[2:])), 1, 1, 1, 1
        area = 1
        for side in shape[2:]:
            area *= side
        groups = rng.choice((1, 1, 1, 1, 1, 2, 4)) if shape[1] % 8 == 0 == out % 8 else 1
        flops = 2 * shape[0] * area * shape[1] * out * taps / groups / stride**2
        fits = all(side > (kernel - 1) * dilation for side in shape[2:])
        if fits and flops <= MOST_FLOPS and shape[0] * area * max(out, shape[1]) <= MOST_ELEMENTS:
            break
    given = f"{out}, kernel={kernel}, stride={stride}, dilation={dilation}, groups={groups}"
    padding = f", padding={dilation * (kernel // 2)}" if kernel % 2 == 0 else ""
    return Use(op, (shape,), f"conv(x, {given}{padding}, bias={_flag(rng)})")


def _flag(rng: random.Random) -> str:
    return rng.choice(("true", "false"))


def _depthwise(op: str, rng: random.Random) -> Use:
    shape = _maps(rng, MOST_ELEMENTS / 2)
    kernel, stride = rng.choice((3, 3, 5, 7, 9)), rng.choice((1, 1, 1, 2))
    use = f"depthwise_conv(x, kernel={kernel}, stride={stride}, bias={_flag(rng)})"
    return Use(op, (shape,), f"transpose({use}, 1, -1)" if rng.random() < 0.25 else use)


def _row_norm(op: str, rng: random.Random) -> Use:
    if rng.random() < 0.25:
        shape = _shape(rng)
        return Use(op, (shape,), f"{op}(transpose(x, 1, -1))")
    return Use(op, (_shape(rng),), f"{op}(x)")


def _map_norm(op: str, rng: random.Random) -> Use:
    return Use(op, (_maps(rng),), f"{op}(x)")


def _grouped(op: str, rng: random.Random) -> Use:
    return Use(op, (_maps(rng),), f"{op}(x, groups={rng.choice((2, 4, 8))})")


def _pooled(op: str, rng: random.Random) -> Use:
    kernel = rng.choice((2, 3))
    stride = rng.choice((1, 2, kernel))
    return Use(op, (_maps(rng),), f"{op}(x, kernel={kernel}, stride={stride})")


def _interpolated(op: str, rng: random.Random) -> Use:
    mode = rng.choice(("nearest", "linear"))
    return Use(op, (_maps(rng, MOST_ELEMENTS / 4),), f'interpolate(x, scale=2, mode="{mode}")')


def _attention(op: str, rng: random.Random) -> Use:
    while True:
        examples, heads = _log_uniform(rng, 1, 32), rng.choice((1, 2, 4, 8))
        length, size = _log_uniform(rng, 4, 128), _width(rng, 8, 64)
        keys = length if rng.random() < 0.6 else _log_uniform(rng, 4, 128)
        if examples * heads * length * max(keys, size) <= MOST_ELEMENTS / 2:
            break
    causal = "true" if keys == length and rng.random() < 0.3 else "false"
    if rng.random() < 0.6:  # as heads lie where they were split off
        shapes = (examples, length, heads, size), (examples, keys, heads, size), (examples, keys, heads, size)
        given = ", ".join(f"transpose({name}, 1, 2)" for name in "xyz")
        return Use(op, shapes, f"transpose({op}({given}, causal={causal}), 1, 2)")
    shapes = (examples, heads, length, size), (examples, heads, keys, size), (examples, heads, keys, size)
    return Use(op, shapes, f"{op}(x, y, z, causal={causal})")


def _heads(op: str, rng: random.Random) -> Use:
    while True:
        examples, length = _log_uniform(rng, 1, 32), _log_uniform(rng, 4, 128)
        heads = rng.choice((1, 2, 4, 8, 16))
        width = 8 * heads * max(1, _log_uniform(rng, 16, 384) // (8 * heads))
        scores = examples * heads * length * length
        flops = 8 * examples * length * width * width
        if max(examples * length * width, scores) <= MOST_ELEMENTS / 2 and flops <= MOST_FLOPS:
            break
    kept = f", kv_heads={max(1, heads // 2)}" if rng.random() < 0.2 else ""
    dropout = ", dropout=0.1" if rng.random() < 0.5 else ""
    causal = ", causal=true" if rng.random() < 0.2 else ""
    if rng.random() < 0.25:
        context = examples, _log_uniform(rng, 4, 128), width
        return Use(op, ((examples, length, width), context), f"{op}(x, y, heads={heads}{kept}{dropout})")
    return Use(op, ((examples, length, width),), f"{op}(x, heads={heads}{kept}{dropout}{causal})")


def _recurrent(op: str, rng: random.Random) -> Use:
    examples, steps = _log_uniform(rng, 1, 32), _log_uniform(rng, 4, 64)
    reverse = ", reverse=true" if rng.random() < 0.3 else ""
    shape = examples, steps, _width(rng, 8, 192)
    return Use(op, (shape,), f"{op}(x, {_width(rng, 8, 192)}{reverse})")


def _dropped(op: str, rng: random.Random) -> Use:
    return Use(op, (_shape(rng),), f"{op}(x, {rng.choice((0.1, 0.2, 0.5))})")


def _post_norm(op: str, rng: random.Random) -> Use:
    shape = _rows(rng)
    dropout = ", dropout=0.1" if rng.random() < 0.5 else ""
    return Use(op, (shape, shape), f"{op}(x, y{dropout})")


def _gated(op: str, rng: random.Random) -> Use:
    return Use(op, (_rows(rng),), f"{op}(x)")


def _softmax(op: str, rng: random.Random) -> Use:
    return Use(op, (_rows(rng),), f"{op}(x, axis={rng.choice((1, -1, -1))})")


def _reduced(op: str, rng: random.Random) -> Use:
    axes = rng.choice(("[1]", "[3]", "[2, 3]"))
    return Use(op, (_maps(rng),), f"{op}(x, {axes}, keepdims=true)")


def _product(op: str, rng: random.Random) -> Use:
    while True:
        batch, rows = _log_uniform(rng, 1, 64), _log_uniform(rng, 1, 256)
        inner, columns = _log_uniform(rng, 8, 1024), _log_uniform(rng, 1, 256)
        most = max(rows * columns, rows * inner, inner * columns)
        if batch * most <= MOST_ELEMENTS and 2 * batch * rows * inner * columns <= MOST_FLOPS:
            break
    flags = ", transpose_b=true" if rng.random() < 0.5 else ""
    other = (batch, columns, inner) if flags else (batch, inner, columns)
    return Use(op, ((batch, rows, inner), other), f"{op}(x, y{flags})")


def _concat(op: str, rng: random.Random) -> Use:
    shape = _maps(rng, MOST_ELEMENTS / 4)
    other = shape[0], _width(rng, 8, 256), *shape[2:]
    if rng.random() < 0.4:
        return Use(op, (shape, other, shape), f"{op}(x, y, z, axis=1)")
    return Use(op, (shape, other), f"{op}(x, y, axis=1)")


def _padded(op: str, rng: random.Random) -> Use:
    images, channels, *_ = _maps(rng)
    return Use(
        op, ((images, channels, _log_uniform(rng, 8, 128)),), f"pad(x, [{rng.choice((1, 2, 4, 8))}, 0])"
    )


def _rotary(op: str, rng: random.Random) -> Use:
    shape = _log_uniform(rng, 1, 16), rng.choice((1, 2, 4, 8)), _log_uniform(rng, 4, 128), _width(rng, 8, 64)
    if rng.random() < 0.5:
        shape = shape[0], shape[2], shape[1], shape[3]
        return Use(op, (shape,), f"{op}(transpose(x, 1, 2))")
    return Use(op, (shape,), f"{op}(x)")


def _transposed(op: str, rng: random.Random) -> Use:
    return Use(op, (_shape(rng),), "transpose(x, 1, -1)")


def _permuted(op: str, rng: random.Random) -> Use:
    return Use(op, (_maps(rng),), f"permute(x, {rng.choice(('[0, 2, 1, 3]', '[0, 2, 3, 1]'))})")


def _chunked(op: str, rng: random.Random) -> Use:
    return Use(op, (_maps(rng),), f"chunk(x, 2, {rng.choice((0, 1))}, axis=1)")


def _unsqueezed(op: str, rng: random.Random) -> Use:
    return Use(op, (_rows(rng),), "unsqueeze(x, 2)")


def _reshaped(op: str, rng: random.Random) -> Use:
    images, channels, height, width = _maps(rng)
    if op == "flatten":
        return Use(op, ((images, channels, height, width),), "flatten(x, 2)")
    if rng.random() < 0.5:  # copies
        shape = images, height, channels, width
        return Use(op, (shape,), f"reshape(transpose(x, 1, 2), [{images}, {channels}, {height * width}])")
    return Use(
        op, ((images, channels, height, width),), f"reshape(x, [{images}, {channels}, {height * width}])"
    )


def _summed(op: str, rng: random.Random) -> Use:
    """A value that is read twice: its gradients are added."""
    return Use(op, (_shape(rng),), "add(x, x)")


DRAWS: Mapping[str, tuple[int, Draw]] = {
    "transpose": (FEW, _transposed),
    "permute": (FEW // 2, _permuted),
    "chunk": (FEW, _chunked),
    "unsqueeze": (FEW // 2, _unsqueezed),
    "reshape": (50, _reshaped),
    "flatten": (FEW // 2, _reshaped),
    **dict.fromkeys(("relu", "relu6", "gelu", "silu", "tanh", "sigmoid"), (FEW, _unary)),
    "add": (2 * FEW, _binary),
    "mul": (2 * FEW, _binary),
    "sub": (FEW, _binary),
    "linear": (260, _linear),
    "conv": (650, _conv),
    "depthwise_conv": (120, _depthwise),
    "layer_norm": (40, _row_norm),
    "rms_norm": (40, _row_norm),
    "batch_norm": (40, _map_norm),
    "group_norm": (40, _grouped),
    "add_and_norm": (40, _post_norm),
    "multi_head_attention": (240, _heads),
    "scaled_dot_product_attention": (80, _attention),
    "gru": (40, _recurrent),
    "lstm": (40, _recurrent),
    "dropout": (FEW, _dropped),
    "drop_path": (FEW, _dropped),
    **dict.fromkeys(("glu", "geglu", "swiglu", "reglu"), (FEW, _gated)),
    "softmax": (50, _softmax),
    "mean": (50, _reduced),
    "amax": (50, _reduced),
    "matmul": (60, _product),
    "concat": (40, _concat),
    "pad": (FEW, _padded),
    "rotary_embedding": (FEW, _rotary),
    "channel_shuffle": (FEW, _grouped),
    "global_avg_pool": (FEW, _map_norm),
    "max_pool": (FEW, _pooled),
    "interpolate": (FEW, _interpolated),
    "accumulate": (FEW, _summed),
}
"""By operator: how many uses, and how one is drawn. `accumulate` is `esper.tezzeret.prediction.calls`'s."""
