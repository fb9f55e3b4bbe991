"""The two directions of a graph under autograd, whoever computes them: generated kernels, or torch.

A direction is a pure function between named tensors. The backward one is a program of its own, which reads
some of what the forward one was given and what it saved; it has no gradient itself, so a gradient of a
gradient is refused rather than left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from esper.ir.graph import BlueprintIR
from esper.ops.reference.evaluate import bind_sizes
from esper.urza.compiler import Programs
from esper.urza.eager.torch_tier import graph_module, leaves
from esper.urza.errors import NoSecondGradient
from esper.urza.run.bound_program import BoundProgram, Launching

Tensor = torch.Tensor
Sizes = Mapping[str, int]
Direction = Callable[[Mapping[str, Tensor], Sizes], Mapping[str, Tensor]]
"""From tensors by the names of a graph's leaves to its outputs and updates by name, at sizes by symbol."""


class Directions:
    """Both directions of a graph, and which tensors pass between them.

    given: the graph's leaves in order. results: outputs, then updates. saved: what the forward direction
    keeps for the backward one. kept: the leaves that the backward one reads. wrt: the leaves it has a
    gradient for.
    """

    def __init__(self, programs: Programs, forward: Direction, backward: Direction) -> None:
        parts = programs.parts
        self.programs = programs
        self.name = programs.ir.name
        self.forward, self.backward = forward, backward
        self.given = tuple(leaf.name for leaf in leaves(programs.ir))
        self.outputs = tuple(n for n, _ in parts.forward.outputs if not n.startswith("saved."))
        self.results = (*self.outputs, *(name for name, _ in parts.forward.updates))
        self.saved = tuple(saved.name for saved in parts.saved)
        self.buffers = frozenset(node.name for node in programs.ir.buffers)
        read = {leaf.name for leaf in leaves(parts.backward)}
        self.kept = tuple(name for name in self.given if name in read)
        self.wrt = frozenset(name.removeprefix("grad.") for name, _ in parts.backward.outputs)

    def sizes(self, given: Mapping[str, Tensor]) -> Sizes:
        """The values of the size symbols. Raises `ShapeGiven`."""
        shapes = {node.name: tuple(given[node.name].shape) for node in self.programs.ir.inputs}
        return bind_sizes(self.programs.ir, shapes)


class Kernels(Directions):
    """The generated kernels of `programs`, bound to what launches them on `device`."""

    def __init__(self, programs: Programs, launching: Launching, device: torch.device) -> None:
        forward = BoundProgram(programs.forward, launching)
        super().__init__(programs, forward, BoundProgram(programs.backward, launching))
        self.device = device
        self.sizes = forward.sizes  # type: ignore[method-assign]


class TorchDirections(Directions):
    """The same two graphs by torch's operators: what kernels are checked against, and what stands in."""

    def __init__(self, programs: Programs) -> None:
        parts, sizes = programs.parts, programs.ir.symbols
        super().__init__(programs, _torch(parts.forward, sizes), _torch(parts.backward, sizes))


def _torch(ir: BlueprintIR, symbols: tuple[str, ...]) -> Direction:
    module, given = graph_module(ir, sizes=symbols), tuple(leaf.name for leaf in leaves(ir))
    names = [name for name, _ in (*ir.outputs, *ir.updates)]

    def run(tensors: Mapping[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
        with torch.no_grad():
            found = module.forward(*(tensors[name] for name in given), *(sizes[name] for name in symbols))
        return dict(zip(names, found, strict=True))

    return run


def run(directions: Directions, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Outputs and updates of one call, differentiable once.

    In the backward pass raises `NoSecondGradient` for a gradient of a gradient.
    """
    results: tuple[Tensor, ...] = _Run.apply(directions, tuple(given), *given.values())  # type: ignore[no-untyped-call]
    return results


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, directions: Directions, names: tuple[str, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        ctx.directions, ctx.names = directions, names
        ctx.sizes = directions.sizes(given)
        with profiled(directions.name):
            found = directions.forward(given, ctx.sizes)
        kept = (given[n].clone() if n in directions.buffers else given[n] for n in directions.kept)
        ctx.save_for_backward(*kept, *(found[name] for name in directions.saved))
        fixed = directions.results[len(directions.outputs) :] if directions.wrt else directions.results
        ctx.mark_non_differentiable(*(found[name] for name in fixed))
        return tuple(found[name] for name in directions.results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        directions: Directions = ctx.directions
        wanted = [n for n, needed in zip(ctx.names, ctx.needs_input_grad[2:], strict=True) if needed]
        names = [name for name in wanted if name in directions.wrt]
        reads = (*directions.kept, *directions.saved, *(f"grad.{name}" for name in directions.outputs))

        def compute(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            with profiled(f"{directions.name} backward"):
                found = directions.backward(dict(zip(reads, tensors, strict=True)), ctx.sizes)
            return tuple(found[f"grad.{name}"] for name in names)

        tensors = (*ctx.saved_tensors, *gradients[: len(directions.outputs)])
        if torch.is_grad_enabled():
            found = _Gradients.apply(directions.name, compute, *tensors)  # type: ignore[no-untyped-call]
        else:
            found = compute(tensors)
        by_name = dict(zip(names, found, strict=True))
        return None, None, *(by_name.get(name) for name in ctx.names)


class _Gradients(torch.autograd.Function):
    """A backward pass that autograd records (`create_graph=True`), and whose own gradient is refused."""

    @staticmethod
    def forward(
        ctx: Any, name: str, compute: Callable[[Sequence[Tensor]], tuple[Tensor, ...]], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.name = name
        return compute(tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        raise NoSecondGradient(blueprint=ctx.name)


def profiled(name: str) -> AbstractContextManager[Any]:
    """A range `esper.<name>` for profilers; nothing where none runs, since a range costs microseconds."""
    if torch._C._autograd._profiler_enabled():
        return torch.profiler.record_function(f"esper.{name}")
    return nullcontext()
