"""reassociate: chains of factors are multiplied in the order that costs least.

    (x * s) * t = x * (s * t)       where s * t has fewer elements than x
    (A B) C = A (B C)               whichever takes fewer operations

The first saves a multiplication of a whole map by what scales a channel; the second is what makes attention
without a softmax linear in its length (Katharopoulos et al. 2020), for a fixed number of features.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder, infer_types
from esper.ir.dims import Size, default_size, evaluate_size, size_symbols
from esper.ir.errors import TypeRuleViolated
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS
from esper.ir.rewrite import map_bodies, rewrite
from esper.ir.types import TensorType
from esper.passes.errors import BadOption
from esper.passes.law import Law, register
from esper.passes.readers import read_once


@register
@dataclass(frozen=True)
class Reassociate:
    """Where both sides are finite. For graphs after `expand`; what something else reads too is left alone.

    sizes: values of size symbols, as in `T=1024`, by which operations are counted; the others have those of
    `default_size`.
    """

    name: ClassVar[str] = "reassociate"
    law: ClassVar[Law] = Law.REAL_EQUAL
    sizes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `BadOption` for a size that is no number."""
        self._values()

    def _values(self) -> dict[str, int]:
        found = {}
        for size in self.sizes:
            name, _, value = (part.strip() for part in size.partition("="))
            if not (name and value.isdecimal()):
                raise BadOption(
                    name=self.name, option="sizes", found=size, expected="a list as [N=64, T=1024]"
                )
            found[name] = int(value)
        return found

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        """Again until nothing changes: each step leaves fewer operations."""
        ir = map_bodies(ir, self.run)
        values = self._values()
        while True:
            after = rewrite(ir, _Ordering(values, read_once(ir)).rule)
            if after == ir:
                return ir
            ir = after


@dataclass(frozen=True, slots=True)
class _Ordering:
    values: Mapping[str, int]
    single: Collection[Value]

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        if node.op == "mul":
            return self._scaled(build, node)
        return self._multiplied(build, node) if node.op == "matmul" else None

    def _inner(self, build: Builder, value: Value | None, op: str) -> Node | None:
        """The node that makes `value`, if its operator is `op` and nothing else reads it."""
        return build.made_by(value, op) if value in self.single else None

    def _scaled(self, build: Builder, node: Node) -> Sequence[Value] | None:
        """`(x * s) * t` as `x * (s * t)`."""
        for left, t in (node.operands, node.operands[::-1]):
            inner = self._inner(build, left, "mul")
            if inner is None or t is None:
                continue
            for x, s in (inner.operands, inner.operands[::-1]):
                assert x is not None and s is not None
                if build.type(x) == node.type == inner.type and self._is_smaller(build, s, t, node):
                    return [build.op("mul", x, build.op("mul", s, t))]
        return None

    def _is_smaller(self, build: Builder, s: Value, t: Value, node: Node) -> bool:
        (scale,) = infer_types(OPERATORS["mul"], [build.type(s), build.type(t)], {})
        return self._number(scale.elements) < self._number(node.type.elements)

    def _multiplied(self, build: Builder, node: Node) -> Sequence[Value] | None:
        """The other order of a chain of three, if it takes fewer operations."""
        for chain in self._chains(build, node):
            before, after = chain.operations(build), chain.turned().operations(build)
            if after is not None and before is not None and self._number(after) < self._number(before):
                return [chain.turned().built(build)]
        return None

    def _chains(self, build: Builder, node: Node) -> Iterator[_Chain]:
        """The chains of three that end in `node`, as they stand."""
        a, b = _factors(node)
        if not a.swapped and (inner := self._inner(build, a.value, "matmul")) is not None:
            yield _Chain((*_factors(inner), b), is_left=True)
        if not b.swapped and (inner := self._inner(build, b.value, "matmul")) is not None:
            yield _Chain((a, *_factors(inner)), is_left=False)

    def _number(self, size: Size) -> int:
        names = size_symbols(size)
        return evaluate_size(size, {name: self.values.get(name, default_size(name)) for name in names})


@dataclass(frozen=True, slots=True)
class _Factor:
    """A matrix, and whether its last two axes are swapped."""

    value: Value
    swapped: bool


def _factors(node: Node) -> tuple[_Factor, _Factor]:
    """Of a `matmul`."""
    a, b = node.operands
    assert a is not None and b is not None
    return _Factor(a, bool(node.attrs["transpose_a"])), _Factor(b, bool(node.attrs["transpose_b"]))


@dataclass(frozen=True, slots=True)
class _Chain:
    """Three matrices; is_left: whether the first two are multiplied first."""

    factors: tuple[_Factor, ...]
    is_left: bool

    def turned(self) -> _Chain:
        """The same in the other order."""
        return _Chain(self.factors, not self.is_left)

    def operations(self, build: Builder) -> Size | None:
        """Multiplications, or None where matrices of different batches meet."""
        first, second, third = (build.type(factor.value) for factor in self.factors)
        swapped = [factor.swapped for factor in self.factors]
        if self.is_left:
            inner = _product((first, swapped[0]), (second, swapped[1]))
            outer = inner and _product((inner.type, False), (third, swapped[2]))
        else:
            inner = _product((second, swapped[1]), (third, swapped[2]))
            outer = inner and _product((first, swapped[0]), (inner.type, False))
        return None if inner is None or outer is None else inner.operations + outer.operations

    def built(self, build: Builder) -> Value:
        first, second, third = self.factors
        if self.is_left:
            return _multiply(build, _Factor(_multiply(build, first, second), False), third)
        return _multiply(build, first, _Factor(_multiply(build, second, third), False))


@dataclass(frozen=True, slots=True)
class _Product:
    type: TensorType
    operations: Size


def _product(a: tuple[TensorType, bool], b: tuple[TensorType, bool]) -> _Product | None:
    """What a `matmul` of matrices of these types gives, each perhaps swapped; None where there is none."""
    attrs = {"transpose_a": a[1], "transpose_b": b[1]}
    try:
        (type,) = infer_types(OPERATORS["matmul"], [a[0], b[0]], attrs)
    except TypeRuleViolated:
        return None
    return _Product(type, type.elements * a[0].shape[-2 if a[1] else -1])


def _multiply(build: Builder, a: _Factor, b: _Factor) -> Value:
    return build.op("matmul", a.value, b.value, transpose_a=a.swapped, transpose_b=b.swapped)
