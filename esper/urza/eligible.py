"""Which uses of an operator its own template computes: operators that get a kernel without neighbours.

One entry an operator: why a node cannot have that kernel, or None. `templates.TEMPLATES` has its writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.ir.graph import BlueprintIR, Node
from esper.urza.attention_uses import refuses_attention, refuses_mask_grad
from esper.urza.window_uses import WINDOW_USES

Refuses = Callable[[BlueprintIR, Node], str | None]

ELIGIBLE: Mapping[str, Refuses] = {
    "attention_forward": refuses_attention,
    "attention_query_grad": refuses_attention,
    "attention_key_value_grad": refuses_attention,
    "attention_mask_grad": refuses_mask_grad,
    **WINDOW_USES,
}
