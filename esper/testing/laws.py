"""What a pass's law demands, as checks on two graphs and one set of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from esper.ir.graph import BlueprintIR
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate
from esper.passes import Law
from esper.passes.autodiff import GRADIENT
from esper.testing.values import GraphValues

REAL_TOLERANCE = 1e-9  # of the greatest element, in float64
SHAKEN_RUNS = 8
SHAKE = 2.0  # in units of eps; a rounding moves a value by half a unit
SPREADS = 4.0


def require_law(law: Law, before: BlueprintIR, after: BlueprintIR, values: GraphValues) -> None:
    """Raises `AssertionError` unless `after` gives what `before` does on `values`, as `law` says.

    `EXACT`: every bit but a NaN's payload, in the declared dtypes and in float64. `REAL_EQUAL`: within
    `REAL_TOLERANCE` in float64, infinities and NaN in the same places. `TOLERANCE`: as `REAL_EQUAL`, since
    dtypes do not count in float64, and in the declared dtypes within what `_within_rounding` allows. Equal
    graphs keep each of these and are not run.
    """
    if before == after and law is not Law.CHANGES_SIGNATURE:
        return
    if law is Law.EXACT:
        for dtype in (None, torch.float64):
            _compare(run(before, values, dtype), run(after, values, dtype), exact=True)
    elif law is Law.REAL_EQUAL:
        _compare(run(before, values, torch.float64), run(after, values, torch.float64), exact=False)
    elif law is Law.TOLERANCE:
        exact = run(before, values, torch.float64)
        _compare(exact, run(after, values, torch.float64), exact=False)
        _within_rounding(before, after, values, exact)
    else:
        raise ValueError(f"the law {law.value} has no general check")


def require_gradients(ir: BlueprintIR, joint: BlueprintIR, values: GraphValues) -> None:
    """Raises `AssertionError` unless the gradients of `joint` are what torch.autograd gives for `ir`.

    Both in float64, through the operators' references, with random output gradients. Where autograd's
    gradient is not finite, an overflow on the way, nothing is required.
    """
    leaves = {
        name: tensor.double().requires_grad_()
        for name, tensor in {**values.inputs, **values.weights}.items()
        if tensor.is_floating_point() and ir.node(name).op != "buffer"
    }
    outputs = evaluate(
        ir,
        {name: leaves.get(name, tensor) for name, tensor in values.inputs.items()},
        {name: leaves.get(name, tensor) for name, tensor in values.weights.items()},
        dtype=torch.float64,
        seed=values.seed,
    )
    generator = torch.Generator().manual_seed(values.seed)
    given = {
        GRADIENT + name: torch.randn(outputs[name].shape, generator=generator, dtype=torch.float64)
        for name, _ in ir.outputs
        if outputs[name].is_floating_point()
    }
    found = evaluate(
        joint,
        {**values.inputs_of(joint), **{name: given[name] for name in given if name in joint}},
        values.weights_of(joint),
        dtype=torch.float64,
        seed=values.seed,
    )
    reached = {name: outputs[name] for name, _ in ir.outputs if outputs[name].requires_grad}
    expected = (
        torch.autograd.grad(
            list(reached.values()),
            list(leaves.values()),
            [given[GRADIENT + name] for name in reached],
            allow_unused=True,
        )
        if reached
        else [None] * len(leaves)
    )
    for (name, leaf), gradient in zip(leaves.items(), expected, strict=True):
        wanted = torch.zeros_like(leaf) if gradient is None else gradient
        if wanted.isfinite().all():
            _close(GRADIENT + name, wanted, found.get(GRADIENT + name, torch.zeros_like(leaf)))


def run(ir: BlueprintIR, values: GraphValues, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The outputs and updates of `ir` on `values`."""
    return evaluate(ir, values.inputs_of(ir), values.weights_of(ir), dtype=dtype, seed=values.seed)


