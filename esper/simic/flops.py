"""Counts the floating-point operations of every pass that a run makes, growth's own included.

Counted are products (convolutions, matrix products, attention), two operations for each multiplication and
addition, as torch's counter does. What a pass costs is read off the model as it stands: the host's part by
torch's counter, on one small pass for each structure; a seed's part by the compiler's cost model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.ir.operator import OPERATORS, Site
from esper.kasmina.host.hook import Phase, SlotHook, replace, select
from esper.kasmina.host.isolation import undisturbed
from esper.kasmina.lifecycle.bank import MorphogeneticModel
from esper.leyline.events import Event, GateEvaluated, SeedGerminated
from esper.leyline.gates import GateLevel
from esper.passes import joint_graph, run_passes
from esper.urza.run.seed import CompiledSeed

PRODUCTS = ("convolution", "conv_transpose", "matmul", "scaled_dot_product_attention", "scan")
"""The operators counted, by the beginnings of their names, and so of their gradients' names. A `scan`
counts whole, with the few elementwise operations of its body."""

SAMPLE = 2
"""Examples in the pass on which a host is counted: products grow linearly with their number."""


@dataclass(frozen=True)
class SeedCost:
    """Operations of one pass of a seed: forward, the gradients of its weights, and of its input."""

    forward: int
    weights: int
    inputs: int


@dataclass(frozen=True)
class _Call:
    """A slot's module ran in a host's pass: the tensor it returned, for one example."""

    hook: int
    shape: tuple[int, ...]
    has_gradient: bool


@dataclass
class _Sample:
    """One pass of a host without its seeds: its operations, and its slots' calls in their order."""

    flops: int = 0
    calls: list[_Call] = field(default_factory=list)


