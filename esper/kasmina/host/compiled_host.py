"""Growth of a host that `torch.compile` compiles.

A slot at rest and a fossilized seed are compiled with the host. In between, a compiled graph holds one
operator that asks the slot at each call what to do, forward and backward. So stages and alpha are nothing
that code was compiled for, no graph breaks, and the seed learns apart, as it does uncompiled.

Where a slot begins to act, or ceases to, what was compiled for the host before is of no use: were it kept, it
would count against the number of versions after which torch.compile runs a function uncompiled for good.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol
from weakref import ReferenceType, WeakValueDictionary, ref

import torch
from torch import Tensor

Pass = Callable[[Tensor], Tensor]
"""What a forward pass leaves for the backward one: from the result's gradient to the tensor's."""


class Slot(Protocol):
    """What the operator asks of a slot's hook."""

    def called(self, tensor: Tensor, *, training: bool, frozen: bool) -> tuple[Tensor, Pass]:
        """What takes the place of `tensor`, and how its gradient goes back.

        training: whether the host trains. frozen: whether nothing before the slot wants a gradient.
        """


# An operator's implementation runs below autograd and autocast. A slot needs both for the seed, as they are
# wherever no operator runs; torch has no public way to say so.
_ORDINARY = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()

_SLOTS: WeakValueDictionary[int, Slot] = WeakValueDictionary()
_NUMBERS = itertools.count()
_HELD: dict[int, tuple[Pass, ReferenceType[Tensor]]] = {}
"""What each forward pass left, by the number in its ticket, for as long as that tensor lives: autograd keeps
it for the backward pass, and for another one where the graph is retained."""
_TICKETS = itertools.count()


def number_of(slot: Slot) -> int:
    """A number by which a compiled graph calls `slot`, as long as that lives."""
    number = next(_NUMBERS)
    _SLOTS[number] = slot
    return number


def call(
    number: int, tensor: Tensor, awake: Tensor, before: Tensor, *, training: bool
) -> tuple[Tensor, Tensor]:
    """What the slot makes of `tensor`, decided when the compiled graph runs, and the next call's `before`.

    awake: a tensor that wants a gradient. So the result does too, for the seed's sake, even where nothing
    before the slot does. before: what the last call of this slot gave: two calls on one tensor are not one,
    since a seed may draw random numbers.
    """
    kind, learns = tensor.device.type, torch.is_grad_enabled()
    autocast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else ""
    result, ticket = torch.ops.esper.slot_forward(
        number, tensor, awake, before, training, autocast, not tensor.requires_grad, learns
    )
    # Not the ticket, which would keep the pass alive until the next call; of a clone, a compiler makes it.
    return result, ticket + 1


def forget_compiled_code() -> None:
    """Drops what torch.compile compiled, since a slot of a host acts otherwise than before.

    There is no way to drop the code of one model alone: what was compiled beside the host is compiled again
    at its next call.
    """
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is not None and dynamo.counters["frames"]:
        torch.compiler.reset()


@torch.library.custom_op("esper::slot_forward", mutates_args=())
def slot_forward(
    number: int,
    tensor: Tensor,
    awake: Tensor,
    before: Tensor,
    training: bool,
    autocast: str,
    frozen: bool,
    learns: bool,
) -> tuple[Tensor, Tensor]:
    dtype = getattr(torch, autocast.removeprefix("torch."), None) if autocast else None
    casting = torch.autocast(tensor.device.type, dtype) if dtype else nullcontext()
    with torch._C._ForceDispatchKeyGuard(*_ORDINARY), torch.set_grad_enabled(learns), casting:
        result, waiting = _SLOTS[number].called(tensor, training=training, frozen=frozen)
    ticket = next(_TICKETS)
    handed_out = torch.tensor(ticket)
    if learns:
        # No function of Python's own runs when the tensor goes: torch.compile would compile it.
        _HELD[ticket] = waiting, ref(handed_out, partial(_HELD.pop, ticket))
    return torch.empty_like(tensor).copy_(result), handed_out


@slot_forward.register_fake
def _(
    number: int,
    tensor: Tensor,
    awake: Tensor,
    before: Tensor,
    training: bool,
    autocast: str,
    frozen: bool,
    learns: bool,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(tensor), torch.empty((), dtype=torch.int64, device="cpu")


@torch.library.custom_op("esper::slot_backward", mutates_args=())
def slot_backward(ticket: Tensor, gradient: Tensor) -> Tensor:
    waiting, _ = _HELD[int(ticket)]
    with torch._C._ForceDispatchKeyGuard(*_ORDINARY):
        found = waiting(gradient)
    return torch.empty_like(gradient).copy_(found)


@slot_backward.register_fake
def _(ticket: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(gradient)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    (ticket,) = ctx.saved_tensors
    found = None if gradient is None else slot_backward(ticket, gradient)
    return None, found, *[None] * 6


slot_forward.register_autograd(_differentiate, setup_context=_keep)