def _within_rounding(
    before: BlueprintIR, after: BlueprintIR, values: GraphValues, exact: Mapping[str, torch.Tensor]
) -> None:
    """Raises `AssertionError` unless `after` errs no more than roundings to its narrowest dtype explain.

    How much a rounding matters depends on the graph: a sum of like signs forgives it, a difference of near
    values does not, and a comparison may turn over. So the graph is asked: `before` runs `SHAKEN_RUNS` times
    in float64 with each float that torch computes moved at random by up to `SHAKE` eps of the dtype, and so
    four times as far as its rounding would. To first order an element's error is a sum of such moves, each
    times its derivative, and the greatest over the runs, the spread, estimates the bound of that sum. An
    element may err by `SPREADS` spreads, by `SPREADS` eps of itself for the roundings of its result, and by
    as much as in `before`, whose references may be poorer in a narrow dtype than one rounding an operation.
    Where a shaken run leaves the dtype's range, or disagrees about an integer, nothing is required.
    """
    native, found = run(before, values), run(after, values)
    shake = _Shake(set(_float_dtypes(before)) | set(_float_dtypes(after)), values.seed)
    spread = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in exact.items()}
    for _ in range(SHAKEN_RUNS):
        with shake:
            shaken = run(before, values, torch.float64)
        for name, expected in exact.items():
            moved = (shaken[name].double() - expected.double()).abs()
            spread[name] = torch.maximum(spread[name], moved.nan_to_num(nan=torch.inf))
    for name, expected in exact.items():
        assert (found[name].dtype, found[name].shape) == (native[name].dtype, expected.shape), name
        error = (found[name].double() - expected.double()).abs()
        own = (native[name].double() - expected.double()).abs()
        bound = own + SPREADS * (spread[name] + shake.eps * expected.double().abs() + shake.least)
        if not expected.is_floating_point():
            bound = torch.where(spread[name] == 0, 0.0, torch.inf)
        allowed = (error <= bound) | ~bound.isfinite()
        assert allowed.all(), (
            f"`{name}` is {found[name]}, further from {expected} than roundings explain: {bound}"
        )


class _Shake(TorchDispatchMode):
    """Moves each float that torch computes by up to `SHAKE` times `eps`, and to infinity out of range."""

    def __init__(self, dtypes: set[torch.dtype], seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        limits = [torch.finfo(dtype) for dtype in dtypes | {torch.float32}]
        self.eps = max(limit.eps for limit in limits)
        self.greatest = min(limit.max for limit in limits)
        self.least = max(limit.tiny * limit.eps for limit in limits)
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        moves = not (func.is_view or func._schema.is_mutable)
        return tree_map_only(torch.Tensor, self._moved, result) if moves else result

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        draws = torch.rand((2, *tensor.shape), generator=self._generator, dtype=tensor.dtype) * 2 - 1
        moved = tensor * (1 + SHAKE * self.eps * draws[0])
        moved = torch.where(tensor == 0, tensor, moved + SHAKE * self.least * draws[1])
        return torch.where(moved.abs() > self.greatest, moved * torch.inf, moved)


def _float_dtypes(ir: BlueprintIR) -> Iterator[torch.dtype]:
    """The floating dtypes of its values, those of bodies included."""
    for node in ir.nodes:
        yield from (TORCH_DTYPES[type.dtype] for type in node.types if type.dtype.is_floating)
        for _, body in node.bodies:
            yield from _float_dtypes(body)


def _compare(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], exact: bool) -> None:
    assert list(before) == list(after), f"outputs {list(before)} became {list(after)}"
    for name, expected in before.items():
        (_identical if exact else _close)(name, expected, after[name])


def _identical(name: str, expected: torch.Tensor, found: torch.Tensor) -> None:
    assert expected.dtype == found.dtype and expected.shape == found.shape, name
    same = (expected == found) & (expected.signbit() == found.signbit())
    if expected.is_floating_point():
        same |= expected.isnan() & found.isnan()
    assert same.all(), f"`{name}` differs: {expected} became {found}"


def _close(name: str, expected: torch.Tensor, found: torch.Tensor) -> None:
    if not expected.is_floating_point():
        _identical(name, expected, found)
        return
    finite = expected[expected.isfinite()].abs()
    scale = max(1.0, finite.max().item() if finite.numel() else 1.0)
    torch.testing.assert_close(
        found,
        expected,
        rtol=REAL_TOLERANCE,
        atol=REAL_TOLERANCE * scale,
        equal_nan=True,
        msg=lambda text: f"`{name}`: {text}",
    )