class FlopMeter:
    """Adds up the operations of a run's passes, by purpose.

    loss: a model's scalar loss on a batch, a tuple of tensors whose first axes count examples.
    batch: one such batch; its first examples serve to count hosts.
    """

    def __init__(
        self, loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor], batch: tuple[Tensor, ...]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._loss = loss
        self._batch = tuple(tensor[:SAMPLE] for tensor in batch)
        self._samples: dict[tuple[object, ...], _Sample] = {}
        self._seeds: dict[tuple[object, ...], SeedCost] = {}
        self._bank: MorphogeneticModel | None = None

    @property
    def total(self) -> int:
        """Operations of all passes counted."""
        return sum(self.counts.values())

    def count(self, purpose: str, model: nn.Module, examples: int, *, backward: bool) -> None:
        """Adds one pass of `model`, as it stands, over so many examples: forward, or forward and backward."""
        self.counts[purpose] += self.cost(model, examples, backward=backward)

    def cost(self, model: nn.Module, examples: int, *, backward: bool = True) -> int:
        """Operations of one pass over so many examples: forward, and backward if asked for."""
        places = _slots_in(model)
        flags = tuple(p.requires_grad for p in model.parameters()) if backward else ()
        bare = self._sample(model, places, flags, backward, None)
        states = [_Role.of(hook, model.training) for _, hook in places]
        acting = [call for call in bare.calls if states[call.hook].acts]
        learners = [call for call in acting if backward and places[call.hook][1].trainable()]
        first = next((call for call in learners if not call.has_gradient), None)
        host = bare if first is None else self._sample(model, places, flags, backward, first.hook)
        total = host.flops * examples // SAMPLE
        behind_learner = False
        for call in bare.calls:
            hook, role = places[call.hook][1], states[call.hook]
            if hook.seed is None or not (role.acts or (role.listens and backward)):
                continue
            cost = self.seed_cost(hook.seed, (examples, *call.shape))
            total += cost.forward
            if backward and hook.trainable():
                total += cost.weights
            if backward and role.acts:
                total += cost.inputs if call.has_gradient or behind_learner else 0
                behind_learner = behind_learner or bool(hook.trainable())
        return total

    def seed_cost(self, seed: nn.Module, shape: Sequence[int]) -> SeedCost:
        """What one pass of `seed` over a tensor of this shape costs."""
        if isinstance(seed, CompiledSeed):
            key: tuple[object, ...] = (seed.ir.hash, *shape)
            if key not in self._seeds:
                self._seeds[key] = cost_of_graph(seed.ir, shape)
        else:
            key = (id(seed), *shape)
            if key not in self._seeds:
                self._seeds[key] = _cost_of_module(seed, shape)
        return self._seeds[key]

    def watch(self, bank: MorphogeneticModel) -> None:
        """Counts from here on, as an output of the bank's events, what G0 and G1 run of a seed alone."""
        self._bank = bank

    def emit(self, event: Event) -> None:
        """Counts the one forward pass of G0, and the forward and backward pass of G1."""
        if self._bank is None or not isinstance(event, SeedGerminated | GateEvaluated):
            return
        slot = self._bank[event.slot]
        if slot.seed is None:
            return
        cost = self.seed_cost(slot.seed, slot.probe.shape)
        if isinstance(event, SeedGerminated):
            self.counts["gates"] += cost.forward
        elif event.level == GateLevel.G1.name:
            self.counts["gates"] += cost.forward + cost.weights + cost.inputs

    def _sample(
        self,
        model: nn.Module,
        places: Sequence[tuple[nn.Module, SlotHook]],
        flags: tuple[bool, ...],
        backward: bool,
        marked: int | None,
    ) -> _Sample:
        """A pass of the host alone; `marked`: the slot whose tensor asks for a gradient, as a seed's does."""
        key = (backward, marked, len(places), *flags)
        if key not in self._samples:
            self._samples[key] = self._run(model, places, backward, marked)
        return self._samples[key]

    def _run(
        self,
        model: nn.Module,
        places: Sequence[tuple[nn.Module, SlotHook]],
        backward: bool,
        marked: int | None,
    ) -> _Sample:
        sample = _Sample()
        roots: list[Tensor] = []

        def noting(index: int, hook: SlotHook) -> Callable[[nn.Module, Any, Any], Any]:
            def note(module: nn.Module, arguments: Any, result: Any) -> Any:
                tensor = select(result, hook.output)
                sample.calls.append(_Call(index, tuple(tensor.shape[1:]), tensor.requires_grad))
                if index != marked or tensor.requires_grad:
                    return None
                root = tensor.detach().requires_grad_()
                roots.append(root)
                return replace(result, hook.output, root.view_as(root))

            return note

        with ExitStack() as stack:
            stack.enter_context(undisturbed(model, *(hook for _, hook in places)))
            stack.enter_context(_without_seeds(places))
            for index, (module, hook) in enumerate(places):
                stack.callback(module.register_forward_hook(noting(index, hook)).remove)
            counter = stack.enter_context(counting())
            with torch.set_grad_enabled(backward):
                loss = self._loss(model, self._batch)
                roots += [p for p in model.parameters() if p.requires_grad] if backward else []
                if roots:
                    torch.autograd.grad(loss, roots, allow_unused=True)
            sample.flops = counter.get_total_flops()
        return sample


@dataclass(frozen=True)
class _Role:
    """What a slot's seed does in a pass: it acts on the host's tensor, or listens to its gradient."""

    acts: bool
    listens: bool

    @classmethod
    def of(cls, hook: SlotHook, is_training: bool) -> _Role:
        is_there = hook.seed is not None and not hook.is_disabled
        return cls(
            acts=is_there and hook.phase is Phase.IN_PLACE and hook.level > 0.0,
            listens=is_there and hook.phase is Phase.LISTENING and is_training,
        )


