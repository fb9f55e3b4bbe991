"""A seed's kernels inside a model that `torch.compile` compiles: one operator forward, one backward.

Dynamo cannot look into a launcher, and a function of autograd would break its graph; an operator of
`torch.library` it keeps whole. What runs is decided at each call, inside the operator: kernels, or the same
two graphs by torch while kernels are being built and after they failed. So nothing is compiled again when
kernels take over. Outside `torch.compile` these operators would cost ten times a function of autograd.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch

from esper.ir.dims import evaluate_size
from esper.ops.reference.evaluate import TORCH_DTYPES, bind_sizes
from esper.urza.errors import NoSecondGradient
from esper.urza.run.differentiable import Directions, TorchDirections
from esper.urza.run.supply import Want, programs_of
from esper.urza.run.tiers import Tiers

Tensor = torch.Tensor


@dataclass(eq=False)
class _Traced:
    """What a handle in a compiled graph stands for.

    results: what the forward operator returns; reads: what the backward one is given; gradients: the leaves
    whose gradients it returns.
    """

    tiers: Tiers
    want: Want
    directions: TorchDirections

    @property
    def results(self) -> tuple[str, ...]:
        return *self.directions.results, *self.directions.saved

    @property
    def reads(self) -> tuple[str, ...]:
        found = self.directions
        return *found.kept, *found.saved, *(f"grad.{name}" for name in found.outputs)

    @property
    def gradients(self) -> tuple[str, ...]:
        return tuple(name for name in self.directions.given if name in self.directions.wrt)

    def sizes(self, tensors: Sequence[Tensor]) -> dict[str, Any]:
        shapes = dict(zip(self.directions.given, (tuple(tensor.shape) for tensor in tensors), strict=True))
        return bind_sizes(self.directions.programs.ir, shapes)


_TRACED: WeakValueDictionary[int, _Traced] = WeakValueDictionary()
_NUMBERS = itertools.count()


def handle_of(tiers: Tiers, want: Want) -> int:
    """A number by which a compiled graph calls the kernels of a seed; it holds as long as the seed lives."""
    for number, traced in tiers.handles.items():
        if traced.want == want:
            return number
    number = next(_NUMBERS)
    traced = _Traced(tiers, want, TorchDirections(programs_of(tiers.supply.ir, want)))
    tiers.handles[number] = _TRACED[number] = traced
    return number


def call(handle: int, given: Sequence[Tensor]) -> list[Tensor]:
    """The graph's outputs, its updates, then what is saved for the backward pass."""
    found: list[Tensor] = torch.ops.esper.seed_forward(handle, list(given))
    return found


@torch.library.custom_op("esper::seed_forward", mutates_args=())
def seed_forward(handle: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    traced = _TRACED[handle]
    given = dict(zip(traced.directions.given, tensors, strict=True))

    def run(directions: Directions) -> Mapping[str, Tensor]:
        return directions.forward(given, directions.sizes(given))

    found = traced.tiers.attempt(given, traced.want, run)
    if found is None:
        traced.tiers.calls["torch"] += 1
        found = run(traced.directions)
    return [found[name].clone() for name in traced.results]


@seed_forward.register_fake
def _(handle: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    traced = _TRACED[handle]
    parts, sizes = traced.directions.programs.parts, traced.sizes(tensors)
    values = dict((*parts.forward.outputs, *parts.forward.updates))
    types = (parts.forward.type(values[name]) for name in traced.results)
    return [
        tensors[0].new_empty(
            [evaluate_size(size, sizes) for size in type.shape], dtype=TORCH_DTYPES[type.dtype]
        )
        for type in types
    ]


@torch.library.custom_op("esper::seed_backward", mutates_args=())
def seed_backward(
    handle: int, sizes: Sequence[int], tensors: Sequence[Tensor], like: Sequence[Tensor]
) -> list[Tensor]:
    traced = _TRACED[handle]
    given = dict(zip(traced.reads, tensors, strict=True))
    values = dict(zip(traced.directions.programs.ir.symbols, sizes, strict=True))
    found = traced.tiers.directions(tensors[0].device, traced.want, traced.directions).backward(given, values)
    return [found[f"grad.{name}"].clone() for name in traced.gradients]


@seed_backward.register_fake
def _(handle: int, sizes: Sequence[int], tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in like]


def _keep(ctx: Any, inputs: tuple[int, Sequence[Tensor]], output: list[Tensor]) -> None:
    handle, tensors = inputs
    traced = _TRACED[handle]
    given = dict(zip(traced.directions.given, tensors, strict=True))
    made = dict(zip(traced.results, output, strict=True))
    ctx.handle, ctx.count = handle, len(tensors)
    ctx.sizes = list(traced.sizes(tensors).values())
    kept = [given[name] for name in traced.directions.kept]
    saved = [made[name] for name in traced.directions.saved]
    outputs = [made[name] for name in traced.directions.outputs]
    like = [given[name] for name in traced.gradients]
    ctx.places = len(kept) + len(saved), len(outputs)
    ctx.save_for_backward(*kept, *saved, *outputs, *like)


def _differentiate(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[None, list[Tensor | None]]:
    traced = _TRACED[ctx.handle]
    reads, outputs = ctx.places
    held = ctx.saved_tensors
    outs, like = held[reads : reads + outputs], held[reads + outputs :]
    given = [torch.zeros_like(out) if g is None else g for out, g in zip(outs, gradients, strict=False)]
    found = seed_backward(ctx.handle, ctx.sizes, [*held[:reads], *given], like)
    by_name = dict(zip(traced.gradients, found, strict=True))
    return None, [by_name.get(name) for name in traced.directions.given]


def _refuse(ctx: Any, gradients: Any) -> Any:
    raise NoSecondGradient(blueprint=_TRACED[ctx.handle].directions.name)


def _name(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.handle = inputs[0]


seed_forward.register_autograd(_differentiate, setup_context=_keep)
seed_backward.register_autograd(_refuse, setup_context=_name)
