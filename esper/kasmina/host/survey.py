"""One look at a host before slots go in: which modules run on the example, how often, and on which tensors.

The example runs once in evaluation mode and without gradients, and everything that a forward pass may change
is put back. Only what evaluation leaves open is asked of a second run, in the modes that the host is in; of
sequences, a few more show which positions may depend on which.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from esper.kasmina.errors import ExampleFails, SlotNeverRuns, SlotsShareTensor, UnsuitableOutput
from esper.kasmina.host.dependence import SecondAxis, second_axis
from esper.kasmina.host.hook import find
from esper.kasmina.host.isolation import undisturbed
from esper.kasmina.host.layout import Layout, Witness, layout_of, witness
from esper.kasmina.host.nested import dense
from esper.kasmina.host.probe import Probe


class _Call:
    """One call of a module: the slot's tensor as it left the module, and what came before it.

    The tensor is held until the survey ends: only while it lives is its identity its own.
    """

    def __init__(self, slot: str, result: Any, output: int | str | None, last: Witness | None) -> None:
        tensor = find(result, output)
        if tensor is None:
            found = f"a {type(result).__name__}" + ("" if output is None else f" without `{output}`")
            expected = (
                "a floating point tensor" if output is None else f"one that holds a tensor at `{output}`"
            )
            raise UnsuitableOutput(slot=slot, found=found, expected=expected)
        if not tensor.is_floating_point():
            raise UnsuitableOutput(slot=slot, found=str(tensor.dtype), expected="a floating point tensor")
        if tensor.layout is not torch.strided:
            raise UnsuitableOutput(slot=slot, found=f"a {tensor.layout} tensor", expected="a dense one")
        self.tensor = tensor = dense(tensor)
        self.version = tensor._version
        self.shape = tuple(tensor.shape)
        self.layout = layout_of(tensor, last)

    def is_same_tensor(self, other: _Call) -> bool:
        """Whether both act on one tensor, not changed in place in between."""
        return self.tensor is other.tensor and self.version == other.version


Calls = dict[str, list[_Call]]


def survey(
    model: nn.Module, chosen: Mapping[str, nn.Module], example: Any, output: int | str | None
) -> dict[str, Probe]:
    """The tensors at the modules `chosen`, by name.

    Raises ExampleFails, SlotNeverRuns, UnsuitableOutput, SlotsShareTensor.
    """
    calls = _run(model, chosen, example, output, training=False)
    idle = [name for name in chosen if not calls[name]]
    shared = _sharing(calls)
    if idle or shared:
        try:
            in_training = _run(model, chosen, example, output, training=True)
        except ExampleFails:
            in_training = {}
        calls |= {name: in_training[name] for name in idle if in_training.get(name)}
        if in_training:
            shared = _sharing(in_training)
    for name in chosen:
        if not calls[name]:
            raise SlotNeverRuns(slot=name)
    if shared:
        raise SlotsShareTensor(first=shared[0], second=shared[1])
    own = {id(value): name for name, value in (*model.named_parameters(), *model.named_buffers())}
    for name, found in calls.items():
        for call in found:
            if id(call.tensor) in own:
                weight = f"the host's own weight `{own[id(call.tensor)]}`"
                raise UnsuitableOutput(slot=name, found=weight, expected="a tensor that the host computes")
    probes = {name: _probe(each) for name, each in calls.items()}
    axes = {shape: _second_axis(model, example, shape) for shape in {p.shape for p in probes.values()}}
    return {name: replace(probe, second_axis=axes[probe.shape]) for name, probe in probes.items()}


def _second_axis(model: nn.Module, example: Any, shape: tuple[int, ...]) -> SecondAxis | None:
    if len(shape) != 3 or shape[1] < 2:
        return None

    def run(given: Any) -> Any:
        return _call(model, given)

    try:
        with undisturbed(model), _other_random_numbers(), torch.no_grad():
            model.eval()
            return second_axis(run, example, shape)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError):
        return None  # a host may refuse an example that it was not made for


def _probe(calls: list[_Call]) -> Probe:
    """The first call's tensor, with the other shapes that the module returned on the example."""
    first = calls[0]
    layouts = {call.layout for call in calls}
    layout: Layout | None = layouts.pop() if len(layouts) == 1 else None
    others = dict.fromkeys(call.shape for call in calls if call.shape != first.shape)
    return Probe(
        first.shape,
        first.tensor.dtype,
        first.tensor.device,
        calls=len(calls),
        others=tuple(others),
        layout=layout,
    )


def _sharing(calls: Calls) -> tuple[str, str] | None:
    """Two slots that act on one tensor, the one that runs later first; None if there are none."""
    pairs = [(name, call) for name, found in calls.items() for call in found]
    for index, (name, call) in enumerate(pairs):
        for other, earlier in pairs[:index]:
            if name != other and call.is_same_tensor(earlier):
                return (name, other) if other.startswith(f"{name}.") else (other, name)
    return None


def _run(
    model: nn.Module,
    chosen: Mapping[str, nn.Module],
    example: Any,
    output: int | str | None,
    *,
    training: bool,
) -> Calls:
    """Runs the example, and records every call of the modules `chosen`; the host stays as it is."""
    calls: Calls = {name: [] for name in chosen}
    last: list[Witness | None] = [None]

    def look(module: nn.Module, arguments: Any, result: Any) -> None:
        last[0] = witness(module, arguments, result, last[0])

    def reader(name: str) -> Any:
        def read(module: nn.Module, arguments: Any, result: Any) -> None:
            calls[name].append(_Call(name, result, output, last[0]))

        return read

    handles = [module.register_forward_hook(look) for module in model.modules()]
    handles += [module.register_forward_hook(reader(name)) for name, module in chosen.items()]
    try:
        with undisturbed(model), _other_random_numbers(), torch.no_grad():
            if not training:
                model.eval()
            _call(model, example)
    except UnsuitableOutput:
        raise
    except Exception as error:
        raise ExampleFails(reason=f"{type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _call(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


@contextmanager
def _other_random_numbers() -> Iterator[None]:
    """Puts Python's own generator and numpy's back: some hosts draw from them to skip layers or mask."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(state)
