"""Tensor types: an element type and a shape whose axes are sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from esper.ir.dims import Size, evaluate_size, product, size_symbols, substitute

MAX_RANK = 12


class DType(Enum):
    """Element types; the value is the name in source and IR text."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"
    I32 = "i32"
    I64 = "i64"
    BOOL = "bool"

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return _BYTES[self]

    @property
    def is_floating(self) -> bool:
        return self in FLOATING

    def holds(self, value: float) -> bool:
        """Whether `value` can be an element; floats are rounded, and always can."""
        if self.is_floating:
            return True
        least, most = _RANGES[self]
        return least <= value <= most and value == int(value)

    def __str__(self) -> str:
        return self.value


_BYTES = {
    DType.F16: 2,
    DType.BF16: 2,
    DType.F32: 4,
    DType.F64: 8,
    DType.I32: 4,
    DType.I64: 8,
    DType.BOOL: 1,
}
_RANGES = {
    DType.I32: (-(2.0**31), 2.0**31 - 1),
    DType.I64: (-(2.0**63), 2.0**63 - 1024),  # the greatest float64 below 2^63
    DType.BOOL: (0.0, 1.0),
}
FLOATING = frozenset({DType.F16, DType.BF16, DType.F32, DType.F64})


@dataclass(frozen=True, slots=True)
class TensorType:
    """`dtype[shape]`; a scalar has the shape `()`."""

    dtype: DType
    shape: tuple[Size, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Size:
        return product(self.shape)

    @property
    def bytes(self) -> Size:
        return self.elements * self.dtype.bytes

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(size_symbols(size) for size in self.shape))

    def with_shape(self, shape: tuple[Size, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def substitute(self, values: Mapping[str, Size]) -> TensorType:
        return TensorType(self.dtype, tuple(substitute(size, values) for size in self.shape))

    def concrete_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape under `sizes`. Raises `UnboundSize` for a symbol without a value."""
        return tuple(evaluate_size(size, sizes) for size in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def broadcast_shapes(*shapes: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """The shape that all broadcast to by NumPy's rule, or None. A size symbol never broadcasts."""
    rank = max(map(len, shapes), default=0)
    result: list[Size] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)
