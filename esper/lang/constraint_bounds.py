"""What a `constraint` may say: a bound that something can keep, on a target whose figures are known."""

from __future__ import annotations

from esper.lang.errors import BadConstraint
from esper.lang.names import did_you_mean

TARGETS = ("sm_80", "sm_90")
"""The GPUs that the cost model of a search has figures of."""
_SAME_EVERYWHERE = ("params", "flops", "bytes", "memory")


def require_bound(quantity: str, comparison: str, limit: float, target: str | None) -> None:
    """Raises `BadConstraint`. No quantity is below zero, and counts depend on no target."""
    if limit < 0 or (limit == 0 and comparison == "<"):
        raise BadConstraint(
            reason=f"`{quantity} {comparison} {limit:.12g}` "
            + ("always holds" if comparison in (">", ">=") else "never holds"),
            way_out="no quantity of a blueprint is below zero",
        )
    if target is None:
        return
    if target not in TARGETS:
        known = f"a search has figures of {', '.join(TARGETS)}"
        raise BadConstraint(
            reason=f"`{target}` is no target of a search",
            way_out=did_you_mean(target, TARGETS, known) if len(target) > 3 else known,
        )
    if quantity in _SAME_EVERYWHERE:
        raise BadConstraint(
            reason=f"`{quantity}` is the same on every target", way_out=f'leave out `on "{target}"`'
        )
