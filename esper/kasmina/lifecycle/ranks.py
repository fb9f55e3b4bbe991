"""Several processes that train one host: what rank 0 decides, all do, and gradients are averaged.

Ranks see other batches and so measure other figures; if each decided by its own, their networks would part.
Where torch.distributed is not initialised, or has one process, nothing here communicates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from esper.kasmina.lifecycle.slot import SeedSlot

Json = TypeVar("Json", bound=Any)


def are_several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process decides, and tells of it."""
    return not are_several() or dist.get_rank() == 0


def of_first(value: Json) -> Json:
    """Rank 0's `value` on every rank: JSON types; every rank calls this at the same point."""
    if not are_several():
        return value
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(_device())
    size = torch.tensor([len(data)], device=data.device)
    dist.broadcast(size, src=0)
    if dist.get_rank() != 0:
        data = torch.empty(int(size), dtype=torch.uint8, device=data.device)
    dist.broadcast(data, src=0)
    found: Json = json.loads(bytes(data.cpu().tolist()))
    return found


def average(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its mean over the ranks: one all-reduce for each dtype and device."""
    if not are_several():
        return
    for alike in _alike(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        _write(flat, alike)


def copy_first(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by rank 0's."""
    if not are_several():
        return
    for alike in _alike(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.broadcast(flat, src=0)
        _write(flat, alike)


def mean(value: float) -> float:
    """The mean of a number over the ranks; not finite where one rank's is not."""
    if not are_several():
        return value
    found = torch.tensor([value], dtype=torch.float64, device=_device())
    average([found])
    return found.item()


def _device() -> torch.device:
    """Where the backend communicates."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _alike(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors by dtype and device, in their order."""
    found: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    return list(found.values())


def _write(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def average_waiting(slots: Sequence[SeedSlot]) -> None:
    """Averages the gradients that the seeds of `slots` are about to learn from: one all-reduce a step.

    A parameter that has none on one rank counts as 0 there; one that has none on any keeps none.
    """
    if not are_several() or not slots:
        return
    held = [slot.waiting_gradients for slot in slots]
    parameters = [parameter for slot in slots for parameter in slot.hook.trainable()]
    found = _averaged([gradient for one in held for gradient in one], parameters)
    for slot, one in zip(slots, held, strict=True):
        slot.waiting_gradients = found[: len(one)]
        del found[: len(one)]


def _averaged(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The mean of each parameter's gradient, which is None where it is None on every rank."""
    present = torch.tensor([gradient is not None for gradient in gradients], dtype=torch.float32)
    present = present.to(_device())
    filled = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    average([present, *filled])
    return [gradient if is_there else None for gradient, is_there in zip(filled, present > 0, strict=True)]


class AverageAfterBackward:
    """Averages the gradients of `module`, a part of a host, when a backward pass through the host ends.

    DistributedDataParallel averages those of the parameters that it was made with; a seed that fossilizes
    later is not among them. Ranks may run different modules in a step, so each parameter of the host, not
    of `module` alone, tells of a pass; a rank must not be without any.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._queued: set[int] = set()
        self._handles: list[RemovableHandle] = []

    def watch(self, host: nn.Module) -> None:
        """From here on, averages after each backward pass that reaches a parameter of `host`."""
        self.stop()
        for parameter in host.parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_post_accumulate_grad_hook(self._receive))

    def stop(self) -> None:
        """Averages no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _receive(self, _: Tensor) -> None:
        """Queues the average once for each backward pass, by its number: one that fails ends without."""
        task = torch._C._current_graph_task_id()
        if task not in self._queued and are_several():
            self._queued.add(task)
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._average, task))

    def _average(self, task: int) -> None:
        self._queued.discard(task)
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        means = _averaged([parameter.grad for parameter in parameters], parameters)
        for parameter, mean_gradient in zip(parameters, means, strict=True):
            parameter.grad = mean_gradient

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the host averages nothing: hooks stay with the parameters that they were given to."""
        return {"module": self.module, "_queued": set(), "_handles": []}
