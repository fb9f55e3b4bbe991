"""What an exported `model.py` brings along besides its grown parts: torch and the standard library alone.

This text is copied into the file, so nothing here may name Esper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.exports.export import Grown, run_modules

PARTS: Mapping[str, tuple[type[nn.Module], int | str | None, str]] = {}
"""For each grown module of the host: its grown part, the output that this acts on, and how."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes of safetensors by their names there."""


def apply(host: nn.Module, weights: str | Path | None = None) -> nn.Module:
    """Puts the grown parts into `host`, built as it was before it grew, and gives the whole its weights.

    weights: the path of weights.safetensors; beside this file if None. Returns `host`, changed. Raises
    ValueError where names are not the host's, and torch's errors where shapes are not.
    """
    found = read_weights(
        Path(__file__).with_name("weights.safetensors") if weights is None else Path(weights)
    )
    for name, (kind, output, mode) in PARTS.items():
        module, part = host.get_submodule(name), kind()
        for key, tensor in part.state_dict(keep_vars=True).items():
            if f"{name}.seed.{key}" in found:
                tensor.data = tensor.data.to(found[f"{name}.seed.{key}"].dtype)
        put_in(host, module, Grown(module, part.train(module.training), output, mode))
    keys = host.load_state_dict(found, strict=False)
    missing = [key for key in keys.missing_keys if not _counts_batches(key)]
    if missing or keys.unexpected_keys:
        raise ValueError(f"another host: it lacks {keys.unexpected_keys} and has {missing} besides")
    return host


def put_in(host: nn.Module, module: nn.Module, grown: nn.Module) -> None:
    """Replaces `module` wherever `host` has it."""
    for parent in list(host.modules()):
        for name, child in parent._modules.items():
            if child is module and parent is not grown:
                parent._modules[name] = grown
        if isinstance(parent, nn.TransformerEncoderLayer) and grown in list(parent.modules()):
            parent.register_forward_hook(run_modules)


def _counts_batches(key: str) -> bool:
    """Whether it is a count that torch's batch norms keep and grown parts do not."""
    name, _, last = key.rpartition(".")
    return last == "num_batches_tracked" and any(name.startswith(f"{part}.seed.") for part in PARTS)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: eight bytes of length, a header in JSON, then the values."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, (first, end) = DTYPES[entry["dtype"]], entry["data_offsets"]
        flat = (
            torch.frombuffer(data[start + first : start + end], dtype=dtype)
            if end > first
            else torch.empty(0, dtype=dtype)
        )
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors
