"""A checkpoint's file: safetensors, its values as JSON in the metadata, written whole or not at all.

The metadata holds a digest over everything in the file, so that damage is found when it is read, not later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import esper
from esper.files import write_whole
from esper.kasmina.checkpoint_values import Decoder, Encoder
from esper.kasmina.errors import CheckpointTooNew, CheckpointUnreadable

SCHEMA = 1
SCHEMA_KEY = "esper_checkpoint"
PARTIAL = re.compile(r"^\.(?P<name>.+)\.\d+-[0-9a-f]{8}\.partial$")
"""What `write_whole` leaves of a file when its process is killed."""


def write_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path`: beside it, synced, renamed, and the folder synced.

    Raises FileUnwritable, which leaves what was there before, and CannotCheckpoint.
    """
    encoder = Encoder()
    text = json.dumps({name: encoder.encode(value, name) for name, value in values.items()}, allow_nan=False)
    metadata = {
        SCHEMA_KEY: str(SCHEMA),
        "esper": esper.__version__,
        "torch": torch.__version__,
        "values": text,
        "digest": digest_of(text, encoder.tensors),
    }
    write_whole(path, save(encoder.tensors, metadata))
    sync_folder(path.parent)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The values in `path`, every tensor on the CPU. Raises CheckpointUnreadable, CheckpointTooNew."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointUnreadable(path=path, reason="there is no such file") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointUnreadable(path=path, reason=" ".join(str(error).split())) from error
    found = metadata.get(SCHEMA_KEY)
    if found is None:
        raise CheckpointUnreadable(path=path, reason="it is another safetensors file")
    if found != str(SCHEMA):
        raise CheckpointTooNew(path=path, found=found, known=SCHEMA, esper=metadata.get("esper", "unknown"))
    text = metadata.get("values", "")
    if metadata.get("digest") != digest_of(text, tensors):
        raise CheckpointUnreadable(path=path, reason="its digest is not that of what it holds")
    decoder = Decoder(tensors)
    try:
        return {name: decoder.decode(value) for name, value in json.loads(text).items()}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointUnreadable(path=path, reason=f"{type(error).__name__}: {error}") from error


def digest_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """A sha256 over a text and named tensors on the CPU."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes what was renamed in `folder` last, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def alike(path: Path) -> list[Path]:
    """The files beside `path` whose names are its own but for their numbers, by these, newest last."""
    if not path.parent.is_dir():
        return []
    found = [entry for entry in path.parent.iterdir() if _names_like(path).fullmatch(entry.name)]
    return sorted(found, key=lambda entry: [int(number) for number in re.findall(r"\d+", entry.name)])


def keep_newest(path: Path, count: int) -> None:
    """Keeps `path` and the newest of the files like it, `count` in all, and nothing of killed writers."""
    others = [entry for entry in alike(path) if entry != path]
    for entry in others[: max(len(others) - count + 1, 0)]:
        entry.unlink(missing_ok=True)
    for entry in path.parent.iterdir():
        partial = PARTIAL.match(entry.name)
        if partial is not None and _names_like(path).fullmatch(partial["name"]):
            entry.unlink(missing_ok=True)


def _names_like(path: Path) -> re.Pattern[str]:
    return re.compile(r"\d+".join(re.escape(part) for part in re.split(r"\d+", path.name)))
