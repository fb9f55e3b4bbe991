"""What runs at a slot in every forward pass of the host.

A slot is a module object installed as a forward hook when it is attached and left there: a deep copy of
the host copies it, seed included, where a closure would share the original's. A seed that trains
apart leaves the host's own tensor in place and listens to its gradient; a seed in place is blended in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.blending import blend
from esper.kasmina.isolation import RandomStream

DESCENT_WINDOW = 100
"""Forward passes over which a training seed's promise is averaged."""


class Phase(Enum):
    """What the hook does with the host's tensor."""

    IDLE = "leave it alone"
    LISTENING = "leave it alone, and train the seed on its gradient"
    IN_PLACE = "blend the seed into it"


class SlotHook(nn.Module):
    """The forward hook of one slot: called with the host module, its arguments and its output."""

    seed: nn.Module | None
    alpha: Tensor

    def __init__(self, output: int | str | None, random_seed: int) -> None:
        """`output` selects the slot's tensor where the module returns a tuple or a mapping."""
        super().__init__()
        self.output = output
        self.register_module("seed", None)
        self.register_buffer("alpha", torch.zeros((), dtype=torch.float32))
        self.level = 0.0
        self.mode = "lerp"
        self.phase = Phase.IDLE
        self.is_disabled = False
        self.draws_from_torch = True
        self.stream = RandomStream(random_seed)
        self.gradients: list[Tensor | None] = []
        self.gradient_passes = 0
        self.descents: deque[Tensor] = deque(maxlen=DESCENT_WINDOW)

    def set_alpha(self, level: float) -> None:
        """Sets the share of the seed in the blend, 0 to 1."""
        self.level = level
        self.alpha.fill_(level)

    def put(self, seed: nn.Module | None, *, draws_from_torch: bool = True) -> None:
        """Holds `seed`, or nothing, with alpha 0 and no gradient of an earlier seed."""
        self.seed = seed
        self.draws_from_torch = draws_from_torch
        self.set_alpha(0.0)
        self.phase = Phase.IDLE
        self.clear_gradients()
        self.descents.clear()

    def forward(self, host: nn.Module, arguments: Any, result: Any) -> Any:
        """None where the host's output stays as it is, else the output with the slot's tensor replaced."""
        if self.phase is Phase.IDLE or self.is_disabled or self.seed is None:
            return None
        tensor = select(result, self.output)
        if self.phase is Phase.LISTENING:
            if host.training and tensor.requires_grad and torch.is_grad_enabled():
                self._listen(host, tensor)
            return None
        if self.level == 0.0:
            return None
        grown = self._run(host, tensor)
        if self.level < 1.0:
            grown = blend(tensor, grown, self.alpha)
        return replace(result, self.output, grown)

    def _listen(self, host: nn.Module, tensor: Tensor) -> None:
        apart = tensor.detach().clone()
        tensor.register_hook(_Echo(self, apart, self._run(host, apart)))

    def _run(self, host: nn.Module, tensor: Tensor) -> Tensor:
        """The seed's output for `tensor`, in the tensor's dtype; the seed follows the host before it runs."""
        seed = self.seed
        assert seed is not None
        if seed.training != host.training:
            seed.train(host.training)
        dtype = self._follow(seed, tensor)
        with self.stream.in_use(tensor.device) if self.draws_from_torch else nullcontext():
            grown: Tensor = seed(tensor.to(dtype))
        return grown.to(tensor.dtype)

    def _follow(self, seed: nn.Module, tensor: Tensor) -> torch.dtype:
        """Moves the seed to the tensor's device and, outside autocast, its dtype; the dtype it runs in."""
        if self.alpha.device != tensor.device:
            self.alpha = self.alpha.to(tensor.device)
            seed.to(tensor.device)
        held = next((p.dtype for p in seed.parameters() if p.is_floating_point()), tensor.dtype)
        if held == tensor.dtype or torch.is_autocast_enabled(tensor.device.type):
            return held
        seed.to(tensor.dtype)
        return tensor.dtype

    def trainable(self) -> list[nn.Parameter]:
        """The seed's parameters that learn, in the order in which `gradients` holds theirs."""
        return [] if self.seed is None else [p for p in self.seed.parameters() if p.requires_grad]

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
    """Receives the host's gradient at the slot and learns from it, once.

    Straight-through: the gradient `g` at the host's tensor `h` stands in for the one at the seed's output
    `s`. The derivative of the loss by alpha at 0 is `<g, s - h>`; its negative is the seed's promise.
    """

    def __init__(self, hook: SlotHook, tensor: Tensor, grown: Tensor) -> None:
        self.hook = hook
        self.seed = hook.seed
        self.tensor: Tensor | None = tensor
        self.grown: Tensor | None = grown

    def __call__(self, gradient: Tensor) -> None:
        hook, tensor, grown = self.hook, self.tensor, self.grown
        if tensor is None or grown is None or hook.seed is not self.seed:
            return
        self.tensor = self.grown = None
        gradient = gradient.detach()
        parameters = hook.trainable()
        if parameters and grown.requires_grad:
            hook.stash(torch.autograd.grad(grown, parameters, gradient, allow_unused=True))
        with torch.no_grad():
            promise = -(gradient.float() * (grown.float() - tensor.float())).sum()
        hook.descents.append(promise)


def select(result: Any, output: int | str | None) -> Tensor:
    """The slot's tensor in a module's output."""
    tensor = result if output is None else result[output]
    assert isinstance(tensor, Tensor)
    return tensor


def replace(result: Any, output: int | str | None, tensor: Tensor) -> Any:
    """The module's output with the slot's tensor replaced, in a container of the same kind."""
    if output is None:
        return tensor
    if isinstance(result, Mapping):
        return type(result)({**result, output: tensor})  # type: ignore[call-arg]
    items = list(result)
    items[int(output)] = tensor
    return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
