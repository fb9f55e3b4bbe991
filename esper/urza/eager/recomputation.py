"""Activation checkpointing: a call that is computed again in the backward pass draws the numbers it drew.

`torch.utils.checkpoint` restores torch's generators before it runs a region again, but a seed draws from a
counter of its own. So the calls inside a region remember their draws with the region, and a call that finds
itself in a backward pass takes them from there, in order. A region is the object that torch's checkpointing
keeps from one run of it to the next; it stands in a local variable of a function of that module, further up
the stack. Only a call that may be in a region looks there: one whose saved tensors are packed, one in
training without gradients, or one in a backward pass.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint

Draw = TypeVar("Draw")

_FILE = torch.utils.checkpoint.__file__


def may_be_checkpointed() -> bool:
    """Whether this call may be inside a region, in its first run or again."""
    return (
        not torch.is_grad_enabled()
        or is_recomputation()
        or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    )


def is_recomputation() -> bool:
    """Whether a backward pass is under way in which calls were not declared a `first_run`."""
    task = torch._C._current_graph_task_id()
    return task != _NO_TASK and bool(task != getattr(_declared, "task", _NO_TASK))


_NO_TASK = -1
"""What torch calls the graph task outside of backward passes."""

_declared = threading.local()


@contextmanager
def first_run() -> Iterator[None]:
    """Inside, calls count as run for the first time, even in the backward pass that is under way: a seed
    that waits for a gradient runs there. In a backward pass that begins inside, they are run again."""
    before = getattr(_declared, "task", _NO_TASK)
    _declared.task = torch._C._current_graph_task_id()
    try:
        yield
    finally:
        _declared.task = before


def region() -> Any:
    """What identifies the innermost region that this call is in, the same in each run of it; else None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _FILE:
            found = _region_of(frame.f_locals)
            if found is not None:
                return found
        frame = frame.f_back
    return None


def _region_of(local: dict[str, Any]) -> Any:
    """`ctx` with `use_reentrant=True`; else `frame`, which a generator holds as `new_frame` at first."""
    if "ctx" in local:
        return local["ctx"]
    if "frame" in local:
        return local["frame"]
    inner = getattr(local.get("gen"), "gi_frame", None)
    return None if inner is None else inner.f_locals.get("new_frame")


class Draws(Generic[Draw]):
    """What one seed drew in each region, in order."""

    def __init__(self) -> None:
        self._drawn: WeakKeyDictionary[Any, list[Draw]] = WeakKeyDictionary()
        self._again: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Draws[Draw]], tuple[()]]:
        """A copy has drawn nothing: a region belongs to the module that ran in it."""
        return type(self), ()

    def remember(self, place: Any, draw: Draw) -> None:
        """Keeps the draw of a call in the region `place`, as long as the region lives."""
        self._drawn.setdefault(place, []).append(draw)

    def repeat(self, place: Any) -> Draw | None:
        """What the same call drew in the first run of `place`; None if there was none."""
        task = torch._C._current_graph_task_id()
        earlier, position = self._again.get(place, (task, 0))
        position = position if earlier == task else 0
        self._again[place] = task, position + 1
        drawn = self._drawn.get(place, [])
        return drawn[position] if position < len(drawn) else None
