"""Several processes that train one host: what rank 0 decides, all do, and gradients are averaged.

Ranks see other batches and so measure other figures; if each decided by its own, their networks would part.
Where torch.distributed is not initialised, or has one process, nothing here communicates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

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
