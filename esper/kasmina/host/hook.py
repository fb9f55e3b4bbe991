"""What runs at a slot in every forward pass of the host.

A slot is a module object installed as a forward hook when it is attached and left there: a deep copy of
the host copies it, seed included, where a closure would share the original's. A seed that trains
apart leaves the host's own tensor in place and listens to its gradient; a seed in place is blended in.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor, nn

from esper.kasmina.errors import ReplicatedHost
from esper.kasmina.host.attendance import Attendance
from esper.kasmina.host.blending import blend
from esper.kasmina.host.compiled_host import Pass, call, number_of
from esper.kasmina.host.isolation import RandomStream
from esper.kasmina.host.nested import dense, shaped_like
from esper.urza.eager.recomputation import Draws, first_run, is_recomputation, may_be_checkpointed, region

DESCENT_WINDOW = 100
"""Forward passes over which a training seed's promise is averaged."""


class Phase(Enum):
    """What the hook does with the host's tensor."""

    IDLE = "leave it alone"
    LISTENING = "leave it alone, and train the seed on its gradient"
    IN_PLACE = "blend the seed into it"


class Role(Enum):
    """What a slot is to `torch.compile`."""

    RESTS = "compiled with the host: nothing"
    ACTS = "one operator, whatever its stage and alpha"
    BUILT_IN = "compiled with the host: a fossilized seed"