def cost_of_graph(ir: BlueprintIR, shape: Sequence[int]) -> SeedCost:
    """What the compiler's cost model says of one pass of `ir` over an input of this shape."""
    given = ir.type(ir.inputs[0].result()).shape
    sizes = {str(size): number for size, number in zip(given, shape, strict=True) if str(size) != str(number)}
    flat = run_passes(ir)
    forward = _products(flat, sizes)
    weights = _products(joint_graph(flat, tuple(p.name for p in ir.params)), sizes) if ir.params else forward
    both = _products(joint_graph(flat, None), sizes)
    return SeedCost(forward, weights - forward, both - weights)


def _products(ir: BlueprintIR, sizes: Mapping[str, int]) -> int:
    total = 0
    for node in ir.nodes:
        entry = OPERATORS[node.op]
        if entry.cost is not None and node.op.startswith(PRODUCTS):
            operands = tuple(None if operand is None else ir.type(operand) for operand in node.operands)
            total += evaluate_size(entry.cost(Site(entry, operands, node.attrs, node.types)).flops, sizes)
    return total


def _cost_of_module(module: nn.Module, shape: Sequence[int]) -> SeedCost:
    """The same for a module that no blueprint made, by torch's counter."""
    x = torch.zeros(tuple(shape)).to(next((p.device for p in module.parameters()), torch.device("cpu")))
    weights = [p for p in module.parameters() if p.requires_grad]
    counts = []
    for wanted in ([], weights, [*weights, x.requires_grad_()]):
        with undisturbed(module), torch.enable_grad(), counting() as counter:
            grown = module(x)
            if wanted and grown.requires_grad:
                torch.autograd.grad(grown.sum(), wanted, allow_unused=True)
        counts.append(counter.get_total_flops())
    forward, with_weights, both = counts
    return SeedCost(forward, with_weights - forward, both - with_weights)


def counting() -> FlopCounterMode:
    """Torch's counter, with two counts mended: it takes the weights' gradient of a grouped convolution for
    that of a full one, and leaves out the CPU's attention."""
    return by_operator(FlopCounterMode(display=False, custom_mapping=dict(MENDED)))


def by_operator(counter: FlopCounterMode) -> FlopCounterMode:
    """The counter without its account for each module, whose hooks fail where a module's input is a leaf."""
    counter.mod_tracker = _Everywhere()
    return counter


class _Everywhere(ModuleTracker):
    """Says that everything runs in the model as a whole."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _convolution_backward(
    grad_shape: Sequence[int],
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: Sequence[bool],
    out_shape: object,
) -> int:
    """Each of the two gradients costs what the forward pass does: two operations a window and weight."""
    windows = x_shape if transposed else grad_shape
    forward = 2 * windows[0] * math.prod(windows[2:]) * math.prod(weight_shape)
    return forward * sum(map(bool, output_mask[:2]))


def _attention(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: object,
    out_shape: object,
    **__: object,
) -> int:
    """Two products: query with key, and weights with value; [N, heads, T, size] each."""
    *batch, length, size = query
    return 2 * math.prod(batch) * length * key[-2] * (size + value[-1])


def _attention_backward(
    _grad: object,
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: object,
    out_shape: object,
    **__: object,
) -> int:
    """Five products, the first of them made again: query with key."""
    *batch, length, size = query
    return 2 * math.prod(batch) * length * key[-2] * (3 * size + 2 * value[-1])


MENDED: Mapping[Any, Callable[..., int]] = MappingProxyType(
    {
        torch.ops.aten.convolution_backward: _convolution_backward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
)


def _slots_in(model: nn.Module) -> list[tuple[nn.Module, SlotHook]]:
    return [
        (module, hook)
        for module in model.modules()
        for hook in module._forward_hooks.values()
        if isinstance(hook, SlotHook)
    ]


@contextmanager
def _without_seeds(places: Sequence[tuple[nn.Module, SlotHook]]) -> Iterator[None]:
    before = [hook.is_disabled for _, hook in places]
    for _, hook in places:
        hook.is_disabled = True
    try:
        yield
    finally:
        for (_, hook), was_disabled in zip(places, before, strict=True):
            hook.is_disabled = was_disabled
