"""A checkpoint's file: safetensors, its values as JSON in the metadata, written whole or not at all.

The metadata holds a digest over everything in the file, so that damage is found when it is read, not later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import esper
from esper.files import write_whole
from esper.kasmina.checkpoints.values import Decoder, Encoder
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
    """The files beside `path` whose names are its own but for the last number in them, by this, newest last.

    Any other number, such as a seed or a learning rate, belongs to the name, and so does the suffix.
    """
    if not path.parent.is_dir():
        return []
    named = _names_like(path)
    found = [(match["number"], entry) for entry in path.parent.iterdir() if (match := named(entry.name))]
    return [entry for _, entry in sorted(found, key=lambda numbered: (int(numbered[0] or 0), numbered[1]))]


def keep_newest(path: Path, count: int) -> None:
    """Keeps `path` and the newest of the files like it, `count` in all, and nothing of killed writers."""
    others = [entry for entry in alike(path) if entry != path]
    for entry in others[: max(len(others) - count + 1, 0)]:
        entry.unlink(missing_ok=True)
    for entry in path.parent.iterdir():
        partial = PARTIAL.match(entry.name)
        if partial is not None and _names_like(path)(partial["name"]):
            entry.unlink(missing_ok=True)


def _names_like(path: Path) -> Callable[[str], re.Match[str] | None]:
    """Matches the names that `alike` takes; the group `number` may differ, empty for none."""
    suffix = "" if path.suffix[1:].isdigit() else path.suffix
    stem = path.name.removesuffix(suffix)
    last = re.search(r"[0-9]+(?=[^0-9]*$)", stem)
    before, after = (stem, "") if last is None else (stem[: last.start()], stem[last.end() :])
    number = "" if last is None else "[0-9]+"
    return re.compile(f"{re.escape(before)}(?P<number>{number}){re.escape(after + suffix)}").fullmatch
