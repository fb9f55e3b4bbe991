"""What the planner's rewrites have in common: results stay what they are, and what is left over goes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from esper.ir import BlueprintIR, verify
from esper.ops.reference.evaluate import evaluate
from esper.passes import run_passes
from esper.testing import random_values


def rewritten(ir: BlueprintIR, rewrite: Callable[[BlueprintIR], BlueprintIR]) -> BlueprintIR:
    """`ir` after `rewrite`, without what nobody reads any more; requires equal results."""
    found = run_passes(rewrite(ir), "cse,dce")
    require_equal_results(ir, found)
    return found


def require_equal_results(before: BlueprintIR, found: BlueprintIR) -> None:
    """Raises `AssertionError` unless both graphs give equal numbers, infinities and NaN on random values."""
    verify(found)
    values = random_values(before)
    expected = evaluate(before, values.inputs, values.weights_of(before), seed=values.seed)
    results = evaluate(found, values.inputs, values.weights_of(found), seed=values.seed)
    for name, result in expected.items():
        torch.testing.assert_close(results[name], result, rtol=0, atol=0, equal_nan=True, msg=name)