class SlotHook(nn.Module):
    """The forward hook of one slot: called with the host module, its arguments and its output."""

    seed: nn.Module | None
    alpha: Tensor

    def __init__(self, output: int | str | None, random_seed: int) -> None:
        """`output` selects the slot's tensor where the module returns a tuple or a mapping."""
        super().__init__()
        self.output = output
        self.register_module("seed", None)
        self._held: list[nn.Parameter] = []
        self.register_buffer("alpha", torch.zeros((), dtype=torch.float32))
        self.level = 0.0
        self.mode = "lerp"
        self.role = Role.RESTS
        self.phase = Phase.IDLE
        self.is_disabled = False
        self.attendance = Attendance()
        self.draws_from_torch = True
        self.stream = RandomStream(random_seed)
        self.draws: Draws[RandomStream] = Draws()
        self.gradients: list[Tensor | None] = []
        self.gradient_passes = 0
        self.descents: deque[Tensor] = deque(maxlen=DESCENT_WINDOW)
        self._last_task = -1
        self.awake = torch.zeros((), requires_grad=True)
        self.ticket = torch.zeros((), dtype=torch.int64)
        self.number = number_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy of a hook has a number of its own."""
        self.__dict__.update(state)
        self.number = number_of(self)

    def set_alpha(self, level: float) -> None:
        """Sets the share of the seed in the blend, 0 to 1."""
        self.level = level
        self.alpha.fill_(level)

    def put(self, seed: nn.Module | None, *, draws_from_torch: bool = True) -> None:
        """Holds `seed`, or nothing, with alpha 0 and no gradient of an earlier seed."""
        self.seed = seed
        self._held = [] if seed is None else list(seed.parameters())
        self.draws_from_torch = draws_from_torch
        self.set_alpha(0.0)
        self.phase = Phase.IDLE
        self.clear_gradients()
        self.descents.clear()

    @property
    def phase(self) -> Phase:
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        """Compiled code looks at `role` alone, which stays where one phase of acting follows another."""
        self._phase = phase
        if phase is Phase.IDLE:
            self.role = Role.RESTS
        elif self.role is not Role.BUILT_IN:
            self.role = Role.ACTS

    def build_in(self) -> None:
        """Makes a fossilized seed's call part of what torch.compile compiles of the host, unless it draws
        random numbers, which come from a stream that compiled code does not know."""
        if not self.draws_from_torch:
            self.role = Role.BUILT_IN

    def forward(self, host: nn.Module, arguments: Any, result: Any) -> Any:
        """None where the host's output stays as it is, else the output with the slot's tensor replaced."""
        if torch.compiler.is_compiling():
            self.attendance.is_compiled = True
        elif torch.is_grad_enabled():
            self.attendance.is_present = True
        if self.role is Role.RESTS or self.is_disabled or self.seed is None:
            return None
        tensor = select(result, self.output)
        if not torch.compiler.is_compiling() and "_is_replica" in host.__dict__:
            raise ReplicatedHost(kind=type(host).__name__)
        if self.role is Role.ACTS and torch.compiler.is_compiling():
            grown, self.ticket = call(self.number, tensor, self.awake, self.ticket, training=host.training)
            return replace(result, self.output, grown)
        if self.phase is Phase.LISTENING:
            return self._listen(host, result, tensor) if torch.is_grad_enabled() else None
        if self.level == 0.0:
            return None
        return replace(result, self.output, self._blended(tensor, training=host.training))

    def called(self, tensor: Tensor, *, training: bool, frozen: bool) -> tuple[Tensor, Pass]:
        """The slot's part in a compiled graph, as `esper.kasmina.host.compiled_host` calls it."""
        if self.phase is Phase.IDLE or self.is_disabled or self.seed is None:
            return tensor, lambda gradient: gradient
        if self.phase is Phase.LISTENING:
            if not (training or frozen):
                return tensor, lambda gradient: gradient
            echo = _Echo(self, tensor.clone(), training)
            return tensor, echo.repeat
        if self.level == 0.0:
            return tensor, lambda gradient: gradient
        leaf = tensor.detach().requires_grad_(torch.is_grad_enabled())
        grown = self._blended(leaf, training=training)
        return grown.detach(), lambda gradient: self._differentiate(grown, leaf, gradient)

    def _differentiate(self, grown: Tensor, leaf: Tensor, gradient: Tensor) -> Tensor:
        """The gradient at `leaf`; those of the seed's parameters are added to what they hold."""
        leaf.grad = None
        torch.autograd.backward(grown, gradient, inputs=[leaf, *self.trainable()], retain_graph=True)
        found = cast("Tensor | None", leaf.grad)
        return torch.zeros_like(leaf) if found is None else found

    def _blended(self, tensor: Tensor, *, training: bool) -> Tensor:
        given = dense(tensor)
        grown = self._run(given, training=training)
        if self.level < 1.0 or self.mode == "add":
            grown = blend(given, grown, self.alpha, self.mode)
        return shaped_like(tensor, grown)

    def _listen(self, host: nn.Module, result: Any, tensor: Tensor) -> Any:
        """Waits for the gradient at `tensor`. Where the host has none there, a copy that has one takes its
        place: nothing before the slot learns, as in a frozen host, whatever its mode."""
        if tensor.requires_grad:
            if host.training:
                echo = _Echo(self, tensor.detach().clone(), host.training)
                tensor.register_hook(echo)
                if tensor._base is not None and tensor._base.grad_fn is not None:
                    tensor._base.register_hook(_EchoOfBase(echo, tensor, tensor._base))
            return None
        awake = tensor.detach().requires_grad_().clone()
        awake.register_hook(_Echo(self, tensor.detach().clone(), host.training))
        return replace(result, self.output, awake)

    def _run(self, tensor: Tensor, *, training: bool) -> Tensor:
        """The seed's output for `tensor`, in the tensor's dtype; the seed follows the host before it runs."""
        seed = self.seed
        assert seed is not None
        if seed.training != training:
            seed.train(training)
        dtype = self._follow(seed, tensor)
        with self._random(tensor.device) if self.draws_from_torch else nullcontext():
            grown: Tensor = seed(tensor.to(dtype))
        return grown.to(tensor.dtype)

    def _random(self, device: torch.device) -> AbstractContextManager[None]:
        """The seed's own random numbers; a call that checkpointing computes again gets those it had."""
        place = region() if may_be_checkpointed() else None
        if place is None:
            return self.stream.in_use(device)
        if is_recomputation():
            return (self.draws.repeat(place) or self.stream).in_use(device)
        self.draws.remember(place, copy.copy(self.stream))
        return self.stream.in_use(device)

    def learn_from(self, gradient: Tensor, tensor: Tensor, *, training: bool, goes_on: bool) -> None:
        """Runs the seed on `tensor`, and stashes its gradients for `gradient` at its output.

        goes_on: an earlier backward pass through the same graph taught it already.
        """
        parameters = self.trainable()
        with torch.enable_grad():
            grown = self._run(tensor, training=training)
            if parameters and grown.requires_grad:
                with self.stream.in_use(tensor.device) if self.draws_from_torch else nullcontext():
                    self.stash(torch.autograd.grad(grown, parameters, gradient, allow_unused=True))
        with torch.no_grad():
            change = grown.float() if self.mode == "add" else grown.float() - tensor.float()
            self._note(-torch.dot(gradient.float().flatten(), change.flatten()), goes_on)

    def _note(self, promise: Tensor, goes_on: bool) -> None:
        """Counts the promises of one forward pass as one: the slot's module may run several times in it, and
        several backward passes may come through it."""
        task = torch._C._current_graph_task_id()
        if self.descents and (goes_on or task == self._last_task):
            self.descents[-1] = self.descents[-1] + promise
        else:
            self.descents.append(promise)
        self._last_task = task

    def _follow(self, seed: nn.Module, tensor: Tensor) -> torch.dtype:
        """Moves the seed to the tensor's device and, outside autocast, its dtype; the dtype it runs in."""
        if self.alpha.device != tensor.device:
            self.alpha = self.alpha.to(tensor.device)
            seed.to(tensor.device)
        held = next((p.dtype for p in self._held if p.is_floating_point()), tensor.dtype)
        if held == tensor.dtype or torch.is_autocast_enabled(tensor.device.type):
            return held
        seed.to(tensor.dtype)
        return tensor.dtype

    def trainable(self) -> list[nn.Parameter]:
        """The seed's parameters that learn, in the order in which `gradients` holds theirs."""
        return [p for p in self._held if p.requires_grad]

    def stash(self, gradients: Sequence[Tensor | None]) -> None:
        """Adds to the gradients that wait for the seed's next step."""
        self.gradient_passes += 1
        if not self.gradients:
            self.gradients = list(gradients)
            return
        for index, gradient in enumerate(gradients):
            held = self.gradients[index]
            self.gradients[index] = (
                gradient if held is None else held if gradient is None else held + gradient
            )

    def clear_gradients(self) -> None:
        """Forgets the waiting gradients."""
        self.gradients = []
        self.gradient_passes = 0

    @contextmanager
    def tried_in_place(self) -> Iterator[None]:
        """Inside, the seed acts at alpha 1, whatever its stage."""
        phase, level = self.phase, self.level
        self.phase = Phase.IN_PLACE
        self.set_alpha(1.0)
        try:
            yield
        finally:
            self.phase = phase
            self.set_alpha(level)


