"""What an operator's `sample` rule draws from: values of the graph so far, or fresh leaves.

Every draw takes a byte from a tape, or two for a choice among many, and zero where the tape has ended; zero
means the simplest choice. A tape has a fixed length, so no graph is ever discarded for having grown too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.types import DType, TensorType

STEPS = 16  # of a drawn number
FEW = 32  # choices that one byte draws evenly enough
OTHER_DTYPES = (DType.I64, DType.BOOL, DType.I32)


class GraphSampler:
    """Draws for one graph; implements `esper.ir.operator.Sampler`.

    sizes: what axes of fresh shapes are drawn from. dtypes: the floating dtypes to draw from.
    """

    def __init__(self, build: Builder, sizes: Sequence[Size], dtypes: Sequence[DType]) -> None:
        self._build = build
        self.sizes = sizes
        self._dtypes = dtypes
        self._offsets = 0
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

    def positive(self, shape: tuple[Size, ...] | None = None) -> Value:
        """Between 0.5 and 1.5."""
        x = self.tensor(shape, self.dtype())
        return self._build.op("add", self._build.op("sigmoid", x), 0.5)

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

    def _values(self) -> list[Value]:
        """All tensors that a user could name: no buffers and no seed."""
        return [
            value
            for node in self._build.nodes
            if node.op not in ("buffer", "seed", "constant")
            for value in node.results
        ]
