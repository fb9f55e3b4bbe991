"""Fitting a blueprint to a tensor: which parameters and sizes make its first input the given shape.

A seed sits in a slot that hands it a tensor and takes back one of the same type, so the blueprint's
output must have its input's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from esper.errors import EsperError
from esper.ir.dims import Dim, Size, substitute, symbol
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType, TensorType
from esper.lang.ast import Blueprint, Expression, Input, Let, Name, Spread
from esper.lang.diagnostics import BlueprintRejected, Report
from esper.lang.errors import DoesNotFit
from esper.lang.evaluate import Evaluator
from esper.lang.library import load
from esper.lang.lower import lower_loaded
from esper.lang.nesting import deep_recursion
from esper.lang.parameters import ParameterValue, bind_parameters, require_known
from esper.lang.scope import Scope, What
from esper.lang.settings import PRECISIONS
from esper.lang.sizes import SizeValue
from esper.lang.values import is_size

SOLVABLE_KINDS = ("dim", "int")


def fit(
    blueprint: str | Path,
    shape: Sequence[int],
    dtype: DType = DType.F32,
    *,
    name: str | None = None,
    params: Mapping[str, ParameterValue] | None = None,
) -> tuple[dict[str, ParameterValue], dict[str, SizeValue]]:
    """The parameters and sizes with which the blueprint takes a tensor `dtype[shape]` and returns its like.

    `f32[N, channels, ...S]` against (32, 16, 40) gives `{"channels": 16}` and `{"N": 32, "S": (40,)}`.
    params: values that are settled already; they are not in the result. A slot in f16 or bf16 fits an
    input declared f32: lower it with that `precision`.
    Raises `DoesNotFit` with the reason, and what `load` raises.
    """
    loaded = load(blueprint, name)
    settled = dict(params or {})
    require_known(loaded.blueprint, settled)
    with deep_recursion():
        found, sizes = _Match(loaded.blueprint, tuple(shape), dtype, settled).solve()
    precision = dtype.value if dtype.value in PRECISIONS else None
    try:
        ir, _ = lower_loaded(loaded, {**settled, **found}, sizes, precision)
    except BlueprintRejected as error:
        first = error.diagnostics[0]
        raise _misfit(loaded.blueprint, shape, dtype, f"{first.message} ({first.code})") from None
    _require_same_type(loaded.blueprint, ir, shape, dtype, sizes)
    return found, sizes


def _misfit(blueprint: Blueprint, shape: Sequence[int], dtype: DType, reason: str) -> EsperError:
    found = TensorType(dtype, tuple(shape))
    return DoesNotFit(blueprint=blueprint.name.text, found=found, reason=reason, span=blueprint.name.span)


def _require_same_type(
    blueprint: Blueprint, ir: BlueprintIR, shape: Sequence[int], dtype: DType, sizes: Mapping[str, SizeValue]
) -> None:
    if len(ir.inputs) != 1 or len(ir.outputs) != 1:
        reason = (
            f"it has {len(ir.inputs)} inputs and {len(ir.outputs)} outputs, and a slot gives and takes one"
        )
        raise _misfit(blueprint, shape, dtype, reason)
    numbers: dict[str, int] = {}
    for name, value in sizes.items():
        if isinstance(value, tuple):
            numbers.update({f"{name}.{axis}": number for axis, number in enumerate(value)})
        else:
            numbers[name] = value
    result = ir.type(ir.outputs[0][1])
    returned = TensorType(result.dtype, result.concrete_shape(numbers))
    if returned != TensorType(dtype, tuple(shape)):
        raise _misfit(blueprint, shape, dtype, f"it would return {returned}")


class _Match:
    """Solves one input's type for parameters and sizes, axis by axis."""

    def __init__(
        self,
        blueprint: Blueprint,
        shape: tuple[int, ...],
        dtype: DType,
        settled: Mapping[str, ParameterValue],
    ) -> None:
        self.blueprint, self.shape, self.dtype = blueprint, shape, dtype
        self.free = {
            p.name.text: symbol(p.name.text)
            for p in blueprint.parameters
            if p.kind.text in SOLVABLE_KINDS and p.name.text not in settled
        }
        self.scope = Scope()
        self.report = Report(blueprint.span.file)
        self.params: dict[str, ParameterValue] = {}
        self.sizes: dict[str, SizeValue] = {}
        self.settled = settled

    def solve(self) -> tuple[dict[str, ParameterValue], dict[str, SizeValue]]:
        """The parameters and sizes. Raises `DoesNotFit`."""
        declared = next((s for s in self.blueprint.body if isinstance(s, Input)), None)
        if declared is None:
            raise self._fail("it has no input")
        written = declared.type.dtype.text
        kinds = {p.name.text: p.kind.text for p in self.blueprint.parameters}
        if kinds.get(written) == "dtype":
            self.params |= {written: self.dtype.value} if written not in self.settled else {}
            written = str(self.settled.get(written, self.dtype.value))
        if written != self.dtype.value and not (written == "f32" and self.dtype.value in PRECISIONS):
            raise self._fail(f"its input `{declared.name.text}` is {written}")
        bind_parameters(self.blueprint, self.settled, self.scope, self.report, self.free)
        evaluator = Evaluator(self.scope, self.report)
        for statement in self.blueprint.body:
            if isinstance(statement, Let):
                self.scope.bind(statement.name, evaluator.value(statement.value), What.LET)
        items = declared.type.shape.items
        spread = next((index for index, item in enumerate(items) if isinstance(item, Spread)), None)
        fixed = len(items) - (spread is not None)
        if len(self.shape) < fixed or (spread is None and len(self.shape) != fixed):
            least = "at least " if spread is not None else ""
            raise self._fail(f"its input `{declared.name.text}` has {least}{fixed} axes")
        extra = len(self.shape) - fixed
        axis = 0
        # Single names first: they bind what the expressions on other axes are made of.
        pairs: list[tuple[Expression, int]] = []
        for item in items:
            if isinstance(item, Spread):
                self.sizes[item.name.text] = self.shape[axis : axis + extra]
                axis += extra
            else:
                pairs.append((item, self.shape[axis]))
                axis += 1
        for item, number in sorted(pairs, key=lambda pair: not isinstance(pair[0], Name)):
            self._solve_axis(item, number, evaluator)
        return self.params, self.sizes

    def _solve_axis(self, item: Expression, number: int, evaluator: Evaluator) -> None:
        if isinstance(item, Name) and item.text not in self.scope:
            if self.sizes.setdefault(item.text, number) != number:
                raise self._fail(f"`{item.text}` would be both {self.sizes[item.text]} and {number}")
            return
        value = evaluator.value(item)
        if not isinstance(value, int | Dim) or not is_size(value):
            raise self._fail("its input's type has errors")
        size = self._substituted(value)
        if isinstance(size, int):
            if size != number:
                raise self._fail(f"an axis is {number} where it has {size}")
            return
        self._solve_linear(size, number)

    def _substituted(self, size: Size) -> Size:
        known = {name: value for name, value in (self.params | self.sizes).items() if isinstance(value, int)}
        return substitute(size, known)

    def _solve_linear(self, size: Dim, number: int) -> None:
        """`factor * name + offset = number` for one parameter. Raises `DoesNotFit`."""
        terms = dict(size.terms)
        offset = terms.pop((), 0)
        (monomial, factor), *others = terms.items()
        atom, power = monomial[0]
        if others or len(monomial) > 1 or power > 1 or not isinstance(atom, str) or atom not in self.free:
            raise self._fail(f"{size} = {number} does not settle a parameter; give the parameters in it")
        value, rest = divmod(number - offset, factor)
        if rest or value < 1:
            raise self._fail(f"{size} cannot be {number}")
        self.params[atom] = value

    def _fail(self, reason: str) -> EsperError:
        return _misfit(self.blueprint, self.shape, self.dtype, reason)