def hooks_of(model: nn.Module) -> list[SlotHook]:
    """The slots' hooks in `model`; each holds a seed that the model itself may not know of."""
    hooks = (hook for module in model.modules() for hook in module._forward_hooks.values())
    return [hook for hook in hooks if isinstance(hook, SlotHook)]


class _Echo:
    """Receives the host's gradient at the slot, and lets the seed learn from it, once a backward pass.

    Straight-through: the gradient `g` at the host's tensor `h` stands in for the one at the seed's output
    `s`. The derivative of the loss by alpha at 0 is `<g, s - h>`, or `<g, s>` where the seed is added; its
    negative is the seed's promise.

    The seed runs when the gradient arrives, not before: of a pass that activation checkpointing runs twice,
    only one tensor ever gets a gradient, so the seed learns once, and nothing of it is in the host's graph.
    Several backward passes through one graph, one for each loss, teach it as one for their sum would, and the
    last, which does not retain the graph, lets the tensor go. `torch.autograd.grad` is a pass like any other.
    """

    def __init__(self, hook: SlotHook, tensor: Tensor, training: bool) -> None:
        self.hook = hook
        self.seed = hook.seed
        self.tensor: Tensor | None = tensor
        self.last_task: int | None = None
        self.training = training
        kind = tensor.device.type
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def repeat(self, gradient: Tensor) -> Tensor:
        """Receives a gradient, and gives it back."""
        self(gradient)
        return gradient

    def __call__(self, gradient: Tensor) -> None:
        hook, tensor, task = self.hook, self.tensor, torch._C._current_graph_task_id()
        if tensor is None or task == self.last_task:
            return
        goes_on, self.last_task = self.last_task is not None, task
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            self.tensor = None
        if hook.seed is not self.seed or hook.phase is not Phase.LISTENING:
            return
        kind, dtype, enabled = self.autocast
        with first_run(), torch.autocast(kind, dtype, enabled) if enabled else nullcontext():
            hook.learn_from(dense(gradient.detach()), dense(tensor), training=self.training, goes_on=goes_on)


class _EchoOfBase:
    """Hears for a slot whose tensor is a view, as a linear layer's output is, that the host then writes into.

    Autograd takes the gradient past such a view to the tensor that it is a view of. The part of it that the
    view shows is the gradient at the slot, where the host uses that memory through the slot alone.
    """

    def __init__(self, echo: _Echo, view: Tensor, base: Tensor) -> None:
        self.echo = echo
        self.view, self.version = view.detach(), view._version
        self.place = view.size(), view.stride(), view.storage_offset() - base.storage_offset()
        self.layout = base.size(), base.stride()

    def __call__(self, gradient: Tensor) -> None:
        if self.view._version == self.version:
            return
        laid_out = gradient.detach().new_empty_strided(*self.layout).copy_(gradient.detach())
        self.echo(laid_out.as_strided(*self.place))


def select(result: Any, output: int | str | None) -> Tensor:
    """The slot's tensor in a module's output: an item of a tuple or a mapping, a field of a named tuple."""
    tensor = result if output is None else result[_key(result, output)]
    assert isinstance(tensor, Tensor)
    return tensor


def find(result: Any, output: int | str | None) -> Tensor | None:
    """What `select` would return; None where there is no such part, or it is no tensor."""
    try:
        found = result if output is None else result[_key(result, output)]
    except (KeyError, IndexError, TypeError):
        return None
    return found if isinstance(found, Tensor) else None


def _key(result: Any, output: int | str) -> int | str:
    """Where `output` is found by indexing: mappings count their keys, named tuples have names for places."""
    if isinstance(result, Mapping) and output not in result and isinstance(output, int):
        return cast("str", list(result)[output])
    fields = getattr(result, "_fields", ())
    return fields.index(output) if output in fields else output


def replace(result: Any, output: int | str | None, tensor: Tensor) -> Any:
    """The module's output with the slot's tensor replaced, in a container of the same kind."""
    if output is None:
        return tensor
    key = _key(result, output)
    if isinstance(result, Mapping):
        changed: Any = copy.copy(result)
        changed[key] = tensor
        return changed
    items = list(result)
    items[int(key)] = tensor
    return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
