"""What an operator's `sample` rule draws from: values of the graph so far, or fresh leaves.

Every draw takes a byte from a tape, or two for a choice among many, and zero where the tape has ended; zero
means the simplest choice. A tape has a fixed length, so no graph is ever discarded for having grown too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import OPERATORS, Composite, Kind, Operator, Role
from esper.ir.types import DType, TensorType

STEPS = 16  # of a drawn number
FEW = 32  # choices that one byte draws evenly enough
OTHER_DTYPES = (DType.I64, DType.BOOL, DType.I32)
DEPTH = 2  # of bodies in bodies
RECENT = 4  # values that a step yields one of


class GraphSampler:
    """Draws for one graph; implements `esper.ir.operator.Sampler`.

    sizes: what axes of fresh shapes are drawn from. dtypes: the floating dtypes to draw from.
    """

    def __init__(self, build: Builder, sizes: Sequence[Size], dtypes: Sequence[DType]) -> None:
        self._build = build
        self.sizes = sizes
        self._dtypes = dtypes
        self._offsets = 0
        self._depth = 0
        self._tape: Iterator[int] = iter(())

    def rewind(self, tape: bytes) -> None:
        """Draws from `tape` from here on."""
        self._tape = iter(tape)

    def integer(self, low: int, high: int) -> int:
        count = high - low + 1
        drawn = next(self._tape, 0)
        if count > FEW:
            drawn += 256 * next(self._tape, 0)
        return low + drawn % count

    def number(self, low: float, high: float) -> float:
        return low + (high - low) * self.integer(0, STEPS) / STEPS

    def boolean(self) -> bool:
        return self.integer(0, 1) == 1

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def shape(self, min_rank: int = 0, max_rank: int = 4) -> tuple[Size, ...]:
        rank = self.integer(min_rank, min(max_rank, max(min_rank, 3)))
        return tuple(self.choice(self.sizes) for _ in range(rank))

    def dtype(self) -> DType:
        found: DType = self.choice(self._dtypes)
        return found

    def type(self, value: Value) -> TensorType:
        return self._build.type(value)

    def tensor(
        self,
        shape: tuple[Size, ...] | None = None,
        dtype: DType | None = None,
        min_rank: int = 0,
        max_rank: int = 4,
    ) -> Value:
        def fits(type: TensorType) -> bool:
            right_shape = min_rank <= type.rank <= max_rank if shape is None else type.shape == shape
            return right_shape and (dtype is None or type.dtype is dtype)

        known = [value for value in self._values() if fits(self.type(value))]
        chosen = self.choice([*reversed(known), None])
        if chosen is not None:
            value: Value = chosen
            return value
        if dtype is None:
            dtype = self.choice((self.dtype(), *OTHER_DTYPES))
        fresh = TensorType(dtype, self.shape(min_rank, max_rank) if shape is None else shape)
        return self._build.input(self._build.fresh("x"), fresh)

    def positive(self, shape: tuple[Size, ...] | None = None, dtype: DType | None = None) -> Value:
        """Between 0.5 and 1.5."""
        x = self.tensor(shape, dtype or self.dtype())
        return self._build.op("add", self._build.op("sigmoid", x), 0.5)

    def indices(self, shape: tuple[Size, ...], below: int) -> Value:
        """A fresh input: `random_values` gives integers from 0 to 3."""
        assert below >= 4, below
        return self._build.input(self._build.fresh("x"), TensorType(DType.I64, shape))

    def param(self, shape: tuple[Size, ...], dtype: DType) -> Value:
        """A fresh parameter, or now and then one of the same type that other nodes read too."""
        same = [
            node for node in self._build.nodes if node.op == "param" and node.type == TensorType(dtype, shape)
        ]
        if same and self.integer(0, 3) == 3:
            return same[0].result()
        return self._build.param(self._build.fresh("weight"), TensorType(dtype, shape), init="normal")

    def buffer(self, shape: tuple[Size, ...], dtype: DType) -> Value:
        return self._build.buffer(self._build.fresh("running"), TensorType(dtype, shape), init="ones")

    def seed(self) -> Value:
        return self._build.seed()

    def offset(self) -> int:
        self._offsets += 1
        return self._offsets

    def body(
        self, carries: Sequence[TensorType], slices: Sequence[TensorType]
    ) -> tuple[BlueprintIR, Sequence[Value]]:
        """Up to three uses of operators that a gradient can pass; what they read anew are constants."""
        build = Builder("step")
        inner = _BodySampler(build, self.sizes, self._dtypes)
        inner._tape, inner._depth = self._tape, self._depth + 1
        before = [build.input(build.fresh("h"), type) for type in carries]
        given = [*before, *(build.input(build.fresh("s"), type) for type in slices)]
        names = sorted(name for name, entry in OPERATORS.items() if _stands_in_bodies(entry, inner._depth))
        for _ in range(self.integer(0, 3)):
            entry = OPERATORS[self.choice(names)]
            assert entry.sample is not None, f"`{entry.name}` has no sampling rule"
            operands, attrs = entry.sample(inner)
            build.ops(entry.name, *operands, name=None, span=None, **attrs)
        constants = [node.type for node in build.nodes if node.op == "input"][len(given) :]
        outputs = [inner.next_carry(value) for value in before]
        latest = inner._values()[: -RECENT - 1 : -1]
        outputs += [self.choice(latest) for _ in range(self.integer(0 if before else 1, 2))]
        body = build.finish({f"y{index}": value for index, value in enumerate(outputs)})
        return body, [self._constant(type) for type in constants]

    def _constant(self, type: TensorType) -> Value:
        if type.dtype.is_floating and self.boolean():
            return self.param(type.shape, type.dtype)
        return self.tensor(type.shape, type.dtype)

    def _values(self) -> list[Value]:
        """All tensors that a user could name: no buffers and no seed."""
        return [
            value
            for node in self._build.nodes
            if node.op not in ("buffer", "seed", "constant")
            for value in node.results
        ]


class _BodySampler(GraphSampler):
    """Draws for a body, to which weights are given like any tensor."""

    def param(self, shape: tuple[Size, ...], dtype: DType) -> Value:
        return self.tensor(shape, dtype)

    def next_carry(self, before: Value) -> Value:
        """A value of the body of the type of the carry `before`, alone or mixed with it."""
        type = self.type(before)
        same = [value for value in reversed(self._values()) if self.type(value) == type]
        found: Value = self.choice(same)
        form = self.integer(0, 2) if type.dtype.is_floating else 0
        if form == 1:
            return self._build.op("add", before, found)
        return self._build.op("mul", self._build.op("sigmoid", before), found) if form else found


def _stands_in_bodies(entry: Operator, depth: int) -> bool:
    """Whether bodies `depth` deep are drawn with `entry`: a gradient passes it, and it has no state."""
    passes = entry.vjp is not None or isinstance(entry.lowering, Composite)
    has_state = entry.random or any(i.role in (Role.BUFFER, Role.SEED) for i in entry.inputs)
    owns_body = any(attribute.kind is Kind.GRAPH for attribute in entry.attributes)
    return passes and not has_state and (depth < DEPTH or not owns_body)
