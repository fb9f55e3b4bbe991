"""Python values as JSON with tensors beside it, and back: what the states in a checkpoint are made of.

Tensors stay tensors; what JSON cannot say is an object with one tag. A file is data: the dataclasses and
enumerations that may stand in it are those of the tables here, and nothing in it is imported or run.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esper.kasmina.errors import CannotCheckpoint
from esper.kasmina.host import blending
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle import control
from esper.leyline import gates, reports, signals
from esper.leyline.stages import SeedStage
from esper.tamiyo import tracker

RECORDS: Mapping[str, type[Any]] = {
    name: kind
    for room in (blending, control, gates, reports, signals, tracker)
    for name, kind in vars(room).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == room.__name__
}
"""The dataclasses that a state may hold: what growth measures and remembers, by name."""

ENUMERATIONS: Mapping[str, type[enum.Enum]] = {
    kind.__name__: kind for kind in (gates.GateLevel, Phase, SeedStage)
}

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


class Encoder:
    """Turns values into JSON; `tensors` gathers those that it refers to by number.

    A tensor that stands in several places, or shares its memory with an equal view, is written once.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._held: list[Tensor] = []

    def encode(self, value: Any, name: str) -> Json:
        """The JSON form of `value`. Raises CannotCheckpoint, which says where under `name` it failed."""
        if isinstance(value, enum.Enum):
            return {"enum": [self._in_table(type(value), ENUMERATIONS, name), value.name]}
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            number = float(value)
            return number if math.isfinite(number) else {"float": str(number)}
        if isinstance(value, Tensor):
            return self._tensor(value.detach())
        if isinstance(value, np.ndarray):
            return {"array": self._tensor(torch.from_numpy(np.ascontiguousarray(value)))}
        if isinstance(value, torch.dtype | torch.device):
            return {type(value).__name__: str(value).removeprefix("torch.")}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            kind = self._in_table(type(value), RECORDS, name)
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return {"record": [kind, self._mapping(fields, name)]}
        return self._container(value, name)

    def _container(self, value: Any, name: str) -> Json:
        if isinstance(value, Counter):
            return {"counter": self._pairs(value, name)}
        if isinstance(value, Mapping):
            if all(type(key) is str for key in value):
                return {"dict": self._mapping(value, name)}
            return {"items": self._pairs(value, name)}
        if isinstance(value, deque):
            return {"deque": self._list(value, name), "maxlen": value.maxlen}
        if isinstance(value, set | frozenset):
            return {"set": sorted(self._list(value, name), key=json.dumps)}
        if isinstance(value, tuple):
            return {"tuple": self._list(value, name)}
        if isinstance(value, list):
            return self._list(value, name)
        raise CannotCheckpoint(name=name, found=f"a {type(value).__name__}")

    def _mapping(self, value: Mapping[str, Any], name: str) -> dict[str, Json]:
        return {key: self.encode(entry, f"{name}.{key}") for key, entry in value.items()}

    def _pairs(self, value: Mapping[Any, Any], name: str) -> list[list[Json]]:
        return [
            [self.encode(key, name), self.encode(entry, f"{name}[{key!r}]")] for key, entry in value.items()
        ]

    def _list(self, value: Any, name: str) -> list[Json]:
        return [self.encode(entry, f"{name}[{index}]") for index, entry in enumerate(value)]

    def _in_table(self, kind: type[object], table: Mapping[str, type[Any]], name: str) -> str:
        if table.get(kind.__name__) is not kind:
            raise CannotCheckpoint(name=name, found=f"a {kind.__name__}")
        return kind.__name__

    def _tensor(self, tensor: Tensor) -> Json:
        """A reference; a tensor in another order than C's, such as channels_last, keeps it."""
        key = (tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride())
        number = self._known.get(key) if tensor.numel() else None
        if number is None:
            number = str(len(self.tensors))
            self._known[key] = number
            self._held.append(tensor)  # its address is not another's while it lives
            stored = tensor.cpu().contiguous()
            shares = (
                stored.untyped_storage().nbytes() != stored.nbytes or stored.data_ptr() == tensor.data_ptr()
            )
            self.tensors[number] = stored.clone() if shares else stored
        if tensor.is_contiguous() or not _is_dense(tensor):
            return {"tensor": number}
        return {"tensor": number, "strides": list(tensor.stride())}


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill their memory, in whatever order."""
    reached = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != reached:
            return False
        reached *= size
    return True


class Decoder:
    """Turns what an Encoder wrote back into values; tensors come from `tensors`, each a copy of its own."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def decode(self, value: Json) -> Any:
        """The value behind its JSON form. Raises KeyError, TypeError or ValueError for what is none."""
        if isinstance(value, list):
            return [self.decode(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        tag = next(iter(value))
        return DECODERS[tag](self, value)

    def _pairs(self, entries: Sequence[Any]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(entry) for key, entry in entries}

    def _mapping(self, entries: Mapping[str, Json]) -> dict[str, Any]:
        return {key: self.decode(entry) for key, entry in entries.items()}

    def _tensor(self, value: Mapping[str, Any]) -> Tensor:
        stored = self.tensors[value["tensor"]]
        if "strides" not in value:
            return stored.clone()
        return torch.empty_strided(stored.shape, value["strides"], dtype=stored.dtype).copy_(stored)


DECODERS: Mapping[str, Callable[[Decoder, dict[str, Any]], Any]] = {
    "array": lambda d, v: d.decode(v["array"]).numpy(),
    "counter": lambda d, v: Counter(d._pairs(v["counter"])),
    "deque": lambda d, v: deque(d.decode(v["deque"]), v["maxlen"]),
    "device": lambda d, v: torch.device(v["device"]),
    "dict": lambda d, v: d._mapping(v["dict"]),
    "dtype": lambda d, v: _dtype(v["dtype"]),
    "enum": lambda d, v: ENUMERATIONS[v["enum"][0]][v["enum"][1]],
    "float": lambda d, v: float(v["float"]),
    "items": lambda d, v: d._pairs(v["items"]),
    "record": lambda d, v: RECORDS[v["record"][0]](**d._mapping(v["record"][1])),
    "set": lambda d, v: set(d.decode(v["set"])),
    "tensor": Decoder._tensor,
    "tuple": lambda d, v: tuple(d.decode(v["tuple"])),
}
"""How each tag is read."""


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"`{name}` is no dtype")
    return found
