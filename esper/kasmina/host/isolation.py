"""Keeps what a seed, a probe or a control does away from the host: random numbers, buffers, modes.

The host's generators are swapped out while foreign code runs and swapped back on any exit, so the
host's random numbers are those of a run without that code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

RandomState = tuple[Tensor, tuple[Tensor, ...]]


def random_state(devices: Sequence[torch.device]) -> RandomState:
    """The states of torch's default generators: the CPU's and those of the CUDA devices given."""
    return torch.get_rng_state(), tuple(torch.cuda.get_rng_state(device) for device in devices)


def set_random_state(devices: Sequence[torch.device], state: RandomState) -> None:
    """Sets what `random_state(devices)` read."""
    torch.set_rng_state(state[0])
    for device, device_state in zip(devices, state[1], strict=True):
        torch.cuda.set_rng_state(device_state, device)


class RandomStream:
    """A stream of random numbers of its own for code that draws from torch's default generators."""

    def __init__(self, seed: int) -> None:
        """`seed`: any integer; equal seeds give equal streams."""
        self.seed = seed
        self.devices: tuple[torch.device, ...] = ()
        self.state: RandomState | None = None

    def restart(self, seed: int) -> None:
        """Begins the stream of `seed`."""
        self.seed, self.devices, self.state = seed, (), None

    @classmethod
    def forked(cls, devices: Sequence[torch.device]) -> RandomStream:
        """A stream that goes on where the host's generators stand."""
        stream = cls(0)
        stream.devices = tuple(devices)
        stream.state = random_state(devices)
        return stream

    @contextmanager
    def in_use(self, device: torch.device) -> Iterator[None]:
        """Inside, the default generators of the CPU and of `device` belong to this stream."""
        if device.type == "cuda" and device not in self.devices:
            self.devices, self.state = (*self.devices, device), None
        host = random_state(self.devices)
        try:
            if self.state is None:
                _seed_all(self.seed, self.devices)
            else:
                set_random_state(self.devices, self.state)
            yield
        finally:
            self.state = random_state(self.devices)
            set_random_state(self.devices, host)


def _seed_all(seed: int, devices: Sequence[torch.device]) -> None:
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def cuda_devices(model: nn.Module) -> tuple[torch.device, ...]:
    """The CUDA devices that hold parameters or buffers of `model`, each once."""
    found = {t.device for t in [*model.parameters(), *model.buffers()] if t.device.type == "cuda"}
    return tuple(sorted(found, key=str))


@contextmanager
def undisturbed(model: nn.Module, *others: nn.Module) -> Iterator[None]:
    """Restores the random state, and every buffer and training flag of the modules, on any exit.

    Buffers that were made inside are dropped again. One whose elements share memory cannot be written to.
    """
    modules = [module for root in (model, *others) for module in root.modules()]
    modes = [module.training for module in modules]
    held = [(module, dict(module._buffers)) for module in modules]
    values = [
        (buffer, buffer.clone())
        for _, buffers in held
        for buffer in buffers.values()
        if buffer is not None and not shares_memory(buffer)
    ]
    devices = cuda_devices(model)
    state = random_state(devices)
    try:
        yield
    finally:
        set_random_state(devices, state)
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for module, buffers in held:
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def shares_memory(tensor: Tensor) -> bool:
    """Whether several of the tensor's elements are one in memory, as in an expanded one."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
