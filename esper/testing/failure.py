"""How a pass that runs breaks what its law promises, on one graph and random values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.passes import Law, Pass, joint_graph
from esper.passes.autodiff import Autodiff
from esper.passes.errors import NotEvaluated
from esper.passes.failure import Failure
from esper.testing.laws import require_gradients, require_law, run
from esper.testing.values import random_values

LONGEST = 300  # characters of a reason, in which torch prints tensors
CHECKED = (Law.EXACT, Law.REAL_EQUAL, Law.TOLERANCE)


def broken_law(
    entry: Pass, before: BlueprintIR, after: BlueprintIR, sizes: Mapping[str, int] | None = None
) -> Failure | None:
    """How `after`, which `entry` made of `before`, breaks the law of `entry`, in results or gradients.

    sizes: values of size symbols, as `random_values` takes them. A law that has no check on random values
    (another signature) is not checked; of `autodiff` the gradients are.
    Raises `NotEvaluated`.
    """
    values = random_values(before, sizes)
    try:
        run(before, values)
    except Exception as error:
        chosen = (
            ", ".join(f"{name} = {value}" for name, value in values.sizes.items()) or "no sizes to choose"
        )
        raise NotEvaluated(blueprint=before.name, sizes=chosen, reason=error) from error
    if isinstance(entry, Autodiff) and entry.wrt is None:
        return _failure(entry, "breaks gradients", lambda: require_gradients(before, after, values))
    if entry.law not in CHECKED:
        return None
    found = _failure(
        entry, f"breaks its law {entry.law.value}", lambda: require_law(entry.law, before, after, values)
    )
    if found is None and _has_gradients(before):
        return _failure(
            entry, "breaks gradients", lambda: require_gradients(before, joint_graph(after), values)
        )
    return found


def _has_gradients(ir: BlueprintIR) -> bool:
    try:
        return len(joint_graph(ir).outputs) > len(ir.outputs)
    except EsperError:
        return False


def _failure(entry: Pass, way: str, check: Callable[[], None]) -> Failure | None:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - a graph that does not run any more is as wrong as another result
        return Failure(entry, way, "", " ".join(str(error).split())[:LONGEST], ran=True)
    return None
