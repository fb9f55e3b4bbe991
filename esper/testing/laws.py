"""What a pass's law demands, as checks on two graphs and one set of values."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from esper.ir.graph import BlueprintIR
from esper.ops.reference.evaluate import evaluate
from esper.passes import Law
from esper.passes.autodiff import GRADIENT
from esper.testing.values import GraphValues

REAL_TOLERANCE = 1e-9  # of the greatest element, in float64


def require_law(law: Law, before: BlueprintIR, after: BlueprintIR, values: GraphValues) -> None:
    """Raises `AssertionError` unless `after` gives what `before` does on `values`, as `law` says.

    `EXACT`: every bit but a NaN's payload, in the declared dtypes and in float64. `REAL_EQUAL`: within
    `REAL_TOLERANCE` in float64, infinities and NaN in the same places.
    """
    if law is Law.EXACT:
        for dtype in (None, torch.float64):
            _compare(run(before, values, dtype), run(after, values, dtype), exact=True)
    elif law is Law.REAL_EQUAL:
        _compare(run(before, values, torch.float64), run(after, values, torch.float64), exact=False)
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
        ir, {**values.inputs, **leaves}, {**values.weights, **leaves}, dtype=torch.float64, seed=values.seed
    )
    generator = torch.Generator().manual_seed(values.seed)
    given = {
        GRADIENT + name: torch.randn(outputs[name].shape, generator=generator, dtype=torch.float64)
        for name, _ in ir.outputs
        if outputs[name].is_floating_point()
    }
    found = evaluate(joint, {**values.inputs, **given}, values.weights, dtype=torch.float64, seed=values.seed)
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
    return evaluate(ir, values.inputs, values.weights, dtype=dtype, seed=values.seed)


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
